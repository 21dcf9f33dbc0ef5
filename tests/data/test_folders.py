import logging
import re
import shutil
from pathlib import Path

import pytest
from serving import module_of

from liverseg.data.folders import PairFolders
from liverseg.data.pairs import find_pairs, list_below

SPLITS = ("train", "val", "test")


def flat(root: Path) -> None:
    """Put the pairs of all splits into the root."""
    for file in sorted(root.glob("*/*.png")):
        file.rename(root / file.name)
    for split in SPLITS:
        (root / split).rmdir()


def apart_above(root: Path) -> None:
    for file in sorted(root.glob("*/*.png")):
        kind = "masks" if file.stem.endswith("_mask") else "images"
        target = root / kind / file.parent.name / file.name.replace("_mask", "")
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)
    for split in SPLITS:
        (root / split).rmdir()


def by_patient(root: Path) -> None:
    """Give each patient a folder, in which slices are numbered anew."""
    for file in sorted(root.glob("*/*.png")):
        patient, _, name = file.name.partition("_")
        target = root / "all" / patient / name
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)
    for split in SPLITS:
        (root / split).rmdir()


def write_table(root: Path, *, endings: bool = False) -> None:
    rows = ["name,case,split"]
    for split, folder in {"train": (1, 2, 3), "val": (4, 5), "test": (6, 7)}.items():
        for image in sorted(root.rglob("*slice??.png")):
            is_mask = "masks" in image.parts
            if not is_mask and any(f"patient00{one}" in str(image) for one in folder):
                name = image.relative_to(root).as_posix()
                patient = re.search("patient00.", name)[0]
                rows.append(f"{name if endings else name.removesuffix('.png')},{patient},{split}")
    (root / "cases.csv").write_text("\n".join(rows))


def counts(root: Path) -> list[int]:
    folders = PairFolders(root)
    return [len(folders.pairs(split)) for split in SPLITS]


def test_images_and_masks_may_lie_apart_above_the_splits(
    pair_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = [pair.name for pair in find_pairs(pair_root / "train")]
    apart_above(pair_root)
    assert counts(pair_root) == [6, 4, 3]
    pairs = PairFolders(pair_root, case_pattern="(patient...)").pairs("train")
    assert [pair.name for pair in pairs] == expected
    assert pairs[0].mask == pair_root / "masks" / "train" / "patient001_slice00.png"
    assert pairs[0].case == "patient001"
    with caplog.at_level(logging.INFO, logger="liverseg.data.datamodule"):
        module_of(pair_root).setup("fit")
    assert "patients; images/SPLIT/NAME with masks/SPLIT/NAME; decoded" in caplog.messages[0]


def test_a_lone_file_of_a_folder_above_the_splits_is_named_with_its_partner(
    pair_root: Path,
) -> None:
    apart_above(pair_root)
    (pair_root / "masks" / "val" / "patient004_slice00.png").unlink()
    sentence = (
        f"{pair_root}: images/val/patient004_slice00.png has no partner "
        "masks/val/patient004_slice00.png; add or remove it"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        PairFolders(pair_root).pairs("val")


def test_a_split_in_two_places_is_refused(pair_root: Path) -> None:
    shutil.copytree(pair_root / "train", pair_root / "images" / "train")
    shutil.copytree(pair_root / "train", pair_root / "masks" / "train")
    with pytest.raises(ValueError, match=re.escape("holds train/, and images/train/ with masks/")):
        PairFolders(pair_root).pairs("train")


def test_pairs_side_by_side_and_apart_in_one_folder_are_refused(pair_root: Path) -> None:
    (pair_root / "train" / "images").mkdir()
    (pair_root / "train" / "masks").mkdir()
    sentence = "holds images/ and masks/, and patient001_slice00.png beside them"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        find_pairs(pair_root / "train")


def test_the_suffix_of_masks_is_proposed_where_it_is_another(pair_root: Path) -> None:
    for file in (pair_root / "train").glob("*_mask.png"):
        file.rename(file.with_name(file.name.replace("_mask", "_seg")))
    with pytest.raises(ValueError, match=r"set data\.mask_suffix=_seg, by which"):
        find_pairs(pair_root / "train")
    assert len(find_pairs(pair_root / "train", "_seg")) == 6


@pytest.mark.parametrize("arrange", [flat, apart_above, by_patient, lambda root: None])
@pytest.mark.parametrize("endings", [True, False])
def test_a_table_that_names_splits_decides_wherever_files_lie(
    pair_root: Path, arrange: object, endings: bool, caplog: pytest.LogCaptureFixture
) -> None:
    arrange(pair_root)
    write_table(pair_root, endings=endings)
    assert counts(pair_root) == [6, 4, 3]
    module = module_of(pair_root, case_pattern="")
    with caplog.at_level(logging.INFO, logger="liverseg.data.datamodule"):
        module.setup("fit")
    assert caplog.messages == [
        f"{pair_root}: train 6 pairs of 3 patients, val 4 pairs of 2 patients, test 3 pairs of 2 "
        "patients; splits and patients by cases.csv; decoded each epoch"
    ]
    names = [pair.name for pair in module.dataset("val").pairs]
    assert len(set(names)) == 4
    assert module.dataset("val").cases == ["patient004"] * 2 + ["patient005"] * 2
    assert all(sample["image"].shape == (1, 32, 32) for sample in module.dataset("val"))


def test_a_table_of_patients_leaves_folders_to_say_the_split(pair_root: Path) -> None:
    names = [pair.image.relative_to(pair_root) for split in SPLITS for pair in
             find_pairs(pair_root / split)]  # fmt: skip
    rows = [f"{name},{'Ann' if 'patient004' in name.name else ''}" for name in names]
    (pair_root / "cases.csv").write_text("\n".join(["name,case", *rows]))
    module = module_of(pair_root)
    assert module.dataset("val").cases == ["Ann", "Ann", "patient005", "patient005"]
    module = module_of(pair_root, case_pattern="")
    assert module.dataset("val").cases == ["Ann", "Ann", None, None]
    assert module.dataset("train").cases == [None] * 6


def test_folds_keep_the_patients_of_a_table(pair_root: Path) -> None:
    flat(pair_root)
    write_table(pair_root)
    module = module_of(pair_root, case_pattern="", fold=0, num_folds=5)
    train, val = set(module.dataset("train").cases), set(module.dataset("val").cases)
    assert (len(train), len(val), train & val) == (4, 1, set())
    assert len(module.dataset("test")) == 3


def test_a_split_that_no_row_names_is_missing(pair_root: Path) -> None:
    flat(pair_root)
    write_table(pair_root)
    file = pair_root / "cases.csv"
    file.write_text(file.read_text().replace(",test", ","))
    assert not module_of(pair_root).has_split("test")
    assert counts_of_train_and_val(pair_root) == [6, 4]
    with pytest.raises(ValueError, match=re.escape("cases.csv names no image for test; write")):
        PairFolders(pair_root).pairs("test")


def counts_of_train_and_val(root: Path) -> list[int]:
    return [len(PairFolders(root).pairs(split)) for split in ("train", "val")]


def test_without_a_table_a_faulty_test_split_does_not_matter_to_val(pair_root: Path) -> None:
    (pair_root / "test" / "stray.png").write_bytes(b"")
    assert len(PairFolders(pair_root).pairs("val")) == 4


def test_names_that_are_in_two_folders_get_the_folder_in_front(pair_root: Path) -> None:
    by_patient(pair_root)
    names = [pair.name for pair in list_below(pair_root)]
    assert names[:2] == ["all_patient001_slice00", "all_patient001_slice01"]
    assert len(set(names)) == 13


def test_hidden_folders_and_links_that_lead_back_are_passed_over(pair_root: Path) -> None:
    shutil.copytree(pair_root / "train", pair_root / ".cache")
    (pair_root / "train" / "again").symlink_to(pair_root, target_is_directory=True)
    assert len(list_below(pair_root)) == 13
