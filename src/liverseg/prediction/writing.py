"""Masks and pictures for images that a network has not seen."""

import errno
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional
from torchvision.transforms.v2.functional import to_pil_image

from liverseg.data import MaskReader, read_image, resize_image, stored_size
from liverseg.labels import first_scored
from liverseg.pictures import as_shown, draw_case
from liverseg.prediction.sources import mark, output_names
from liverseg.scores import count_pixels, dice
from liverseg.training import SegmentationTask

_LARGEST_PICTURE = 4096  # pixels of a side; a larger image is drawn from every second pixel, ...
logger = logging.getLogger(__name__)


class ImageDataset(Dataset[dict[str, Any]]):
    """Images without masks, preprocessed as in training.

    Args:
        images: Image files.
        channels: Channels of the image, 1 or 3.
        image_size: Height and width that images are resized to; None keeps each image's own.
        normalize: Maps an image in [0, 1] to what the network takes.
        white_value: What is white in images of 16 bits, see :func:`~liverseg.data.read_image`.
    """

    def __init__(
        self,
        images: list[Path],
        *,
        channels: int,
        image_size: tuple[int, int] | None,
        normalize: Callable[[Tensor], Tensor],
        white_value: int | None = None,
    ) -> None:
        self.images = images
        self._white_value = white_value
        self._channels = channels
        self._image_size = image_size
        self._normalize = normalize

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return ``image`` (C, H, W), the ``size`` of the file and its ``index``.

        Of a file that cannot be read it is ``refused``, a sentence, and the ``index``.
        """
        path = self.images[index]
        try:
            image = read_image(path, self._channels, self._white_value)
            image = resize_image(image, self._image_size)
        except Exception as error:  # one damaged file, in whichever way, must not stop the others
            return {"refused": _sentence(path, error), "index": index}
        image = functional.to_dtype(image, torch.float32, scale=True)
        size = (image.shape[-2], image.shape[-1]) if self._image_size is None else stored_size(path)
        return {"image": self._normalize(image), "size": size, "index": index}


class Predictor(LightningModule):
    """Predicts image by image; what cannot be predicted is kept with its reason.

    Args:
        task: Maps an image to class indices.
        dataset: The images.
    """

    def __init__(self, task: SegmentationTask, dataset: ImageDataset) -> None:
        super().__init__()
        self.task = task
        self.refused: dict[Path, str] = {}
        self._dataset = dataset

    def predict_step(self, batch: dict[str, Any], batch_index: int) -> Tensor | None:
        """Return class indices, uint8 of shape (1, H, W), or None where there are none."""
        path = self._dataset.images[int(batch["index"])]
        if "refused" in batch:
            self.refuse(path, batch["refused"][0])
            return None
        try:
            return self.task.predict_step(batch, batch_index)
        except (ValueError, RuntimeError) as error:  # a size that the network cannot take, say
            self.refuse(path, _sentence(path, error))
            return None

    def refuse(self, path: Path, sentence: str) -> None:
        """Keep and tell why an image was not predicted."""
        self.refused[path] = sentence
        logger.error("%s", sentence)


class PredictionWriter(Callback):
    """Writes ``NAME_prediction.png`` and ``NAME_picture.png`` for each image.

    Masks are written in the values that masks of the data set have.

    Args:
        folder: Where files are written.
        dataset: The images.
        mask_reader: Knows the values of masks, and decodes those that lie beside images, for the
            picture.
        num_classes: As in training.
        class_names: Names of the foreground classes, for the picture.

    Raises:
        ValueError: If two images would be written as one file, or one would replace a file that no
            prediction wrote.
    """

    def __init__(
        self,
        *,
        folder: Path,
        dataset: ImageDataset,
        mask_reader: MaskReader,
        num_classes: int,
        class_names: Sequence[str],
    ) -> None:
        self._folder = folder
        self._dataset = dataset
        self._names = output_names(dataset.images, folder)
        self._mask_reader = mask_reader
        self._num_classes = num_classes
        self._class_names = class_names

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # the hook's own signature
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the files of one image."""
        if outputs is None:
            return
        index = int(batch["index"])
        path, name, prediction = self._dataset.images[index], self._names[index], outputs[0].cpu()
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / f"{name}_prediction.png"
        try:
            self._mask_reader.to_file(prediction).save(file, pnginfo=mark())
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG or not isinstance(pl_module, Predictor):
                raise
            pl_module.refuse(path, f"{path} is not predicted: {file.name} is too long a name")
            return
        picture = to_pil_image(self._draw(path, prediction, name))
        picture.save(self._folder / f"{name}_picture.png", pnginfo=mark())

    def _draw(self, path: Path, prediction: Tensor, name: str) -> Tensor:
        """Draw image and prediction, with the truth where it lies beside the image."""
        truth = self._truth(path, prediction)
        caption = name
        first = first_scored(self._num_classes, self._class_names)
        if truth is not None:
            counts = count_pixels(prediction[None], truth[None], self._num_classes, first=first)
            caption += f"   Dice {float(dice(counts).mean()):.3f}"
        step = -(-max(prediction.shape) // _LARGEST_PICTURE)
        image = read_image(path, 3)[:, ::step, ::step]
        return draw_case(
            as_shown(image),
            prediction[::step, ::step],
            None if truth is None else truth[::step, ::step],
            caption=caption,
            class_names=self._class_names,
            has_background=first == 1,
        )

    def _truth(self, path: Path, prediction: Tensor) -> Tensor | None:
        """Return the mask beside an image; one that is of no use is left out with a word."""
        file = path.with_name(f"{path.stem}_mask.png")
        if not file.is_file():
            return None
        try:
            truth = self._mask_reader.read(file)
        except Exception as error:  # the prediction needs no truth
            logger.warning("left out of the picture: %s", _sentence(file, error))
            return None
        if truth.shape != prediction.shape:
            logger.warning("left out of the picture: %s differs in size from its image", file)
            return None
        return truth


def _sentence(path: Path, error: Exception) -> str:
    """Return what an error says, with the path that it is about."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if str(path) in said else f"{path} cannot be predicted ({said})"
