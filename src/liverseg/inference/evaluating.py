"""``evaluate.py``: the scores of a split, and what would make them better."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from liverseg.checks import check_settings
from liverseg.data import PairDataModule
from liverseg.inference.loading import Loaded, load, options_of
from liverseg.inference.masks import evaluate_predictions
from liverseg.inference.running import (
    SPLITS,
    Scores,
    choose_scores,
    plain_values,
    quieten,
    refuse_missing,
    score,
    scoring_trainer,
    warn_of_absent_classes,
    warn_of_brightness,
)
from liverseg.inference.volumes import evaluate_volumes
from liverseg.pictures import Calibration, PictureBoard
from liverseg.prediction import CandidateTask, Options, ScoringTask, tune
from liverseg.runs import SCORES_FILE, is_first_process, write_json, write_text
from liverseg.scores import CHOSEN
from liverseg.settings.values import as_typed
from liverseg.training import Split

TUNED_FILE = "tuned.yaml"
BEFORE = "untuned"  # folder of the scores before
_OF_MASKS = ("num_classes", "background")  # what a checkpoint says itself
_OF_VOLUMES = ("labels", "window", "classes", "assume")
_TOLD = ("dice", "iou", "dice_pooled", "dice_case")
logger = logging.getLogger(__name__)


def evaluate(config: DictConfig, refused: dict[str, str] | None = None) -> Scores:
    """Score checkpoints on a split; or find on val what helps, and score with it.

    Args:
        config: What ``configs/evaluate.yaml`` composes.
        refused: Is filled with the volumes that could not be scored, and why.

    Returns:
        The scores by name, as ``metrics.json`` holds them.

    Raises:
        ValueError: If the split is unknown or its folder is missing.
    """
    quieten()
    check_settings(config)
    settings = plain_values(config)
    if settings["split"] is None and settings["source"] is None and settings["labels"] is None:
        raise ValueError("split=null must be val or test")
    if settings["predictions"] is not None:
        scores, unscored = evaluate_predictions(config, settings)
        if refused is not None:
            refused.update(unscored)
        return scores
    if settings["ckpt_path"] is None:
        raise ValueError(
            "ckpt_path is not set; add ckpt_path=... to the command, or predictions=DIR for masks "
            "that are there already"
        )
    for key in _OF_MASKS:
        if settings["data"][key] is not None:
            raise ValueError(
                f"data.{key}={as_typed(settings['data'][key])} is for predictions=DIR; leave it "
                "out, a checkpoint knows its own"
            )
    if settings["source"] is not None:
        scores, unscored = evaluate_volumes(config, settings)
        if refused is not None:
            refused.update(unscored)
        return scores
    for key in _OF_VOLUMES:
        if settings[key] is not None:
            raise ValueError(
                f"{key}={as_typed(settings[key])} is for volumes; add source=..., or leave it out"
            )
    options = options_of(settings)
    if settings["tune"]:
        for word in ("min_pixels", "largest_component", "fill_holes"):
            if settings[word] is not None:
                raise ValueError(
                    f"{word}={as_typed(settings[word])} is what tune=true looks for itself; leave "
                    "out one of the two"
                )
    loaded = load(settings["ckpt_path"], settings["allow"], options, settings["data"])
    data = loaded.data
    data.is_normalizing = False  # each network has its own way
    split: Split = "val" if settings["tune"] else settings["split"]
    refuse_missing(data, split, () if settings["tune"] else SPLITS)
    if split == "val":
        _refuse_other_folds(loaded, data, settings)
    warn_of_brightness(
        loaded.checkpoint, data.dataset(split).statistics(), f"{split} of {data.root}"
    )
    cases = data.dataset(split).cases
    if settings["data"]["case_pattern"] and None in cases:
        logger.warning(
            "%d of %d names of %s carry no case (data.case_pattern=%s), so there is no score per "
            "patient",
            *(cases.count(None), len(cases), split, settings["data"]["case_pattern"]),
        )
    output_dir = Path(settings["output_dir"])
    if not settings["tune"]:
        return _score(config, loaded, data, [split], output_dir)
    splits: list[Split] = ["val", "test"] if data.has_split("test") else ["val"]
    run = loaded.checkpoint["liverseg"]["config"]
    trainer = scoring_trainer(config, loaded.checkpoint)

    def of_candidates(candidates: Sequence[Options]) -> list[Scores]:
        task = CandidateTask(loaded.predictor, candidates)
        trainer.validate(task, datamodule=data, verbose=False)
        return task.results

    if str(run.get("monitor")).partition("/")[2].partition("/")[0] in CHOSEN:
        logger.warning("%s is not what tune=true looks at: Dice is, per image", run["monitor"])
    best = tune(loaded.predictor, of_candidates, lambda scores: _goodness(scores, run), options)
    before = _score(config, loaded, data, splits, output_dir / BEFORE)
    after = _score(config, loaded.with_options(best), data, splits, output_dir)
    told = [
        f"{split}/{name} {before[f'{split}/{name}']:.4f} -> {after[f'{split}/{name}']:.4f}"
        for split in splits
        for name in dict.fromkeys((str(run.get("monitor")).partition("/")[2], *_TOLD))
        if f"{split}/{name}" in before
    ]
    if is_first_process():
        _write_tuned(output_dir / TUNED_FILE, best, settings["ckpt_path"], told)
    logger.info("tuned on val: %s; %s", _in_words(best) or "nothing helps", ", ".join(told))
    return after


def _refuse_other_folds(loaded: Loaded, data: PairDataModule, settings: Mapping[str, Any]) -> None:
    """Refuse to score networks on val where some of them have trained on its images."""
    of_run = loaded.checkpoint["liverseg"]["config"]["data"]["root"]
    if len(loaded.folds) == 1 or data.root.absolute() != Path(of_run).absolute():
        return
    if settings["tune"]:
        remedy = "tune one checkpoint, and give its tuned=FILE to all"
    else:
        remedy = "choose split=test, or" if data.has_split("test") else "name"
        remedy += " another data.root"
        folder = Path(str(settings["ckpt_path"])) / "out_of_fold"  # as the sweep's end writes it
        if folder.is_dir():
            remedy += f"; {folder} has the score of each image by the network that has not seen it"
    raise ValueError(
        "these networks differ in data.fold, so that some have trained on the val of the first; "
        f"{remedy}"
    )


def _score(
    config: DictConfig, loaded: Loaded, data: PairDataModule, splits: Sequence[Split], folder: Path
) -> Scores:
    """Score splits, and write tables, pictures and numbers into a folder."""
    pictures = PictureBoard(
        folder=folder / "pictures", num_pictures=config.num_pictures, num_worst=config.num_worst
    )
    calibration = Calibration(folder / "pictures")
    trainer = scoring_trainer(config, loaded.checkpoint, pictures, calibration)
    task = ScoringTask(loaded.task, loaded.predictor)
    choose_scores(task, loaded.checkpoint["liverseg"]["config"], config)
    scores: Scores = {}
    for split in splits:
        scores |= score(trainer, task, data, split, folder)
    warn_of_absent_classes(task)
    if trainer.is_global_zero:
        write_json(folder / SCORES_FILE, scores)
    return scores


def _goodness(scores: Mapping[str, float], config: Mapping[str, Any]) -> float:
    """Return what the run has monitored, more being better; Dice where it was something else."""
    name = str(config.get("monitor", "val/dice")).partition("/")[2]
    if name not in scores:  # the loss, which neither threshold nor cleaning changes; distances
        return scores["dice"]
    return -scores[name] if config.get("monitor_mode") == "min" else scores[name]


def _write_tuned(file: Path, best: Options, ckpt_path: Any, told: Sequence[str]) -> None:
    """Write the options that ``tuned=FILE`` takes, with what they are for and what they do."""
    files = ckpt_path if isinstance(ckpt_path, list) else [ckpt_path]
    lines = [f"# found on val by evaluate.py tune=true, for {', '.join(map(str, files))}"]
    lines += [f"# {line}" for line in told]
    write_text(file, "\n".join(lines) + "\n" + OmegaConf.to_yaml(OmegaConf.create(_plain(best))))


def _plain(options: Options) -> dict[str, Any]:
    """Return those options that are chosen."""
    return {name: value for name, value in asdict(options).items() if value is not None}


def _in_words(options: Options) -> str:
    return ", ".join(f"{name}={as_typed(value)}" for name, value in _plain(options).items())
