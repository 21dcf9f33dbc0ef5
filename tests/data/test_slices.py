import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from serving import module_of

from liverseg.data.marks import mark
from liverseg.data.pairs import Pair
from liverseg.data.slices import FolderStacks, read_stack, slice_number, stacks_of


def pairs(*names: str) -> list[Pair]:
    found = []
    for name in names:
        case, _, _ = name.partition("_")
        found.append(Pair(name, Path(f"{name}.png"), Path(f"{name}_mask.png"), case))
    return found


def test_neighbours_are_those_of_the_patient_and_the_nearest_at_the_borders() -> None:
    found = pairs("a_2", "a_3", "b_1", "a_10", "b_2", "a_4")
    stacks, gaps = stacks_of(found, 3)
    assert stacks == [[0, 0, 1], [0, 1, 5], [2, 2, 4], [5, 3, 3], [2, 4, 4], [1, 5, 3]]
    assert gaps == ["a_4 and a_10"]
    assert stacks_of(found, 5)[0][0] == [0, 0, 0, 1, 5]
    assert stacks_of(pairs("a_7"), 3) == ([[0, 0, 0]], [])


@pytest.mark.parametrize(
    ("name", "case", "number"),
    [
        ("patient007_slice31", "patient007", 31),
        ("volume-12_7", "12", 7),
        ("12_7", "12", 7),
        ("1_slice011", "1", 11),
        ("p1_slice012", "1", 12),
        ("img_011", "1", 11),
        ("Ann_t2_0040", "Ann", 40),
        ("scan_17", "Bob", 17),
        ("patient007", "patient007", None),
    ],
)
def test_the_number_is_the_last_one_behind_the_patient(
    name: str, case: str, number: int | None
) -> None:
    pair = Pair(name, Path(f"{name}.png"), Path(), case)
    assert slice_number(pair) == number
    assert slice_number(Pair(name, Path(f"{name}.png"), Path(), case, None, 3)) == 3


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ([Pair("1", Path("1.png"), Path())], "1.png carries no patient, so data.slices=3"),
        (pairs("a_x"), "a_x.png carries no number, so data.slices=3 cannot know its neighbours"),
        (
            pairs("a_1", "a_01"),
            "a_1.png and a_01.png are both slice 1 of a; correct their numbers or, where they are "
            "of two volumes, name all slices of a by volume and number, such as VOLUME_slice001",
        ),
    ],
)
def test_slices_without_patient_or_number_are_refused(found: list[Pair], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        stacks_of(found, 3)


@pytest.mark.parametrize(
    "numbers",
    [
        (1, 2, 1, 2),  # of both volumes
        (1, 2, 3, 4),
    ],
)
@pytest.mark.parametrize("with_table", [True, False])
def test_volumes_of_a_patient_are_not_seen_together(
    numbers: tuple[int, ...], with_table: bool
) -> None:
    found = pairs(*(f"a_ses-{1 + at // 2}_slice{no:03}" for at, no in enumerate(numbers)))
    if with_table:  # of convert.py
        found = [replace(one, number=no) for one, no in zip(found, numbers, strict=True)]
    assert stacks_of(found, 3)[0] == [[0, 0, 1], [0, 1, 1], [2, 2, 3], [2, 3, 3]]


def test_volumes_in_folders_of_their_own_are_not_seen_together() -> None:
    files = [Path(f"ses-{one}/{number}.png") for one in (1, 2) for number in (7, 8)]
    found = [Pair(str(file), file, file, "a") for file in files]
    assert stacks_of(found, 3)[0] == [[0, 0, 1], [0, 1, 1], [2, 2, 3], [2, 3, 3]]


def test_volumes_of_one_slice_each_are_told_apart_by_their_numbers_alone() -> None:
    assert stacks_of(pairs("a_ses-1_slice7", "a_ses-2_slice7"), 3)[0] == [[0, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (("scan_028", "scan_003", "scan_002"), (3, 1, 2)),  # of a table, one as its name says
        (("x7b9", "k2q5", "m0r1"), (3, 1, 2)),
        (("a_z-12.5_3", "a_z-17.5_1", "a_z-15_2"), (None, None, None)),
    ],
)
def test_names_that_say_nothing_of_a_volume_are_of_one(
    names: tuple[str, ...], numbers: tuple[int | None, ...]
) -> None:
    found = [
        replace(one, case="a", number=number)
        for one, number in zip(pairs(*names), numbers, strict=True)
    ]
    assert stacks_of(found, 3)[0] == [[2, 0, 0], [1, 1, 2], [1, 2, 0]]


def shade(root: Path) -> None:
    """Give each image the number of its patient and slice for its grey."""
    for file in root.rglob("*slice??.png"):
        patient, place = int(file.name[7:10]), int(file.name[16:18])
        Image.fromarray(np.full((32, 32), 20 * patient + place, np.uint8)).save(file)


@pytest.mark.parametrize("megabytes", [0, 1])
def test_a_sample_holds_its_neighbours_as_channels(pair_root: Path, megabytes: int) -> None:
    shade(pair_root)
    module = module_of(pair_root, slices=3, cache_megabytes=megabytes)
    seen = [(sample["image"][:, 0, 0] * 255).round().tolist() for sample in module.dataset("val")]
    assert seen == [[80, 80, 81], [80, 81, 81], [102, 102, 103], [102, 103, 103]]


def test_an_image_of_a_folder_is_seen_as_in_training(pair_root: Path) -> None:
    shade(pair_root)
    module = module_of(pair_root, slices=3)
    stacks = module.stacks()
    for pair, sample in zip(module.dataset("val").pairs, module.dataset("val"), strict=True):
        image = read_stack(stacks.of(pair.image), 1, None)
        torch.testing.assert_close(image / 255, sample["image"])


def test_a_table_tells_patients_and_numbers_of_a_folder(pair_root: Path) -> None:
    names = sorted(file.stem for file in (pair_root / "val").glob("*slice??.png"))
    rows = [f"val/{name}.png,Ann,{9 - place}" for place, name in enumerate(names)]
    rows += [f"train/{name}.png,Bob,{place}" for place, name in enumerate(names)]
    (pair_root / "cases.csv").write_text("\n".join(["name,case,slice", *rows]))
    stacks = FolderStacks(3, case_pattern="", mask_suffix="_mask")
    found = [file.stem for file in stacks.of(pair_root / "val" / f"{names[1]}.png")]
    assert found == [names[2], names[1], names[0]]


@pytest.mark.parametrize("place", ["images/val", "val/images", "images/val/hospital/ct"])
def test_a_table_is_found_above_the_folders_of_every_layout(place: str, tmp_path: Path) -> None:
    folder = tmp_path / place
    folder.mkdir(parents=True)
    for name in ("x", "y", "z"):
        Image.new("L", (4, 4)).save(folder / f"{name}.png")
    (folder / "cases.csv").write_text("name,case,slice\nother,Bob,1\n")  # names none of them
    rows = "".join(f"{name},Ann,{number}\n" for name, number in zip("xyz", (3, 1, 2), strict=True))
    (tmp_path / "cases.csv").write_text(f"name,case,slice\n{rows}")
    stacks = FolderStacks(3, case_pattern="", mask_suffix="_mask")
    assert [file.stem for file in stacks.of(folder / "z.png")] == ["y", "z", "x"]


def test_what_a_prediction_wrote_is_no_slice(tmp_path: Path) -> None:
    for name in ("a_1", "a_2", "a_7"):
        Image.new("L", (4, 4)).save(tmp_path / f"{name}.png")
    (tmp_path / "cases.csv").write_text("name,case,slice\na_1,a,3\na_2,a,1\na_7,a,2\n")
    for end in ("prediction", "picture"):
        Image.new("L", (4, 4)).save(tmp_path / f"a_1_{end}.png", pnginfo=mark())
    stacks = FolderStacks(3, case_pattern=r"^(a)_", mask_suffix="_mask")
    assert [file.stem for file in stacks.of(tmp_path / "a_7.png")] == ["a_2", "a_7", "a_1"]


def test_neighbours_of_other_sizes_are_refused(pair_root: Path) -> None:
    for end in ("", "_mask"):
        file = pair_root / "val" / f"patient004_slice00{end}.png"
        with Image.open(file) as picture:
            small = picture.crop((0, 0, 16, 16))
        small.save(file)
    with pytest.raises(ValueError, match="are neighbours and differ in size or depth"):
        module_of(pair_root, slices=3).dataset("val")[0]
    assert module_of(pair_root, slices=3, image_size=[8, 8]).dataset("val")[0]["image"].shape == (
        *(3, 8, 8),
    )


def test_gaps_are_told_once(pair_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    module_of(pair_root, slices=3).setup("fit")
    assert "do not follow each other" not in caplog.text
    for end in ("", "_mask"):
        file = pair_root / "train" / f"patient001_slice01{end}.png"
        file.rename(file.with_name(f"patient001_slice07{end}.png"))
    module_of(pair_root, slices=3).setup("fit")
    told = (
        "1 neighbours have slice numbers that do not follow each other, such as "
        "patient001_slice00 and patient001_slice07: data.slices=3 takes the next that is there"
    )
    assert caplog.text.count(told) == 1


def test_an_even_number_is_refused(pair_root: Path) -> None:
    with pytest.raises(ValueError, match=re.escape("data.slices=2 must be odd")):
        module_of(pair_root, slices=2)
