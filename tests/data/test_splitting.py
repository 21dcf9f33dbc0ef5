import csv
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from serving import module_of

from liverseg.data.splitting import divide_alike, write_splits

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_units_stay_whole_and_shares_count_them() -> None:
    units = [f"{number % 20}" for number in range(200)]
    splits = divide_alike(units, np.ones((200, 1), int), SHARES, seed=1)
    places = defaultdict(set)
    for unit, split in zip(units, splits, strict=True):
        places[unit].add(split)
    assert all(len(found) == 1 for found in places.values())
    found = [split for (split,) in places.values()]
    assert [found.count(split) for split in SHARES] == [14, 3, 3]


def test_foreground_is_shared_out_evenly() -> None:
    units = [f"{number:02}" for number in range(20)]
    pixels = np.array([[1, 4**number] for number in range(10)] * 2)  # half in two of the units
    splits = np.array(divide_alike(units, pixels, {"train": 0.5, "val": 0.5}, seed=0))
    train, val = (pixels[splits == split, 1].sum() for split in ("train", "val"))
    assert train == val  # each largest, second largest, ... once in both


def test_a_seed_repeats_and_another_differs() -> None:
    units, counts = [f"{number}" for number in range(40)], np.ones((40, 1), int)
    first, again, other = (divide_alike(units, counts, SHARES, seed) for seed in (0, 0, 1))
    assert first == again != other


def test_fewer_units_than_splits_are_refused() -> None:
    sentence = "2 patients cannot be divided into train, val, test; add patients, or have fewer"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        divide_alike("aab", np.ones((3, 1), int), SHARES, seed=0)
    sentence = "1 patient cannot be divided into train, val; add patients"
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        divide_alike("aa", np.ones((2, 1), int), {"train": 0.9, "val": 0.1}, seed=0)


@pytest.mark.parametrize(
    ("shares", "sentence"),
    [
        (
            {"train": 0.05, "val": 0.9, "test": 0.05},  # 10 and 1 of 11
            "val=0.9 and test=0.05 leave none of 11 patients for train; lower val or test",
        ),
        (
            {"train": 0.04, "val": 0.96},
            "val=0.96 leaves none of 11 patients for train; lower val",
        ),
    ],
)
def test_shares_that_leave_nothing_for_train_are_to_be_lowered(
    shares: dict[str, float], sentence: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        divide_alike("abcdefghijk", np.ones((11, 1), int), shares, seed=0)


def test_the_table_is_what_training_then_reads(pair_root: Path) -> None:
    for file in sorted(pair_root.glob("*/*.png")):
        file.rename(pair_root / file.name)
    file, told = write_splits(module_of(pair_root), val=0.3, test=0.15, seed=0)
    assert file == pair_root / "cases.csv"
    assert len(told) == 3
    assert re.fullmatch(r"train \d pairs of 4 patients, [\d.]+% foreground", told[0])
    rows = rows_of(file)
    assert rows[0]["name"] == "patient001_slice00.png"
    assert len(rows) == 13
    module = module_of(pair_root, case_pattern="")
    splits = [set(module.dataset(split).cases) for split in ("train", "val", "test")]
    assert [len(split) for split in splits] == [4, 2, 1]
    assert len(set.union(*splits)) == 7


def test_folders_that_are_there_are_divided_anew(pair_root: Path) -> None:
    _, told = write_splits(module_of(pair_root), val=0.3, test=0, seed=0)
    assert told[-1].startswith("the pairs of train/, val/, test/ are divided anew: as long")
    assert {row["name"].partition("/")[0] for row in rows_of(pair_root / "cases.csv")} == {
        *("train", "val", "test")
    }
    module = module_of(pair_root)
    assert len(module.dataset("train")) + len(module.dataset("val")) == 13
    assert not module.has_split("test")


def test_a_table_that_is_there_stays_unless_told_otherwise(pair_root: Path) -> None:
    file = pair_root / "cases.csv"
    names = sorted(path.stem for path in pair_root.glob("*/*slice??.png"))
    rows = [f"{name};{name[:10]};{'' if place == 0 else 'train'};n" for place, name in
            enumerate(names)]  # fmt: skip
    file.write_text("\n".join(["name;case;split;note", *rows]))
    before = file.read_bytes()
    sentence = f"{file} exists; add overwrite=true to have its column split written anew"
    with pytest.raises(FileExistsError, match=re.escape(sentence)):
        write_splits(module_of(pair_root), val=0.2, test=0.2, seed=0)
    assert file.read_bytes() == before
    write_splits(module_of(pair_root), val=0.2, test=0.2, seed=0, overwrite=True)
    found = [line.split(";") for line in file.read_text().splitlines()]
    assert found[0] == ["name", "case", "split", "note"]
    assert [row[0] for row in found[1:]] == names
    assert {row[3] for row in found[1:]} == {"n"}
    assert found[1][2] == ""  # left out before, and still
    assert {row[2] for row in found[2:]} == {"train", "val", "test"}
    assert sorted(path.name for path in pair_root.iterdir()) == [
        "cases.csv",
        "test",
        "train",
        "val",
    ]


def test_images_that_are_found_to_be_of_one_patient_are_put_together_again(
    pair_root: Path,
) -> None:
    file, _ = write_splits(module_of(pair_root, case_pattern=""), val=0.3, test=0, seed=0)
    rows = rows_of(file)
    lines = [f"{row['name']},{row['name'].split('/')[1][:10]},{row['split']}" for row in rows]
    file.write_text("\n".join(["name,case,split", *lines]))
    with pytest.raises(ValueError, match=r"case patient\d+ is in (train|val) and, by line \d+, in"):
        module_of(pair_root).pairs("train")
    _, told = write_splits(module_of(pair_root), val=0.3, test=0, seed=0, overwrite=True)
    assert len(told) == 2  # train and val; the folders were told of before
    train, val = ({*module_of(pair_root).dataset(split).cases} for split in ("train", "val"))
    assert not train & val


def test_official_splits_that_are_divided_anew_are_told_by_any_name(pair_root: Path) -> None:
    (pair_root / "val").rename(pair_root / "validation")
    _, told = write_splits(module_of(pair_root), val=0.2, test=0.2, seed=0)
    assert told[-1].startswith("the pairs of train/, validation/, test/ are divided anew")
    assert told[-1].endswith("(its column split, written by hand, keeps them)")


@pytest.mark.parametrize(("val", "test"), [(0.5, 0.5), (0.9, 0.3)])
def test_a_division_without_train_is_refused(pair_root: Path, val: float, test: float) -> None:
    with pytest.raises(ValueError, match=f"val={val} and test={test} leave nothing for train"):
        write_splits(module_of(pair_root), val=val, test=test, seed=0)
    assert not (pair_root / "cases.csv").exists()


def test_images_without_a_patient_are_told(pair_root: Path) -> None:
    _, told = write_splits(module_of(pair_root, case_pattern=""), val=0.2, test=0.2, seed=0)
    assert told[-1].startswith(
        "13 of 13 images have no patient (data.case_pattern, or the column case of cases.csv where "
        "folders are patients)"
    )
    assert not any(row["case"] for row in rows_of(pair_root / "cases.csv"))
