"""How long it takes from the command to the first batch of training, for folders of many pairs.

``python benchmarks/start.py [NUM_PAIRS ...]`` draws pairs of 64 x 64, and starts a run twice
on each folder: the second finds what the first has kept.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
SIDE = 64
COMMAND = ["data=liver", "model=unet_small", "trainer.accelerator=cpu", "trainer.precision=32-true"]


def draw(folder: Path, count: int) -> None:
    """Write train/ and val/ of ``count`` pairs in all, 20 slices of a patient each."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    generator = np.random.default_rng(0)
    for place in range(count):
        split = "val" if place >= 0.9 * count else "train"
        name = folder / split / f"case{place // 20:06}_slice{place % 20:02}"
        name.parent.mkdir(parents=True, exist_ok=True)
        (row, column), radius = generator.uniform(20, 44, 2), generator.uniform(5, 15)
        disc = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
        image = np.clip(80 + 80 * disc + generator.normal(0, 12, disc.shape), 0, 255)
        for numbers, end in ((image, ".png"), (disc * 255, "_mask.png")):
            Image.fromarray(numbers.astype(np.uint8)).save(f"{name}{end}", compress_level=1)


def start(root: Path, run: Path, began: float) -> None:
    """Begin to train, and end at the first batch with a line of what that took."""
    from hydra import compose, initialize_config_dir

    from liverseg.experiment import train
    from liverseg.training import SegmentationTask

    def end(*_: object) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(
            f"  {time.time() - began:6.1f} s, {used.ru_utime + used.ru_stime:6.1f} s of computing, "
            f"{used.ru_maxrss / 2**20:.2f} GiB",
            flush=True,
        )
        os._exit(0)

    SegmentationTask.training_step = end  # type: ignore[method-assign]
    typed = [*COMMAND, f"data.root={root}", f"output_dir={run}", "sweep_name=none"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        train(compose("train", typed))


def main(counts: Sequence[int]) -> None:
    """Print seconds for each number of pairs, for a first start and a second one."""
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            draw(folder / "pairs", count)
            print(f"{count} pairs")
            for run in ("first", "second"):
                words = ["start", str(folder / "pairs"), str(folder / run), str(time.time())]
                subprocess.run([sys.executable, __file__, *words], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["start"]:
        start(Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4]))
    else:
        main([int(word) for word in sys.argv[1:]] or [1_000, 10_000, 100_000])
