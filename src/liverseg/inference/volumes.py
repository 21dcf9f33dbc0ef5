"""Volumes in the place of images, for both commands."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from liverseg.data.volumes import find_cases, find_volumes, need_packages
from liverseg.inference.loading import load, options_of
from liverseg.inference.running import Scores, scores_of, scoring_trainer
from liverseg.prediction import VolumeWriter, classes_of, predict_volumes, score_volumes, view_of
from liverseg.runs import SCORES_FILE, write_json, write_text
from liverseg.scores import SegmentationScores, cases_text, final_numbers
from liverseg.settings.values import as_typed


def predict_in_volumes(
    config: DictConfig, settings: Mapping[str, Any]
) -> tuple[int, dict[Path, str]]:
    """Write the label volume of every volume that can be read, and a table of their sizes."""
    if settings["probabilities"] is not None:
        raise ValueError(
            f"probabilities={settings['probabilities']} is for images; leave it out for volumes"
        )
    need_packages()
    loaded = load(settings["ckpt_path"], settings["allow"], options_of(settings))
    predictor, checkpoint = loaded.predictor, loaded.checkpoint
    view = view_of(checkpoint["liverseg"].get("volumes"), settings["window"])
    writer = VolumeWriter(Path(config.output_dir), predictor, with_segmentation=config.seg)
    sources = find_volumes(settings["source"])
    refused = predict_volumes(sources, writer, scoring_trainer(config, checkpoint), view)
    return len(sources) - len(refused), refused


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
    if settings["spacing"] is not None:
        raise ValueError(
            f"spacing={as_typed(settings['spacing'])} is for pairs; leave it out, a volume says "
            "its own"
        )
    if settings["labels"] is None:
        raise ValueError("labels is not set, which source is scored against; add labels=...")
    loaded = load(settings["ckpt_path"], settings["allow"], options_of(settings))
    predictor, checkpoint = loaded.predictor, loaded.checkpoint
    record = checkpoint["liverseg"].get("volumes")
    view, classes = view_of(record, settings["window"]), classes_of(record, settings["classes"])
    cases = find_cases(settings["source"], settings["labels"])
    trainer = scoring_trainer(config, checkpoint)
    chosen = scores_of(checkpoint["liverseg"]["config"], config)
    scores = SegmentationScores(
        predictor.num_classes,
        predictor.class_names,
        chosen=chosen["scores"],
        tolerance=chosen["tolerance"],
    )
    scored, refused = score_volumes(cases, predictor, trainer, view, classes, scores)
    if not scored:
        raise ValueError("no volume could be scored, for the reasons above; name others")
    values = scores.compute() | final_numbers(scores)
    found = {f"{config.split}/{name}": float(value) for name, value in values.items()}
    folder, table = Path(config.output_dir), scores.table()
    text = cases_text(
        table,
        scores.class_names,
        names=[case.name for case in scored],
        cases=[case.patient for case in scored],
    )
    write_text(folder / "cases_volumes.csv", text)
    write_json(folder / SCORES_FILE, found)
    return found, refused
