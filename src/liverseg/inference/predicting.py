"""``predict.py``: masks, pictures and probabilities of images."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from omegaconf import DictConfig

from liverseg.checks import check_settings
from liverseg.data import sample_statistics
from liverseg.data.volumes import names_volumes
from liverseg.inference.loading import load, options_of
from liverseg.inference.running import (
    plain_values,
    quieten,
    scoring_trainer,
    warn_of_brightness,
)
from liverseg.inference.volumes import predict_in_volumes
from liverseg.prediction import ImageDataset, PredictionTask, PredictionWriter, find_images
from liverseg.settings.values import as_typed

_KINDS: dict[str | None, npt.DTypeLike] = {"png": np.uint16, "npy": np.float32}


def predict(config: DictConfig) -> tuple[int, dict[Path, str]]:
    """Write a mask, and by choice more, for every image that can be read.

    Args:
        config: What ``configs/predict.yaml`` composes.

    Returns:
        The number of images predicted, and why the others were not.
    """
    quieten()
    check_settings(config)
    settings = plain_values(config)
    if names_volumes(settings["source"]):
        return predict_in_volumes(config, settings)
    for key in ("window", "assume", "seg"):
        if settings[key] not in (None, False):
            raise ValueError(
                f"{key}={as_typed(settings[key])} is for volumes, and source={settings['source']} "
                "names images; leave it out"
            )
    loaded = load(settings["ckpt_path"], settings["allow"], options_of(settings), settings["data"])
    predictor, data = loaded.predictor, loaded.data
    images = find_images(settings["source"], data.mask_suffix)
    writer = PredictionWriter(
        folder=Path(settings["output_dir"]),
        images=images,
        predictor=predictor,
        pictures=settings["pictures"],
        probabilities=settings["probabilities"],
        mask_suffix=data.mask_suffix,
    )
    dataset = ImageDataset(images, predictor)
    # Large images are read but once, one at a time.
    small = [image for image, size in zip(images, dataset.sizes(), strict=True) if size[0] > 0]
    found = sample_statistics(small, predictor.channels, predictor.white_value)
    warn_of_brightness(loaded.checkpoint, found, str(settings["source"]))
    task = PredictionTask(
        predictor,
        dataset,
        batch_size=settings["batch_size"] or data.batch_size,
        num_workers=settings["num_workers"],
        probabilities=_KINDS.get(settings["probabilities"]),
    ).eval()
    trainer = scoring_trainer(config, loaded.checkpoint, writer)
    trainer.predict(task, return_predictions=False)
    return len(images) - len(task.refused), task.refused
