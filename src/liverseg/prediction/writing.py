"""Masks and pictures for images that a network has not seen."""

import errno
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import to_pil_image

from liverseg.data import read_shown, shown_channels
from liverseg.labels import first_scored
from liverseg.pictures import as_shown, draw_case
from liverseg.prediction.predictor import Predictor
from liverseg.prediction.sources import mark, output_names
from liverseg.scores import count_pixels, dice

_LARGEST_PICTURE = 4096  # pixels of a side; a larger image is drawn from every second pixel, ...
logger = logging.getLogger(__name__)


class ImageDataset(Dataset[dict[str, Any]]):
    """Images without masks, prepared for a predictor.

    Args:
        images: Image files.
        predictor: Reads and prepares them.
    """

    def __init__(self, images: Sequence[Path], predictor: Predictor) -> None:
        self.images = list(images)
        self._predictor = predictor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return ``image`` (C, h, w), the ``size`` of the file and its ``index``.

        Of a file that cannot be read it is ``refused``, a sentence, and the ``index``.
        """
        path = self.images[index]
        try:
            image = self._predictor.read(path)
            size = (image.shape[-2], image.shape[-1])
            return {"image": self._predictor.prepare(image), "size": size, "index": index}
        except Exception as error:  # one damaged file, in whichever way, must not stop the others
            return {"refused": _sentence(path, error), "index": index}


class PredictionTask(LightningModule):
    """Predicts image by image; what cannot be predicted is kept with its reason.

    Args:
        predictor: Maps prepared images to logits and these to classes.
        dataset: The images.
    """

    def __init__(self, predictor: Predictor, dataset: ImageDataset) -> None:
        super().__init__()
        self.predictor = predictor
        self.refused: dict[Path, str] = {}
        self._dataset = dataset

    def predict_step(self, batch: dict[str, Any], batch_index: int) -> Tensor | None:
        """Return class indices, uint8 of shape (1, H, W), or None where there are none."""
        path = self._dataset.images[int(batch["index"])]
        if "refused" in batch:
            self.refuse(path, batch["refused"][0])
            return None
        height, width = (int(side) for side in batch["size"])
        try:
            logits = self.predictor(batch["image"], (height, width))
            return self.predictor.classes(logits)
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
        predictor: Knows the classes, and the values of masks.

    Raises:
        ValueError: If two images would be written as one file, or one would replace a file that no
            prediction wrote.
    """

    def __init__(self, *, folder: Path, dataset: ImageDataset, predictor: Predictor) -> None:
        self._folder = folder
        self._dataset = dataset
        self._names = output_names(dataset.images, folder)
        self._mask_reader = predictor.mask_reader
        self._num_classes = predictor.num_classes
        self._class_names = predictor.class_names
        self._channels, self._white_value = predictor.channels, predictor.white_value
        if told := shown_channels(predictor.channels):
            logger.info("%s", told)

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
            if error.errno != errno.ENAMETOOLONG or not isinstance(pl_module, PredictionTask):
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
        image = read_shown(path, self._channels, self._white_value)[:, ::step, ::step]
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
