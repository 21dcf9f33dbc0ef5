import json
import logging
from pathlib import Path
from typing import Any

import pytest
from scored import write_run, write_sweep

from liverseg.reports import conclude_sweep
from liverseg.reports.concluding import put_together
from liverseg.reports.contestants import read_scored

HALVES = (slice(0, 8), slice(8, 16))
Jobs = list[tuple[list[str], dict[str, Any]]]


def folds(wrong: int, *overrides: str, **settings: Any) -> Jobs:
    return [
        (
            [*overrides, f"fold={fold}"],
            {"wrong": wrong, "split": "val", "part": part, "truth": f"masks:{fold}", **settings},
        )
        for fold, part in enumerate(HALVES)
    ]


def concluded(sweep: Path, caplog: pytest.LogCaptureFixture) -> str:
    caplog.set_level(logging.INFO)
    conclude_sweep(sweep)
    return caplog.text


def test_folds_score_like_one_run_over_all_patients(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = write_run(tmp_path / "whole", 3, split="val", chosen=("hd95",))
    sweep = write_sweep(tmp_path / "cv", folds(3, chosen=("hd95",)))
    text = concluded(sweep, caplog)
    assert "cross-validation: val is all 2 folds, each image scored by the network that" in text
    assert "over the 8 patients of val" in text
    folder = sweep / "out_of_fold"
    for table in ("cases_val.csv", "patients_val.csv"):
        assert (folder / table).read_text() == (whole / table).read_text()
    scores = json.loads((folder / "metrics.json").read_text())
    # Of image n, 3 * (n + 3) // 4 of 32 pixels are not found: TP 512 - 147 = 365, FN 147.
    missed = [(3 * (n + 3)) // 4 for n in range(16)]
    found = [32 - one for one in missed]
    each = [2 * one / (one + 32) for one in found]
    assert scores["val/dice"] == pytest.approx(sum(each) / 16, abs=1e-12)
    assert scores["val/dice_pooled"] == pytest.approx(2 * sum(found) / (sum(found) + 512))
    assert scores["val/dice_low"] < scores["val/dice"] < scores["val/dice_high"]
    assert scores["val/hd95"] > 0


def test_each_setting_and_seed_has_a_cross_validation_and_settings_are_compared(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [job for model, wrong in (("a", 4), ("b", 1)) for job in folds(wrong, f"model={model}")]
    sweep = write_sweep(tmp_path / "cv", [*jobs, *folds(2, "model=b", "seed=1")])
    text = concluded(sweep, caplog)
    assert sorted(one.name for one in (sweep / "out_of_fold").iterdir()) == [
        *("model=a", "model=b", "model=b_seed=1"),
    ]
    assert "model=b is better: Dice of model=b less that of model=a is +0." in text
    assert (sweep / "comparison" / "report.html").is_file()


def test_a_sweep_with_more_settings_keeps_no_scores_under_old_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = write_sweep(tmp_path / "cv", folds(4, "model=a", "depth=1"))
    out = sweep / "out_of_fold"
    concluded(sweep, caplog)
    (out / "notes.txt").write_text("mine")
    evaluated = write_run(out / "evaluated", 4, split="val")  # the same lines, but not of folds
    others = write_run(out / "others", 5, split="val", truth="folds:1")  # lines that stand nowhere
    kept = [sorted(one.iterdir()) for one in (evaluated, others)]
    for number, setting in enumerate((["model=b", "depth=1"], ["model=b", "depth=2"]), start=1):
        for job in write_sweep(tmp_path / "more", folds(number, *setting)).iterdir():
            job.rename(sweep / f"{number}{job.name}")
        concluded(sweep, caplog)
    assert sorted(one.name for one in out.iterdir()) == [
        *("depth=1_model=a", "depth=1_model=b", "depth=2_model=b"),
        *("evaluated", "notes.txt", "others"),
    ]
    assert [sorted(one.iterdir()) for one in (evaluated, others)] == kept


def test_of_many_cross_validations_one_score_each_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [job for seed in range(7) for job in folds(3, f"seed={seed}")]
    text = concluded(write_sweep(tmp_path / "cv", jobs), caplog)
    assert text.count("val/dice 0.") == text.count("cross-validation of seed=") == 7


def test_folds_that_are_left_out_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sweep = write_sweep(tmp_path / "cv", folds(3))
    for job in sweep.iterdir():
        config = (job / "config.yaml").read_text()
        (job / "config.yaml").write_text(config.replace("num_folds: 2", "num_folds: 5"))
    assert "val is fold 0, 1 of 5, the others being left out" in concluded(sweep, caplog)


def test_of_seeds_of_one_setting_nothing_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = write_sweep(tmp_path / "s", [([f"seed={seed}"], {"wrong": 1}) for seed in (1, 2)])
    assert concluded(sweep, caplog) == ""


def test_settings_that_are_not_repeated_are_not_compared(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [([f"model={name}"], {"wrong": wrong}) for name, wrong in (("a", 4), ("b", 1))]
    sweep = write_sweep(tmp_path / "s", jobs)
    earlier = sweep / "comparison" / "comparison.json"  # of a start when they were
    earlier.parent.mkdir()
    earlier.write_text("[]")
    assert "so settings are not compared; seed=1,2,3 repeats each" in concluded(sweep, caplog)
    assert not (sweep / "comparison").exists()


def test_what_cannot_be_compared_leaves_the_sweep_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs: Jobs = [
        ([f"data.root={name}", f"seed={seed}"], {"wrong": 1, "truth": f"masks:{name}"})
        for name in "ab"
        for seed in (1, 2)
    ]
    sweep = write_sweep(tmp_path / "s", jobs)
    assert "were not scored on the same test" in concluded(sweep, caplog)


def test_folds_scored_by_other_rules_are_not_put_together(tmp_path: Path) -> None:
    runs = [
        read_scored(
            write_run(tmp_path / str(size), 1, split="val", chosen=("nsd",), tolerance=size), "val"
        )
        for size in (1.0, 2.0)
    ]
    with pytest.raises(ValueError, match="differ in tolerance, so their folds are not put togeth"):
        put_together(runs, tmp_path / "out")
