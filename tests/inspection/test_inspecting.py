import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from studies import NUM_SLICES, kinds, load, module, save

from liverseg.inspection import Finding, inspect, share_of_class, survey
from liverseg.labels import IGNORED
from liverseg.reports import write_findings

TRAIN = "train/patient003_slice02"


def found(root: Path, **changes: object) -> list[Finding]:
    return inspect(survey(module(root, **changes)))


def copy_pair(root: Path, source: str, target: str) -> None:
    for end in (".png", "_mask.png"):
        shutil.copy(root / f"{source}{end}", root / f"{target}{end}")


def test_a_clean_study_has_neither_error_nor_warning(study: Path) -> None:
    assert [one for one in found(study) if one.level != "note"] == []


def test_patients_that_nothing_tells_are_no_proof_that_none_is_in_two_splits(study: Path) -> None:
    kinds = {one.kind for one in found(study)}
    assert "patients not known" not in kinds
    for image in [*study.glob("*/*_slice*.png")]:
        image.rename(image.with_name(image.name.replace("_slice", "x")))
    assert "patients not known" in {one.kind for one in found(study)}


def duplicate(root: Path) -> None:
    copy_pair(root, TRAIN, "val/patient099_slice02")


def patient(root: Path) -> None:
    for end in (".png", "_mask.png"):
        shutil.move(root / f"{TRAIN}{end}", root / f"val/patient003_slice02{end}")


def shifted(root: Path) -> None:
    mask = load(root / f"{TRAIN}_mask.png")
    save(root / f"{TRAIN}_mask.png", np.roll(mask, (6, 9), (0, 1)))


def inverted(root: Path) -> None:
    save(root / f"{TRAIN}_mask.png", 255 - load(root / f"{TRAIN}_mask.png"))


def undeclared(root: Path) -> None:
    mask = load(root / f"{TRAIN}_mask.png")
    mask[3, 4] = 7
    save(root / f"{TRAIN}_mask.png", mask)


def soft(root: Path) -> None:
    with Image.open(root / f"{TRAIN}_mask.png") as mask:
        blurred = mask.filter(ImageFilter.GaussianBlur(1))
    blurred.save(root / f"{TRAIN}_mask.png")


def empty(root: Path) -> None:
    (root / "test").mkdir()


def reversed_slices(root: Path) -> None:
    pairs = [f"train/patient003_slice{place:02}" for place in range(NUM_SLICES)]
    for end in (".png", "_mask.png"):
        contents = [(root / f"{pair}{end}").read_bytes() for pair in pairs]
        for pair, content in zip(pairs, reversed(contents), strict=True):
            (root / f"{pair}{end}").write_bytes(content)


def alone(root: Path) -> None:
    (root / f"{TRAIN}_mask.png").unlink()


def unreadable(root: Path) -> None:
    (root / f"{TRAIN}.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")


def another_size(root: Path) -> None:
    save(root / f"{TRAIN}_mask.png", load(root / f"{TRAIN}_mask.png")[:40])


def two_masks(root: Path) -> None:
    copy_pair(root, TRAIN, "train/patient003_slice90")
    mask = load(root / f"{TRAIN}_mask.png")
    mask[:28] = 0
    save(root / "train/patient003_slice90_mask.png", mask)


def saved_anew(root: Path) -> None:
    copy_pair(root, TRAIN, "val/patient099_slice02")
    (root / "val/patient099_slice02.png").unlink()
    with Image.open(root / f"{TRAIN}.png") as image:
        brighter = image.point(lambda value: int(value * 1.1))
    brighter.save(root / "val/patient099_slice02.jpg", quality=85)


def halved(root: Path, how: Image.Resampling) -> None:
    for end, resampling in ((".png", how), ("_mask.png", Image.Resampling.NEAREST)):
        with Image.open(root / f"{TRAIN}{end}") as image:
            small = image.resize((32, 32), resampling)
        small.save(root / f"val/patient099_slice02{end}")


def halved_smoothly(root: Path) -> None:
    halved(root, Image.Resampling.BILINEAR)


def halved_by_leaving_out(root: Path) -> None:
    halved(root, Image.Resampling.NEAREST)


def turned(root: Path) -> None:
    for end in (".png", "_mask.png"):
        save(root / f"val/patient099_slice02{end}", np.rot90(load(root / f"{TRAIN}{end}")))


def flipped(root: Path) -> None:
    for end in (".png", "_mask.png"):
        save(root / f"val/patient099_slice02{end}", load(root / f"{TRAIN}{end}")[:, ::-1])


def full(root: Path) -> None:
    save(root / f"{TRAIN}_mask.png", np.full((64, 64), 255))


@pytest.mark.parametrize(
    ("plant", "level", "kind", "file"),
    [
        (duplicate, "error", "same image in two splits", f"{TRAIN}.png"),
        (patient, "error", "patient in two splits", "val/patient003_slice02.png"),
        (shifted, "warning", "shifted mask", f"{TRAIN}_mask.png"),
        (inverted, "error", "inverted mask", f"{TRAIN}_mask.png"),
        (undeclared, "error", "undeclared values", f"{TRAIN}_mask.png"),
        (soft, "error", "soft edges", f"{TRAIN}_mask.png"),
        (empty, "error", "empty split", "test/"),
        (reversed_slices, "warning", "slice order", "train/patient003_slice00.png"),
        (alone, "error", "no partner", f"{TRAIN}.png"),
        (unreadable, "error", "unreadable image", f"{TRAIN}.png"),
        (another_size, "error", "size", f"{TRAIN}_mask.png"),
        (two_masks, "error", "same image, two masks", f"{TRAIN}.png"),
        (saved_anew, "error", "nearly the same image in two splits", f"{TRAIN}.png"),
        (halved_smoothly, "error", "nearly the same image in two splits", f"{TRAIN}.png"),
        (halved_by_leaving_out, "error", "nearly the same image in two splits", f"{TRAIN}.png"),
        (turned, "error", "same image in two splits, flipped or turned", f"{TRAIN}.png"),
        (flipped, "error", "same image in two splits, flipped or turned", f"{TRAIN}.png"),
        (full, "warning", "full masks", f"{TRAIN}_mask.png"),
    ],
)
def test_a_planted_fault_is_found_and_its_file_is_named(
    study: Path, plant: Callable[[Path], None], level: str, kind: str, file: str
) -> None:
    plant(study)
    findings = found(study)
    assert (level, kind) in kinds(findings)
    (one,) = [finding for finding in findings if finding.kind == kind]
    assert one.files[0].path == file
    assert one.count == 1
    faults = [other for other in findings if other.level != "note" and other is not one]
    assert not [other for other in faults if other.kind in ("same mask, several images", "refused")]
    assert not [other for other in faults if other.kind == "inverted mask"]


def test_masks_of_a_whole_split_that_are_inverted_are_held_against_the_other(study: Path) -> None:
    for mask in (study / "train").glob("*_mask.png"):
        save(mask, 255 - load(mask))
    told = [one for one in found(study) if one.level != "note"]
    assert kinds(told) == [("error", "inverted mask")]
    assert told[0].count == 45


def test_masks_of_a_patient_in_reverse_order_are_found(study: Path) -> None:
    masks = [study / f"train/patient003_slice{place:02}_mask.png" for place in range(NUM_SLICES)]
    contents = [mask.read_bytes() for mask in masks]
    for mask, content in zip(masks, reversed(contents), strict=True):
        mask.write_bytes(content)
    (one,) = [finding for finding in found(study) if finding.kind == "masks in reverse order"]
    assert [str(file) for file in one.files] == [
        "train/patient003_slice00_mask.png (patient patient003)"
    ]


def test_a_structure_that_fills_its_image_is_no_inverse(study: Path) -> None:
    rows, columns = np.mgrid[:64, :64]
    noise = np.random.default_rng(0).normal(0, 4, (64, 64))
    hole = (rows - 30) ** 2 + (columns - 30) ** 2 < 100
    save(study / f"{TRAIN}.png", 70 + 90 * ~hole + noise)
    save(study / f"{TRAIN}_mask.png", ~hole * 255)
    assert "inverted mask" not in [kind for _, kind in kinds(found(study))]


def test_another_window_in_val_is_told_with_both_numbers(study: Path) -> None:
    for file in (study / "val").glob("*_slice??.png"):
        save(file, np.clip(load(file) * 0.5 + 90, 0, 255))
    (one,) = [finding for finding in found(study) if finding.kind == "intensities drift"]
    assert "against" in one.text
    assert one.level == "warning"


def test_a_class_that_train_lacks_is_an_error_and_one_that_val_lacks_a_warning(study: Path) -> None:
    file = study / f"{TRAIN}_mask.png"
    mask = load(file)
    for place, value in (("train", 2), ("val", 3)):
        target = file if place == "train" else study / "val/patient010_slice02_mask.png"
        changed = load(target) if place == "val" else mask
        changed[changed > 0] = value
        save(target, changed)
    for other in study.rglob("*_mask.png"):
        numbers = load(other)
        numbers[numbers == 255] = 1
        save(other, numbers)
    findings = found(study, num_classes=5, class_names=["a", "b", "c", "d"])
    told = {(one.level, one.kind, one.text) for one in findings if "class" in one.kind}
    assert told >= {
        (
            "warning",
            "class missing from a split",
            "no mask of val holds a pixel of b, so it is not judged",
        ),
        (
            "error",
            "class missing from a split",
            "no mask of train holds a pixel of c, which the network cannot learn",
        ),
        ("warning", "unused class", "no mask holds a pixel of d, which is declared"),
    }


def test_neighbours_of_one_patient_in_one_split_are_no_finding(study: Path) -> None:
    image = load(study / f"{TRAIN}.png").astype(int)
    noise = np.random.default_rng(0).integers(-1, 2, image.shape)
    copy_pair(study, TRAIN, "train/patient003_slice99")
    save(study / "train/patient003_slice99.png", np.clip(image + noise, 0, 255))
    assert not [kind for kind in kinds(found(study)) if "nearly" in kind[1]]


@pytest.mark.parametrize("name", ["frame_{:03}", "{:04}_t1", "p7_{:03}_t2w"])
def test_slices_without_patients_that_are_divided_one_by_one_are_told(
    study: Path, name: str
) -> None:
    files = sorted((study / "train").glob("*_slice??.png"))
    recording, numbers = study.parent / "recording", np.arange(64)
    for split in ("train", "val"):
        (recording / split).mkdir(parents=True)
    generator = np.random.default_rng(0)
    texture = np.kron(generator.normal(0, 30, (20, 8)), np.ones((8, 8)))
    for place in range(40):
        split = "val" if place % 4 == 0 else "train"
        image = 128 + texture[2 * place : 2 * place + 64] + numbers  # a view that moves
        save(recording / split / f"{name.format(place)}.png", np.clip(image, 0, 255))
        mask = load(f"{str(files[0])[:-4]}_mask.png")
        save(recording / split / f"{name.format(place)}_mask.png", mask)
    assert ("warning", "consecutive slices in two splits") in kinds(found(recording))


def test_numbers_of_photographs_are_no_slices(study: Path) -> None:
    photographs = study.parent / "photographs"
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        (photographs / split).mkdir(parents=True)
    for place in range(40):
        split = "val" if place % 4 == 0 else "train"
        save(photographs / split / f"{place:03}.png", generator.integers(0, 256, (32, 32)))
        mask = np.zeros((32, 32))
        mask[place % 8 : 20] = 255
        save(photographs / split / f"{place:03}_mask.png", mask)
    assert not [kind for kind in kinds(found(photographs)) if "consecutive" in kind[1]]


def test_the_remedy_is_the_one_that_the_file_needs(study: Path) -> None:
    twelve = np.full((56, 56), 3000, np.uint16)
    Image.fromarray(twelve).save(study / f"{TRAIN}.png")
    red = np.zeros((56, 56, 3), np.uint8)
    red[9:20, 9:20] = (200, 0, 0)
    save(study / "val" / "patient010_slice01_mask.png", red)
    remedies = {one.kind: one.remedy for one in found(study)}
    assert "data.white_value=4095" in remedies["unreadable image"]
    assert "data.mask_colors" in remedies["unreadable mask"]


def test_a_fault_of_the_table_is_told_once_and_as_reading_it_says(study: Path) -> None:
    rows = [f"{path.relative_to(study)},x,train" for path in study.glob("train/*_slice??.png")]
    rows += [f"{path.relative_to(study)},y,val" for path in study.glob("val/*_slice??.png")]
    (study / "cases.csv").write_text("\n".join(["name,case,split", *rows, "nobody,z,val"]))
    (one,) = [finding for finding in found(study) if finding.level == "error"]
    assert one.text.endswith(f"nobody is the name of no image in {study}")
    assert (one.remedy, one.files[0].path) == ("correct it", "cases.csv")


def test_class_indices_that_are_not_declared_are_no_soft_edges(study: Path) -> None:
    mask = load(study / f"{TRAIN}_mask.png")
    mask[:11] = np.arange(11)[:, None]
    save(study / f"{TRAIN}_mask.png", mask)
    told = {one.kind: one.remedy for one in found(study)}
    assert "data.num_classes" in told["undeclared values"]
    assert "soft edges" not in told


@pytest.mark.slow
def test_several_processes_find_what_one_does(study: Path) -> None:
    inverted(study)
    alone_here = inspect(survey(module(study), num_processes=1))
    for place in range(20):
        copy_pair(study, TRAIN, f"train/patient{200 + place}_slice00")
    one, several = (inspect(survey(module(study), num_processes=count)) for count in (1, 2))
    assert one == several != alone_here


def test_a_name_that_is_no_text_and_a_file_that_is_a_pipe_are_told(
    study: Path, tmp_path: Path
) -> None:
    odd = os.fsencode(study / "train") + b"/\xff.png"
    os.rename(study / f"{TRAIN}.png", odd)
    (study / "val" / "patient010_slice00.png").unlink()
    os.mkfifo(study / "val" / "patient010_slice00.png")
    (study / "val" / "notes.doc").write_text("")
    surveyed = survey(module(study))
    findings = inspect(surveyed)
    named = {finding.kind: finding.files[0].path for finding in findings}
    assert named["no partner"] == f"{TRAIN}_mask.png"
    assert named["unreadable image"] == "val/patient010_slice00.png"
    assert named["files that are not read"] == "val/notes.doc"
    assert "\\udcff" in str(findings)
    write_findings(tmp_path / "out", surveyed, findings)


def test_a_folder_without_splits_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    remedy = r"holds no split \(found images/\).* by: python split.py data.root="
    with pytest.raises(FileNotFoundError, match=remedy):
        survey(module(tmp_path))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        survey(module(tmp_path / "nowhere"))


def test_a_split_by_another_name_is_told(study: Path) -> None:
    (study / "val").rename(study / "validation")
    ((kind, _, remedy),) = told(study)
    assert (kind, remedy) == ("missing split", "rename validation/ to val/")
    (study / "train").rename(study / "training")
    with pytest.raises(FileNotFoundError, match=r"; rename training/ to train/$"):
        survey(module(study))


def test_one_more_mask_of_an_image_is_to_be_merged(study: Path) -> None:
    shutil.copy(study / f"{TRAIN}_mask.png", study / f"{TRAIN}_mask_2.png")
    ((kind, _, remedy),) = told(study)
    assert kind == "no partner"
    assert "is one more mask of patient" in remedy


def test_images_of_many_channels_are_shown_too(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        for number in range(2):
            stem = tmp_path / split / f"{split}{number}_slice00"
            image = np.random.default_rng(number).integers(0, 255, (32, 32, 5), np.uint8)
            np.save(f"{stem}.npy", image)
            mask = np.zeros((32, 32), np.uint8)
            mask[8:20, 8:16] = 1 if split == "train" else 9
            np.save(f"{stem}_mask.npy", mask)
    surveyed = survey(module(tmp_path, channels=5))
    findings = inspect(surveyed)
    assert ("error", "undeclared values") in kinds(findings)
    write_findings(tmp_path / "out", surveyed, findings)
    assert (tmp_path / "out" / "sheets" / "images_train.png").is_file()


def told(root: Path, **changes: object) -> list[tuple[str, str, str]]:
    """Return kind, text and remedy of each error."""
    return [
        (one.kind, one.text, one.remedy) for one in found(root, **changes) if one.level == "error"
    ]


@pytest.mark.parametrize("suffix", ["_seg", "_segmentation"])
def test_another_suffix_of_masks_is_proposed(study: Path, suffix: str) -> None:
    for mask in study.rglob("*_mask.png"):
        mask.rename(mask.with_name(mask.name.replace("_mask", suffix)))
    remedy = f"set data.mask_suffix={suffix}, by which names differ"
    assert {one[2] for one in told(study)} == {remedy}
    assert told(study, mask_suffix=suffix) == []


def test_pairs_in_folders_below_a_split_need_a_table(study: Path) -> None:
    (study / "train" / "p1").mkdir()
    for file in (study / "train").glob("*.png"):
        file.rename(file.parent / "p1" / file.name)
    ((kind, text, remedy),) = told(study)
    assert (kind, text) == ("empty split", "train/ holds no pair")
    assert remedy.startswith("files in folders such as p1/ are found by a cases.csv")


def test_folders_beside_the_pairs_of_a_split_are_not_read(study: Path) -> None:
    shutil.copytree(study / "val", study / "train" / "more")
    (study / "train" / ".hidden").mkdir()
    (one,) = [one for one in found(study) if one.kind == "folders that are not read"]
    assert [file.path for file in one.files] == ["train/more/"]


def test_a_split_that_is_not_there_is_told_with_what_helps(study: Path) -> None:
    (study / "val").rename(study / "other")
    assert told(study) == [
        (
            "missing split",
            "there is no val/",
            "put pairs there, or divide train/ into folds: fold=0",
        )
    ]
    ((kind, text, remedy),) = told(study, fold=0, num_folds=10)
    assert (kind, remedy) == ("refused", "set data.num_folds=9 or fewer")
    assert text == f"data.num_folds=10 is more than the 9 cases in {study}/train"
    (study / "other").rename(study / "val")
    shutil.rmtree(study / "train")
    (one,) = told(study)
    assert one[1:] == (
        "there is no train/",
        f"put pairs there, or divide all anew: python split.py data.root={study}",
    )


def write_table(root: Path, *, without: str = "", val: str = "val") -> None:
    rows = [
        f"{path.relative_to(root)},{path.name[:10]},{val if split == 'val' else split}"
        for split in ("train", "val")
        for path in sorted((root / split).glob("*_slice??.png"))
        if str(path.relative_to(root)) != without
    ]
    (root / "cases.csv").write_text("\n".join(["name,case,split", *rows]))


def test_a_table_without_a_row_for_a_split_is_told_as_such(study: Path) -> None:
    write_table(study, val="")
    assert told(study) == [
        ("missing split", "cases.csv names no image for val", "write val into its column split")
    ]
    file = study / "cases.csv"
    file.write_text(file.read_text().replace(",train", ","))
    with pytest.raises(ValueError, match=r"cases\.csv names no image for train; write train into"):
        survey(module(study))


@pytest.mark.parametrize(
    ("plant", "text", "remedy"),
    [
        (
            lambda root: save(root / "train" / "lone.png", np.zeros((64, 64))),
            "{root}: train/lone.png has no mask",
            "add or remove it",
        ),
        (
            lambda root: write_table(root, without="train/patient001_slice00.png"),
            "{root}/cases.csv has no row for train/patient001_slice00.png",
            "add one with an empty split to leave it out",
        ),
    ],
)
def test_what_a_table_does_not_fit_keeps_nothing_else_from_being_looked_at(
    study: Path, plant: Callable[[Path], None], text: str, remedy: str
) -> None:
    duplicate(study)
    undeclared(study)
    write_table(study)
    plant(study)
    errors = {kind: rest for kind, *rest in told(study)}
    assert errors["refused"] == [text.format(root=study), remedy]
    assert set(errors) == {"refused", "undeclared values"}
    mask = load(study / "val" / "patient099_slice02_mask.png")
    save(study / f"{TRAIN}_mask.png", mask)
    assert {kind for kind, *_ in told(study)} == {"refused", "same image in two splits"}


def test_a_patient_in_two_splits_of_a_table_is_told_with_its_files(study: Path) -> None:
    write_table(study)
    file = study / "cases.csv"
    file.write_text(file.read_text().replace("patient010,val", "patient001,val"))
    ((_, text, _), (kind, *_)) = told(study)
    assert "case patient001 is in val and, by line 2, in train" in text
    assert kind == "patient in two splits"


def test_patients_of_a_table_count_though_it_lacks_a_row(study: Path) -> None:
    names = [path.relative_to(study) for path in sorted(study.glob("*/*_slice??.png"))]
    rows = [f"{name},{'Ann' if name.name[:10] in ('patient001', 'patient010') else ''}"
            for name in names[:-1]]  # fmt: skip
    (study / "cases.csv").write_text("\n".join(["name,case", *rows]))
    shared = [text for kind, text, _ in told(study) if kind == "patient in two splits"]
    assert shared == ["1 patient is in train and in val (Ann)"]


def test_masks_of_several_classes_in_jpeg_are_to_be_saved_otherwise(study: Path) -> None:
    for place in range(2):
        mask = study / f"train/patient003_slice{place:02}_mask.png"
        indices = load(mask) // 255 * (2 * place)  # noise around edges, and none at all
        Image.fromarray(indices).save(mask.with_suffix(".jpg"))
        mask.unlink()
    (one,) = [
        one
        for one in found(study, num_classes=4, class_names=["a", "b", "c"])
        if one.kind == "lossy mask"
    ]
    assert one.count == 2
    assert one.remedy.startswith("save it as PNG, or declare data.mask_threshold for one structure")


def test_masks_without_foreground_are_equal_whatever_they_ignore(study: Path) -> None:
    mask = np.zeros((64, 64))
    mask[:5] = 200
    for place in range(3):
        save(study / f"train/patient003_slice{place:02}_mask.png", mask)
    told = [kind for _, kind in kinds(found(study, ignore_index=200))]
    assert "same mask, several images" not in told
    mask[20:30, 20:30] = 255
    for place in range(3):
        save(study / f"train/patient003_slice{place:02}_mask.png", mask)
    (one,) = [one for one in found(study, ignore_index=200) if one.kind.startswith("same mask")]
    assert one.text == "1 mask belongs to more than one image"


def test_ignored_pixels_are_in_no_share(study: Path) -> None:
    whole = survey(module(study, ignore_index=200)).splits["val"].whole
    for one in whole:
        one.counts = {0: 60, 1: 20, IGNORED: 920}
    assert share_of_class(whole, 1) == 0.25


def test_slices_of_one_patient_are_no_proof_of_another_brightness(study: Path) -> None:
    for file in (study / "val").glob("*_slice??.png"):
        save(file, np.clip(load(file) * 1.22, 0, 255))
    told_of_patients, told_of_images = (
        {one.kind for one in found(study, **changes)} for changes in ({}, {"case_pattern": ""})
    )
    assert "intensities drift" not in told_of_patients  # of 3 patients
    assert "intensities drift" in told_of_images  # of 15 images
