"""The task: one step shared by all splits, around a network, a loss and the scores."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypedDict

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics import MeanMetric, Metric

from liverseg.network import training_logits, whole_image_logits
from liverseg.scores import (
    SegmentationScores,
    classes_without_truth,
    predict_classes,
    sentence_of_absence,
)
from liverseg.training.continuing import follow_callbacks, follow_schedule, has_stopped, lay_out
from liverseg.training.earlier import FORMAT, bring_up_to_date, with_key_of_today
from liverseg.training.length import FittingLength
from liverseg.training.precision import fast_memory_format

logger = logging.getLogger(__name__)
Batch = Mapping[str, Tensor]
Split = Literal["train", "val", "test"]


class Scored(TypedDict):
    """What scoring a batch leaves for those who draw."""

    logits: Tensor  # (N, num_classes, H, W)
    prediction: Tensor  # class indices (N, H, W)


class _Watched(NamedTuple):
    split: Split
    step: int
    images: Tensor  # their indices
    loss: Tensor  # on the CPU
    copied: torch.cuda.Event | None  # when the loss has arrived there; None: it has


class NotFiniteError(ValueError):
    """The loss is no longer a number that training can go on with."""


class Tally(nn.Module):
    """What one pass over a split has added up: pixel counts and the loss."""

    def __init__(self, scores: SegmentationScores) -> None:
        super().__init__()
        self.scores = scores
        # Looking for NaN in each batch would make a GPU wait; every loss is looked at below.
        self.loss = MeanMetric(nan_strategy="disable")

    def compute(self) -> dict[str, Tensor]:
        """Return loss and scores by name."""
        return {"loss": self.loss.compute(), **self.scores.compute()}

    def state(self) -> dict[str, dict[str, Any]]:
        """Return what this process has added up, as tensors and lists of them."""
        return {"scores": dict(self.scores.metric_state), "loss": dict(self.loss.metric_state)}

    def restore(self, state: Mapping[str, dict[str, Any]]) -> None:
        """Go on from a state."""
        for name, metric in (("scores", self.scores), ("loss", self.loss)):
            metric.merge_state({key: _moved(value, metric) for key, value in state[name].items()})

    def reset(self) -> None:
        """Start a new pass."""
        self.scores.reset()
        self.loss.reset()


class SegmentationTask(LightningModule):
    """Train and score a segmentation network.

    Args:
        net: Maps images of shape (N, C, H, W) to logits of shape (N, num_classes, h, w).
        loss: Maps logits and mask to a scalar, see :mod:`liverseg.training.losses`. Parameters of
            its own are trained with those of the network.
        optimizer: Makes the optimizer from parameters; None for a task that only scores.
        scheduler: Makes the learning-rate schedule from the optimizer, None likewise.
        interval: Whether the schedule is stepped after each epoch or after each optimizer step.
        num_classes: 1 for foreground against background, N for classes 0 (background) ... N - 1.
        class_names: Names of the foreground classes.
        threshold: With one logit, a pixel is foreground where its probability exceeds this.
        scores: Words of the scores of val and test that are computed besides those that cost
            nothing, see :mod:`liverseg.scores.catalogue`.
        tolerance: Of the surface Dice, in pixels, or in the unit of ``spacing``.
        spacing: Distance between neighbouring pixels along height and width, such as in mm.
        monitor: The score that chooses the best checkpoint and that a schedule may watch.
        seed: Seed of what is random in a training step, such as dropout.
        record: Plain values stored in every checkpoint under ``"liverseg"``.

    Raises:
        ValueError: If a layer of the network has no weights yet.
    """

    def __init__(
        self,
        *,
        net: nn.Module,
        loss: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        interval: Literal["epoch", "step"] = "epoch",
        num_classes: int,
        class_names: Sequence[str],
        threshold: float = 0.5,
        scores: Sequence[str] = (),
        tolerance: float = 2.0,
        spacing: Sequence[float] | None = None,
        monitor: str = "val/dice",
        seed: int = 0,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        _refuse_lazy_layers(net)
        self._format = torch.channels_last
        self.net = net.to(memory_format=self._format)
        self.loss = loss
        self.threshold = threshold
        self.record = dict(record or {})
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._interval = interval
        self._monitor = monitor
        self._seed = seed
        self._watched: _Watched | None = None  # a loss that nobody has looked at yet
        self._known_loss: Tensor | None = None  # the last one that was looked at, on the CPU
        self._interrupted_tally: dict[str, dict[str, Any]] | None = None
        self.tallies = nn.ModuleDict(  # which has a method named "train"
            {"train_split": Tally(SegmentationScores(num_classes, class_names))}
        )
        self.choose_scores(scores, tolerance=tolerance, spacing=spacing)
        self.results: dict[Split, dict[str, float]] = {}  # the last pass over each split
        self.absent: dict[Split, list[str]] = {}  # classes that no mask holds

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Return logits of shape (N, num_classes, *size) for the whole image.

        Args:
            image: Normalised images of shape (N, C, H, W).
            size: Height and width wanted; None is the image's own.
        """
        image = image.to(self.dtype).contiguous(memory_format=self._format)
        height, width = image.shape[-2:]
        return whole_image_logits(self.net, image, size or (height, width))

    def predict_classes(self, logits: Tensor) -> Tensor:
        """Return class indices, uint8 of shape (N, H, W), as scores and pictures use them."""
        return predict_classes(logits, self.threshold)

    def choose_scores(
        self, scores: Sequence[str], *, tolerance: float, spacing: Sequence[float] | None
    ) -> None:
        """Begin anew to score val and test, by these scores besides those that cost nothing."""
        counted = self.tally("train").scores
        for split in ("val", "test"):
            self.tallies[f"{split}_split"] = Tally(
                SegmentationScores(
                    counted.num_classes,
                    counted.class_names,
                    chosen=scores,
                    tolerance=tolerance,
                    spacing=spacing,
                )
            )

    def tally(self, split: Split) -> Tally:
        """Return what the last or current pass over a split has added up."""
        tally = self.tallies[f"{split}_split"]
        assert isinstance(tally, Tally)
        return tally

    def setup(self, stage: str) -> None:
        """Order weights in memory as the network trains fast on the device."""
        if stage == "fit":
            self._format = fast_memory_format(self.trainer.strategy.root_device, self.net)
            self.net.to(memory_format=self._format)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the loss of a batch."""
        image = batch["image"].to(self.dtype).contiguous(memory_format=self._format)
        logits, mask = training_logits(self.net, image, batch["mask"])
        loss, _ = self._score("train", batch, logits, mask)
        if self.trainer.progress_bar_callback is not None and self._known_loss is not None:
            self.log("loss", self._known_loss, prog_bar=True, logger=False)
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> Scored:
        """Score a batch."""
        return self._score_whole("val", batch)

    def test_step(self, batch: Batch, batch_index: int) -> Scored:
        """Score a batch."""
        return self._score_whole("test", batch)

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        """Make a step's randomness a function of (seed, step, rank): resuming is then exact."""
        seed = (self._seed * 1_000_003 + self.global_step) * 1024 + self.global_rank
        # Those added up to one step differ, in the low 32 bits, which are all that count.
        seed ^= batch_index % self.trainer.accumulate_grad_batches * 0x9E3779B1
        torch.default_generator.manual_seed(seed)  # torch.manual_seed goes through all devices
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(seed)

    def on_train_epoch_start(self) -> None:
        """Forget what an earlier epoch left, which this one may not check on val."""
        self.results.clear()

    def on_train_epoch_end(self) -> None:
        """Log loss and scores, and tell them in a line; let a schedule see the score it watches."""
        self._log_split("train")
        if self.trainer.is_global_zero:
            self._tell_epoch()
        split = self._monitor.partition("/")[0]
        score = self.trainer.callback_metrics.get(self._monitor)
        if score is None or (split == "val" and "val" not in self.results):  # not every epoch has
            return
        for one in self.trainer.lr_scheduler_configs:
            if isinstance(one.scheduler, ReduceLROnPlateau):
                one.scheduler.step(float(score))

    def lr_scheduler_step(self, scheduler: LRScheduler, metric: Any) -> None:
        """Step a schedule, but for one that watches a score: it has moved before the checkpoint."""
        if not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()

    def on_validation_epoch_start(self) -> None:
        """Forget what an earlier pass counted."""
        self._begin("val")

    def on_validation_epoch_end(self) -> None:
        """Log loss and scores."""
        self._log_split("val")

    def on_test_epoch_start(self) -> None:
        """Forget what an earlier pass counted."""
        self._begin("test")

    def on_test_epoch_end(self) -> None:
        """Log loss and scores."""
        self._log_split("test")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build optimizer and schedule."""
        if self._optimizer is None or self._scheduler is None:
            raise RuntimeError("a task without optimizer and scheduler cannot be trained")
        optimizer = self._optimizer(self._trained())
        # Gradients are unscaled before they are clipped, and Lightning refuses to clip where a
        # fused step would do it: https://github.com/Lightning-AI/pytorch-lightning/issues/21435
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": self._scheduler(optimizer),
                "interval": self._interval,
                "monitor": self._monitor,
                "reduce_on_plateau": False,  # it is stepped here, where there is a score
            },
        }

    def _trained(self) -> list[nn.Parameter]:
        """Return what is trained; a network within a loss is often fixed."""
        of_loss = [one for one in self.loss.parameters() if one.requires_grad]
        return [*self.net.parameters(), *of_loss]

    def refuse_too_short(self) -> None:
        """Refuse a schedule of fewer optimizer steps than the run has.

        Not before training starts: counting them builds the loader, which begins where the trainer
        then stands, and a run that goes on would begin its epoch again.
        """
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]  # its connector's
        is_found_later = any(isinstance(one, FittingLength) for one in callbacks)
        if self._interval == "epoch" or is_found_later:
            return
        steps = self.trainer.estimated_stepping_batches
        for one in self.trainer.lr_scheduler_configs:
            most = getattr(one.scheduler, "total_steps", 0)
            if 0 < most < steps < float("inf"):
                raise ValueError(
                    f"scheduler.total_steps={most} is less than the {steps:.0f} optimizer steps of "
                    f"the run; set it to {steps:.0f}"
                )

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip gradients, and on a CPU leave those within the limit alone, not multiply by 1."""
        if not gradient_clip_val or gradient_clip_algorithm == "value" or self.device.type != "cpu":
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        weights = [one for group in optimizer.param_groups for one in group["params"]]
        norm = get_total_norm([one.grad for one in weights if one.grad is not None])
        if norm > gradient_clip_val:
            clip_grads_with_norm_(weights, gradient_clip_val, norm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the record, and what the epoch under way has added up so far."""
        self._refuse_not_finite()
        checkpoint["liverseg"] = {**self.record, "format": FORMAT}
        checkpoint["train_tally"] = self.tally("train").state()
        for board in self.loggers:
            board.save()  # what is on the dashboard is never behind the checkpoint

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the epoch under way had added up, until the metrics are on their device.

        Settings that differ from those of the checkpoint hold from the next step on.
        """
        bring_up_to_date(with_key_of_today(checkpoint), self)
        lay_out(checkpoint, self._format)
        before, now = checkpoint["liverseg"].get("config"), self.record.get("config")
        if before and now and self._optimizer is not None and self._scheduler is not None:
            optimizer = self._optimizer(self._trained())
            follow_schedule(
                checkpoint,
                before=before,
                now=now,
                optimizer=optimizer,
                scheduler=self._scheduler(optimizer),
            )
            callbacks = self.trainer.callbacks  # type: ignore[attr-defined]  # its connector's
            is_changed = before.get("callbacks") != now.get("callbacks")
            follow_callbacks(checkpoint, callbacks, is_changed=is_changed)
        self._interrupted_tally = checkpoint["train_tally"]

    def on_fit_start(self) -> None:
        """Train no longer where early stopping has ended the run that goes on."""
        if any(map(has_stopped, self.trainer.early_stopping_callbacks)):
            self.trainer.should_stop = True

    def on_train_start(self) -> None:
        """Go on with the epoch that was interrupted, if one was.

        A checkpoint holds what the first of several processes had added up, and only that one takes
        it; else it would count once for each of them.
        """
        if self._interrupted_tally is not None and self.global_rank == 0:
            self.tally("train").restore(self._interrupted_tally)
        self._interrupted_tally = None

    def _score_whole(self, split: Split, batch: Batch) -> Scored:
        mask = batch["mask"]
        logits = self(batch["image"], size=(mask.shape[1], mask.shape[2]))
        _, prediction = self._score(split, batch, logits, mask)
        return {"logits": logits, "prediction": prediction}

    def _score(
        self, split: Split, batch: Batch, logits: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Count a batch into the scores of a split; return its loss and what was predicted."""
        loss: Tensor = self.loss(logits, mask)
        self._watch(split, loss.detach(), batch)
        prediction = self.predict_classes(logits.detach())
        tally = self.tally(split)
        tally.scores.update(prediction, mask, batch["index"], batch["case"])
        tally.loss.update(loss.detach().expand(len(mask)))
        return loss, prediction

    def _watch(self, split: Split, loss: Tensor, batch: Batch) -> None:
        """See to it that a loss is a number: at once on a CPU, on a GPU when the next one comes.

        A GPU computes what was queued while the next step is prepared; to look at a loss at once
        would make it wait in every step.
        """
        self._refuse_not_finite()
        self._watched = _Watched(split, self.global_step, batch["index"], *copy_begun(loss))
        if self._watched.copied is None:
            self._refuse_not_finite()

    def _refuse_not_finite(self) -> None:
        """Raise if the loss that was computed last is no number."""
        if self._watched is None:
            return
        split, step, images, loss, copied = self._watched
        self._watched = None
        if copied is not None:
            copied.synchronize()
        if loss.isfinite():
            self._known_loss = loss
            return
        data = self.trainer.datamodule  # type: ignore[attr-defined]  # set by the trainer's methods
        names = [data.dataset(split).pairs[number].name for number in images.tolist()]
        precision, wider = str(self.trainer.precision), ""
        if precision.startswith("16"):  # whose numbers end at 65504
            wider = (
                f"trainer.precision={precision} overflows easily: set trainer.precision=32-true or "
                f"{precision.replace('16', 'bf16')}; else "
            )
        callbacks = self.trainer.checkpoint_callbacks
        good = [file for one in callbacks if (file := getattr(one, "best_model_path", ""))]
        raise NotFiniteError(
            f"the {split} loss is {float(loss)} at step {step}, on "
            f"{', '.join(names)}; {wider}look at these files, or lower optimizer.lr; "
            + (f"the last good checkpoint is {good[-1]}" if good else "no epoch had ended yet")
        )

    def _tell_epoch(self) -> None:
        """Tell loss, Dice and the monitored score; val comes before the end of an epoch."""
        most = self.trainer.max_epochs
        names = dict.fromkeys(["loss", "dice", self._monitor.partition("/")[2]])
        told = [
            f"{split} {name} {values[name]:.4f}"
            for split, values in sorted(self.results.items())
            for name in names
            if name in values
        ]
        logger.info(
            "epoch %d%s: %s",
            *(self.trainer.current_epoch + 1, f" of {most}" if most and most > 0 else ""),
            ", ".join(told),
        )

    def _begin(self, split: Split) -> None:
        """Forget what an earlier pass counted, and take the spacing of the images where known."""
        tally = self.tally(split)
        tally.reset()
        if not tally.scores.chosen or (data := getattr(self.trainer, "datamodule", None)) is None:
            return
        found = [getattr(pair, "spacing", None) for pair in data.dataset(split).pairs]
        known = [spacing for spacing in found if spacing is not None]
        tally.scores.spacings = known if len(known) == len(found) else None
        if 0 < len(known) < len(found) and tally.scores.spacing is None:
            logger.warning(
                "the spacing of %d of %d images of %s is not known, so distances are in pixels; "
                "give it to all in cases.csv, or set spacing=[height,width]",
                *(len(found) - len(known), len(found), split),
            )

    def _note_absent(self, split: Split) -> None:
        """Tell, once and where the data could not at the start, which classes no mask holds."""
        data = getattr(self.trainer, "datamodule", None)
        if data is None or split in self.absent:
            return
        dataset, scores = data.dataset(split), self.tally(split).scores
        if len(scores.table().indices) < len(dataset):  # a part of a split proves nothing
            return
        self.absent[split] = classes_without_truth(scores)
        is_news = self.absent[split] and not dataset.is_cached and self.trainer.state.fn == "fit"
        if is_news and self.trainer.is_global_zero:
            logger.warning("%s", sentence_of_absence(split, self.absent[split]))

    def _log_split(self, split: Split) -> None:
        self._refuse_not_finite()
        values = self.tally(split).compute()
        self.results[split] = {name: float(value) for name, value in values.items()}
        self._note_absent(split)
        is_fitting = self.trainer.state.fn == "fit"  # else the value is no point of a curve
        for name, value in values.items():
            self.log(
                f"{split}/{name}",
                value.float(),
                prog_bar=is_fitting and (split, name) == ("val", "dice"),
                logger=is_fitting and split != "train" and bool(self.loggers),
            )
        if split == "train":
            # Lightning would log these after the epoch's checkpoint is written: a run killed in
            # between would never show them.
            named = {f"train/{name}": value for name, value in self.results["train"].items()}
            for board in self.loggers:
                board.log_metrics(named, step=self.global_step - 1)
            self.tally("train").reset()


def _refuse_lazy_layers(net: nn.Module) -> None:
    """Refuse layers that make their weights when they see an image: a file could not fill them."""
    lazy = next((name for name, one in net.named_parameters() if is_lazy(one)), None)
    if lazy is not None:
        raise ValueError(
            f"{type(net).__name__} has no {lazy} yet, as its layer is a lazy one; give it its "
            "number of channels, or end the network's __init__ with "
            "self(torch.zeros(1, in_channels, 64, 64))"
        )


def copy_begun(value: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """Return a value on the CPU, and for a GPU the event after which it is there."""
    if not value.is_cuda:
        return value, None
    copied = torch.cuda.Event()
    value = value.to("cpu", non_blocking=True)
    copied.record()
    return value, copied


def _moved(value: Tensor | list[Tensor], metric: Metric) -> Tensor | list[Tensor]:
    """Return a metric's state on the metric's device."""
    if isinstance(value, Tensor):
        return value.to(metric.device)
    return [part.to(metric.device) for part in value]
