"""What ``export.py`` and ``demo.py`` do."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from werkzeug.serving import BaseWSGIServer

from liverseg.checkpoints import load_checkpoint, load_data, load_task
from liverseg.checks import check_settings
from liverseg.data import Pair
from liverseg.data.volumes import SliceView, need_packages
from liverseg.inference import load, plain_values, quieten
from liverseg.prediction import Predictor, is_exported, view_of
from liverseg.sharing.answers import Answers
from liverseg.sharing.exporting import Exported, export_checkpoint
from liverseg.sharing.serving import make_page_server
from liverseg.sharing.volumes import VolumeAnswers

_MOST_NAMED = 4  # classes, in the heading of the page
logger = logging.getLogger(__name__)


def export(config: DictConfig) -> Exported:
    """Write a checkpoint as one file that holds all from pixels to classes, and its model card.

    Args:
        config: What ``configs/export.yaml`` composes.

    Returns:
        The files, and how they compare with the checkpoint.
    """
    quieten()
    check_settings(config)
    settings = plain_values(config)
    if not isinstance(settings["ckpt_path"], str):
        raise ValueError("ckpt_path must name one checkpoint; a file holds one network")
    file = Path(settings["ckpt_path"])
    if is_exported(file):
        raise ValueError(f"{file} is an exported file already; name the checkpoint it came from")
    checkpoint = load_checkpoint(file)
    return export_checkpoint(
        checkpoint,
        file,
        task=load_task(checkpoint, config.allow),
        data=load_data(checkpoint, {"cache_megabytes": 0}, config.allow),
        folder=Path(config.output_dir),
        format=config.format,
        takes=config.input,
    )


def page_server(config: DictConfig) -> BaseWSGIServer:
    """Return what serves a page to try a model on, on this computer alone.

    Args:
        config: What ``configs/demo.yaml`` composes.
    """
    quieten()
    check_settings(config)
    settings = plain_values(config)
    loaded = load(settings["ckpt_path"], config.allow, changes=settings["data"])
    record = loaded.checkpoint["liverseg"]["config"]
    predictor = loaded.predictor.to("cuda" if torch.cuda.is_available() else "cpu")
    precision = str(record["trainer"].get("precision", "32-true"))
    answers = Answers(
        predictor,
        title=_heading(predictor.class_names),
        examples=_examples(loaded.checkpoint, config),
        precision=precision,
        volumes=_volumes(loaded.checkpoint, predictor, settings, precision),
    )
    return make_page_server(answers, config.port)


def _heading(class_names: Sequence[str]) -> str:
    """Return the heading of the page.

    >>> _heading(["liver", "spleen", "aorta", "stomach", "left kidney", "right kidney"])
    'Try it: liver, spleen, aorta, stomach and 2 more'
    """
    rest = len(class_names) - _MOST_NAMED
    return f"Try it: {', '.join(class_names[:_MOST_NAMED])}" + f" and {rest} more" * (rest > 0)


def _volumes(
    checkpoint: Mapping[str, Any],
    predictor: Predictor,
    settings: Mapping[str, Any],
    precision: str,
) -> VolumeAnswers | None:
    """Return what answers about volumes, none where the packages are not here."""
    window, assume = settings["window"], settings["assume"]
    view: SliceView | str
    try:
        need_packages()
    except ValueError as error:
        logger.info("the page takes no volumes: %s", error)
        return None
    try:
        view = view_of(checkpoint["liverseg"].get("volumes"), window, assume)
    except ValueError as error:
        if window is not None or assume is not None:
            raise
        view = f"{error}, when demo.py is started"
    return VolumeAnswers(predictor, view, precision)


def _examples(checkpoint: Mapping[str, Any], config: DictConfig) -> list[Pair]:
    """Return the pairs of the run's val, none where they are not here."""
    data = load_data(checkpoint, {"cache_megabytes": 0}, config.allow)
    try:
        return data.dataset("val").pairs if data.has_split("val") else []
    except (ValueError, OSError) as error:
        logger.warning("the page offers no images of val: %s", error)
        return []
