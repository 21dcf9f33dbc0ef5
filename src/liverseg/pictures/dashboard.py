"""What TensorBoard shows besides loss, scores and pictures, and how it is laid out."""

import copy
import json
import math
import re
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from liverseg.network import Shrinking
from liverseg.pictures.boards import FINAL, boards_of, place_of
from liverseg.scores import (
    computed,
    count_by_probability,
    is_score,
    keys_of,
    precision_recall,
    title_of,
)
from liverseg.training import SegmentationTask, copy_begun

_Chart = tuple[str, list[str]]  # a kind, and patterns of tags

# The tags are patterns that TensorBoard matches from the start of a name. Earlier names have the
# split in front, as Lightning's own logger writes them.
_SPLIT = "((train|val|test)/)?"
LAYOUT: dict[str, dict[str, _Chart]] = {
    "Training": {
        "Learning rate": ("Multiline", ["(train/)?lr$"]),
        "Gradient norm": ("Multiline", ["(train/)?gradient_norm$"]),
    },
    "Machine": {
        "Images per second": ("Multiline", ["machine/images_per_second$"]),
        "Peak memory (MB)": ("Multiline", ["machine/peak_memory_megabytes$"]),
    },
}

_COMPARED = ("data", "model", "loss", "optimizer", "scheduler", "trainer", "seed")
# What leaves a result alone, or says nothing when runs are compared.
_NOT_COMPARED = {
    *("_partial_", "default_root_dir", "enable_progress_bar", "enable_model_summary"),
    *("log_every_n_steps", "use_distributed_sampler", "num_workers", "cache_megabytes"),
}


class Dashboard(Callback):
    """Logs how training goes: every few steps, at the end of an epoch, and at each check on val.

    ``train/lr`` and ``train/gradient_norm`` (L2 norm over all parameters, before clipping) are
    logged every ``trainer.log_every_n_steps`` and at the last step of an epoch. So are
    ``machine/images_per_second``, of all processes, without the time that validation takes, and
    ``machine/peak_memory_megabytes``, the most that was in use at once: of the GPU, or of the first
    process. What stands under ``machine/`` differs between runs of the same seed.

    TensorBoard shows loss and scores of all splits on shared charts (CUSTOM SCALARS).

    Args:
        pr_curve: Whether each check on val draws precision against recall of each foreground class,
            ``val/precision_recall``. Thresholds are 1/64 apart; ignored pixels count nowhere.
        graph: Whether the network is drawn (GRAPHS).
    """

    def __init__(self, *, pr_curve: bool, graph: bool) -> None:
        self._pr_curve = pr_curve
        self._graph = graph
        self._counts: Tensor | None = None
        self._due: dict[str, float] = {}
        self._norm: tuple[Tensor, torch.cuda.Event | None] | None = None
        self._late_step: int | None = None  # what is due of it waits for a GPU
        self._num_images = 0
        self._seconds = 0.0
        self._since = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lay out the charts and draw the network, unless a resumed run has them already."""
        self._since = time.perf_counter()  # a run resumed within an epoch does not start one
        if trainer.global_step or not trainer.is_global_zero:
            return
        task = _task_of(pl_module)
        for board in boards_of(trainer):
            writer, _ = place_of(board, "train/layout")
            scores = task.tally("val").scores
            keys = keys_of(computed(scores.chosen), has_cases=_has_cases(trainer))
            writer.add_custom_scalars(_layout(keys, scores.class_names))
            if self._graph:
                _draw_graph(writer, task.net, _example(trainer))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Look at the gradient before it is clipped."""
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by its connector
        is_due = every > 0 and (trainer.global_step + 1) % every == 0
        if not trainer.loggers or not (is_due or trainer.is_last_batch):
            return
        parameters = [one for group in optimizer.param_groups for one in group["params"]]
        gradients = [one.grad for one in parameters if one.grad is not None]
        self._write_late(trainer)
        self._due = {"train/lr": optimizer.param_groups[0]["lr"]}
        self._norm = copy_begun(get_total_norm(gradients))

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # the hook's own signature
        batch: dict[str, Tensor],
        batch_idx: int,
    ) -> None:
        """Log what is due: of a GPU a step later, which would stand still to be read at once."""
        now = time.perf_counter()
        self._seconds += now - self._since
        self._since = now
        self._num_images += len(batch["mask"]) * trainer.world_size
        self._write_late(trainer)
        if self._norm is None:
            return
        self._due["machine/images_per_second"] = self._num_images / self._seconds
        peak = _peak_memory(trainer.strategy.root_device)
        if peak is not None:
            self._due["machine/peak_memory_megabytes"] = peak / 2**20
        self._num_images, self._seconds = 0, 0.0
        self._late_step = trainer.global_step - 1
        if self._norm[1] is None or trainer.is_last_batch:
            self._write_late(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Log what is due, lest the dashboard be behind a checkpoint."""
        self._write_late(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what is due."""
        self._write_late(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Log what is due, as far as a GPU still answers: it may show why the run has failed."""
        with suppress(RuntimeError):
            self._write_late(trainer)

    def _write_late(self, trainer: Trainer) -> None:
        """Log what an earlier step has left."""
        if self._late_step is None or self._norm is None:
            return
        norm, copied = self._norm
        if copied is not None:
            copied.synchronize()
        self._due["train/gradient_norm"] = float(norm)
        for board in trainer.loggers:
            board.log_metrics(self._due, step=self._late_step)
        self._due, self._norm, self._late_step = {}, None, None

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier pass."""
        self._counts = None

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # the hook's own signature
        batch: dict[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count pixels by their probability."""
        is_check = trainer.state.fn == "fit" and not trainer.sanity_checking
        if self._pr_curve and is_check and boards_of(trainer):
            first = _task_of(pl_module).tally("val").scores.first_class
            counts = count_by_probability(outputs["logits"], batch["mask"], first=first)
            self._counts = counts if self._counts is None else self._counts + counts

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw precision against recall."""
        if self._counts is None:
            return
        counts = trainer.strategy.reduce(self._counts, reduce_op="sum")
        assert isinstance(counts, Tensor)
        self._counts = None
        if not trainer.is_global_zero:
            return
        names = _task_of(pl_module).tally("val").scores.class_names
        for board in boards_of(trainer):
            for name, rows in zip(names, precision_recall(counts).numpy(), strict=True):
                shown = "val/precision_recall" + (f"/{name}" if len(names) > 1 else "")
                writer, tag = place_of(board, shown)
                step, num_thresholds = trainer.global_step - 1, rows.shape[1]
                writer.add_pr_curve_raw(tag, *rows, step, num_thresholds)  # type: ignore[call-arg]  # six rows

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the time since the last training step out."""
        self._since = time.perf_counter()


def show_result(
    trainer: Trainer,
    config: Mapping[str, Any],
    scores: Mapping[str, float],
    *,
    monitor: str,
    step: int,
) -> None:
    """Show a run's config and final scores (HPARAMS); they are points beside the curves.

    HPARAMS shows five settings and then the scores, those first that differ between runs, in the
    order of their names. So the score that is monitored is given as a setting too, in capitals,
    which come first.

    Args:
        trainer: The trainer whose loggers are written to.
        config: The config of the run as plain dictionaries, lists and values.
        scores: Final scores by name, such as ``val/dice``; those of single classes and the ends of
            intervals are left out.
        monitor: The score that chose the weights.
        step: The number of steps that the scored weights were trained for.
    """
    quantity = monitor.partition("/")[2]
    for board in boards_of(trainer):
        compared = {key: config[key] for key in _COMPARED if key in config}
        settings = {
            f"{split.upper()} {quantity}": scores[f"{split}/{quantity}"]
            for split in ("val", "test")
            if f"{split}/{quantity}" in scores
        } | dict(_hyperparameters(compared))
        shown = {key: _as_shown(value) for key, value in settings.items()}
        for name, value in scores.items():
            if name.count("/") == 1 and is_score(name):
                writer, tag = place_of(board, f"{FINAL}/{name}")
                writer.add_scalar(tag, value, step - 1)
        # Its first part would fix the columns to those of one run. Without it TensorBoard takes
        # those of all runs, the ones that differ between them first.
        writer, _ = place_of(board, f"{FINAL}/settings")
        for summary in hparams(shown, {})[1:]:
            writer._get_file_writer().add_summary(summary)
        board.save()


def _layout(keys: Sequence[str], class_names: Sequence[str]) -> dict[str, dict[str, _Chart]]:
    """Return the charts of a run: one of each score, and of each class where there are several."""
    titles = {"loss": "Loss", **{key: title_of(key) for key in keys}}
    scores: dict[str, _Chart] = {
        title[0].upper() + title[1:]: ("Multiline", [f"{_SPLIT}{key}$"])
        for key, title in titles.items()
    }
    classes: dict[str, _Chart] = {
        f"Dice of {name}": ("Multiline", [f"{_SPLIT}dice/{re.escape(name)}$"])
        for name in class_names
    }
    return {"Scores": scores, **({"Classes": classes} if len(class_names) > 1 else {}), **LAYOUT}


def _has_cases(trainer: Trainer) -> bool:
    """Tell whether there is a score per case on val."""
    data = trainer.datamodule  # type: ignore[attr-defined]  # set by the trainer's entry points
    return data is None or None not in data.dataset("val").cases


def _hyperparameters(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield values by ``section/key``, and the class of a section by the section's name."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "_target_":
                yield name, str(value).rpartition(".")[2]
            elif key not in _NOT_COMPARED and (name, key) != ("data", "seed"):  # seed, once more
                yield from _hyperparameters(value, f"{name}/{key}".removeprefix("/"))
    elif isinstance(node, list) and any(isinstance(one, Mapping) for one in node):
        for place, value in enumerate(node, start=1):
            yield from _hyperparameters(value, f"{name}/{place}")
    else:
        yield name, node


def _as_shown(value: Any) -> Any:
    """Return a setting as TensorBoard's page can show it: finite numbers, and words as typed."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return value if isinstance(value, int | float) and math.isfinite(value) else str(value)


def _task_of(module: LightningModule) -> SegmentationTask:
    if not isinstance(module, SegmentationTask):
        raise TypeError(f"callbacks.dashboard is for a SegmentationTask, not {type(module)}")
    return module


def _example(trainer: Trainer) -> Tensor:
    data = trainer.datamodule  # type: ignore[attr-defined]  # set by the trainer's entry points
    image: Tensor = data.dataset("val")[0]["image"]
    return image[None]


def _draw_graph(writer: SummaryWriter, net: nn.Module, image: Tensor) -> None:
    """Show the layers of a network, from a copy of it."""
    if isinstance(net, Shrinking):
        height, width = (net.input_size(side) for side in image.shape[-2:])
        image = torch.zeros(*image.shape[:2], height, width)
    with warnings.catch_warnings():
        # The writer traces with torch.jit, which is deprecated and warns of checks of sizes:
        # https://github.com/pytorch/pytorch/blob/main/torch/utils/tensorboard/_pytorch_graph.py
        warnings.simplefilter("ignore")
        writer.add_graph(copy.deepcopy(net).cpu().eval(), image)


def _peak_memory(device: torch.device) -> int | None:
    """Return the most bytes that were in use at once, or None where that cannot be told."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.is_file():  # Linux
        lines = status.read_text().splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line[:6] == "VmHWM:"), None)
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: in bytes
