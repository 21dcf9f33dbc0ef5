import logging
import re
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from serving import module_of, resize
from torch import tensor
from torchvision.transforms import v2

from liverseg.data.datamodule import PairDataModule, Split, two_sides
from liverseg.data.images import stored_size
from liverseg.data.pairs import find_pairs
from liverseg.labels import scored_names


def exactly(text: str) -> str:
    return f"^{re.escape(text)}$"


# Splits


def test_a_split_exists_where_its_folder_does(pair_root):
    module = module_of(pair_root)
    assert module.has_split("test")
    (pair_root / "test").rename(pair_root / "other")
    assert not module.has_split("test")
    sentence = f"data folder {pair_root / 'test'} does not exist; set data.root"
    with pytest.raises(FileNotFoundError, match=exactly(sentence)):
        module.dataset("test")


def test_a_split_is_read_once_and_no_sooner_than_needed(tmp_path, pair_root):
    module = module_of(tmp_path / "later")
    assert not module.has_split("train")
    pair_root.rename(tmp_path / "later")
    train = module.dataset("train")
    for file in (tmp_path / "later" / "train").iterdir():
        file.unlink()
    assert module.dataset("train") is train
    assert len(train) == 6


@pytest.mark.parametrize(
    ("stage", "needed"),
    [
        ("fit", {"train", "val", "test"}),
        ("validate", {"val"}),
        ("test", {"test"}),
        ("predict", set()),
    ],
)
def test_a_stage_reads_the_splits_it_needs(pair_root, stage, needed):
    for split in {"train", "val", "test"} - needed:
        for file in (pair_root / split).iterdir():
            file.write_text("broken")
    module_of(pair_root, cache_megabytes=1).setup(stage)
    for split in needed:
        (pair_root / split / "stray.png").write_text("alone")
        with pytest.raises(ValueError, match=r"stray\.png has no partner"):
            module_of(pair_root).setup(stage)
        (pair_root / split / "stray.png").unlink()


def test_only_training_is_augmented_and_resizes_masks(pair_root):
    noise = {"noise": v2.GaussianNoise()}
    module = module_of(pair_root, augment=noise, image_size=[16, 24], cache_megabytes=1)
    train, val = module.dataset("train"), module.dataset("val")
    assert train[0, 0]["mask"].shape == (16, 24)
    assert not train[0, 0]["image"].equal(train[0, 1]["image"])
    assert val[0, 0]["image"].shape == (1, 16, 24)
    assert val[0, 0]["mask"].shape == (32, 32)
    assert val[0, 0]["image"].equal(val[0, 1]["image"])
    assert (train.is_cached, val.is_cached) == (True, True)


def test_settings_reach_the_samples(pair_root):
    settings = {"channels": 3, "mean": [0, 0, 1], "std": 0.5, "ignore_index": 7}
    plain, other = module_of(pair_root), module_of(pair_root, case_pattern="", **settings)
    sample, expected = other.dataset("val")[1], plain.dataset("val")[1]
    image = expected["image"].expand(3, -1, -1) - tensor([0.0, 0, 1]).reshape(3, 1, 1)
    torch.testing.assert_close(sample["image"], image * 2)
    assert sample["mask"].equal(expected["mask"])
    assert (expected["case"], sample["case"]) == (0, -1)
    assert not other.dataset("val").is_cached
    assert (other.num_classes, other.class_names, other.image_size) == (1, ["class_1"], None)


@pytest.mark.parametrize("num_classes", [1, 3])
def test_an_augmented_mask_holds_the_classes_of_the_data(pair_root, num_classes):
    doubled = module_of(
        pair_root,
        augment={"own": lambda image, mask: (image, mask * 2)},
        num_classes=num_classes,
        mask_values=[0, 255] if num_classes == 1 else [0, 255, 7],
    )
    if num_classes == 3:
        assert doubled.dataset("train")[0]["mask"].unique().tolist() == [0, 2]
    else:
        with pytest.raises(ValueError, match=r"own fails .* holds 2, which is no class"):
            doubled.dataset("train")[0]


def test_the_seed_reaches_the_augmentation(pair_root):
    first, second, third = (
        module_of(pair_root, augment={"noise": v2.GaussianNoise()}, seed=seed) for seed in (0, 0, 1)
    )
    image = first.dataset("train")[0]["image"]
    assert image.equal(second.dataset("train")[0]["image"])
    assert not image.equal(third.dataset("train")[0]["image"])


def test_the_phantom_is_drawn_before_anything_is_read(tmp_path, pair_root):
    class Mover:
        def write(self, folder: Path) -> None:
            pair_root.rename(folder)

    module_of(tmp_path / "none").prepare_data()
    module = module_of(tmp_path / "drawn", phantom=Mover())
    module.prepare_data()
    assert len(module.dataset("train")) == 6


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_holds_an_image_at_least(pair_root, batch_size):
    module_of(pair_root, batch_size=1)
    with pytest.raises(
        ValueError, match=exactly(f"data.batch_size={batch_size} must be at least 1")
    ):
        module_of(pair_root, batch_size=batch_size)


def test_loaders_are_for_a_trainer(pair_root):
    sentence = "loaders are for a trainer: pass this data module to Trainer.fit"
    for loader in (module_of(pair_root).train_dataloader, module_of(pair_root).val_dataloader):
        with pytest.raises(RuntimeError, match=exactly(sentence)):
            loader()


# What is told


def told(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def heard(root: Path, caplog: pytest.LogCaptureFixture, **settings: object) -> list[str]:
    with caplog.at_level(logging.INFO, logger="liverseg.data.datamodule"):
        module_of(root, **settings).setup("fit")
    return told(caplog, logging.WARNING)


@pytest.mark.parametrize(
    ("colour", "channels", "is_told"),
    [((200, 40, 40), 1, True), ((200, 40, 40), 3, False), ((90, 90, 90), 1, False)],
)
def test_colours_that_are_seen_in_grey_are_told(colour, channels, is_told, pair_root, caplog):
    first = find_pairs(pair_root / "train")[0].image
    Image.new("RGB", stored_size(first)[::-1], colour).save(first)
    sentence = f"{first} is in colour and seen in grey; add data.channels=3"
    assert (sentence in heard(pair_root, caplog, channels=channels)) == is_told


@pytest.mark.parametrize(
    ("megabytes", "kept"), [(0, "decoded each epoch"), (1, "in memory")], ids=["disk", "memory"]
)
def test_the_number_of_pairs_is_told(pair_root, caplog, megabytes, kept):
    assert heard(pair_root, caplog, cache_megabytes=megabytes) == []
    assert told(caplog, logging.INFO) == [
        f"{pair_root}: train 6 pairs of 3 patients, val 4 pairs of 2 patients, test 3 pairs of 2 "
        f"patients; {kept}"
    ]


def test_a_folder_without_test_and_names_without_patients_is_told_so(pair_root, caplog):
    (pair_root / "test").rename(pair_root / "other")
    assert heard(pair_root, caplog, case_pattern="") == []
    assert told(caplog, logging.INFO) == [
        f"{pair_root}: train 6 pairs, val 4 pairs; decoded each epoch"
    ]


def test_a_pattern_of_ones_own_that_fits_no_name_is_told(pair_root, caplog):
    assert heard(pair_root, caplog, case_pattern="^(case.+)_") == [
        f"{pair_root}: names carry no case (data.case_pattern=^(case.+)_), so no patient is known"
    ]


def rename(root: Path, split: str, old: str, new: str) -> None:
    for file in sorted((root / split).glob(f"{old}*")):
        file.rename(file.with_name(file.name.replace(old, new)))


FLATTERS = "scores of {} will flatter the network"


def test_patients_in_both_train_and_val_are_told(pair_root, caplog):
    rename(pair_root, "val", "patient004", "patient003")
    rename(pair_root, "val", "patient005", "patient002")
    assert heard(pair_root, caplog) == [
        f"{pair_root}: 2 patients are in train and in val (patient002, patient003): "
        + FLATTERS.format("val")
    ]


def test_an_image_of_train_in_val_is_told_whatever_its_name(pair_root, tmp_path, caplog):
    module = module_of(pair_root)
    module.keep_hashes(tmp_path / "pairs.json")
    assert "is in train and in val" not in caplog.text
    for end in (".png", "_mask.png"):
        shutil.copy(
            pair_root / f"train/patient001_slice00{end}", pair_root / f"val/patient009_slice00{end}"
        )
    module_of(pair_root).keep_hashes(tmp_path / "pairs.json")
    sentence = (
        "1 image is in train and in val (patient001_slice00.png is patient009_slice00.png): "
        "scores of val will flatter the network"
    )
    assert [one for one in caplog.messages if sentence in one]


@pytest.mark.parametrize("fold", [None, 0, 3])
def test_a_patient_of_test_in_another_split_is_told(pair_root, caplog, fold):
    rename(pair_root, "test", "patient006", "patient001")
    rename(pair_root, "test", "patient007", "patient005")
    expected = []
    for split in ("train", "val"):
        both = {"patient001", "patient005"} & set(cases_of(module_of(pair_root, fold=fold), split))
        if both:
            count = "1 patient is" if len(both) == 1 else "2 patients are"
            expected.append(
                f"{pair_root}: {count} in {split} and in test ({', '.join(sorted(both))}): "
                + FLATTERS.format("test")
            )
    assert expected
    assert heard(pair_root, caplog, fold=fold) == expected


def test_a_nameless_file_hides_no_shared_patient(pair_root, caplog):
    rename(pair_root, "val", "patient004_slice00", "nameless")
    rename(pair_root, "val", "patient005", "patient002")
    rename(pair_root, "test", "patient007", "patient004")
    rename(pair_root, "train", "patient001_slice00", "other")
    assert heard(pair_root, caplog) == [
        f"{pair_root}: 1 of 4 names of val carry no case (data.case_pattern=^(.+)_slice\\d+$), so "
        "val has no per-case score",
        f"{pair_root}: 1 patient is in train and in val (patient002): {FLATTERS.format('val')}",
        f"{pair_root}: 1 patient is in val and in test (patient004): {FLATTERS.format('test')}",
    ]
    assert told(caplog, logging.INFO) == [
        f"{pair_root}: train 6 pairs (5 of 3 patients), val 4 pairs (3 of 2 patients), test 3 pairs"
        " of 2 patients; decoded each epoch"
    ]


def test_of_many_shared_patients_three_are_named(pair_root, caplog):
    for split, place in (("train", "0"), ("val", "1")):
        for number, pair in enumerate(find_pairs(pair_root / split)[:4]):
            for file in (pair.image, pair.mask):
                suffix = file.name.removeprefix(pair.name)
                file.rename(file.with_name(f"p{number}_slice{place}{suffix}"))
    assert heard(pair_root, caplog) == [
        f"{pair_root}: 4 patients are in train and in val (p0, p1, p2 ...): "
        + FLATTERS.format("val")
    ]


def test_names_of_val_and_test_without_a_case_are_told(pair_root, caplog):
    rename(pair_root, "val", "patient004_slice00", "patient004")
    rename(pair_root, "val", "patient005_slice02", "patient005")
    rename(pair_root, "test", "patient007_slice02", "patient007")
    assert heard(pair_root, caplog) == [
        f"{pair_root}: {count} of {split} carry no case (data.case_pattern=^(.+)_slice\\d+$), so "
        f"{split} has no per-case score"
        for count, split in (("2 of 4 names", "val"), ("1 of 3 names", "test"))
    ]


NOT_FOUND = (
    ": a Dice of 1 means that nothing was found where nothing is, not that it was found well; look "
    "at the masks"
)
NOT_LEARNT = ", which the network cannot learn; look at the masks"


def blank(folder: Path) -> None:
    for pair in find_pairs(folder):
        with Image.open(pair.mask) as mask:
            empty = Image.new("L", mask.size)
        empty.save(pair.mask)


def test_empty_masks_in_memory_are_told_at_the_start(pair_root, caplog):
    blank(pair_root / "train")
    blank(pair_root / "val")
    assert heard(pair_root, caplog, cache_megabytes=1, class_names=["liver"]) == [
        f"{pair_root}: no mask of train holds a pixel of liver{NOT_LEARNT}",
        f"{pair_root}: no mask of val holds a pixel of liver{NOT_FOUND}",
    ]


def test_classes_that_no_mask_holds_are_named(pair_root, caplog):
    settings = {
        **{"num_classes": 4, "class_names": ["liver", "tumour", "spleen"]},
        **{"mask_values": [0, 255, 7, 8], "cache_megabytes": 1},
    }
    with Image.open(find_pairs(pair_root / "val")[0].mask) as mask:
        with_spleen = mask.point(lambda value: value or 8)
    with_spleen.save(find_pairs(pair_root / "val")[0].mask)
    assert heard(pair_root, caplog, **settings) == [
        f"{pair_root}: no mask of train holds a pixel of tumour, spleen{NOT_LEARNT}",
        f"{pair_root}: no mask of val holds a pixel of tumour{NOT_FOUND}",
    ]


def test_names_that_all_carry_no_case_are_no_news(pair_root, caplog):
    assert heard(pair_root, caplog, case_pattern="") == []


# Folds


def rename_pairs(root: Path, pattern: str) -> None:
    """Give the pairs of each split the names 000, 001, ..., or what the pattern makes of them."""
    for split in ("train", "val", "test"):
        for number, pair in enumerate(find_pairs(root / split)):
            name = pattern.format(number)
            pair.image.rename(pair.image.with_name(f"{name}.png"))
            pair.mask.rename(pair.mask.with_name(f"{name}_mask.png"))


def names_of(module: PairDataModule, split: Split) -> list[str]:
    return [pair.name for pair in module.dataset(split).pairs]


def cases_of(module: PairDataModule, split: Split) -> set[str | None]:
    return set(module.dataset(split).cases)


@pytest.mark.parametrize("num_folds", [2, 4, 5])
def test_every_pair_is_in_val_of_one_fold_and_no_case_is_on_both_sides(pair_root, num_folds):
    everything = sorted(
        names_of(module_of(pair_root), "train") + names_of(module_of(pair_root), "val")
    )
    in_val = []
    for fold in range(num_folds):
        module = module_of(pair_root, fold=fold, num_folds=num_folds)
        train, val = names_of(module, "train"), names_of(module, "val")
        assert train == sorted(train)
        assert sorted(train + val) == everything
        assert cases_of(module, "train").isdisjoint(cases_of(module, "val"))
        in_val += val
    assert sorted(in_val) == everything  # 10 pairs, of 5 patients with 2 each


def test_test_stays_as_it_is(pair_root):
    module = module_of(pair_root, fold=1)
    assert names_of(module, "test") == names_of(module_of(pair_root), "test")
    assert module.dataset("test").cases == ["patient006", "patient006", "patient007"]


def test_folds_are_the_same_for_every_seed(pair_root):
    first, second = (module_of(pair_root, fold=3, seed=seed) for seed in (0, 1))
    assert names_of(first, "train") == names_of(second, "train")


def test_train_alone_can_be_divided(pair_root):
    (pair_root / "val").rename(pair_root / "elsewhere")
    assert not module_of(pair_root).has_split("val")
    module = module_of(pair_root, fold=0, num_folds=3)
    assert module.has_split("val")
    assert (len(module.dataset("train")), len(module.dataset("val"))) == (4, 2)


def test_pairs_of_one_name_in_both_folders_stay_apart(pair_root, caplog):
    rename_pairs(pair_root, "{:03}")
    modules = [module_of(pair_root, fold=fold) for fold in range(5)]
    in_val = [name for module in modules for name in names_of(module, "val")]
    assert sorted(in_val) == [
        *(f"train_{number:03}" for number in range(6)),
        *(f"val_{number:03}" for number in range(4)),
    ]
    assert [len(module.dataset("val")) for module in modules] == [2] * 5
    for module in modules:
        for pair in module.dataset("val").pairs:
            folder, _, stem = pair.name.partition("_")
            assert pair.image == pair_root / folder / f"{stem}.png"
            assert pair.mask == pair_root / folder / f"{stem}_mask.png"
    assert heard(pair_root, caplog, fold=0) == [
        f"{pair_root}: 10 of 10 names carry no case (data.case_pattern=^(.+)_slice\\d+$), so folds "
        "take each such image for a patient: slices of one patient may be in train and in val, "
        "which flatters the network"
    ]


def test_a_case_keeps_its_name_where_pairs_do_not(pair_root):
    rename_pairs(pair_root, "anna_slice{:02}")
    for split in ("train", "val"):
        for suffix in (".png", "_mask.png"):
            (pair_root / split / f"anna_slice00{suffix}").rename(
                pair_root / split / f"bert_slice00{suffix}"
            )
    module = module_of(pair_root, fold=1, num_folds=2)
    assert names_of(module, "val") == ["train_bert_slice00", "val_bert_slice00"]
    assert (cases_of(module, "train"), cases_of(module, "val")) == ({"anna"}, {"bert"})


def test_an_image_without_a_case_is_a_fold_unit_and_patients_stay_whole(pair_root, caplog):
    rename(pair_root, "val", "patient004_slice00", "nameless")
    (sentence, *_) = heard(pair_root, caplog, fold=0, num_folds=6)
    assert sentence.startswith(f"{pair_root}: 1 of 10 names carry no case (")
    sizes = []
    for fold in range(6):  # 5 patients and an image
        module = module_of(pair_root, fold=fold, num_folds=6)
        assert cases_of(module, "train").isdisjoint(cases_of(module, "val"))
        sizes.append(len(module.dataset("val")))
    assert sorted(sizes) == [1, 1, 2, 2, 2, 2]
    assert module.dataset("test").cases == ["patient006", "patient006", "patient007"]


def test_the_fold_is_told(pair_root, caplog):
    assert heard(pair_root, caplog, fold=4) == []
    assert told(caplog, logging.INFO) == [
        f"{pair_root}, fold=4 of 5: train 8 pairs of 4 patients, val 2 pairs of 1 patient, "
        "test 3 pairs of 2 patients; decoded each epoch"
    ]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"fold": 5}, "fold=5 must lie in 0 ... 4, as data.num_folds=5, or be null"),
        ({"fold": -1}, "fold=-1 must lie in 0 ... 4, as data.num_folds=5, or be null"),
        ({"num_folds": 1}, "data.num_folds=1 must be at least 2"),
        ({"fold": 0, "num_folds": 1}, "data.num_folds=1 must be at least 2"),
    ],
)
def test_a_fold_that_cannot_be_is_refused(pair_root, settings, sentence):
    with pytest.raises(ValueError, match=exactly(sentence)):
        module_of(pair_root, **settings)


def test_a_fold_goes_on_with_its_own_pairs_alone(pair_root):
    state = module_of(pair_root, fold=1).state_dict()
    module_of(pair_root, fold=1).load_state_dict(state)
    folders = f"{pair_root / 'train'} and {pair_root / 'val'}"
    sentence = (
        f"the pairs in {folders} are not those that the run began with; restore them, name the "
        "folder that it began with by data.root=DIR, or start a new run"
    )
    for other in ({"fold": 2}, {"fold": 1, "num_folds": 2}):
        with pytest.raises(ValueError, match=exactly(sentence)):
            module_of(pair_root, **other).load_state_dict(state)
    resize(pair_root / "val", find_pairs(pair_root / "val")[0].name, (24, 16))
    with pytest.raises(ValueError, match=exactly(sentence)):
        module_of(pair_root, fold=1).load_state_dict(state)


# Names and sizes


@pytest.mark.parametrize(
    ("num_classes", "names", "expected"),
    [
        (1, None, ["class_1"]),
        (2, ["liver"], ["liver"]),
        (3, None, ["class_1", "class_2"]),
        (3, ("liver", "spleen"), ["liver", "spleen"]),
    ],
)
def test_each_foreground_class_has_a_name(num_classes, names, expected):
    assert scored_names(num_classes, names) == expected


@pytest.mark.parametrize(
    ("num_classes", "names", "count"),
    [(1, ["background", "liver"], 1), (3, ["liver"], 2), (3, ["liver", "liver"], 2)],
)
def test_wrong_names_are_refused(num_classes, names, count):
    sentence = (
        f"data.class_names=[{','.join(names)}] must hold {count} different names, one for each "
        f"foreground class of data.num_classes={num_classes}, or be null"
    )
    with pytest.raises(ValueError, match=exactly(sentence)):
        scored_names(num_classes, names)


def test_without_background_every_class_has_a_name():
    assert scored_names(3, None, background=False) == ["class_0", "class_1", "class_2"]
    assert scored_names(2, ["sky", "road"], background=False) == ["sky", "road"]
    sentence = (
        "data.class_names=[road] must hold 2 different names, one for each class of "
        "data.num_classes=2, or be null"
    )
    with pytest.raises(ValueError, match=exactly(sentence)):
        scored_names(2, ["road"], background=False)


def test_classes_are_called_as_their_colours(pair_root):
    colours = {"liver": [255, 0, 0], "ignored": [0, 0, 255]}
    assert module_of(pair_root, mask_colors=colours).class_names == ["liver"]
    named = module_of(pair_root, mask_colors=colours, class_names=["left lobe"])
    assert named.class_names == ["left lobe"]


def test_one_logit_has_no_background_to_score(pair_root):
    sentence = (
        "data.background=false scores every class, and data.num_classes=1 has one beside "
        "background; set data.num_classes to the number of classes in the masks, such as 11"
    )
    with pytest.raises(ValueError, match=exactly(sentence)):
        module_of(pair_root, background=False)


@pytest.mark.parametrize(
    ("given", "expected"), [(None, None), ([32, 48], (32, 48)), ((1, 1), (1, 1))]
)
def test_an_image_size_is_height_and_width(given, expected):
    assert two_sides(given) == expected


@pytest.mark.parametrize("given", [[32], [32, 32, 3], [0, 32], [32, -1], []])
def test_a_wrong_image_size_is_refused(given):
    sentence = f"data.image_size={given} must be [height, width] in pixels, or null"
    with pytest.raises(ValueError, match=exactly(sentence)):
        two_sides(given)
