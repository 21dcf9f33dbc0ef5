import math
from itertools import pairwise

import pytest
import torch

from liverseg.scores import SegmentationScores, images_that_hold, summary


def test_one_class_is_a_table_of_splits() -> None:
    scores = {"val/loss": 0.5, "val/dice": 0.25, "test/dice": 1.0}
    assert summary(scores) == (
        "                  val     test\n"
        "loss           0.5000         \n"
        "dice           0.2500   1.0000"
    )


def test_the_score_that_is_monitored_has_a_row() -> None:
    scores = {"val/dice": 0.5, "val/dice_pooled/liver": 0.25, "test/dice": 0.75}
    rows = summary(scores, "val/dice_pooled/liver").splitlines()
    assert [row.split() for row in rows[1:]] == [
        ["dice", "0.5000", "0.7500"],
        ["dice_pooled/liver", "0.2500"],
    ]
    assert summary(scores, "val/dice") == summary(scores)


def test_several_classes_have_a_table_for_each_split() -> None:
    scores = {
        "val/dice": 0.5,
        "val/dice/liver": 0.75,
        "val/iou/liver": 0.6,
        "val/images/liver": 12.0,
        "val/dice/a/b": 0.25,
        "val/iou/a/b": 0.125,
        "val/images/a/b": 0.0,
    }
    assert summary(scores) == (
        "                  val\n"
        "dice           0.5000\n"
        "\n"
        "val              dice      iou   images\n"
        "liver          0.7500   0.6000       12\n"
        "a/b            0.2500   0.1250        0"
    )
    both = summary({**scores, "test/dice": 1.0, "test/dice/liver": 1.0})
    assert both.endswith("\n\ntest             dice\nliver          1.0000")


@pytest.mark.parametrize(
    ("loss", "shown"),
    [
        (1e6, "1.000e+06"),
        (-123456.7890, "-123456.7890"),
        (-1.5e300, "-1.500e+300"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (0.00004, "0.0000"),
    ],
)
def test_columns_stay_apart_whatever_the_numbers(loss: float, shown: str) -> None:
    lines = summary(
        {"val/loss": loss, "val/dice": 0.5, "test/loss": loss, "test/dice": 0.25}
    ).split("\n")
    assert lines[0].split() == ["val", "test"]
    assert lines[1].split() == ["loss", shown, shown]
    assert lines[2].split() == ["dice", "0.5000", "0.2500"]
    assert len({len(line) for line in lines}) == 1


def test_a_long_name_moves_the_columns_of_its_table_alone() -> None:
    name = "left kidney with a very long name"
    table = summary({"val/dice": 0.5, f"val/dice/{name}": 0.5, "val/dice/b": -0.5})
    lines = table.split("\n\n")[1].split("\n")
    assert lines[1] == f"{name}    0.5000"
    assert all(len(one) == len(other) for one, other in pairwise(lines))


def test_images_that_hold_a_class_are_those_where_it_is_true() -> None:
    scores = SegmentationScores(3, ["liver", "spleen"])
    mask = torch.tensor([[[0, 1]], [[255, 2]], [[1, 1]], [[0, 0]]], dtype=torch.uint8)
    prediction = torch.tensor([[[2, 2]], [[2, 0]], [[0, 0]], [[2, 2]]], dtype=torch.uint8)
    scores.update(prediction, mask, torch.arange(4), torch.full((4,), -1))
    scores.compute()
    assert images_that_hold(scores) == {"images/liver": 2.0, "images/spleen": 1.0}


def test_one_class_has_no_number_of_images() -> None:
    assert images_that_hold(SegmentationScores(1, ["liver"])) == {}
