import re
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ProgressBar
from torch import Tensor, nn
from torch.optim.lr_scheduler import ConstantLR
from torch.utils.data import DataLoader

from liverseg.network.unet import UNet
from liverseg.training.losses import CrossEntropy, SoftDiceLoss, SumLoss
from liverseg.training.task import NotFiniteError, SegmentationTask, _Watched


def blob_batch() -> dict[str, Tensor]:
    image = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.2
    mask = torch.zeros(2, 32, 32, dtype=torch.uint8)
    mask[0, 8:20, 4:16] = mask[1, 12:30, 10:28] = 1
    image[:, 0] += mask * 0.6
    return {"image": image, "mask": mask, "index": torch.arange(2), "case": torch.tensor([0, 1])}


def make_task(net: nn.Module | None = None, **changes: Any) -> SegmentationTask:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {
        "net": net or UNet(1, 1, depth=2, width=4),
        "loss": SumLoss([SoftDiceLoss(), CrossEntropy()], [1, 1]),
        "optimizer": partial(torch.optim.Adam, lr=1e-2),
        "scheduler": partial(ConstantLR, factor=1.0),
        "num_classes": 1,
        "class_names": ["liver"],
    }
    return SegmentationTask(**{**arguments, **changes})


def loader(batches: list[dict[str, Tensor]]) -> DataLoader[dict[str, Tensor]]:
    return DataLoader(batches, batch_size=None)


def fit(
    task: SegmentationTask, batches: list[dict[str, Tensor]], epochs: int = 1, **settings: Any
) -> Trainer:
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **{"enable_progress_bar": False, **settings},
    )
    trainer.fit(task, loader(batches), loader(batches))
    return trainer


@pytest.mark.slow
def test_60_steps_overfit_one_batch() -> None:
    task = make_task()
    fit(task, [blob_batch()], epochs=60)
    assert task.results["val"]["dice"] > 0.95
    assert task.results["val"]["loss"] < 0.5


class FixedLogits(nn.Module):
    """Gives the same logit everywhere, and noise from the global generator while training."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(logit))
        self.noise: list[float] = []

    def forward(self, image: Tensor) -> Tensor:
        if self.training:
            self.noise.append(torch.rand(()).item())
        return image * 0 + self.logit


@pytest.mark.parametrize(("threshold", "predicted"), [(0.5, 1), (0.8, 0)])
def test_the_threshold_decides_scores_and_predictions_alike(
    threshold: float, predicted: int
) -> None:
    task = make_task(FixedLogits(1.0), threshold=threshold)  # probability 0.731
    trainer = fit(task, [blob_batch()], epochs=0)
    trainer.validate(task, loader([blob_batch()]), verbose=False)
    counts = task.tally("val").scores.table()[2]
    assert (counts[:, 0, :2].sum() == predicted * 2 * 32 * 32).item()
    logits = task(blob_batch()["image"][:1], size=(5, 7))
    assert task.predict_classes(logits).tolist() == [[[predicted] * 7] * 5]


def test_a_steps_randomness_depends_on_seed_and_step_alone() -> None:
    def noise(seed: int, disturbance: int) -> list[float]:
        net = FixedLogits(0.0)
        task = make_task(net, seed=seed)
        torch.rand(disturbance)
        fit(task, [blob_batch(), blob_batch()])
        return net.noise

    first = noise(seed=0, disturbance=0)
    assert len(set(first)) == 2
    assert noise(seed=0, disturbance=5) == first
    assert noise(seed=1, disturbance=0) != first


def test_batches_that_are_added_up_to_one_step_draw_each_for_itself() -> None:
    net = FixedLogits(0.0)
    fit(make_task(net), [blob_batch()] * 6, accumulate_grad_batches=3)
    assert len(set(net.noise)) == 6


def test_the_mean_loss_weighs_images_not_batches() -> None:
    whole = blob_batch()
    single = {key: value[:1] for key, value in whole.items()}
    task = make_task(FixedLogits(1.0))
    trainer = fit(task, [whole], epochs=0)
    values = []
    for batches in ([whole, single], [single, single, {k: v[1:] for k, v in whole.items()}]):
        trainer.validate(task, loader(batches), verbose=False)
        values.append(task.results["val"]["loss"])
    assert values[0] == pytest.approx(values[1])


class Bar(ProgressBar):
    """Keeps what it would show after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.shown.append(trainer.progress_bar_metrics["loss"])


def test_a_progress_bar_shows_the_loss_of_each_step() -> None:
    bar, task = Bar(), make_task(FixedLogits(0.5), loss=CrossEntropy())
    fit(task, [blob_batch(), blob_batch()], callbacks=[bar], enable_progress_bar=True)
    assert len(bar.shown) == 2
    assert sum(bar.shown) / 2 == pytest.approx(task.results["train"]["loss"], abs=1e-6)


def test_a_second_pass_forgets_the_first() -> None:
    task = make_task(FixedLogits(1.0))
    trainer = fit(task, [blob_batch()], epochs=0)
    for _ in range(2):
        trainer.validate(task, loader([blob_batch()]), verbose=False)
    assert len(task.tally("val").scores.rows) == 1


def test_a_task_without_optimizer_cannot_be_trained() -> None:
    with pytest.raises(RuntimeError, match="a task without optimizer and scheduler cannot be"):
        make_task(optimizer=None).configure_optimizers()


class LearntFactor(nn.Module):
    """A loss with a parameter s, exp(-s) times the mean logit, plus s, and a fixed network."""

    def __init__(self) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.zeros(()))
        self.fixed = nn.Linear(1, 1).requires_grad_(False)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        return (-self.s).exp() * logits.mean() + self.s


def test_parameters_of_a_loss_are_trained() -> None:
    loss = LearntFactor()
    fixed = loss.fixed.weight.clone()
    task = make_task(FixedLogits(3.0), loss=loss, optimizer=partial(torch.optim.SGD, lr=0.5))
    fit(task, [blob_batch()])
    assert loss.s.item() == pytest.approx(1.0)  # its gradient at 0 is 1 - 3
    assert task.net.logit.item() == pytest.approx(2.5)
    assert torch.equal(loss.fixed.weight, fixed)


def test_a_network_without_weights_yet_is_refused() -> None:
    net = nn.Sequential(nn.LazyConv2d(1, 1))
    with pytest.raises(
        ValueError, match=r"^Sequential has no 0\.weight yet, as its layer is a laz"
    ):
        make_task(net)
    net(torch.zeros(1, 1, 64, 64))
    make_task(net)


@pytest.mark.parametrize(
    ("precision", "remedy"),
    [
        ("16-true", "set trainer.precision=32-true or bf16-true; else look at these files, or low"),
        ("16-mixed", "set trainer.precision=32-true or bf16-mixed; else look at these files, or l"),
        ("bf16-true", "on a_slice1; look at these files, or lower optimizer.lr; no epoch had ende"),
    ],
)
def test_half_precision_is_blamed_for_a_loss_that_is_no_number(precision: str, remedy: str) -> None:
    task = make_task()
    named = SimpleNamespace(pairs=[SimpleNamespace(name="a_slice1")])
    task._trainer = SimpleNamespace(
        precision=precision,
        checkpoint_callbacks=[],
        datamodule=SimpleNamespace(dataset=lambda split: named),
    )
    task._watched = _Watched("val", 2, torch.tensor([0]), torch.tensor(float("nan")), None)
    with pytest.raises(NotFiniteError, match=re.escape(remedy)):
        task._refuse_not_finite()


def test_the_state_holds_the_network_alone() -> None:
    assert {key.split(".")[0] for key in make_task().state_dict()} == {"net"}


def test_a_compiled_network_has_the_same_keys() -> None:
    task = make_task()
    keys = list(task.state_dict())
    task.net.compile()
    assert list(task.state_dict()) == keys


def test_gradients_within_the_limit_are_not_touched() -> None:
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    task, optimizer = make_task(), torch.optim.SGD([weight])
    before = weight.grad._version
    task.configure_gradient_clipping(optimizer, 5.0)
    assert weight.grad._version == before
    task.configure_gradient_clipping(optimizer, 2.5)
    assert weight.grad.tolist() == pytest.approx([1.5, 2.0])


@pytest.mark.parametrize(("rank", "images"), [(0, 2), (1, 0)])
def test_of_several_processes_the_first_goes_on_with_what_the_first_had_counted(
    rank: int, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = blob_batch()
    before, after = make_task(), make_task()
    before.tally("train").scores.update(
        batch["mask"], *(batch[k] for k in ("mask", "index", "case"))
    )
    before.tally("train").loss.update(torch.ones(2))
    after._interrupted_tally = before.tally("train").state()
    monkeypatch.setattr(SegmentationTask, "global_rank", property(lambda self: rank))
    after.on_train_start()
    counted = after.tally("train")
    assert (sum(map(len, counted.scores.rows)), float(counted.loss.weight)) == (images, images)
