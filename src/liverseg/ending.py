"""How a run ends: the best checkpoint is scored, drawn and told, as ``evaluate.py`` would do."""

import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import (
    ModelCheckpoint,
    StochasticWeightAveraging,
    WeightAveraging,
)
from omegaconf import DictConfig, open_dict
from torch import Tensor

from liverseg.data import PairDataModule
from liverseg.inference import Scores, plain_values, progress_of
from liverseg.pictures import HISTORY_FILE, Calibration, PictureBoard, draw_curves, read_curves
from liverseg.reports import RUN_REPORT, Cell, Result, write_result
from liverseg.runs import found_launcher, read_json, short_path
from liverseg.training import SegmentationTask, Split

logger = logging.getLogger(__name__)
# What of a run's trainer says how a network is computed, and on how much of a split.
_OF_SCORING = (
    *("_target_", "_partial_", "accelerator", "devices", "num_nodes", "strategy", "deterministic"),
    *("benchmark", "inference_mode", "limit_val_batches", "limit_test_batches"),
    *("use_distributed_sampler", "enable_model_summary", "default_root_dir"),
)


def best_file(trainer: Trainer, config: DictConfig) -> str:
    """Return the best checkpoint; a run that ended before its first check keeps what there is."""
    (keeper, *_) = [
        one
        for one in trainer.checkpoint_callbacks
        if isinstance(one, ModelCheckpoint) and one.monitor == config.monitor
    ]
    if not keeper.best_model_path:
        keeper.best_model_path = str(Path(config.output_dir) / "checkpoints" / "best.ckpt")
        trainer.save_checkpoint(keeper.best_model_path)
        if trainer.is_global_zero:
            logger.warning(
                "the run ended before its first check on val, so %s is where it ended",
                short_path(keeper.best_model_path),
            )
    return keeper.best_model_path


def final_trainer(
    settings: Mapping[str, Any], best: Mapping[str, Any], callbacks: Mapping[str, Callback]
) -> Trainer:
    """Return a trainer that scores the best checkpoint on the devices of a run, and draws it."""
    trainer = {key: value for key, value in settings["trainer"].items() if key in _OF_SCORING}
    trainer["precision"] = best["liverseg"]["config"]["trainer"].get("precision", "32-true")
    made: Trainer = instantiate(trainer, _convert_="all")(
        callbacks=[*filter(_only_looks, callbacks.values()), _AsInFile(best["state_dict"])],
        logger=False,
        enable_checkpointing=False,
        plugins=cluster(),
        **progress_of(settings["trainer"]),
    )
    return made


def _only_looks(callback: Callback) -> bool:
    """Tell whether a callback may see the final scoring: pictures, and scores of a user's own."""
    changes = isinstance(callback, WeightAveraging | StochasticWeightAveraging)
    package = type(callback).__module__.partition(".")[0]
    return isinstance(callback, PictureBoard | Calibration) or not (
        changes or package in ("liverseg", "lightning", "pytorch_lightning")
    )


class _AsInFile(Callback):
    """Scores the weights of a file, also where a callback before it has put in others.

    Args:
        weights: What the file holds of the task.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = weights
        self._net: Any = None
        self._has_told = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remember the network, which may be exchanged as well."""
        self._net = pl_module.net

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # the hook's own signature
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Put back the weights of the file before the first batch, and say so once."""
        if batch_idx > 0:
            return
        is_there, pl_module.net = pl_module.net is self._net, self._net
        found = pl_module.state_dict()
        same = (torch.equal(found[key].cpu(), one.cpu()) for key, one in self._weights.items())
        if is_there and all(same):
            return
        pl_module.load_state_dict(self._weights)
        if trainer.is_global_zero and not self._has_told:
            logger.warning(
                "a callback of your own scores other weights than those that best.ckpt holds; the "
                "final scores are those of best.ckpt. To keep an average of the weights in it, use "
                "lightning.pytorch.callbacks.EMAWeightAveraging"
            )
        self._has_told = True

    def on_test_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # the hook's own signature
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Do so for test."""
        self.on_validation_batch_start(trainer, pl_module, batch, batch_idx)


def warn_of_parts(task: SegmentationTask, data: PairDataModule, config: DictConfig) -> None:
    """Say which splits were scored on a part of them."""
    splits: tuple[Split, ...] = ("val", "test")
    for split in filter(data.has_split, splits):
        part = config.trainer.get(f"limit_{split}_batches")
        if part is None:
            continue
        if len(task.tally(split).scores.table().indices) < len(data.dataset(split)):
            logger.warning(
                "%s is scored on a part of it, trainer.limit_%s_batches=%s", split, split, part
            )


def warn_of_classes_never_found(task: SegmentationTask, config: DictConfig) -> None:
    """Say which classes the best checkpoint finds nowhere in val though they are there."""
    tally = task.tally("val").scores
    counts = tally.table().counts
    true_positive, false_positive, false_negative = counts.sum(dim=0).unbind(dim=1)
    is_lost = (true_positive + false_positive == 0) & (false_negative > 0)
    if lost := [name for name, one in zip(tally.class_names, is_lost, strict=True) if one]:
        why = (
            "; images without a class score 1 where nothing is found, so val/dice can favour that: "
            "monitor=val/dice_pooled does not"
        )
        is_absent = (counts[..., 0] + counts[..., 2] == 0).any(dim=0)  # of some image
        is_favoured = bool((is_lost & is_absent).any()) and "pooled" not in config.monitor
        logger.warning(
            "the best checkpoint finds no pixel of %s in val%s",
            *(", ".join(lost), why if is_favoured else ""),
        )


def draw_history(trainer: Trainer, config: DictConfig, scores: Scores) -> None:
    """Draw ``pictures/curves.png`` from what was logged since the run began."""
    if trainer.is_global_zero:
        folder = Path(config.output_dir)
        file = folder / "pictures" / "curves.png"
        try:
            curves = read_curves(folder / HISTORY_FILE)
            draw_curves(file, curves, monitor=config.monitor, mode=config.monitor_mode, test=scores)
        except OSError as error:  # a full disk must hide neither the scores nor why a run stopped
            logger.warning("%s could not be drawn: %s", file, error)


def write_report(
    config: DictConfig,
    told: Mapping[str, Cell],
    intensities: Mapping[str, Any],
    scores: Scores,
    best: float,
) -> None:
    """Write ``report.html``; whatever is in the way of it must not hide the scores."""
    folder = Path(config.output_dir)
    try:
        result = Result(
            config=plain_values(config),
            defaults=_defaults(config),
            scores=scores,
            starts=read_json(folder / "run.json"),
            facts=told,
            intensities=intensities,
            best=best,
        )
        write_result(folder, result)
    except Exception as error:
        logger.warning("%s could not be written: %s", folder / RUN_REPORT, error)


def _defaults(config: DictConfig) -> dict[str, Any]:
    """Return what ``configs/train.yaml`` composes where nothing is typed; empty without it."""
    composed = _shipped().copy()
    if not composed:
        return {}
    with open_dict(composed):  # what only a running job knows
        composed.output_dir, composed.sweep_name = config.output_dir, ""
    return plain_values(composed)


@cache
def _shipped() -> DictConfig:
    folder = Path(__file__).parents[2] / "configs"
    if not (folder / "train.yaml").is_file():
        return DictConfig({})
    hydra = GlobalHydra.instance()
    running, hydra.hydra = hydra.hydra, None  # there is room for one, and it may be that of main()
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            return compose("train")
    finally:
        hydra.hydra = running


def cluster() -> list[SLURMEnvironment]:
    """Return what Lightning is to know of a cluster: it is this package that asks to requeue."""
    return [SLURMEnvironment(auto_requeue=False)] if found_launcher() == "srun" else []
