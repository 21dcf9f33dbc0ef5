"""What every pass over images needs, while training and after it."""

import json
import logging
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from lightning import Callback, Trainer
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from liverseg.data import PairDataModule, far_apart, hash_of_masks
from liverseg.runs import write_json, write_text
from liverseg.scores import (
    RECORD_FILE,
    SegmentationScores,
    final_numbers,
    record_of,
    sentence_of_absence,
    tables_text,
)
from liverseg.training import SegmentationTask, Split, fast_precision

Scores = dict[str, float]
SPLITS: tuple[Split, ...] = ("val", "test")
logger = logging.getLogger(__name__)


def score(
    trainer: Trainer, task: SegmentationTask, data: PairDataModule, split: Split, output_dir: Path
) -> Scores:
    """Score the task on a split, write a line per image and per patient, and return all numbers."""
    refuse_no_batch(trainer, data, split)
    loop = trainer.validate if split == "val" else trainer.test
    loop(task, datamodule=data, verbose=False)
    if trainer.is_global_zero:
        dataset = data.dataset(split)
        write_tables(
            output_dir,
            split,
            task.tally(split).scores,
            names=[pair.name for pair in dataset.pairs],
            cases=dataset.cases,
            truth=hash_of_masks(dataset.pairs),
        )
    values = task.results[split] | final_numbers(task.tally(split).scores)
    return {f"{split}/{name}": value for name, value in values.items()}


def refuse_no_batch(trainer: Trainer, data: PairDataModule, split: Split) -> None:
    """Refuse to compute on a part of a split that is less than one batch.

    Raises:
        ValueError: If it is.
    """
    part = getattr(trainer, f"limit_{split}_batches")
    if not isinstance(part, float) or part >= 1:  # a whole number counts batches
        return
    data.trainer = trainer  # loaders share images out to its processes
    count = len(getattr(data, f"{split}_dataloader")())
    if int(part * count) == 0:
        overfit = 0 if split == "test" else getattr(trainer, "overfit_batches", 0)  # sets both
        key = "overfit_batches" if overfit else f"limit_{split}_batches"
        raise ValueError(
            f"trainer.{key}={part} is less than one batch of {split}, which has {count}; set it to "
            "a whole number of them, such as 1, or leave it out"
        )


def refuse_missing(data: PairDataModule, split: Split, others: Sequence[Split]) -> None:
    """Refuse a split that is not there, and name one of the others that is.

    Raises:
        FileNotFoundError: If it is not there.
    """
    if data.has_split(split):
        return
    found = [f"choose split={other}, or " for other in others if data.has_split(other)]
    raise FileNotFoundError(
        f"{data.root}/{split} does not exist; {''.join(found)}name another data.root"
    )


def choose_scores(
    task: SegmentationTask, config: Mapping[str, Any], changes: Mapping[str, Any]
) -> None:
    """Have a task compute the scores of a run's config, or those that a command names instead."""
    task.choose_scores(**scores_of(config, changes))


def scores_of(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``scores``, ``tolerance`` and ``spacing`` of a run's config, or of what is typed."""
    settings: dict[str, Any] = {
        "scores": [],
        "tolerance": 2.0,
        "spacing": None,
    }  # of runs of earlier releases
    for source in (config, changes):
        settings |= {key: source[key] for key in settings if source.get(key) is not None}
    return settings


def write_tables(
    folder: Path,
    split: Split,
    scores: SegmentationScores,
    *,
    names: Sequence[str],
    cases: Sequence[str | None],
    truth: str,
) -> None:
    """Write a line per image and per patient of a split, and how they were scored.

    Args:
        folder: Where ``cases_SPLIT.csv``, ``patients_SPLIT.csv`` and ``scores.json`` go.
        split: The split.
        scores: Its scores, computed.
        names: The images' names, by index.
        cases: The images' cases, by index.
        truth: A hash of the masks.
    """
    table, classes = scores.table(), scores.class_names
    for name, text in tables_text(table, classes, split=split, names=names, cases=cases).items():
        write_text(folder / name, text)
    file = folder / RECORD_FILE
    earlier = json.loads(file.read_text()) if file.is_file() else {}
    write_json(file, earlier | {split: record_of(scores, truth)})


def warn_of_absent_classes(task: SegmentationTask) -> None:
    """Say, beside the table, which classes no mask of a split holds."""
    for split, names in task.absent.items():
        if names:
            logger.warning("%s", sentence_of_absence(split, names))


def warn_of_brightness(
    checkpoint: Mapping[str, Any],
    found: Mapping[str, Any],
    where: str,
    num_independent: int | None = None,
) -> None:
    """Say that images lie far from those of training, as those of another window do.

    Args:
        checkpoint: Knows how bright those of training were.
        found: How bright these are.
        where: What they are called.
        num_independent: As :func:`~liverseg.data.far_apart` takes it.
    """
    reference = checkpoint["liverseg"].get("intensities")
    if words := far_apart(found, reference, num_independent):
        logger.warning(
            "%s: images differ in brightness from those that the network was trained on (%s); if "
            "they were saved with another intensity window or scaling, it is lost in them",
            *(where, words),
        )


def scoring_trainer(
    config: DictConfig, checkpoint: Mapping[str, Any], *callbacks: Callback
) -> Trainer:
    """Return a trainer that computes as the run of the checkpoint did, where not told otherwise."""
    if config.get("trainer") is None:
        raise ValueError("trainer is missing from the config; leave out ~scoring, or set it")
    precision = checkpoint["liverseg"]["config"]["trainer"].get("precision", "32-true")
    settings = {"precision": precision, **plain_values(config.trainer)}
    if settings["precision"] == "auto":
        settings["precision"], _ = fast_precision(settings.get("accelerator", "auto"))
    settings |= progress_of(settings)
    trainer: Trainer = instantiate(settings, _convert_="all")(callbacks=list(callbacks))
    return trainer


def progress_of(settings: Mapping[str, Any]) -> dict[str, bool]:
    """Return whether bars are drawn, where the settings of a trainer do not say: for eyes alone."""
    if "enable_progress_bar" in settings:
        return {"enable_progress_bar": bool(settings["enable_progress_bar"])}
    return {"enable_progress_bar": sys.stdout.isatty() or "ipykernel" in sys.modules}


def plain_values(config: DictConfig) -> dict[str, Any]:
    """Return a config with everything resolved, as plain dictionaries, lists and values."""
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = error.full_key
        raise ValueError(f"{key} is not set; add {key}=... to the command") from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def quieten() -> None:
    """Silence what users can do nothing about."""
    # Lightning hangs a handler of its own on its logger; Hydra's root logger prints as well.
    logging.getLogger("lightning").handlers.clear()
    # https://github.com/Lightning-AI/pytorch-lightning/issues/21326
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    # Samples in memory need no workers; data.num_workers is documented.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # Batches of one size hold every image.
    warnings.filterwarnings("ignore", message=".*custom batch sampler `SameSizeBatches`.*")
    # A resumed run continues in its folder on purpose.
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
    # The order of an epoch does resume, in the middle too: see ResumableSampler.
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
    # An epoch without a check on val has no score; that the monitor is one is checked before.
    warnings.filterwarnings("ignore", message=".*could not find the monitored key.*")
    # Each split is short by design in small studies.
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    # Losses and scores are summed over all processes before they are logged.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    # trainer.accelerator=cpu beside a GPU is said on purpose.
    warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
    # DDP on GPUs: https://github.com/Lightning-AI/pytorch-lightning/issues/21567
    warnings.filterwarnings("ignore", message="The AccumulateGrad node's stream does not match.*")
    # On the login node of a cluster: how to use srun stands in docs/.
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")
    for name in (
        "lightning.pytorch.utilities.rank_zero",  # what devices it did not find, and tips
        "lightning.fabric.utilities.rank_zero",
        "lightning.pytorch.trainer.connectors.signal_connector",  # handlers of Slurm's signals
        "lightning.pytorch.accelerators.cuda",  # which GPUs a process sees
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
