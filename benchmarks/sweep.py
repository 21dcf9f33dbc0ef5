"""What a sweep costs: jobs side by side against one after another, a job against a lone run.

    python benchmarks/sweep.py [--rounds 3]

Four tiny jobs, so that starting is most of the work. Ratios within one run count; seconds depend on
the machine.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
NUM_JOBS = 4
SMALL = [
    *("model.depth=2", "model.width=4", "trainer.max_epochs=2", "trainer.accelerator=cpu"),
    *("data.phantom.num_patients=[4,2,2]", "data.phantom.image_size=64", "callbacks=default"),
    "++trainer.enable_progress_bar=false",
]


def seconds(folder: Path, *arguments: str) -> float:
    """Return the wall-clock time of ``python train.py`` with these arguments."""
    options = [one for one in arguments if one == "-m"]
    overrides = [one for one in arguments if one != "-m"]
    command = [sys.executable, ROOT / "train.py", *options, *SMALL, *overrides]
    paths = f"{ROOT / 'src'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    begun = time.perf_counter()
    subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - begun


def main() -> None:
    """Measure alternately, and print the medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    alone, one, two = [], [], []
    with TemporaryDirectory() as name:
        folder = Path(name)
        seconds(folder, "hydra.run.dir=first")  # draws the phantom, fills the disk cache
        sweep = ["-m", f"seed=range({NUM_JOBS})"]
        for number in range(rounds):
            alone.append(seconds(folder, f"hydra.run.dir=alone{number}"))
            one.append(seconds(folder, *sweep, f"sweep_name=one{number}"))
            two.append(seconds(folder, *sweep, f"sweep_name=two{number}", "hydra.launcher.jobs=2"))
            ratio, more = two[-1] / one[-1], one[-1] / NUM_JOBS - alone[-1]
            print(
                f"lone run {alone[-1]:.2f} s, {NUM_JOBS} jobs at jobs=1 {one[-1]:.2f} s, at jobs=2 "
                f"{two[-1]:.2f} s, ratio {ratio:.2f}, a job costs {more:+.2f} s more"
            )
    ratio = statistics.median(two) / statistics.median(one)
    more = statistics.median(one) / NUM_JOBS - statistics.median(alone)
    print(f"medians: ratio {ratio:.2f}, a job costs {more:+.2f} s more than a lone run")


if __name__ == "__main__":
    main()
