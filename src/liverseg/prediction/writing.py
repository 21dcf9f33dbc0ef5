"""Masks, pictures and probabilities for images that a network has not seen."""

import errno
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from lightning import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from liverseg.data import mark, masks_of, read_image, read_shown, shown_channels
from liverseg.files import written_whole
from liverseg.labels import first_scored
from liverseg.pictures import as_shown, draw_case
from liverseg.prediction.finding import Found, PredictionTask, sentence_about
from liverseg.prediction.predictor import Predictor
from liverseg.prediction.sources import output_names
from liverseg.scores import count_pixels, dice

Probabilities = Literal["png", "npy"]
_LARGEST_PICTURE = 4096  # pixels of a side; of a larger image every second pixel is drawn, ...
_MOST_IN_COLOUR = 2**25  # pixels of an image that is read once more, in colour, for its picture
logger = logging.getLogger(__name__)


class PredictionWriter(Callback):
    """Writes files for each image: its mask and, by choice, a picture and probabilities.

    ``NAME_prediction.png`` has the values that masks of the data set have. ``NAME_picture.png``
    shows image, prediction and, where a mask lies with the image, truth. Probabilities are
    ``NAME_probability.png`` (16 bits, 65535 is 1), one for each scored class where there are
    several, or ``NAME_probability.npy`` (float32, (num_classes, H, W)).

    Args:
        folder: Where files are written.
        images: What is predicted.
        predictor: Knows the classes, and the values of masks.
        pictures: Whether pictures are drawn.
        probabilities: The form of probabilities, None for none.
        mask_suffix: What a mask's name has behind that of its image.

    Raises:
        ValueError: If two images would be written as one file, or one would replace a file that no
            prediction wrote.
    """

    def __init__(
        self,
        *,
        folder: Path,
        images: Sequence[Path],
        predictor: Predictor,
        pictures: bool = True,
        probabilities: Probabilities | None = None,
        mask_suffix: str = "_mask",
    ) -> None:
        self._folder = folder
        self._images = images
        self._predictor = predictor
        self._has_pictures = pictures
        names = predictor.class_names
        self._planes = [f"_probability_{one}".replace("/", "-") for one in names]
        if len(names) == 1:
            self._planes = ["_probability"]
        ends = ["_prediction.png", *(["_picture.png"] if pictures else [])]
        ends += [f"{end}.png" for end in self._planes] if probabilities == "png" else []
        ends += ["_probability.npy"] if probabilities == "npy" else []
        self._names = output_names(images, folder, ends)
        self._truths = _truths(images, mask_suffix) if pictures else {}
        if pictures and (told := shown_channels(predictor.channels)):
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
        """Write the files of each image."""
        for found in outputs:
            path, name = self._images[found.number], self._names[found.number]
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                self.write(path, name, found)
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG or not isinstance(pl_module, PredictionTask):
                    raise
                file = f"{name}_prediction.png"
                pl_module.refuse(path, f"{path} is not predicted: {file} is too long a name")

    def write(self, path: Path, name: str, found: Found) -> None:
        """Write the files of one image."""
        self._save(f"{name}_prediction", self._predictor.mask_reader.to_file(found.classes))
        if found.probabilities is not None:
            self._write_probabilities(name, found.probabilities)
        if self._has_pictures:
            self._save(f"{name}_picture", to_pil_image(self._draw(path, found.classes, name)))

    def _save(self, name: str, picture: Image.Image) -> None:
        with written_whole(self._folder / f"{name}.png") as draft:
            picture.save(draft, format="PNG", pnginfo=mark())

    def _write_probabilities(self, name: str, probabilities: npt.NDArray[Any]) -> None:
        if probabilities.dtype == np.float32:
            file = self._folder / f"{name}_probability.npy"
            with written_whole(file) as draft, draft.open("wb") as stream:
                np.save(stream, probabilities)
            return
        scored = probabilities[-len(self._planes) :]  # background comes first
        for end, plane in zip(self._planes, scored, strict=True):
            self._save(f"{name}{end}", Image.fromarray(plane))

    def _draw(self, path: Path, prediction: Tensor, name: str) -> Tensor:
        """Draw image and prediction, with the truth where there is one."""
        predictor = self._predictor
        truth = self._truth(path, prediction)
        caption = name
        first = first_scored(predictor.num_classes, predictor.class_names)
        if truth is not None:
            counts = count_pixels(prediction[None], truth[None], predictor.num_classes, first=first)
            caption += f"   Dice {float(dice(counts).mean()):.3f}"
        step = -(-max(prediction.shape) // _LARGEST_PICTURE)
        if prediction.numel() <= _MOST_IN_COLOUR:
            image = read_shown(path, predictor.channels, predictor.white_value)
        else:
            image = read_image(path, predictor.channels, predictor.white_value)[:3]
        image = image[:, ::step, ::step].clone()
        return draw_case(
            as_shown(image),
            prediction,
            truth,
            caption=caption,
            class_names=predictor.class_names,
            has_background=first == 1,
        )

    def _truth(self, path: Path, prediction: Tensor) -> Tensor | None:
        """Return the mask of an image; one that is of no use is left out with a word."""
        file = self._truths.get(path)
        if file is None:
            return None
        try:
            truth = self._predictor.mask_reader.read(file)
        except Exception as error:  # the prediction needs no truth
            logger.warning("left out of the picture: %s", sentence_about(file, error))
            return None
        if truth.shape != prediction.shape:
            logger.warning("left out of the picture: %s differs in size from its image", file)
            return None
        return truth


def _truths(images: Sequence[Path], mask_suffix: str) -> dict[Path, Path]:
    try:
        return masks_of(images, mask_suffix)
    except (OSError, ValueError) as error:  # the predictions need no truth
        logger.warning("pictures are drawn without truth: %s", error)
        return {}
