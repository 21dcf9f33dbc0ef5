import math
from itertools import pairwise

import pytest

from liverseg.scores import summary


def test_one_class_is_a_table_of_splits() -> None:
    scores = {"val/loss": 0.5, "val/dice": 0.25, "test/dice": 1.0}
    assert summary(scores) == (
        "                  val     test\n"
        "loss           0.5000         \n"
        "dice           0.2500   1.0000"
    )


@pytest.mark.parametrize(
    ("low", "value", "high", "shown"),
    [
        (0.9041, 0.9045, 0.9459, "0.904 to 0.946"),
        (0.9995, 0.9995, 0.9995, "0.999 to 1.000"),
        (0.0001, 0.0004, 0.0004, "0.000 to 0.001"),
        (1.0, 1.0, 1.0, "1.000 to 1.000"),
    ],
)
def test_a_number_lies_in_its_interval_as_both_are_shown(
    low: float, value: float, high: float, shown: str
) -> None:
    scores = {"val/dice": value, "val/dice_low": low, "val/dice_high": high, "val/images": 4.0}
    assert f"{value:.4f}  {shown}" in summary(scores)


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


def test_intervals_stand_beside_their_means_and_say_over_what() -> None:
    scores = {
        "val/loss": 0.5,
        "val/dice": 0.25,
        "val/dice_low": 0.125,
        "val/dice_high": 0.5,
        "val/images": 9.0,
        "val/missed": 2.0,
        "test/dice": 1.0,
        "test/dice_low": 1.0,
        "test/dice_high": 1.0,
        "test/images": 9.0,
        "test/patients": 4.0,
    }
    assert [line.rstrip() for line in summary(scores).split("\n")] == [
        "                  val   95 % interval     test   95 % interval",
        "loss           0.5000",
        "dice           0.2500  0.125 to 0.500   1.0000  1.000 to 1.000",
        "missed              2",
        "",
        "intervals: 95 %, over the 9 images of val and the 4 patients of test",
    ]


def test_what_a_mean_distance_leaves_out_stands_below_it() -> None:
    scores = {"val/dice": 0.5, "val/hd95": 12.5, "val/hd95_infinite": 2.0}
    scores |= {"val/rvd_case": 0.5, "val/rvd_case_infinite": 0.0}
    assert [line.split() for line in summary(scores).splitlines()[2:]] == [
        ["hd95", "12.5000"],
        ["hd95_infinite", "2"],
        ["rvd_case", "0.5000"],
    ]


def test_classes_have_the_interval_of_each_mean() -> None:
    ends = {"val/dice_low/liver": 0.25, "val/dice_high/liver": 0.75}
    table = summary({"val/dice": 0.5, "val/dice/liver": 0.5, **ends}).split("\n\n")[1]
    assert [line.split() for line in table.splitlines()] == [
        ["val", "dice", "95", "%", "interval"],
        ["liver", "0.5000", "0.250", "to", "0.750"],
    ]
