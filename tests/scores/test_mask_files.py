import math
from pathlib import Path

import pytest
import torch
from torch import tensor

from liverseg.scores.files import cases_text, patients_text, read_cases, record_of
from liverseg.scores.metrics import SegmentationScores

# Four images of one structure, of the patients 1, 2, 1 and 1: TP, FP and FN by hand.
TRUTH = tensor([[[1, 1, 1, 0]], [[0, 0, 0, 0]], [[0, 0, 0, 0]], [[1, 1, 0, 0]]])
PREDICTION = tensor([[[1, 1, 0, 1]], [[0, 0, 0, 0]], [[0, 1, 1, 0]], [[0, 0, 0, 0]]])
CASES = ["p1", "p2", "p1", "p1"]
NAMES = ["a, 1", "b", "c", "d"]


def counted(**settings: object) -> SegmentationScores:
    scores = SegmentationScores(1, ["liver"], **settings)
    order = [2, 0, 3, 1]
    scores.update(PREDICTION[order], TRUTH[order], tensor(order), tensor([0, 0, 0, 1]))
    scores.compute()
    return scores


def test_a_line_for_each_image_in_the_order_of_the_split() -> None:
    text = cases_text(counted().table(), ["liver"], names=NAMES, cases=CASES)
    assert text.splitlines() == [
        "name,case,dice,iou,precision,recall,tp,fp,fn",
        '"a, 1",p1,0.666667,0.500000,0.666667,0.666667,2,1,1',
        "b,p2,1.000000,1.000000,1.000000,1.000000,0,0,0",
        "c,p1,0.000000,0.000000,0.000000,0.000000,0,2,0",
        "d,p1,0.000000,0.000000,0.000000,0.000000,0,0,2",
    ]


def test_a_line_for_each_patient_has_counts_of_all_images() -> None:
    text = patients_text(counted().table(), ["liver"], cases=CASES)
    assert text.splitlines() == [
        "case,images,dice,iou,precision,recall,rvd,tp,fp,fn",
        "p1,3,0.400000,0.250000,0.400000,0.400000,0.000000,2,3,3",
        "p2,1,1.000000,1.000000,1.000000,1.000000,,0,0,0",
    ]


def test_chosen_distances_have_columns_that_say_where_there_is_none() -> None:
    table = counted(chosen=["nsd", "hd95"], tolerance=1.0).table()
    lines = cases_text(table, ["liver"], names=NAMES, cases=CASES).splitlines()
    assert lines[0] == "name,case,dice,iou,precision,recall,hd95,nsd,tp,fp,fn"
    assert lines[2].split(",")[6:8] == ["", ""]  # nothing to be found, and nothing found
    assert lines[3].split(",")[6:8] == lines[4].split(",")[6:8] == ["inf", "0.000000"]


@pytest.mark.parametrize("names", [["liver"], ["liver", "a b_c"]])
def test_what_is_written_is_read(names: list[str], tmp_path: Path) -> None:
    scores = SegmentationScores(len(names) + 1, names, chosen=["assd"])
    scores.update(PREDICTION, TRUTH, torch.arange(4), torch.full((4,), -1))
    table = scores.table()
    file = tmp_path / "cases_val.csv"
    file.write_text(cases_text(table, names, names=NAMES, cases=[None] * 4))
    found = read_cases(file)
    assert [case.name for case in found] == NAMES
    for place, name in enumerate(names if len(names) > 1 else [""]):
        assert [list(case.counts[name]) for case in found] == table.counts[:, place].tolist()
        for case, value in zip(found, table.values[:, place, 0].tolist(), strict=True):
            same = case.values[name]["assd"] == pytest.approx(value, abs=1e-6)
            assert same or math.isnan(value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name,case,dice\na,,0.5\n", "has no columns tp, fp and fn"),
        ("name,case,dice,tp,fp,fn\na,,0.5,1,2,x\n", "line 2, is damaged"),
        ("name,case,dice,tp,fp,fn\na,,0.5,1\n", "line 2, is damaged"),
        ("", "has no columns"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(text: str, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "cases_val.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=rf"cases_val\.csv.*{sentence}"):
        read_cases(file)


def test_the_record_says_what_must_agree() -> None:
    record = record_of(counted(chosen=["nsd"], spacing=[0.5, 2.0]), "masks:1")
    assert record["truth"] == "masks:1"
    assert record["classes"] == ["liver"]
    assert (record["scores"], record["spacing"]) == (["nsd"], [0.5, 2.0])
