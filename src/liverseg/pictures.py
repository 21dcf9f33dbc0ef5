"""Pictures of what a network does: image, truth, prediction and overlay side by side."""

import colorsys
from functools import cache
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from liverseg.datamodule import PairDataModule
from liverseg.pairs import IGNORED, PairDataset

_PANEL_SIZE = 256  # smaller images are enlarged by a whole factor to at least this side
_TITLE_SIZE = 22
_GAP = 4
_OPACITY = 0.45
_IGNORED_COLOUR = (110, 110, 110)


def draw_case(image: Tensor, prediction: Tensor, truth: Tensor | None = None) -> Tensor:
    """Draw image, truth (where there is one), prediction and overlay side by side.

    The overlay tints the image where a class is predicted and outlines the truth in white.

    Args:
        image: Image of shape (C, h, w), C 1 or 3, in [0, 1]; resized to the prediction's size.
        prediction: Class indices of shape (H, W).
        truth: Class indices of shape (H, W), ignored pixels as IGNORED (drawn grey).

    Returns:
        A picture with titles, uint8 of shape (3, height, width).
    """
    size = (prediction.shape[-2], prediction.shape[-1])
    image = image.detach().cpu().float().expand(3, -1, -1)[None]
    image = functional.interpolate(image, size=size, mode="bilinear", antialias=True)[0]
    grey = (image.clamp(0, 1) * 255).round()
    prediction = prediction.cpu()
    factor = max(1, -(-_PANEL_SIZE // max(size)))

    overlay = grey.clone()
    tint = _coloured(prediction)
    overlay[:, prediction > 0] += _OPACITY * (tint - overlay)[:, prediction > 0]
    panels = {"image": grey, "prediction": tint, "overlay": overlay}
    if truth is not None:
        truth = truth.cpu()
        panels = {"image": grey, "truth": _coloured(truth), **panels}
    enlarged = {
        name: panel.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
        for name, panel in panels.items()
    }
    if truth is not None:
        edge = _outline(truth.repeat_interleave(factor, 0).repeat_interleave(factor, 1))
        enlarged["overlay"][:, edge] = 255
    return _side_by_side(enlarged)


class PictureBoard(Callback):
    """Draws the same few images of a split each time it is scored.

    While training, the pictures go to TensorBoard, with the images' names; a validation or test
    of its own writes them into a folder, as ``SPLIT_NAME.png``.

    Args:
        folder: Where pictures are written.
        num_pictures: How many images, evenly spread over the split; 0 draws none.
    """

    def __init__(self, *, folder: str | Path, num_pictures: int) -> None:
        self._folder = Path(folder)
        self._num_pictures = num_pictures

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # the hook's own signature
        batch: dict[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the chosen images of this batch."""
        if not trainer.sanity_checking:
            self._draw("val", trainer, outputs, batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # the hook's own signature
        batch: dict[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the chosen images of this batch."""
        self._draw("test", trainer, outputs, batch)

    def _draw(
        self, split: str, trainer: Trainer, prediction: Tensor, batch: dict[str, Tensor]
    ) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]  # set by the trainer's entry points
        if not isinstance(data, PairDataModule) or not trainer.is_global_zero:
            return
        dataset = data.dataset("val" if split == "val" else "test")
        chosen = self._chosen(dataset, trainer.world_size)
        for row, index in enumerate(batch["index"].tolist()):
            if index not in chosen:
                continue
            name = dataset.pairs[index].name
            truth = batch["mask"][row]
            picture = draw_case(
                data.normalize.undo(batch["image"][row].cpu()), prediction[row], truth
            )
            if trainer.state.fn != "fit":
                self._folder.mkdir(parents=True, exist_ok=True)
                to_pil_image(picture).save(self._folder / f"{split}_{name}.png")
            elif isinstance(trainer.logger, TensorBoardLogger):
                board = trainer.logger.experiment
                board.add_image(f"{split}/{name}", picture, trainer.global_step)

    def _chosen(self, dataset: PairDataset, num_ranks: int) -> set[int]:
        """Return indices spread over those that the first process sees, one in each equal part.

        The place within a part moves by the golden ratio, lest it fall on the same slice of every
        patient.
        """
        seen = list(range(0, len(dataset), num_ranks))
        count = min(self._num_pictures, len(seen))
        places = (place + (place + 0.5) * 0.618034 % 1 for place in range(count))
        return {seen[int(place * len(seen) / count)] for place in places}


def class_colour(index: int) -> tuple[int, int, int]:
    """Return the colour of a class as red, green, blue in 0 ... 255; black for background."""
    if index == 0:
        return (0, 0, 0)
    if index == IGNORED:
        return _IGNORED_COLOUR
    hue = (0.05 + (index - 1) * 0.381966) % 1  # the golden angle keeps neighbours apart
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def _coloured(classes: Tensor) -> Tensor:
    """Return class indices of shape (H, W) as colours of shape (3, H, W) in 0 ... 255."""
    return _palette()[classes.long()].movedim(-1, 0)


@cache
def _palette() -> Tensor:
    return torch.tensor([class_colour(index) for index in range(256)], dtype=torch.float32)


def _outline(classes: Tensor) -> Tensor:
    """Mark the pixels of a class that touch another one, of shape (H, W)."""
    padded = functional.pad(classes[None, None].float(), (1, 1, 1, 1), mode="replicate")
    largest = functional.max_pool2d(padded, 3, stride=1)[0, 0]
    smallest = -functional.max_pool2d(-padded, 3, stride=1)[0, 0]
    return (largest != smallest) & (classes > 0) & (classes != IGNORED)


def _side_by_side(panels: dict[str, Tensor]) -> Tensor:
    height, width = next(iter(panels.values())).shape[-2:]
    canvas = Image.new(
        "RGB", (len(panels) * (width + _GAP) - _GAP, height + _TITLE_SIZE), (255, 255, 255)
    )
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(15)
    for place, (title, panel) in enumerate(panels.items()):
        left = place * (width + _GAP)
        pen.text((left + width / 2, 2), title, fill=(0, 0, 0), font=font, anchor="ma")
        canvas.paste(to_pil_image(panel.round().to(torch.uint8)), (left, _TITLE_SIZE))
    picture: Tensor = pil_to_tensor(canvas)
    return picture
