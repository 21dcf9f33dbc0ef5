"""Volumes in the place of images, for both commands."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning import Trainer
from omegaconf import DictConfig

from liverseg.data import Intensities, case_of
from liverseg.data.volumes import (
    Case,
    ClassMap,
    check_axes,
    find_cases,
    find_predictions,
    find_predictions_on,
    named_volumes,
    need_packages,
)
from liverseg.inference.loading import load, options_of
from liverseg.inference.running import (
    Scores,
    scores_of,
    scoring_trainer,
    warn_of_brightness,
    write_tables,
)
from liverseg.labels import scored_names
from liverseg.prediction import (
    SLICES_AT_ONCE,
    ScoredVolumes,
    VolumeWriter,
    classes_of,
    predict_volumes,
    score_label_maps,
    score_volumes,
    view_of,
)
from liverseg.runs import SCORES_FILE, write_json
from liverseg.scores import (
    SegmentationScores,
    classes_without_truth,
    final_numbers,
    sentence_of_absence,
)
from liverseg.settings.values import as_typed

_OF_LABEL_MAPS = ("num_classes", "background", "class_names", "case_pattern")
logger = logging.getLogger(__name__)


def predict_in_volumes(
    config: DictConfig, settings: Mapping[str, Any]
) -> tuple[int, dict[Path, str]]:
    """Write the label volume of every volume that can be read, and a table of their sizes."""
    for key in ("probabilities", "num_workers"):
        if settings[key]:
            raise ValueError(f"{key}={settings[key]} is for images; leave it out for volumes")
    if (white := settings["data"]["white_value"]) is not None:
        raise ValueError(f"data.white_value={white} is for images; leave it out for volumes")
    need_packages()
    loaded = load(settings["ckpt_path"], settings["allow"], options_of(settings))
    predictor, checkpoint = loaded.predictor, loaded.checkpoint
    trainer = _one_device(config, checkpoint)
    record = checkpoint["liverseg"].get("volumes")
    view = view_of(record, settings["window"], settings["assume"])
    writer = VolumeWriter(Path(config.output_dir), predictor, with_segmentation=config.seg)
    sources = named_volumes(settings["source"])
    batch_size = settings["batch_size"] or SLICES_AT_ONCE
    seen = Intensities()
    refused = predict_volumes(sources, writer, trainer, view, batch_size, seen)
    done = len(sources) - len(refused)
    warn_of_brightness(checkpoint, seen.statistics(), str(settings["source"]), done)
    return done, refused


def evaluate_volumes(
    config: DictConfig, settings: Mapping[str, Any]
) -> tuple[Scores, dict[str, str]]:
    """Score volumes against label volumes: each is one image, whose voxels are counted together.

    Returns:
        The scores, and why volumes were not scored.
    """
    need_packages()
    if settings["tune"]:
        raise ValueError("tune=true is for pairs of a val split; leave out source, or tune")
    _refuse_spacing(settings)
    _refuse_data(settings, "source", ("case_pattern", "batch_size"))
    if settings["labels"] is None:
        raise ValueError("labels is not set, which source is scored against; add labels=...")
    loaded = load(settings["ckpt_path"], settings["allow"], options_of(settings))
    predictor, checkpoint = loaded.predictor, loaded.checkpoint
    trainer = _one_device(config, checkpoint)
    record = checkpoint["liverseg"].get("volumes")
    view = view_of(record, settings["window"], settings["assume"])
    classes = classes_of(record, settings["classes"])
    cases = _of_patients(find_cases(settings["source"], settings["labels"]), settings)
    scores = _scores_for(
        predictor.num_classes,
        predictor.class_names,
        scores_of(checkpoint["liverseg"]["config"], config),
    )
    batch_size = settings["data"]["batch_size"] or SLICES_AT_ONCE
    seen = Intensities()
    scored = score_volumes(cases, predictor, trainer, view, classes, scores, batch_size, seen)
    where = str(settings["source"])
    warn_of_brightness(checkpoint, seen.statistics(), where, len(scored.cases))
    return _written(settings, scores, scored), scored.refused


def evaluate_label_maps(settings: Mapping[str, Any]) -> tuple[Scores, dict[str, str]]:
    """Score label volumes of another tool against the true ones, by name.

    Args:
        settings: What ``configs/evaluate.yaml`` composes, as plain values.

    Returns:
        The scores, and why volumes were not scored.

    Raises:
        FileNotFoundError: If a source does not exist, or a true label has no prediction.
        ValueError: If a setting is for something else.
    """
    need_packages()
    _refuse_spacing(settings)
    predictions, given = settings["predictions"], settings["data"]
    _refuse_data(settings, "predictions", _OF_LABEL_MAPS)
    if settings["labels"] is None:
        raise ValueError(
            f"labels is not set, which predictions={predictions} are scored against; add labels=..."
        )
    classes = ClassMap(settings["classes"])
    if classes.names is not None:
        for key in ("num_classes", "class_names", "background"):
            if given[key] is not None:
                raise ValueError(
                    f"data.{key}={as_typed(given[key])} and classes=... both name classes; leave "
                    "out one of the two"
                )
    num_classes = classes.num_classes or given["num_classes"] or 1
    is_first_background = given["background"] is not False
    names = classes.names or given["class_names"]
    names = scored_names(num_classes, names, background=is_first_background)
    if settings["source"] is None:
        cases = find_predictions(predictions, settings["labels"])
    else:
        cases = find_predictions_on(settings["source"], predictions, settings["labels"])
    cases = _of_patients(cases, settings)
    scores = _scores_for(num_classes, names, scores_of({}, settings))
    check_axes(settings["assume"])
    scored = score_label_maps(cases, classes, scores, settings["assume"])
    return _written(settings, scores, scored), scored.refused


def _one_device(config: DictConfig, checkpoint: Mapping[str, Any]) -> Trainer:
    """Return what computes, or refuse several processes: the slices of a volume stay together."""
    trainer = scoring_trainer(config, checkpoint)
    if trainer.world_size > 1:
        raise ValueError(
            f"trainer.devices={as_typed(config.trainer.get('devices', 'auto'))} makes "
            f"{trainer.world_size} processes, and volumes are computed by one; set "
            "trainer.devices=1, and give each device a command with some of the volumes"
        )
    return trainer


def _refuse_spacing(settings: Mapping[str, Any]) -> None:
    if settings["spacing"] is not None:
        raise ValueError(
            f"spacing={as_typed(settings['spacing'])} is for pairs; leave it out, a volume says "
            "its own"
        )


def _refuse_data(settings: Mapping[str, Any], named_by: str, known: Sequence[str]) -> None:
    for key, value in settings["data"].items():
        if value is not None and key not in known:
            raise ValueError(
                f"data.{key}={as_typed(value)} is for masks of images, and {named_by}="
                f"{as_typed(settings[named_by])} names volumes; leave it out (labels=... names "
                "what is true, classes=... the values)"
            )


def _of_patients(cases: list[Case], settings: Mapping[str, Any]) -> list[Case]:
    """Return cases whose patients are those that ``data.case_pattern`` finds in their names."""
    if not (pattern := settings["data"]["case_pattern"]):
        return cases
    return [replace(one, patient=case_of(one.name, pattern) or one.name) for one in cases]


def _scores_for(
    num_classes: int, names: Sequence[str], chosen: Mapping[str, Any]
) -> SegmentationScores:
    return SegmentationScores(
        num_classes, names, chosen=chosen["scores"], tolerance=chosen["tolerance"]
    )


def _written(
    settings: Mapping[str, Any], scores: SegmentationScores, scored: ScoredVolumes
) -> Scores:
    """Write the tables of volumes as those of a split, and return the scores."""
    if not scored.cases:
        raise ValueError("no volume could be scored, for the reasons above; name others")
    folder, split = Path(settings["output_dir"]), settings["split"]
    values = scores.compute() | final_numbers(scores)
    found = {f"{split}/{name}": float(value) for name, value in values.items()}
    write_tables(
        folder,
        split,
        scores,
        names=[case.name for case in scored.cases],
        cases=[case.patient for case in scored.cases],
        truth=scored.truth,
    )
    if absent := classes_without_truth(scores):
        logger.warning("%s", sentence_of_absence(split, absent))
    write_json(folder / SCORES_FILE, found)
    return found
