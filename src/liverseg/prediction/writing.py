"""Masks and pictures for images that a network has not seen."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional
from torchvision.transforms.v2.functional import to_pil_image

from liverseg.data import MaskReader, list_images, read_image, resize_image, stored_size
from liverseg.pictures import as_shown, draw_case
from liverseg.scores import count_pixels, dice


def find_images(source: Path) -> list[Path]:
    """List what is to be predicted: one image, or all ``*.png`` of a folder that are no masks.

    Raises:
        FileNotFoundError: If ``source`` does not exist.
        ValueError: If a file is no image, or a folder holds none.
    """
    if source.is_file():
        try:
            stored_size(source)
        except ValueError as error:
            raise ValueError(
                f"source={source} is no image that can be read; name an image or a folder"
            ) from error
        return [source]
    if not source.is_dir():
        raise FileNotFoundError(f"source={source} does not exist; name an image or a folder")
    images = list_images(source)
    if not images:
        raise ValueError(f"source={source} holds no .png image; name an image or a folder of them")
    return images


class ImageDataset(Dataset[dict[str, Any]]):
    """Images without masks, preprocessed as in training.

    Args:
        images: Image files.
        channels: Channels of the image, 1 or 3.
        image_size: Height and width that images are resized to; None keeps each image's own.
        normalize: Maps an image in [0, 1] to what the network takes.
    """

    def __init__(
        self,
        images: list[Path],
        *,
        channels: int,
        image_size: tuple[int, int] | None,
        normalize: Callable[[Tensor], Tensor],
    ) -> None:
        self.images = images
        self._channels = channels
        self._image_size = image_size
        self._normalize = normalize

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return ``image`` (C, H, W), the ``size`` of the file and its ``index``."""
        path = self.images[index]
        image = resize_image(read_image(path, self._channels), self._image_size)
        image = functional.to_dtype(image, torch.float32, scale=True)
        return {"image": self._normalize(image), "size": stored_size(path), "index": index}


class PredictionWriter(Callback):
    """Writes ``NAME_prediction.png`` and ``NAME_picture.png`` for each image.

    Args:
        folder: Where files are written.
        dataset: The images.
        mask_reader: Decodes the masks that lie beside images, for the picture.
        num_classes: With 1 or 2 a prediction is written as 0/255, else as class indices.
        class_names: Names of the foreground classes, for the picture.
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
        path = self._dataset.images[int(batch["index"])]
        prediction = outputs[0].cpu()
        self._folder.mkdir(parents=True, exist_ok=True)
        stored = prediction * 255 if self._num_classes <= 2 else prediction
        Image.fromarray(stored.numpy()).save(self._folder / f"{path.stem}_prediction.png")

        truth_file = path.with_name(f"{path.stem}_mask.png")
        truth = self._mask_reader.read(truth_file) if truth_file.is_file() else None
        if truth is not None and truth.shape != prediction.shape:
            raise ValueError(f"{truth_file} differs in size from its image; correct or remove it")
        image = as_shown(read_image(path, 3))
        caption = path.stem
        if truth is not None:
            counts = count_pixels(prediction[None], truth[None], self._num_classes)
            caption += f"   Dice {float(dice(counts).mean()):.3f}"
        picture = draw_case(
            image,
            prediction,
            truth,
            caption=caption,
            class_names=self._class_names,
            has_background=len(self._class_names) < max(self._num_classes, 2),
        )
        to_pil_image(picture).save(self._folder / f"{path.stem}_picture.png")
