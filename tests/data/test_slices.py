import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from serving import module_of

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
        (pairs("a_1", "a_01"), "a_1.png and a_01.png are both slice 1 of a; tell them apart"),
    ],
)
def test_slices_without_patient_or_number_are_refused(found: list[Pair], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        stacks_of(found, 3)


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
