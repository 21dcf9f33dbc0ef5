"""What runs and sweeps leave that have been scored, without any training."""

from pathlib import Path
from typing import Any

import torch

from liverseg.inference.running import write_tables
from liverseg.runs import JOB_FILE, write_json
from liverseg.scores import SegmentationScores

NAMES = [f"p{place // 2}_s{place % 2}" for place in range(16)]
PATIENTS = [name[:2] for name in NAMES]


def write_run(
    folder: Path,
    wrong: int,
    *,
    split: str = "test",
    part: slice = slice(0, 16),
    truth: str = "masks:1",
    chosen: tuple[str, ...] = (),
    names: list[str] = NAMES,
    patients: list[Any] = PATIENTS,
    **settings: Any,
) -> Path:
    """Write what a run leaves that finds all but some pixels of a bar, more in later images."""
    scores = SegmentationScores(1, ["liver"], chosen=chosen, **settings)
    mask = torch.zeros(16, 4, 32, dtype=torch.uint8)
    mask[:, 1:3, 4:20] = 1
    prediction = mask.clone()
    for place in range(16):
        prediction[place, 1, 4 : 4 + (wrong * (place + 3)) // 4] = 0
    index = torch.arange(16)[part]
    scores.update(prediction[part], mask[part], index, index // 2)
    scores.compute()
    write_tables(folder, split, scores, names=names, cases=patients, truth=truth)
    write_json(folder / "metrics.json", {f"{split}/dice": 0.5})
    return folder


def write_sweep(folder: Path, jobs: list[tuple[list[str], dict[str, Any]]]) -> Path:
    """Write what jobs of a sweep leave: the overrides of each, and what write_run takes."""
    for number, (overrides, settings) in enumerate(jobs):
        job = write_run(folder / f"{number}_{'_'.join(overrides)}", **settings)
        record = {"overrides": overrides, "swept": overrides, "status": "done", "seconds": 1.0}
        record["monitor"] = "val/dice"
        write_json(job / JOB_FILE, record)
        folds = [one.replace("=", ": ") for one in overrides if one.startswith("fold=")]
        (job / "checkpoints").mkdir()
        (job / "config.yaml").write_text(
            f"{folds[0] if folds else 'fold: null'}\nmonitor: val/dice\noutput_dir: x\n"
            "data: {num_folds: 2}\ntrainer: {}\n"
        )
    return folder
