import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from liverseg.inference import evaluate, predict
from liverseg.inference.masks import UNLESS_TOLD

Compose = Callable[..., DictConfig]
NAMES = ["patient006_slice00", "patient006_slice01", "patient007_slice02"]


def scored(compose: Compose, folder: Path, root: Path, *typed: str) -> dict[str, float]:
    overrides = [f"predictions={folder}", f"data.root={root}", *typed]
    return evaluate(compose(overrides, name="evaluate"))


@pytest.fixture
def masks(pair_root: Path, tmp_path: Path) -> Path:
    """The masks of test/ under other names, the first without the left half."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name, end in zip(NAMES, ("_prediction", "", "_mask"), strict=True):
        with Image.open(pair_root / "test" / f"{name}_mask.png") as truth:
            mask = truth.point(lambda value: value // 255)  # 0/1 for 0/255
        if name == NAMES[0]:
            mask.paste(0, (0, 0, 12, 32))
        mask.save(folder / f"{name}{end}.png")
    return folder


def test_masks_are_scored_by_name_whatever_their_end(
    compose: Compose, masks: Path, pair_root: Path, tmp_path: Path
) -> None:
    scores = scored(compose, masks, pair_root, "scores=[nsd]", "tolerance=0.5")
    with Image.open(pair_root / "test" / f"{NAMES[0]}_mask.png") as truth:
        whole = truth.histogram()[255]
    with Image.open(masks / f"{NAMES[0]}_prediction.png") as mask:
        found = mask.histogram()[1]
    assert scores["test/dice"] == pytest.approx((2 * found / (whole + found) + 2) / 3)
    assert scores["test/precision"] == 1
    assert (scores["test/patients"], scores["test/missed"]) == (2, 0)
    assert 0 < scores["test/nsd"] < 1
    assert "test/loss" not in scores
    run = tmp_path / "run"
    lines = (run / "cases_test.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == NAMES
    assert (run / "patients_test.csv").is_file()
    assert (run / "pictures" / "best_and_worst_test.png").is_file()


def test_distances_are_in_mm_where_a_table_gives_the_spacing(
    compose: Compose, masks: Path, pair_root: Path, tmp_path: Path
) -> None:
    drawn = ["num_pictures=0", "num_worst=0", "scores=[assd]"]
    pixels = scored(compose, masks, pair_root, *drawn)["test/assd"]
    files = pair_root.glob("*/*_slice??.png")
    rows = [f"{file.stem},{file.stem[:10]},0.5x0.5" for file in files]
    (pair_root / "cases.csv").write_text("\n".join(["name,case,spacing", *rows]) + "\n")
    millimetres = scored(compose, masks, pair_root, *drawn)["test/assd"]
    assert millimetres == pytest.approx(pixels / 2)
    assert '"spacing": "each"' in (tmp_path / "run" / "scores.json").read_text()


def test_one_mask_per_batch_gives_the_same_files(
    compose: Compose, masks: Path, pair_root: Path, tmp_path: Path
) -> None:
    files = []
    for size in (1, 8):
        typed = [f"data.batch_size={size}", "num_pictures=0", "num_worst=0", "scores=[hd95]"]
        scored(compose, masks, pair_root, *typed)
        written = ("cases_test.csv", "patients_test.csv", "metrics.json")
        files.append([(tmp_path / "run" / name).read_bytes() for name in written])
    assert files[0] == files[1]


def test_missing_masks_are_named_and_nothing_is_written(
    compose: Compose, masks: Path, pair_root: Path, tmp_path: Path
) -> None:
    (masks / f"{NAMES[1]}.png").rename(masks / "other.png")
    sentence = (
        rf"has no mask of 1 of 3 images of test \({NAMES[1]}\), such as {NAMES[1]}\.png; "
        r"of no image are other\.png"
    )
    with pytest.raises(FileNotFoundError, match=sentence):
        scored(compose, masks, pair_root)
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("missing", "remedy"),
    [(["val"], "choose split=test, or name another"), (["val", "test"], "name another")],
)
def test_a_split_that_is_there_is_named_for_one_that_is_not(
    compose: Compose, masks: Path, pair_root: Path, missing: list[str], remedy: str
) -> None:
    for split in missing:
        shutil.rmtree(pair_root / split)
    with pytest.raises(FileNotFoundError, match=rf"/val does not exist; {remedy} data\.root$"):
        scored(compose, masks, pair_root, "split=val")


def test_surplus_files_are_named(
    compose: Compose, masks: Path, pair_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (masks / "notes.txt").write_text("nothing")
    for name in ("other.png", f"{NAMES[0]}_picture.png", f"{NAMES[1]}_probability_a.png"):
        Image.new("L", (32, 32)).save(masks / name)
    with caplog.at_level(logging.WARNING):
        scored(compose, masks, pair_root, "num_pictures=0", "num_worst=0")
    assert "1 files belong to no image of test and are left out (other.png)" in caplog.text


def test_an_image_beside_its_mask_is_not_the_mask(compose: Compose, pair_root: Path) -> None:
    scores = scored(compose, pair_root / "test", pair_root, "num_pictures=0", "num_worst=0")
    assert scores["test/dice"] == 1


def test_two_masks_of_one_image_are_refused(compose: Compose, masks: Path, pair_root: Path) -> None:
    Image.new("L", (32, 32)).save(masks / f"{NAMES[0]}_mask.png")
    with pytest.raises(ValueError, match="may both be the mask of patient006_slice00; remove one"):
        scored(compose, masks, pair_root)


def test_another_size_is_refused(compose: Compose, masks: Path, pair_root: Path) -> None:
    Image.new("L", (31, 32)).save(masks / f"{NAMES[1]}.png")
    with pytest.raises(
        ValueError, match=r"slice01\.png is 32 x 31 \(height x width\) but .*32 x 3"
    ):
        scored(compose, masks, pair_root)


def test_several_classes_are_declared(compose: Compose, masks: Path, pair_root: Path) -> None:
    typed = ["data.num_classes=3", "data.class_names=[a,liver]", "data.mask_values=[0,7,[1,255]]"]
    scores = scored(compose, masks, pair_root, *typed)
    assert (scores["test/dice/a"], scores["test/recall_pooled/liver"] < 1) == (1, True)


@pytest.mark.parametrize(
    ("typed", "error", "sentence"),
    [
        (["predictions=nowhere"], FileNotFoundError, "predictions=nowhere is no folder"),
        (["ckpt_path=a.ckpt"], ValueError, "ckpt_path=a.ckpt is for a checkpoint"),
        (["threshold=0.4"], ValueError, "threshold=0.4 is for a checkpoint"),
        (["min_pixels=30"], ValueError, "min_pixels=30 is for a checkpoint"),
        (["tune=true"], ValueError, "tune=true is for a checkpoint"),
        (["split=null"], ValueError, "split=null must be val or test"),
        (["split=val"], FileNotFoundError, "has no mask of 4 of 4 images of val"),
        (["data.root=null"], ValueError, "data.root is not set"),
    ],
)
def test_what_does_not_fit_is_refused(
    compose: Compose,
    masks: Path,
    pair_root: Path,
    typed: list[str],
    error: type[Exception],
    sentence: str,
) -> None:
    keys = {one.split("=")[0] for one in typed}
    given = {"predictions": masks, "data.root": pair_root}
    kept = [f"{key}={value}" for key, value in given.items() if key not in keys]
    with pytest.raises(error, match=sentence):
        evaluate(compose([*kept, *typed], name="evaluate"))


def test_neither_masks_nor_a_checkpoint_is_refused(compose: Compose) -> None:
    with pytest.raises(ValueError, match=r"ckpt_path is not set; add ckpt_path=\.\.\. to the com"):
        evaluate(compose([], name="evaluate"))
    with pytest.raises(ValueError, match=r"data\.num_classes=2 is for predictions=DIR"):
        evaluate(compose(["ckpt_path=a.ckpt", "data.num_classes=2"], name="evaluate"))


def test_settings_of_volumes_are_refused_without_them_and_those_of_pairs_with_them(
    compose: Compose, pair_root: Path
) -> None:
    with pytest.raises(
        ValueError, match=r"labels=a is for volumes; add source=\.\.\., or leave it"
    ):
        evaluate(compose(["ckpt_path=a.ckpt", "labels=a"], name="evaluate"))
    with pytest.raises(ValueError, match=r"spacing=\[1,2\] is for pairs; leave it out, a volume"):
        evaluate(compose(["ckpt_path=a.ckpt", "source=a", "spacing=[1,2]"], name="evaluate"))
    with pytest.raises(ValueError, match=r"seg=true is for volumes, and source=\S+ names images"):
        predict(compose(["ckpt_path=a.ckpt", f"source={pair_root}", "seg=true"], name="predict"))


def test_what_is_not_told_is_as_in_the_config_of_pairs() -> None:
    configs = Path(__file__).parents[2] / "configs" / "data" / "pairs.yaml"
    pairs: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(configs))  # type: ignore[assignment]
    apart = {"cache_megabytes", "seed"}
    assert {key: pairs[key] for key in UNLESS_TOLD if key not in apart} == {
        key: value for key, value in UNLESS_TOLD.items() if key not in apart
    }
