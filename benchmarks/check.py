"""How long check.py takes, and how much memory, for folders of many large pairs.

``python benchmarks/check.py [NUM_PAIRS ...]`` draws some pairs of 512 x 512 like CT, and moves them
about, so that no two are equal.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image

from liverseg.inspection import inspect, survey
from liverseg.reports import write_findings
from liverseg.runs import num_cores

ROOT = Path(__file__).parents[1]
SIDE = 512
DRAWN = 40


def draw(folder: Path, count: int) -> None:
    """Write train/ and val/ of ``count`` pairs in all, 20 slices of a patient each."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWN):
        middle, size = generator.uniform(0.35, 0.6, 2), generator.uniform(0.08, 0.2, 2)
        body = ((rows - 0.5) / 0.4) ** 2 + ((columns - 0.5) / 0.45) ** 2 < 1
        organ = ((rows - middle[0]) / size[0]) ** 2 + ((columns - middle[1]) / size[1]) ** 2 < 1
        noise = generator.normal(0, 9, (SIDE, SIDE))
        image = np.clip((90 + 60 * organ + noise) * body, 0, 255).astype(np.uint8)
        drawn.append((image, ((organ & body) * 255).astype(np.uint8)))
    for place in range(count):
        split = "val" if place >= 0.8 * count else "train"
        name = folder / split / f"case{place // 20:05}_slice{place % 20:02}"
        name.parent.mkdir(parents=True, exist_ok=True)
        moved = generator.integers(-60, 61, 2)
        image, mask = (np.roll(one, moved, (0, 1)) for one in drawn[place % DRAWN])
        for numbers, end in ((image, ".png"), (mask, "_mask.png")):
            Image.fromarray(numbers).save(f"{name}{end}", compress_level=3)


def cpu_seconds() -> float:
    """Return what this process and those it has waited for have computed."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main(counts: Sequence[int]) -> None:
    """Print seconds and memory for each number of pairs."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        for count in counts:
            with tempfile.TemporaryDirectory() as name:
                root = Path(name) / "pairs"
                draw(root, count)
                data = instantiate(
                    compose("check", [f"data.root={root}", "output_dir=x"]).data, _convert_="all"
                )
                began, cpu = time.perf_counter(), cpu_seconds()
                surveyed = survey(data, num_processes=num_cores())
                read = time.perf_counter() - began
                findings = inspect(surveyed)
                write_findings(Path(name) / "out", surveyed, findings)
                whole, cpu = time.perf_counter() - began, cpu_seconds() - cpu
            peak = [
                resource.getrusage(who).ru_maxrss / 1024
                for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
            ]
            print(
                f"{count:,} pairs of {SIDE} x {SIDE}: {whole:.0f} s ({read:.0f} s to read them) on "
                f"{num_cores()} cores, {cpu:.0f} s of a core, {peak[0]:.0f} MB at most, "
                f"{peak[1]:.0f} MB in a process that reads"
            )


if __name__ == "__main__":
    main([int(one) for one in sys.argv[1:]] or [1000, 10_000])
