"""What is said of data sets that lie otherwise than pairs do, as they are downloaded."""

import re
from pathlib import Path

import pytest

from liverseg.data.layouts import likely_images, renamed_split
from liverseg.data.pairs import list_below, list_pairs


def touch(folder: Path, *patterns: str, names: tuple[object, ...] = (2, 10, 30)) -> None:
    for pattern in patterns:
        for name in names:
            file = folder / pattern.format(name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()


def told(folder: Path) -> str:
    with pytest.raises(ValueError, match="; ") as caught:
        list_below(folder)
    return str(caught.value).partition("; ")[2]


def test_of_three_folders_that_are_alike_the_user_chooses_the_truth(tmp_path: Path) -> None:
    """As DRIVE has them: mask/ is the field of view."""
    kinds = ("images/{}_training.tif", "1st_manual/{}_manual1.gif", "mask/{}_training_mask.gif")
    touch(tmp_path, *kinds)
    remedy = (
        "1st_manual/, images/ and mask/ hold like names, so rename 1st_manual/ or mask/, whichever "
        "holds the truth, to masks/, and give image and mask one name"
    )
    assert told(tmp_path) == remedy
    with pytest.raises(ValueError, match=f"{re.escape(remedy)}$"):
        list_pairs(tmp_path)
    (tmp_path / "1st_manual").rename(tmp_path / "masks")
    end = "take _training out of the names of images and set data.mask_suffix=_manual1"
    assert told(tmp_path) == end
    for file in (tmp_path / "images").iterdir():
        file.rename(file.with_stem(file.stem.removesuffix("_training")))
    with pytest.raises(ValueError, match=r"move mask/ out of data\.root$"):
        list_below(tmp_path, mask_suffix="_manual1")
    assert len(list_pairs(tmp_path, mask_suffix="_manual1")) == 3


def test_folders_that_are_derived_are_to_be_moved_away(tmp_path: Path) -> None:
    kinds = ("JPEGImages", "SegmentationClass", "SegmentationClassVisualization")
    touch(tmp_path, *(f"voc/{kind}/{{}}.png" for kind in kinds))
    assert told(tmp_path).endswith(
        "so call the folder of images voc/images/ and that of masks voc/masks/ and move others out "
        "of data.root"
    )
    for kind, name in zip(kinds, ("images", "masks"), strict=False):
        (tmp_path / "voc" / kind).rename(tmp_path / "voc" / name)
    assert told(tmp_path) == "move voc/SegmentationClassVisualization/ out of data.root"


@pytest.mark.parametrize("patients", [("p1", "p2"), ("anna", "bob"), (*"abcdefghijklmno",)])
def test_patients_are_not_taken_for_images_and_masks(
    tmp_path: Path, patients: tuple[str, ...]
) -> None:
    touch(tmp_path, *(f"{kind}/{one}/{{}}.png" for kind in ("imgs", "labels") for one in patients))
    assert told(tmp_path) == (
        "imgs/ and labels/ hold like names, so call the folder of images images/ and that of masks "
        "masks/"
    )


@pytest.mark.parametrize("patients", [("p1", "p2"), ("anna", "bob")])
def test_images_and_masks_in_each_patients_folder_are_told(
    tmp_path: Path, patients: tuple[str, ...]
) -> None:
    touch(tmp_path, *(f"{one}/{kind}/{{}}.png" for kind in ("images", "gt") for one in patients))
    first = patients[0]
    assert told(tmp_path) == (
        f"{first}/gt/ and {first}/images/ hold like names, so rename {first}/gt/ to {first}/masks/,"
        " and so on in the other folders"
    )
    for one in patients:
        (tmp_path / one / "gt").rename(tmp_path / one / "masks")
    assert len(list_below(tmp_path)) == 6


@pytest.mark.parametrize("patients", [("anna", "bob"), ("p1", "p2")])
def test_nothing_is_made_up_of_images_without_masks(
    tmp_path: Path, patients: tuple[str, ...]
) -> None:
    touch(tmp_path, *(f"{one}/{{}}.png" for one in patients))
    assert told(tmp_path) == "add or remove it"


def test_an_image_and_a_mask_in_a_folder_of_their_own_are_called_after_it(tmp_path: Path) -> None:
    touch(tmp_path, "case1/{}.png", "case2/{}.png", names=("image", "label"))
    sentence = "name image and mask after their folder, such as case1/case1.png and case1/case1_"
    assert told(tmp_path) == f"{sentence}mask.png"
    for file in tmp_path.glob("*/*.png"):
        end = "_mask" if file.stem == "label" else ""
        file.rename(file.with_stem(f"{file.parent.name}{end}"))
    assert [pair.name for pair in list_below(tmp_path)] == ["case1", "case2"]


def test_official_splits_keep_their_names(tmp_path: Path) -> None:
    """As ISIC has them."""
    for split in ("Training", "Validation"):
        touch(tmp_path, f"I_Task1-2_{split}_Input/{split[0]}{{}}.jpg")
        touch(tmp_path, f"I_Task1_{split}_GroundTruth/{split[0]}{{}}_segmentation.png")
    end = "images images/train/ and that of masks masks/train/, and set data.mask_suffix=_seg"
    assert f"call the folder of {end}" in told(tmp_path)
    for kind, wanted in (("1-2_Training_Input", "images"), ("1_Training_GroundTruth", "masks")):
        (tmp_path / wanted).mkdir()
        (tmp_path / f"I_Task{kind}").rename(tmp_path / wanted / "train")
    with pytest.raises(ValueError, match=r"images images/val/ and that of masks masks/val/$"):
        list_below(tmp_path, mask_suffix="_segmentation")


def test_what_has_its_name_is_not_to_be_renamed(tmp_path: Path) -> None:
    touch(tmp_path, "images/train/city/{}.png", "masks/train/city/{}_ids.png")
    assert told(tmp_path) == "set data.mask_suffix=_ids"
    touch(tmp_path / "1", "images/{}_0000.png", "labels/{}.png")
    name = "rename labels/ to masks/, and take _0000 out of the names of images"
    assert told(tmp_path / "1").endswith(name)


def test_nothing_is_to_be_renamed_to_a_folder_that_is_there(tmp_path: Path) -> None:
    touch(tmp_path, "imgs/{}.png", "labels/{}.png")
    (tmp_path / "images").mkdir()
    assert told(tmp_path) == "add or remove it"


def test_one_more_mask_of_an_image_is_to_be_merged(tmp_path: Path) -> None:
    touch(tmp_path, "a ({}).png", "a ({})_mask.png")
    (tmp_path / "a (2)_mask_1.png").touch()
    remedy = (
        "a (2)_mask_1.png is one more mask of a (2): merge them into a (2)_mask.png, a pixel being "
        "foreground in any of them"
    )
    assert told(tmp_path) == remedy
    with pytest.raises(ValueError, match=f"{re.escape(remedy)}$"):
        list_pairs(tmp_path)
    (tmp_path / "a (2)_mask_1.png").rename(tmp_path / "a (2)_masked.png")
    assert told(tmp_path) == "add or remove it"


def test_files_that_no_command_takes_are_told(tmp_path: Path) -> None:
    touch(tmp_path, "images/{}.tif", "outlines/{}.xml")
    sentence = "outlines/10.xml is no image: draw what it outlines into 10_mask.png"
    assert told(tmp_path) == sentence
    touch(tmp_path / "other", "{}.hdf")
    assert told(tmp_path / "other") == (
        "images are PNG, JPEG, TIFF, BMP, WebP, GIF, PPM or NPY: name a folder of them, or convert "
        "others (volumes by python convert.py)"
    )


def test_portable_pixmaps_are_images(tmp_path: Path) -> None:
    touch(tmp_path, "{}.ppm", "{}_mask.pgm")
    assert len(list_pairs(tmp_path)) == 3


@pytest.mark.parametrize(
    ("folders", "remedy"),
    [
        (["training", "testing"], "rename training/ to train/"),
        (["Train"], "rename Train/ to train/"),
        (
            ["images/training", "masks/training"],
            "rename images/training/ to images/train/ and masks/training/ to masks/train/",
        ),
        (["images/training", "labels/training"], ""),
        (["train_images", "other"], ""),
    ],
)
def test_a_split_by_another_name_is_to_be_renamed(
    tmp_path: Path, folders: list[str], remedy: str
) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    assert renamed_split(tmp_path, "train") == remedy


def test_folders_of_images_come_first_and_those_of_masks_last() -> None:
    names = ["1st_manual", "original", "JPEGImages"]
    found = likely_images([Path(name) for name in names])
    assert [folder.name for folder in found] == names[::-1]
