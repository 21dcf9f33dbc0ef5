import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig
from PIL import Image

from liverseg import ending
from liverseg.experiment import train
from liverseg.reports.results import Result, write_result
from liverseg.runs import read_scores

Compose = Callable[..., DictConfig]
SCORES = {"val/loss": 0.5, "val/dice": 0.75, "val/dice_pooled": 0.875, "val/dice_low": 0.7}
SCORES |= {"val/dice_high": 0.8, "val/images": 3.0}
START = {"command": ["/x/train.py", "data=liver", "data.root=a folder"], "commit": "abc123"}


def result(**changes: Any) -> Result:
    told: dict[str, Any] = {
        "config": {"monitor": "val/dice", "model": {"depth": 3}, "data": {"phantom": None}},
        "defaults": {
            "monitor": "val/dice",
            "model": {"depth": 4},
            "data": {"phantom": {"_target_": "Phantom", "seed": 0}},
        },
        "scores": SCORES,
        "starts": [START],
        "facts": {"network": "UNet"},
        "intensities": {},
        "best": 2.0,
    }
    return Result(**{**told, **changes})


def rows(page: str) -> list[list[str]]:
    """Return the cells of all tables, line by line."""
    lines = re.findall(r"<tr>(.*?)</tr>", page)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line) for line in lines]


def test_scores_stand_with_their_intervals(tmp_path: Path) -> None:
    write_result(tmp_path, result())
    page = (tmp_path / "report.html").read_text()
    assert ["dice", "0.7500", "0.700 to 0.800"] in rows(page)
    assert "val Dice 0.750 per image, 0.875 pooled" in page
    assert "val/dice chose the checkpoint" in page


def test_each_table_has_a_name_of_its_own(tmp_path: Path) -> None:
    for split in ("val", "test"):
        lines = ["name,case,tp,fp,fn", *(f"i{place},,{place + 1},0,1" for place in range(2))]
        (tmp_path / f"cases_{split}.csv").write_text("\n".join(lines) + "\n")
    scores = {f"{split}/{key}": 0.5 for split in ("val", "test") for key in ("dice", "dice/liver")}
    intensities = {"mean": 0.1, "std": 0.1, "black": 0.5, "percentiles": [0.1] * 9}
    write_result(tmp_path, result(scores=scores, intensities=intensities))
    page = (tmp_path / "report.html").read_text()
    assert re.findall('role="region" aria-label="([^"]*)"', page) == [
        *("scores", "scores of val by class", "scores of test by class", "brightness of train"),
        *("best of val", "worst of val", "best of test", "worst of test"),
        *("settings that differ", "all settings", "commands"),
    ]


def test_settings_that_differ_from_the_defaults_are_shown_once(tmp_path: Path) -> None:
    write_result(tmp_path, result())
    shown = rows((tmp_path / "report.html").read_text())
    assert ["model.depth", "3", "4"] in shown
    assert [row for row in shown if row[0].startswith("data.phantom") and len(row) == 3] == [
        ["data.phantom", "null", "several settings"]
    ]
    assert [row for row in shown if row[0] == "monitor"] == [["monitor", "val/dice"]]  # all of them


def test_settings_stand_as_one_would_type_them(tmp_path: Path) -> None:
    config = {"flips": ["horizontal", None], "data": {"mask_values": [0, [1, 2]]}, "best": True}
    write_result(tmp_path, result(config=config))
    shown = rows((tmp_path / "report.html").read_text())
    assert ["flips", "[horizontal,null]"] in shown
    assert ["data.mask_values", "[0,[1,2]]"] in shown
    assert ["best", "true"] in shown


def test_the_commands_can_be_typed_again(tmp_path: Path) -> None:
    write_result(tmp_path, result())
    page = (tmp_path / "report.html").read_text()
    assert "python train.py data=liver &#x27;data.root=a folder&#x27;" in page
    assert f"python evaluate.py ckpt_path={tmp_path}/checkpoints/best.ckpt split=val" in page
    assert "abc123" in page


def test_the_best_and_the_worst_images_are_named_and_shown(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (40, 20)).save(tmp_path / "pictures" / "best_and_worst_val.png")
    lines = [
        "name,case,tp_a,fp_a,fn_a,tp_b,fp_b,fn_b",
        *(f"i{place},p,{place},{20 - place},0,{place},0,{20 - place}" for place in range(20)),
    ]
    (tmp_path / "cases_val.csv").write_text("\n".join(lines))
    write_result(tmp_path, result())
    page = (tmp_path / "report.html").read_text()
    named = [row[0] for row in rows(page) if row[0].startswith("i") and row[0] != "image"]
    assert named == ["i19", "i18", "i17", "i16", "i15", "i0", "i1", "i2", "i3", "i4"]
    assert 'alt="the best and the worst images of val, with their errors"' in page
    assert ["image", "case", "Dice"] in rows(page)


def test_images_are_named_in_the_order_of_the_picture(tmp_path: Path) -> None:
    lines = [
        "name,case,tp,fp,fn",
        "empty,,0,0,0",
        "small,,3,0,0",
        "large,,9,0,0",
        "few,,0,1,0",
        "many,,0,5,4",
    ]
    (tmp_path / "cases_val.csv").write_text("\n".join(lines) + "\n")
    write_result(tmp_path, result())
    page = (tmp_path / "report.html").read_text()
    named = [row[0] for row in rows(page) if len(row) == 2 and row[1].endswith(".0000")]
    assert named == ["large", "small", "many", "few"]
    assert page.index("<caption>best</caption>") < page.index("<caption>worst of 5</caption>")


def test_no_column_stands_for_patients_that_are_not_known(tmp_path: Path) -> None:
    (tmp_path / "cases_val.csv").write_text("name,case,tp,fp,fn\na,,1,1,1\nb,,1,3,3\n")
    write_result(tmp_path, result())
    shown = rows((tmp_path / "report.html").read_text())
    assert ["image", "Dice"] in shown
    assert ["b", "0.2500"] in shown


def test_curves_are_drawn_from_the_history(tmp_path: Path) -> None:
    lines = [
        f"{step},{split}/loss,{1 / (step + 1)}" for step in (3, 7, 11) for split in ("train", "val")
    ]
    (tmp_path / "curves.csv").write_text("\n".join(lines) + "\n")
    write_result(tmp_path, result())
    assert (
        'aria-label="loss over epochs: train from 0.25 to 0.0833; val from'
        in (tmp_path / "report.html").read_text()
    )


@pytest.mark.parametrize(
    "damaged", ["cases_val.csv", "curves.csv", "pictures/best_and_worst_val.png"]
)
def test_a_damaged_file_of_the_folder_costs_its_part_alone(tmp_path: Path, damaged: str) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / damaged).write_bytes(b"\xff\xfe,\x00name,dice\n1")
    write_result(tmp_path, result(defaults={}, starts=[], intensities={}))
    assert "<h1>" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_a_run_ends_with_its_report_and_without_it_where_it_cannot_be_written(
    compose: Compose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    scores = train(compose(["logger=none"]))
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"{scores['val/dice']:.4f}" in page
    assert "train 6 pairs of 3 patients" in page
    assert ["model.depth", "2", "4"] in rows(page)
    assert not re.search(r"https?:|://|<script", page)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ending, "write_result", full)
    again = train(compose(["logger=none", f"output_dir={tmp_path / 'second'}"]))
    assert read_scores(tmp_path / "second") == again
    assert "report.html could not be written" in caplog.text
