import csv
import importlib.util
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image
from sketches import ALL_PICTURES
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from liverseg import ending
from liverseg.data import stored_size
from liverseg.data.pairs import find_pairs
from liverseg.experiment import convert, evaluate, predict, train, write_json
from liverseg.pictures.charts import Curve, draw_curves
from liverseg.training import SoftDiceLoss
from liverseg.training import task as task_module
from liverseg.training.task import NotFiniteError, SegmentationTask

Compose = Callable[..., DictConfig]


def rows_of(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines()))


@pytest.mark.slow
def test_a_run_leaves_what_the_design_promises(compose: Compose, tmp_path: Path) -> None:
    scores = train(compose(["trainer.max_epochs=2", *ALL_PICTURES]))
    run = tmp_path / "run"
    assert json.loads((run / "metrics.json").read_text()) == scores
    names = ("loss", "dice", "iou", "dice_pooled", "iou_pooled", "dice_case", "iou_case")
    assert scores.keys() >= {f"{split}/{name}" for split in ("val", "test") for name in names}
    assert (scores["val/patients"], scores["val/images"]) == (2, 4)
    assert scores["val/dice_low"] <= scores["val/dice"] <= scores["val/dice_high"]
    for file in ("best", "last"):
        checkpoint = torch.load(run / "checkpoints" / f"{file}.ckpt", weights_only=True)
        assert checkpoint["liverseg"]["config"]["model"]["width"] == 4
    lines = rows_of(run / "cases_test.csv")
    assert [line["case"] for line in lines] == ["patient006", "patient006", "patient007"]
    assert sum(float(line["dice"]) for line in lines) / 3 == pytest.approx(scores["test/dice"])
    assert [line["images"] for line in rows_of(run / "patients_test.csv")] == ["2", "1"]
    assert json.loads((run / "scores.json").read_text()).keys() == {"val", "test"}
    assert len(list((run / "pictures").glob("val_*.png"))) == 4
    assert len(list((run / "pictures").glob("test_*.png"))) == 3


@pytest.mark.slow
def test_the_dashboard_shows_curves_pictures_and_final_scores(
    compose: Compose, tmp_path: Path
) -> None:
    scores = train(compose(["trainer.max_epochs=2", *ALL_PICTURES]))
    folder = tmp_path / "run" / "tensorboard"
    boards = {
        run: EventAccumulator(str(folder / run), {"images": 0}).Reload()
        for run in ("train", "val", "final", "final/test")
    }
    for name in ("loss", "dice", "iou"):
        for split in ("train", "val"):
            assert len(boards[split].Scalars(name)) == 2
    images = boards["val"].Tags()["images"]
    assert len(images) == 4 + 4  # the same ones, and the worst
    assert all(len(boards["val"].Images(tag)) == 2 for tag in images)
    final = boards["final/test"].Scalars("dice")[-1].value
    assert final == pytest.approx(scores["test/dice"])
    assert "_hparams_/session_start_info" in boards["final"].summary_metadata


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Curve], dict[str, Any]]]:
    """What was drawn into ``curves.png``: the curves and the rest, one after the other."""
    calls: list[tuple[dict[str, Curve], dict[str, Any]]] = []

    def draw(file: Path, curves: dict[str, Curve], **rest: Any) -> object:
        calls.append((curves, rest))
        return draw_curves(file, curves, **rest)

    monkeypatch.setattr(ending, "draw_curves", draw)
    return calls


@pytest.mark.slow
@pytest.mark.usefixtures("rendered")
def test_the_curves_of_a_run_are_drawn_beside_its_pictures(
    compose: Compose, tmp_path: Path, drawn: list[Any]
) -> None:
    scores = train(compose(["trainer.max_epochs=3", "monitor=val/loss", "monitor_mode=min"]))
    with Image.open(tmp_path / "run" / "pictures" / "curves.png") as picture:
        assert (picture.format, picture.width) == ("PNG", 1200)
    ((curves, rest),) = drawn
    assert rest == {"monitor": "val/loss", "mode": "min", "test": scores}
    for name in ("train/loss", "val/loss", "train/dice", "val/iou"):
        assert [epoch for epoch, _ in curves[name]] == [1, 2, 3]
    assert [epoch for epoch, _ in curves["train/lr"]] == [1, 2, 3]
    # The best checkpoint's score is the best on the curve, which holds float32.
    assert min(loss for _, loss in curves["val/loss"]) == pytest.approx(scores["val/loss"])


@pytest.mark.slow
def test_a_stopped_run_shows_how_far_it_came_and_a_resumed_one_all_epochs(
    compose: Compose, tmp_path: Path, drawn: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["trainer.max_epochs=3", "data.batch_size=2"]  # 3 steps in an epoch
    train(compose([*overrides, f"output_dir={tmp_path / 'whole'}"]))
    original = SegmentationTask.training_step

    def stop_in_the_third_epoch(self: SegmentationTask, batch: Any, batch_index: int) -> Tensor:
        if self.global_step == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch, batch_index)

    monkeypatch.setattr(SegmentationTask, "training_step", stop_in_the_third_epoch)
    config = compose(overrides)
    with pytest.raises(SystemExit):
        train(config)
    monkeypatch.setattr(SegmentationTask, "training_step", original)
    curves = tmp_path / "run" / "pictures" / "curves.png"
    assert curves.is_file()
    curves.unlink()
    config.resume = str(tmp_path / "run" / "checkpoints" / "last.ckpt")
    train(config)
    assert curves.is_file()
    (whole, _), (stopped, rest), (resumed, _) = drawn
    assert [epoch for epoch, _ in stopped["val/dice"]] == [1, 2]
    assert stopped["val/dice"] == whole["val/dice"][:2]
    assert rest["test"] == {}
    assert {tag: points for tag, points in resumed.items() if not tag.startswith("machine/")} == {
        tag: points for tag, points in whole.items() if not tag.startswith("machine/")
    }
    assert all(value > 1 for _, value in resumed["machine/images_per_second"])


@pytest.mark.slow
def test_a_run_has_curves_whatever_its_loggers(
    compose: Compose, tmp_path: Path, drawn: list[Any]
) -> None:
    choices = {
        "logger=none": set(),
        "logger=csv": {"csv"},
        "logger=[tensorboard,csv]": {"csv", "tensorboard"},
    }
    for place, (choice, folders) in enumerate(choices.items()):
        run = tmp_path / str(place)
        train(compose([choice, f"output_dir={run}", "trainer.max_epochs=2"]))
        assert {"csv", "tensorboard"} & {one.name for one in run.iterdir()} == folders
        assert (run / "pictures" / "curves.png").is_file()
    single = compose([f"output_dir={tmp_path / 'single'}", "trainer.max_epochs=2"])
    single.logger = {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": str(tmp_path)}
    train(single)
    without = [
        {name: points for name, points in curves.items() if not name.startswith("machine/")}
        for curves, _ in drawn
    ]
    assert without[1:] == without[:1] * 3
    assert [epoch for epoch, _ in without[0]["val/dice"]] == [1, 2]


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_a_logger_whose_package_is_missing_is_told_with_the_package(compose: Compose) -> None:
    sentence = (
        "logger.wandb._target_=lightning.pytorch.loggers.WandbLogger needs a package that is not "
        "installed; pip install wandb"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        train(compose(["logger=wandb"]))


@pytest.mark.slow
def test_a_picture_that_cannot_be_written_costs_no_scores(
    compose: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "run" / "pictures" / "curves.png"
    file.mkdir(parents=True)  # in its place
    scores = train(compose([]))
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == scores
    assert f"{file} could not be drawn: [Errno 21] Is a directory" in caplog.text


@pytest.mark.slow
def test_evaluating_a_run_repeats_its_scores(compose: Compose, tmp_path: Path) -> None:
    scores = train(compose([]))
    file = tmp_path / "run" / "checkpoints" / "best.ckpt"
    for split in ("val", "test"):
        config = compose([f"ckpt_path={file}", f"split={split}"], name="evaluate")
        again = evaluate(config)
        assert again == {key: value for key, value in scores.items() if key.startswith(split)}


@pytest.mark.slow
def test_a_run_without_a_precision_computes_in_float32(compose: Compose, tmp_path: Path) -> None:
    train(compose(["~trainer.precision"]))
    file = tmp_path / "run" / "checkpoints" / "best.ckpt"
    record = torch.load(file, weights_only=True)["liverseg"]
    assert record["config"]["trainer"]["precision"] == "32-true"


@pytest.mark.parametrize("key", ["data.augment", "seed"])  # others refer to the second
def test_what_is_not_set_is_told(compose: Compose, key: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(key)} is not set; add {key}=\.\.\. to "):
        train(compose([f"{key}=???"]))


@pytest.mark.slow
def test_a_run_computes_in_64_bits_where_it_is_told_to(compose: Compose, tmp_path: Path) -> None:
    train(compose(["trainer.precision=64-true", "augment=flips"]))
    file = tmp_path / "run" / "checkpoints" / "best.ckpt"
    weights = torch.load(file, weights_only=True)["state_dict"]
    assert {one.dtype for one in weights.values()} == {torch.float64, torch.int64}


@pytest.mark.slow
def test_a_run_in_bf16_is_evaluated_in_bf16(compose: Compose, tmp_path: Path) -> None:
    scores = train(compose(["trainer.precision=bf16-mixed"]))
    file = tmp_path / "run" / "checkpoints" / "best.ckpt"
    again = evaluate(compose([f"ckpt_path={file}"], name="evaluate"))
    assert again["test/loss"] == scores["test/loss"]
    other = compose([f"ckpt_path={file}", "+trainer.precision=32-true"], name="evaluate")
    assert evaluate(other)["test/loss"] != scores["test/loss"]


@pytest.mark.slow
def test_evaluating_elsewhere_needs_the_folder_alone(
    compose: Compose, pair_root: Path, tmp_path: Path
) -> None:
    train(compose(["data.image_size=[16,16]", "model.norm=group"]))
    elsewhere = pair_root.rename(tmp_path / "elsewhere")
    file = tmp_path / "run" / "checkpoints" / "best.ckpt"
    overrides = [f"ckpt_path={file}", f"data.root={elsewhere}", "data.batch_size=1"]
    assert "test/dice" in evaluate(compose(overrides, name="evaluate"))


@pytest.mark.slow
def test_a_fold_is_trained_and_evaluated_on_its_own_val(
    compose: Compose, pair_root: Path, tmp_path: Path
) -> None:
    for split in ("train", "val", "test"):
        for number, pair in enumerate(find_pairs(pair_root / split)):
            pair.image.rename(pair.image.with_name(f"{number:03}.png"))
            pair.mask.rename(pair.mask.with_name(f"{number:03}_mask.png"))
    drawn = "callbacks.pictures.num_pictures=6"
    scores = train(compose(["fold=0", "data.num_folds=2", drawn]))
    run = tmp_path / "run"
    names = [line["name"] for line in rows_of(run / "cases_val.csv")]
    assert len(names) == 5  # of the 6 in train/ and the 4 in val/
    assert {name.partition("_")[0] for name in names} == {"train", "val"}
    assert {file.name for file in (run / "pictures").glob("val_*")} == {
        f"val_{name}.png" for name in names
    }
    assert [line["name"] for line in rows_of(run / "cases_test.csv")] == ["000", "001", "002"]

    of_the_run = [f"ckpt_path={run / 'checkpoints' / 'best.ckpt'}", "split=val"]
    again = evaluate(compose([*of_the_run, f"output_dir={tmp_path / 'again'}"], name="evaluate"))
    assert again == {key: value for key, value in scores.items() if key.startswith("val")}
    assert rows_of(tmp_path / "again" / "cases_val.csv") == rows_of(run / "cases_val.csv")
    other = shutil.copytree(pair_root, tmp_path / "elsewhere")
    elsewhere = [*of_the_run, f"data.root={other}", f"output_dir={tmp_path / 'other'}"]
    evaluate(compose(elsewhere, name="evaluate"))
    names = [line["name"] for line in rows_of(tmp_path / "other" / "cases_val.csv")]
    assert names == ["000", "001", "002", "003"]
    shutil.rmtree(pair_root)  # predict needs the fold's images no more than any others
    overrides = [of_the_run[0], f"source={other / 'val'}"]
    assert predict(compose(overrides, name="predict")) == (4, {})


@pytest.mark.slow
def test_a_fold_is_resumed_with_its_own_pairs_alone(compose: Compose, tmp_path: Path) -> None:
    train(compose(["fold=3"]))
    last = str(tmp_path / "run" / "checkpoints" / "last.ckpt")
    config = compose(["fold=3", "trainer.max_epochs=2"])
    config.resume = last
    train(config)
    assert torch.load(last, weights_only=True)["epoch"] == 1
    config = compose(["fold=2", "trainer.max_epochs=3"])
    config.resume = last
    with pytest.raises(ValueError, match=r"train and .*val are not those that the run began with"):
        train(config)


@pytest.mark.slow
def test_a_checkpoint_is_scored_at_another_threshold(compose: Compose, tmp_path: Path) -> None:
    train(compose([]))
    file = f"ckpt_path={tmp_path / 'run' / 'checkpoints' / 'best.ckpt'}"
    found = {}
    for threshold in ("null", "0.5", "0.001", "0.999"):
        out = tmp_path / threshold
        overrides = [file, f"threshold={threshold}", f"output_dir={out}"]
        evaluate(compose(overrides, name="evaluate"))
        found[threshold] = sum(
            int(row["tp"]) + int(row["fp"]) for row in rows_of(out / "cases_test.csv")
        )
    assert found["null"] == found["0.5"]
    assert found["0.001"] == 3 * 32 * 32
    assert found["0.999"] < found["0.5"]


@pytest.mark.slow
def test_a_threshold_is_refused_where_there_is_none(compose: Compose, tmp_path: Path) -> None:
    train(compose(["data=pairs", "data.num_classes=3", "data.mask_values=[0,255,7]"]))
    file = f"ckpt_path={tmp_path / 'run' / 'checkpoints' / 'best.ckpt'}"
    with pytest.raises(ValueError, match=r"^threshold=0\.4 is for a network with one logit; .* 3,"):
        evaluate(compose([file, "threshold=0.4"], name="evaluate"))
    with pytest.raises(ValueError, match=r"^threshold=1\.5 must be a number above 0 and below 1$"):
        evaluate(compose([file, "threshold=1.5"], name="evaluate"))


@pytest.mark.slow
def test_a_split_that_does_not_exist_is_named_with_another(
    compose: Compose, pair_root: Path, tmp_path: Path
) -> None:
    shutil.rmtree(pair_root / "test")
    train(compose([]))
    file = f"ckpt_path={tmp_path / 'run' / 'checkpoints' / 'best.ckpt'}"
    with pytest.raises(FileNotFoundError, match=r"/test does not exist; choose split=val, or na"):
        evaluate(compose([file], name="evaluate"))


@pytest.mark.slow
def test_a_pattern_that_fits_some_names_is_told_where_a_checkpoint_is_scored(
    compose: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(compose([]))
    file = f"ckpt_path={tmp_path / 'run' / 'checkpoints' / 'best.ckpt'}"
    pattern = r"data.case_pattern='^(patient004)_'"
    evaluate(compose([file, pattern, "split=val"], name="evaluate"))
    assert "2 of 4 names of val carry no case (data.case_pattern=^(patient004)_)" in caplog.text


@pytest.mark.slow
def test_a_class_that_is_found_nowhere_is_told(
    compose: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "liverseg")
    train(compose(["optimizer.lr=1e-9", "threshold=0.999"]))
    assert "the best checkpoint finds no pixel of liver in val" in caplog.text
    assert "the best epoch by val/dice is 1" in caplog.text
    assert "epoch 1 of 1: train loss " in caplog.text


@pytest.mark.slow
def test_a_class_that_is_found_somewhere_is_passed_over(
    compose: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    train(compose(["optimizer.lr=1e-9", "threshold=0.001"]))
    assert "finds no pixel" not in caplog.text


def test_an_unknown_split_is_refused(compose: Compose) -> None:
    config = compose(["ckpt_path=a.ckpt", "split=train"], name="evaluate")
    with pytest.raises(ValueError, match=r"^split=train must be val or test$"):
        evaluate(config)


def test_a_value_that_is_not_set_is_named(compose: Compose) -> None:
    with pytest.raises(ValueError, match=r"^source is not set; add source=\.\.\. to the command$"):
        predict(compose(["ckpt_path=a.ckpt"], name="predict"))


@pytest.mark.slow
def test_several_classes_run_through_the_same_code(
    compose: Compose, pair_root: Path, tmp_path: Path
) -> None:
    for file in pair_root.rglob("*_mask.png"):
        mask = Image.open(file).point(lambda value: 2 if value else 0)
        mask.paste(1, (0, 0, 8, 8))
        mask.paste(3, (24, 24, 32, 32))  # ignored
        mask.save(file)
    classes = ["data.num_classes=3", "data.ignore_index=3", "data.class_names=[corner,liver]"]
    scores = train(compose(["data=pairs", *classes, "data.channels=3"]))
    assert {"val/dice/corner", "test/iou_pooled/liver"} <= scores.keys()
    file = tmp_path / "run" / "checkpoints" / "best.ckpt"
    source = pair_root / "val"
    predict(compose([f"ckpt_path={file}", f"source={source}"], name="predict"))
    prediction = next((tmp_path / "run").glob("*_prediction.png"))
    assert set(Image.open(prediction).get_flattened_data()) <= {0, 1, 2}


def test_a_network_whose_output_is_no_logits_is_refused_before_data_are_read(
    compose: Compose, tmp_path: Path
) -> None:
    config = compose([])
    two = {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 2, "kernel_size": 1}
    config.model = two
    with pytest.raises(
        ValueError,
        match=r"^Conv2d returns \(1, 2, 64, 64\) for an image \(1, 1, 64, 64\), not logits "
        r"\(1, 1, 64, 64\); its forward is to return logits \(N, data.num_classes=1, H, W\) alone$",
    ):
        train(config)
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
def test_the_network_without_padding_trains_and_predicts(compose: Compose) -> None:
    scores = train(compose(["model=unet_paper", "model.width=2", "model.depth=2"]))
    assert 0 <= scores["val/dice"] <= 1


@pytest.mark.slow
def test_a_prediction_has_the_images_own_size(
    compose: Compose, pair_root: Path, tmp_path: Path
) -> None:
    train(compose(["data.image_size=[16,16]"]))
    source = tmp_path / "scan.png"
    Image.new("RGBA", (50, 37), (90, 90, 90, 255)).save(source)
    file = tmp_path / "run" / "checkpoints" / "best.ckpt"
    out = tmp_path / "out"
    overrides = [f"ckpt_path={file}", f"source={source}", f"output_dir={out}"]
    assert predict(compose(overrides, name="predict")) == (1, {})
    prediction = Image.open(out / "scan_prediction.png")
    assert (prediction.size, prediction.mode) == ((50, 37), "L")
    assert set(prediction.get_flattened_data()) <= {0, 255}
    three_panels = stored_size(out / "scan_picture.png")[1]
    overrides[1] = f"source={pair_root / 'val'}"
    assert predict(compose(overrides, name="predict")) == (4, {})
    four_panels = stored_size(out / "patient004_slice00_picture.png")[1]
    assert (three_panels, four_panels) == (3 * 300 + 2 * 4, 4 * 256 + 3 * 4)


@pytest.mark.slow
def test_what_is_predicted_is_what_was_scored(
    compose: Compose, pair_root: Path, tmp_path: Path
) -> None:
    train(compose(["data.image_size=[24,24]", "trainer.max_epochs=3"]))
    run = tmp_path / "run"
    overrides = [f"ckpt_path={run / 'checkpoints' / 'best.ckpt'}", f"source={pair_root / 'test'}"]
    predict(compose([*overrides, f"output_dir={tmp_path / 'out'}"], name="predict"))
    for line in rows_of(run / "cases_test.csv"):
        prediction = Image.open(tmp_path / "out" / f"{line['name']}_prediction.png")
        assert prediction.histogram()[255] == int(line["tp"]) + int(line["fp"])


@pytest.mark.slow
def test_a_second_run_with_the_same_seed_is_the_same_run(compose: Compose) -> None:
    first = train(compose(["trainer.max_epochs=2", "model.dropout=0.3"]))
    assert train(compose(["trainer.max_epochs=2", "model.dropout=0.3"])) == first
    assert train(compose(["trainer.max_epochs=2", "model.dropout=0.3", "seed=1"])) != first


def test_a_json_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "new" / "metrics.json"
    write_json(file, {"val/dice": 0.5})
    write_json(file, {"val/dice": 0.75})
    assert json.loads(file.read_text()) == {"val/dice": 0.75}
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.slow
@pytest.mark.parametrize("is_late", [False, True], ids=["at once", "a step later"])
def test_a_loss_that_is_no_number_ends_the_run_and_names_files_and_checkpoint(
    is_late: bool, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    loss_of = SoftDiceLoss.forward

    def broken(self: SoftDiceLoss, logits: Tensor, mask: Tensor) -> Tensor:
        calls.append(mask)
        loss = loss_of(self, logits, mask)
        return loss if len(calls) < 9 else loss * float("nan")

    monkeypatch.setattr(SoftDiceLoss, "forward", broken)
    if is_late:  # as on a GPU, whose losses arrive while the next step is prepared
        event = SimpleNamespace(synchronize=lambda: None)
        monkeypatch.setattr(task_module, "copy_begun", lambda loss: (loss, event))
    config = compose(["trainer.max_epochs=9", "data.batch_size=3"])
    run = tmp_path / "run"
    with pytest.raises(NotFiniteError) as caught:
        train(config)
    found = re.fullmatch(
        r"the (train|val) loss is (nan|inf) at step (\d+), on (patient00\d_slice0\d(?:, )?)+; look "
        r"at these files, or lower optimizer\.lr; the last good checkpoint is "
        rf"{run}/checkpoints/last\.ckpt",
        str(caught.value),
    )
    assert found, caught.value
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] <= int(found[3])


@pytest.mark.slow
def test_other_pairs_than_those_the_run_began_with_are_refused(
    compose: Compose, pair_root: Path, tmp_path: Path
) -> None:
    train(compose([]))
    for file in (pair_root / "val").glob("patient005*"):
        file.unlink()
    config = compose(["trainer.max_epochs=2"])
    config.resume = str(tmp_path / "run" / "checkpoints" / "last.ckpt")
    with pytest.raises(
        ValueError, match=r"val are not those that the run began with; restore them"
    ):
        train(config)


@pytest.mark.slow
def test_a_run_says_how_it_was_started(compose: Compose, tmp_path: Path) -> None:
    train(compose(["seed=3"]))
    (start,) = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (start["seed"], start["device"]) == (3, "cpu")
    assert start["versions"].keys() >= {"python", "torch", "lightning"}
    assert start["command"][0]
    assert start["pairs"].keys() == {"train", "val"}
    patch = tmp_path / "run" / "uncommitted.patch"
    assert start["has_uncommitted_changes"] == patch.exists()


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [0, 64])
def test_empty_masks_are_told_early_and_again_beside_the_table(
    compose: Compose, pair_root: Path, caplog: pytest.LogCaptureFixture, megabytes: int
) -> None:
    for file in pair_root.glob("*/*_mask.png"):
        Image.new("L", (32, 32)).save(file)
    with caplog.at_level("WARNING"):
        train(compose([f"data.cache_megabytes={megabytes}"]))
    found = [
        message.removeprefix(f"{pair_root}: ").partition(" holds a pixel of liver")[0]
        for record in caplog.records
        if "holds a pixel of liver" in (message := record.getMessage())
    ]
    assert sorted(found[:2]) == ["no mask of train", "no mask of val"]
    assert sorted(found[2:]) == ["no mask of test", "no mask of train", "no mask of val"]


@pytest.mark.slow
def test_every_class_is_scored_where_there_is_no_background(
    compose: Compose, tmp_path: Path
) -> None:
    names = "data.class_names=[sky,liver]"
    overrides = [names, "data.num_classes=2", "data.background=false", "loss=dice_ce"]
    scores = train(compose([*overrides, "monitor=val/iou/sky"]))
    assert scores["val/iou"] == (scores["val/iou/sky"] + scores["val/iou/liver"]) / 2
    with (tmp_path / "run" / "cases_val.csv").open() as stream:
        assert {"iou_sky", "iou_liver"} <= set(next(csv.reader(stream)))
    file = tmp_path / "run" / "checkpoints" / "best.ckpt"
    again = evaluate(compose([f"ckpt_path={file}", "split=val"], "evaluate"))
    assert {name: again[name] for name in again} == {name: scores[name] for name in again}


@pytest.mark.slow
def test_images_of_any_number_of_channels_are_trained_on_scored_and_predicted(
    compose: Compose, pair_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for split in ("train", "val", "test"):
        for pair in find_pairs(pair_root / split):
            grey = np.asarray(Image.open(pair.image))
            pair.image.unlink()
            np.save(pair.image.with_suffix(".npy"), np.stack([grey, grey // 2, grey, grey], -1))
    with caplog.at_level("INFO"):
        scores = train(compose(["data.channels=4", "augment=strong"]))
    assert "pictures show channels 1, 2 and 3 of 4" in caplog.text
    checkpoint = f"ckpt_path={tmp_path / 'run' / 'checkpoints' / 'best.ckpt'}"
    again = evaluate(compose([checkpoint, "split=val", f"output_dir={tmp_path}/e"], "evaluate"))
    assert {key: again[key] for key in ("val/dice", "val/loss")} == {
        key: scores[key] for key in ("val/dice", "val/loss")
    }
    typed = [checkpoint, f"source={pair_root / 'test'}", f"output_dir={tmp_path}/p"]
    assert predict(compose(typed, "predict")) == (3, {})
    assert (tmp_path / "p" / "patient006_slice00_picture.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("slices", [1, 3])
def test_a_checkpoint_repeats_on_volumes_what_convert_did(
    slices: int, compose: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import nibabel
    import numpy as np

    places = {name: tmp_path / name for name in ("images", "labels")}
    for number in (1, 2):
        voxels, label = np.full((32, 32, 4), -1000, np.int16), np.zeros((32, 32, 4), np.uint8)
        voxels[4:28, 6:26] = 20 * number - 200 * np.arange(4)
        label[8:20, 8:16, 1:] = 1
        for folder, values in zip(places.values(), (voxels, label), strict=True):
            folder.mkdir(exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), folder / f"p{number}.nii.gz")
    words = [f"source={places['images']}", f"labels={places['labels']}"]
    made = convert(compose([*words, f"output_dir={tmp_path / 'a'}", "window=lung"], "convert"))
    assert (made.num_pairs, made.refused) == (8, {})
    table = tmp_path / "a" / "cases.csv"
    lines = table.read_text().splitlines()
    ends = ["split", *("train" if line.startswith("p1") else "val" for line in lines[1:])]
    table.write_text("\n".join(f"{line},{end}" for line, end in zip(lines, ends, strict=True)))
    scores = train(compose([f"data.root={tmp_path / 'a'}", f"data.slices={slices}"]))
    file = tmp_path / "run" / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    assert checkpoint["liverseg"]["volumes"]["window"] == "lung"
    one = [f"ckpt_path={file}", f"source={places['images'] / 'p2.nii.gz'}"]
    out = tmp_path / "out"
    label = f"labels={places['labels'] / 'p2.nii.gz'}"
    words = [*one, label, f"output_dir={out}", "scores=[hd95,nsd]", "tolerance=100"]
    found = evaluate(compose(words, "evaluate"))
    assert found["test/dice_case"] == scores["val/dice_case"]  # one patient, slice by slice
    assert found.get("test/nsd") == float(found["test/hd95_infinite"] == 0)
    assert predict(compose([*one, f"output_dir={out}"], "predict")) == (1, {})
    assert {path.name for path in out.iterdir()} == {
        *("cases_test.csv", "metrics.json", "p2_prediction.nii.gz", "patients_test.csv"),
        *("scores.json", "volumes.csv"),
    }
    with pytest.raises(ValueError, match="labels is not set"):
        evaluate(compose(one, "evaluate"))
    two = [*one, f"output_dir={tmp_path / 'two'}", "trainer.devices=2", "trainer.accelerator=cpu"]
    for command, words in ((evaluate, [*two, label]), (predict, two)):
        with pytest.raises(ValueError, match=r"devices=2 makes 2 processes, and volumes are comp"):
            command(compose(words, command.__name__))
    assert not (tmp_path / "two").exists()


@pytest.mark.slow
def test_neighbouring_slices_are_trained_on_scored_and_predicted(
    compose: Compose, pair_root: Path, tmp_path: Path
) -> None:
    scores = train(compose(["data.slices=3"]))
    checkpoint = f"ckpt_path={tmp_path / 'run' / 'checkpoints' / 'best.ckpt'}"
    again = evaluate(compose([checkpoint, "split=val", f"output_dir={tmp_path}/e"], "evaluate"))
    assert {key: again[key] for key in ("val/dice", "val/loss")} == {
        key: scores[key] for key in ("val/dice", "val/loss")
    }
    typed = [checkpoint, f"source={pair_root / 'val'}", f"output_dir={tmp_path}/p"]
    assert predict(compose(typed, "predict")) == (4, {})
    for pair in find_pairs(pair_root / "val"):  # one alone sees the neighbours in its folder
        typed = [checkpoint, f"source={pair.image}", f"output_dir={tmp_path}/one"]
        predict(compose(typed, "predict"))
        files = [tmp_path / folder / f"{pair.name}_prediction.png" for folder in ("p", "one")]
        assert np.array_equal(*(np.asarray(Image.open(file)) for file in files))
