import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from liverseg.data.folds import divide, divide_folders, put_together
from liverseg.data.pairs import Pair, find_pairs

PATTERN = r"^(.+)_slice\d+$"


def pairs_of(folder: str, *names: str) -> list[Pair]:
    return [
        Pair(name, Path(folder, f"{name}.png"), Path(folder, f"{name}_mask.png")) for name in names
    ]


def sizes_of(folds: list[int]) -> list[int]:
    return [folds.count(fold) for fold in range(max(folds) + 1)]


# Worked by hand: the largest left goes to the smallest so far.
# A 4 -> 0, B 3 -> 1, C and D 2 each -> 2 (whichever comes first), E 1 -> 1: sizes 4, 4, 4.
def test_the_worked_example():
    units = [*"BAACDBAECDAB"]
    folds = divide(units, 3)
    assert dict(zip(units, folds, strict=True)) == {"A": 0, "B": 1, "C": 2, "D": 2, "E": 1}
    assert folds == [1, 0, 0, 2, 2, 1, 0, 1, 2, 2, 0, 1]


def test_folds_of_one_folder_never_change():
    patients = [f"patient{number:03}" for number in range(10)]
    assert divide(patients, 5) == [2, 3, 3, 0, 4, 1, 4, 1, 0, 2]


@pytest.mark.parametrize("num_folds", [2, 3, 5, 10])
def test_folds_differ_by_the_largest_case_at_most(num_folds):
    units = [f"{number}" for number in range(1, 24) for _ in range(number * number % 17 + 1)]
    sizes = sizes_of(divide(units, num_folds))
    assert len(sizes) == num_folds
    assert max(sizes) - min(sizes) <= max(Counter(units).values())


def test_folds_of_images_differ_by_one_at_most():
    assert sorted(sizes_of(divide([f"{number:03}" for number in range(23)], 5))) == [4, 4, 5, 5, 5]


def test_the_order_of_images_does_not_matter():
    units = [*"aabbbcdddde"]
    there = dict(zip(units, divide(units, 3), strict=True))
    back = dict(zip(units[::-1], divide(units[::-1], 3), strict=True))
    assert there == back


def test_neighbouring_numbers_are_spread():
    folds = divide([f"{number:03}" for number in range(100)], 5)
    neighbours = sum(one == other for one, other in pairwise(folds))
    assert neighbours < 30  # 20 by chance, 95 in blocks, 0 by turns
    assert folds != [number % 5 for number in range(100)]
    assert neighbours > 0


def test_names_are_kept_where_all_differ():
    joined = put_together({"train": pairs_of("train", "b", "d"), "val": pairs_of("val", "a", "c")})
    assert [pair.name for pair in joined] == ["a", "b", "c", "d"]
    assert [pair.image.as_posix() for pair in joined][:2] == ["val/a.png", "train/b.png"]


def test_a_name_in_two_folders_puts_the_folder_in_front_of_all():
    joined = put_together(
        {"train": pairs_of("train", "0", "val_0"), "val": pairs_of("val", "0", "1")}
    )
    assert [pair.name for pair in joined] == ["train_0", "train_val_0", "val_0", "val_1"]
    assert [pair.mask.as_posix() for pair in joined] == [
        *("train/0_mask.png", "train/val_0_mask.png", "val/0_mask.png", "val/1_mask.png")
    ]


def test_a_division_has_an_inside_and_an_outside(pair_root):
    train = find_pairs(pair_root / "train", case_pattern=PATTERN)
    division = divide_folders({"train": train}, num_folds=3, where="train")
    assert division.num_without_case == 0
    for fold in range(3):
        inside, outside = division.inside(fold), division.outside(fold)
        assert len({pair.name[:10] for pair in inside}) == 1  # patientNNN
        both = sorted([*inside, *outside], key=lambda pair: pair.name)
        assert both == train


@pytest.mark.parametrize(
    ("num_folds", "pattern", "found", "remedy"),
    [
        (6, PATTERN, "5 cases", "set data.num_folds=5 or fewer"),
        (11, "", "10 images", "set data.num_folds=10 or fewer"),
        (2, "(patient)", "1 case", "leave fold out"),
    ],
)
def test_more_folds_than_cases_are_refused(pair_root, num_folds, pattern, found, remedy):
    folders = {one: find_pairs(pair_root / one, case_pattern=pattern) for one in ("train", "val")}
    sentence = f"data.num_folds={num_folds} is more than the {found} in DIR; {remedy}"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        divide_folders(folders, num_folds=num_folds, where="DIR")


def test_as_many_folds_as_cases_leave_one_out(pair_root):
    folders = {one: find_pairs(pair_root / one, case_pattern=PATTERN) for one in ("train", "val")}
    division = divide_folders(folders, num_folds=5, where="")
    assert sizes_of(division.folds) == [2] * 5
