import json
import math
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from google.protobuf import json_format
from lightning import Callback, Trainer
from omegaconf import DictConfig
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams import metadata
from tensorboard.util.tensor_util import make_ndarray
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import ExponentialLR
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from liverseg.experiment import train
from liverseg.network.unet import UNet
from liverseg.pictures import TensorBoard, dashboard
from liverseg.pictures.dashboard import Dashboard
from liverseg.scores.metrics import precision_recall
from liverseg.training.task import SegmentationTask

Compose = Callable[..., DictConfig]


class ThreeAndFour(nn.Module):
    """Its logits have the derivatives 3 and 4, so that the gradient of their mean is 5 long."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, image: Tensor) -> Tensor:
        return image + 3 * self.a + 4 * self.b


class MeanLogit(nn.Module):
    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        return logits.mean()


def batch(seed: int = 0, num_classes: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.randint(0, num_classes, (2, 16, 16), generator=generator, dtype=torch.uint8)
    mask[0, 0, :5] = 255  # ignored
    return {
        "image": torch.randn(2, 1, 16, 16, generator=generator),
        "mask": mask,
        "index": torch.tensor([2 * seed, 2 * seed + 1]),
        "case": torch.tensor([0, 0]),
    }


def fit(
    folder: Path, *callbacks: Callback, num_batches: int = 3, **settings: Any
) -> tuple[SegmentationTask, EventAccumulator]:
    task = SegmentationTask(
        net=ThreeAndFour(),
        loss=MeanLogit(),
        optimizer=lambda parameters: SGD(parameters, lr=0.5),
        scheduler=lambda optimizer: ExponentialLR(optimizer, gamma=0.5),
        num_classes=1,
        class_names=["liver"],
    )
    trainer = Trainer(
        **{"max_epochs": 1, "log_every_n_steps": 1, "gradient_clip_val": 1.0, **settings},
        accelerator="cpu",
        logger=TensorBoard(save_dir=folder, name="", version=""),
        callbacks=[Dashboard(pr_curve=True, graph=False), *callbacks],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=1,
    )
    served = DataLoader([batch(seed) for seed in range(num_batches)], batch_size=None)
    trainer.fit(task, served, served)
    return task, events(folder, "train")


def events(folder: Path, run: str) -> EventAccumulator:
    sizes = {"scalars": 0, "tensors": 0, "images": 0}
    return EventAccumulator(str(folder / run), sizes).Reload()


def points(board: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in board.Scalars(tag)]


def test_the_gradient_is_measured_before_it_is_clipped(tmp_path: Path) -> None:
    task, board = fit(tmp_path)
    assert points(board, "gradient_norm") == [(step, 5.0) for step in range(3)]
    # clipped to a length of 1, it moves the parameters by 3/5 and 4/5 of the learning rate
    assert isinstance(task.net, ThreeAndFour)
    assert (task.net.a.item(), task.net.b.item()) == pytest.approx((-0.9, -1.2))


@pytest.mark.parametrize(
    ("settings", "moved"),
    [
        ({"gradient_clip_val": 6.0}, (-4.5, -6.0)),  # 5 is within the limit
        ({"gradient_clip_val": 2.5}, (-2.25, -3.0)),
        ({"gradient_clip_val": None}, (-4.5, -6.0)),
        ({"gradient_clip_val": 3.5, "gradient_clip_algorithm": "value"}, (-4.5, -5.25)),
    ],
)
def test_gradients_are_clipped_as_the_trainer_says(
    tmp_path: Path, settings: dict[str, Any], moved: tuple[float, float]
) -> None:
    net = fit(tmp_path, **settings)[0].net
    assert isinstance(net, ThreeAndFour)
    assert (net.a.item(), net.b.item()) == pytest.approx(moved)  # half of it, in three steps


def test_the_learning_rate_is_that_of_the_step(tmp_path: Path) -> None:
    _, board = fit(tmp_path, max_epochs=2)
    rates = [0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert points(board, "lr") == list(enumerate(rates))


def test_points_come_every_few_steps_and_at_the_end_of_an_epoch(tmp_path: Path) -> None:
    _, board = fit(tmp_path, max_epochs=2, log_every_n_steps=2)
    for tag in ("lr", "machine/images_per_second", "machine/peak_memory_megabytes"):
        assert [step for step, _ in points(board, tag)] == [1, 2, 3, 5]


class Written(Callback):
    """Notes the steps whose gradients are on the dashboard, whenever a step has ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stops_after: int) -> None:
        self.steps: list[int] = []
        self.after: list[list[int]] = []
        self.stops_after = stops_after
        log = TensorBoard.log_metrics

        def noting(board: TensorBoard, metrics: Any, step: int | None = None) -> None:
            self.steps += [step] if "train/gradient_norm" in metrics and step is not None else []
            log(board, metrics, step)

        monkeypatch.setattr(TensorBoard, "log_metrics", noting)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.after.append([*self.steps])
        trainer.should_stop = trainer.global_step == self.stops_after


@pytest.mark.parametrize("stops_after", [4, 2], ids=["whole epoch", "part of one"])
def test_what_a_gpu_measures_is_read_when_it_has_gone_on(
    stops_after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = SimpleNamespace(synchronize=lambda: None)
    monkeypatch.setattr(dashboard, "copy_begun", lambda value: (value.clone(), event))
    written = Written(monkeypatch, stops_after)
    _, board = fit(tmp_path, written, num_batches=4, max_steps=stops_after, max_epochs=-1)
    late = [[], [0], [0, 1], [0, 1, 2, 3]]  # nothing comes after the last batch of an epoch
    assert written.after == late[:stops_after]
    steps = list(range(stops_after))
    assert points(board, "gradient_norm") == [(step, 5.0) for step in steps]
    for tag in ("lr", "machine/images_per_second"):
        assert [step for step, _ in points(board, tag)] == steps


class Failing(Callback):
    """Ends training by an error after two steps."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 2:
            raise ZeroDivisionError


def test_the_last_step_of_a_run_that_fails_is_on_the_dashboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = SimpleNamespace(synchronize=lambda: None)
    monkeypatch.setattr(dashboard, "copy_begun", lambda value: (value.clone(), event))
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, Failing())
    assert points(events(tmp_path, "train"), "gradient_norm") == [(0, 5.0), (1, 5.0)]


def test_gradients_that_are_added_up_are_one_point(tmp_path: Path) -> None:
    _, board = fit(tmp_path, num_batches=4, accumulate_grad_batches=2, gradient_clip_val=None)
    assert points(board, "gradient_norm") == [(0, 5.0), (1, 5.0)]
    assert [step for step, _ in points(board, "machine/images_per_second")] == [0, 1]


class Clock(Callback):
    """A clock on which a training step takes 2 seconds and a validation step 100."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(dashboard, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def on_train_batch_start(self, *arguments: Any) -> None:
        self.now += 2

    def on_validation_batch_start(self, *arguments: Any) -> None:
        self.now += 100

    def on_train_epoch_end(self, *arguments: Any) -> None:
        self.now += 1000


def test_images_per_second_leave_validation_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, board = fit(
        tmp_path, Clock(monkeypatch), max_epochs=2, log_every_n_steps=2, val_check_interval=2
    )
    speeds = points(board, "machine/images_per_second")
    assert speeds == [(step, 1.0) for step in (1, 2, 3, 5)]  # 2 images in 2 seconds


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no module named resource")
def test_memory_is_the_most_that_was_in_use() -> None:
    peak = dashboard._peak_memory(torch.device("cpu"))
    known = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    known *= 1 if sys.platform == "darwin" else 1024
    assert peak == pytest.approx(known, rel=0.1)


def test_the_curve_is_that_of_all_pixels_that_count(tmp_path: Path) -> None:
    from torchmetrics.classification import BinaryPrecisionRecallCurve

    task, _ = fit(tmp_path, max_epochs=2)
    drawn = events(tmp_path, "val").Tensors("precision_recall")
    assert [event.step for event in drawn] == [2, 5]
    shown = make_ndarray(drawn[-1].tensor_proto)
    reference = BinaryPrecisionRecallCurve(
        thresholds=torch.linspace(0, 1, 65).tolist(), ignore_index=255
    )
    for seed in range(3):
        served = batch(seed)
        reference.update(task(served["image"])[:, 0].sigmoid(), served["mask"].int())
    true_negative, false_positive = reference.confmat[:, 0].unbind(1)
    false_negative, true_positive = reference.confmat[:, 1].unbind(1)
    counts = (true_positive, false_positive, true_negative, false_negative)
    assert shown[:4].tolist() == torch.stack(counts).tolist()
    precision, recall, _ = reference.compute()
    found = counts[0] + counts[1] > 0
    assert shown[4][found] == pytest.approx(precision[:-1][found].numpy())
    assert shown[5] == pytest.approx(recall[:-1].numpy())
    assert shown[0][0] + shown[1][0] == 3 * (2 * 16 * 16 - 5)  # from 0 on, all that count


def test_other_passes_draw_no_curve(tmp_path: Path) -> None:
    curve = Dashboard(pr_curve=True, graph=False)
    trainer: Any = SimpleNamespace(
        state=SimpleNamespace(fn="validate"), sanity_checking=False, loggers=[]
    )
    curve.on_validation_batch_end(trainer, None, {}, {}, 0)  # type: ignore[arg-type]
    assert curve._counts is None


@pytest.mark.slow
def test_several_classes_have_a_curve_each(compose: Compose, tmp_path: Path) -> None:
    classes = [
        "data.num_classes=3",
        "data.class_names=[corner,liver]",
        "data.mask_values=[0,1,255]",
    ]
    train(compose(["data=pairs", *classes]))
    folder = tmp_path / "run" / "tensorboard"
    tags = events(folder, "val").Tags()
    curves = [tag for tag in tags["tensors"] if tag.startswith("precision")]
    assert curves == ["precision_recall/corner", "precision_recall/liver"]
    drawn = charts(events(folder, "train"))
    for name in ("corner", "liver"):
        (pattern,) = drawn[f"Dice of {name}"]
        assert [tag for tag in tags["scalars"] if re.match(pattern, tag)] == [f"dice/{name}"]


def test_a_class_of_any_name_has_a_chart_of_its_own() -> None:
    layout = dashboard._layout(["dice"], ["a", "a+", "(a"])
    for name, (_, (pattern,)) in layout["Classes"].items():
        tags = ["dice/a", "dice/a+", "dice/(a", "dice", "dice_pooled/a"]
        assert [tag for tag in tags if re.match(pattern, tag)] == [f"dice/{name[8:]}"]


def test_each_score_has_a_chart_by_its_title() -> None:
    charts = dashboard._layout(["dice", "precision_pooled", "hd95"], ["a"])["Scores"]
    assert list(charts) == ["Loss", "Dice", "Precision, pooled", "Hausdorff distance, 95 %"]


def charts(board: EventAccumulator) -> dict[str, list[str]]:
    """Return the patterns of each chart by its title."""
    (event,) = board.Tensors("custom_scalars__config__")
    layout = Layout.FromString(make_ndarray(event.tensor_proto).item())
    return {
        chart.title: list(chart.multiline.tag)
        for category in layout.category
        for chart in category.chart
    }


@pytest.mark.slow
def test_splits_are_runs_that_share_a_chart_and_no_chart_is_empty(
    compose: Compose, tmp_path: Path
) -> None:
    train(compose(["trainer.max_epochs=2"]))
    folder = tmp_path / "run" / "tensorboard"
    runs = {
        run: set(events(folder, run).Tags()["scalars"])
        for run in ("train", "val", "final/val", "final/test")
    }
    shown = {
        title: {
            (run, tag)
            for run, tags in runs.items()
            for tag in tags
            for pattern in patterns
            if re.match(pattern, tag)  # as TensorBoard does
        }
        for title, patterns in charts(events(folder, "train")).items()
    }
    for title, tag in (("Loss", "loss"), ("Dice", "dice"), ("IoU", "iou")):
        assert shown[title] == {(run, tag) for run in runs}
    assert shown["Learning rate"] == {("train", "lr")}
    assert all(shown.values())
    # what has a single point lies on a chart that has a curve
    assert runs["final/val"] == runs["final/test"] <= runs["val"] | {"ece"}
    assert not [tag for tags in runs.values() for tag in tags if "epoch" in tag]
    assert {path.name for path in folder.iterdir()} == {"train", "val", "final"}


@pytest.mark.slow
def test_the_final_scores_stand_at_the_step_of_the_best_weights(
    compose: Compose, tmp_path: Path
) -> None:
    scores = train(compose(["trainer.max_epochs=3"]))
    run = tmp_path / "run"
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    for split in ("val", "test"):
        ((step, value),) = points(events(run / "tensorboard", f"final/{split}"), "dice")
        assert step == best["global_step"] - 1
        assert value == pytest.approx(scores[f"{split}/dice"])
    on_val = dict(points(events(run / "tensorboard", "val"), "dice"))
    assert on_val[step] == pytest.approx(scores["val/dice"])


@pytest.mark.slow
def test_lightnings_own_logger_shows_the_same_in_one_run(compose: Compose, tmp_path: Path) -> None:
    own = "logger.tensorboard._target_=lightning.pytorch.loggers.TensorBoardLogger"
    drawn = "callbacks.pictures.num_pictures=6"
    scores = train(compose([own, "trainer.max_epochs=2", drawn]))
    board = events(tmp_path / "run", "tensorboard")
    tags = set(board.Tags()["scalars"])
    assert tags >= {"train/loss", "val/loss", "train/lr", "machine/images_per_second"}
    ((_, value),) = points(board, "final/test/dice")
    assert value == pytest.approx(scores["test/dice"])
    for title, patterns in charts(board).items():
        assert [tag for tag in tags for one in patterns if re.match(one, tag)], title
    assert len([tag for tag in board.Tags()["images"] if tag.startswith("val/pictures/")]) == 4
    assert (tmp_path / "run" / "pictures" / "curves.png").is_file()


@pytest.mark.slow
def test_hyperparameters_are_those_that_change_a_result(compose: Compose, tmp_path: Path) -> None:
    scores = train(compose(["optimizer.lr=0.02", "seed=7", "monitor=val/iou"]))
    board = events(tmp_path / "run" / "tensorboard", "final")
    summary = board.SummaryMetadata("_hparams_/session_start_info")
    start = metadata.parse_session_start_info_plugin_data(summary.plugin_data.content)
    shown = start.hparams
    assert (shown["optimizer"].string_value, shown["optimizer/lr"].number_value) == ("Muon", 0.02)
    assert (shown["model"].string_value, shown["seed"].number_value) == ("UNet", 7)
    assert shown["loss/losses/1"].string_value == "SoftDiceLoss"
    assert shown["model/dilations"].number_value == 1
    assert not [name for name in shown if "_partial_" in name or "dir" in name]
    # the columns of one run would hide what other runs differ in
    assert "_hparams_/experiment" not in board.summary_metadata
    # TensorBoard shows five, in this order: without scrolling, the scores among them
    first = sorted(shown)[:2]
    assert first == ["TEST iou", "VAL iou"]
    assert [shown[name].number_value for name in first] == [scores["test/iou"], scores["val/iou"]]


def test_numbers_that_are_not_finite_do_not_break_the_table(tmp_path: Path) -> None:
    logger = TensorBoard(save_dir=tmp_path, name="", version="")
    trainer: Any = SimpleNamespace(loggers=[logger])
    config = {"seed": 1, "optimizer": {"lr": math.inf}}
    dashboard.show_result(trainer, config, {"val/hd95": math.nan}, monitor="val/hd95", step=5)
    summary = events(tmp_path, "final").SummaryMetadata("_hparams_/session_start_info")
    start = metadata.parse_session_start_info_plugin_data(summary.plugin_data.content)
    assert start.hparams["VAL hd95"].string_value == "nan"
    assert start.hparams["optimizer/lr"].string_value == "inf"
    assert start.hparams["seed"].number_value == 1
    assert json.loads(json_format.MessageToJson(start))["hparams"]["VAL hd95"] == "nan"


def test_settings_that_are_true_false_or_null_are_shown_as_typed(tmp_path: Path) -> None:
    trainer: Any = SimpleNamespace(loggers=[TensorBoard(save_dir=tmp_path, name="", version="")])
    config = {"model": {"residual": True, "width": 1}, "data": {"background": False, "size": None}}
    dashboard.show_result(trainer, config, {}, monitor="val/dice", step=5)
    summary = events(tmp_path, "final").SummaryMetadata("_hparams_/session_start_info")
    shown = metadata.parse_session_start_info_plugin_data(summary.plugin_data.content).hparams
    words = ("model/residual", "data/background", "data/size")
    assert [shown[name].string_value for name in words] == ["true", "false", "null"]
    assert shown["model/width"].number_value == 1


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_drawing_the_network_leaves_it_as_it_is(padding: Any, tmp_path: Path) -> None:
    net = UNet(1, 1, depth=2, width=4, padding=padding, dropout=0.5)
    net.to(memory_format=torch.channels_last)
    net.encoder.eval()  # a part that is not in the mode of the whole
    modes = [module.training for module in net.modules()]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    strides = [value.stride() for value in net.state_dict().values()]
    random = torch.get_rng_state()
    with SummaryWriter(str(tmp_path)) as writer:
        dashboard._draw_graph(writer, net, torch.zeros(1, 1, 32, 40))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [value.stride() for value in net.state_dict().values()] == strides
    assert [module.training for module in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    graph = events(tmp_path, "").Graph()
    assert any("ConvTranspose2d" in node.name for node in graph.node)


@pytest.mark.slow
def test_the_network_is_drawn_on_request_alone(compose: Compose, tmp_path: Path) -> None:
    scores = {}
    for wanted in (False, True):
        folder = tmp_path / str(wanted)
        flag = f"callbacks.dashboard.graph={str(wanted).lower()}"
        scores[wanted] = train(compose([flag, f"output_dir={folder}"]))
        assert events(folder / "tensorboard", "train").Tags()["graph"] is wanted
    assert scores[True] == scores[False]


def test_a_run_needs_no_logger(compose: Compose, tmp_path: Path) -> None:
    scores = train(compose(["logger=none"]))
    assert 0 <= scores["val/dice"] <= 1
    assert not (tmp_path / "run" / "tensorboard").exists()
    assert (tmp_path / "run" / "pictures" / "best_and_worst_val.png").is_file()


def test_a_curve_worked_by_hand() -> None:
    counts = torch.zeros(1, 2, 65, dtype=torch.int64)
    counts[0, 0, 0], counts[0, 0, 32] = 6, 1  # others: six at 0, one at 0.5
    counts[0, 1, 16], counts[0, 1, 64] = 1, 2  # of the class: one at 0.25, two at 1
    curve = precision_recall(counts)[0]
    assert curve[:, 0].tolist() == [3, 7, 0, 0, 0.3, 1]
    assert curve[:, 16].tolist() == [3, 1, 6, 0, 0.75, 1]
    assert curve[:, 17].tolist() == [2, 1, 6, 1, 2 / 3, 2 / 3]
    assert curve[:, 64].tolist() == [2, 0, 7, 1, 1, 2 / 3]
