import csv
import json
from pathlib import Path

from liverseg.runs.jobs import Job
from liverseg.sweeps.table import format_rows, monitored, outcome, write_csv

ROWS = [
    {
        "job": "0_model.depth=3",
        "status": "done",
        "overrides": ["data=liver", "model.depth=3"],
        "monitor": "val/dice",
        "mode": "max",
        "seconds": 75.4,
        "error": "",
        "val/dice": 0.5,
        "test/loss": 1.25,
    },
    {
        "job": "1_model.depth=99",
        "status": "failed",
        "overrides": ["data=liver", "model.depth=99"],
        "monitor": "val/dice",
        "mode": "max",
        "seconds": 3725.0,
        "error": "model.depth=99, is too much",
    },
]


def test_columns_are_aligned_and_what_all_jobs_share_is_left_out() -> None:
    assert format_rows(ROWS).splitlines() == [
        "job  overrides       val/dice  status  time        error",
        "0    model.depth=3   0.5000    done    1 min 15 s",
        "1    model.depth=99            failed  1 h 02 min  model.depth=99, is too much",
    ]


def test_one_job_shows_its_overrides() -> None:
    assert "data=liver model.depth=3" in format_rows(ROWS[:1])


def test_the_scores_that_jobs_monitor_are_shown() -> None:
    scores = {"val/dice": 0.5, "val/dice_pooled": 0.25, "test/dice_pooled": 0.125}
    first = {**ROWS[0], **scores, "monitor": "val/dice_pooled"}
    assert format_rows([first]).splitlines()[0].split()[2:4] == [
        "val/dice_pooled",
        "test/dice_pooled",
    ]
    second = {**ROWS[0], **scores, "monitor": "val/dice"}
    assert monitored([first, second]) == ["val/dice_pooled", "test/dice_pooled", "val/dice"]


def test_the_end_of_a_job_is_told_in_a_line(tmp_path: Path) -> None:
    folder = tmp_path / "0_seed=1"
    folder.mkdir()
    error = f"{folder}/checkpoints/last.ckpt is damaged"
    record = {"status": "failed", "monitor": "val/iou", "seconds": 75.4, "error": error}
    (folder / "job.json").write_text(json.dumps(record))
    job = Job(folder, ("seed=1",))
    told = "checkpoints/last.ckpt is damaged (1 min 15 s)"
    assert outcome(job) == f"0_seed=1 is failed: {told}"
    (folder / "metrics.json").write_text('{"val/dice": 1, "val/iou": 0.5, "test/iou": 0.25}')
    assert outcome(job) == "0_seed=1 is done: val/iou 0.5000, test/iou 0.2500 (1 min 15 s)"


def test_the_file_holds_every_column_of_every_job(tmp_path: Path) -> None:
    write_csv(tmp_path / "sweep.csv", ROWS)
    with (tmp_path / "sweep.csv").open() as stream:
        first, second = csv.DictReader(stream)
    assert first == {
        "job": "0_model.depth=3",
        "status": "done",
        "overrides": "data=liver model.depth=3",
        "monitor": "val/dice",
        "seconds": "75.4",
        "error": "",
        "test/loss": "1.25",
        "val/dice": "0.5",
    }
    assert (second["error"], second["val/dice"]) == ("model.depth=99, is too much", "")
