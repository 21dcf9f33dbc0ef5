"""Contact sheets: many images side by side, their masks tinted, each with its name."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from liverseg.labels import IGNORED
from liverseg.pictures.cases import classes_at
from liverseg.pictures.colours import class_colour
from liverseg.pictures.lettering import GAP, PAPER, Lettering, hatched

_SIDE = 192  # pixels of a tile
_OPACITY = 0.2  # of the inside; the edge is not transparent


class Tile(NamedTuple):
    """What there is to draw of one image; without a mask it is drawn as it is."""

    caption: str
    image: Tensor  # (C, H, W), C 1 or 3, in [0, 1]
    mask: Tensor | None = None  # class indices (H, W), ignored pixels as IGNORED


def draw_sheet(tiles: Sequence[Tile], *, first: int = 1, num_columns: int = 6) -> Image.Image:
    """Draw images side by side, the edges of their masks as lines, and the inside tinted.

    A row is as high as its highest image.

    Args:
        tiles: At least one.
        first: Index of the first class that is no background.
        num_columns: How many stand in a row.
    """
    letters = Lettering(0.75)
    num_columns = min(num_columns, len(tiles))
    drawn = [(tile.caption, _drawn(tile, first)) for tile in tiles]
    rows = [drawn[start : start + num_columns] for start in range(0, len(drawn), num_columns)]
    heights = [letters.line + max(picture.height for _, picture in row) for row in rows]
    size = (num_columns * (_SIDE + GAP) - GAP, sum(heights) + (len(rows) - 1) * GAP)
    sheet, top = Image.new("RGB", size, PAPER), 0
    for row, height in zip(rows, heights, strict=True):
        for column, (caption, picture) in enumerate(row):
            whole = Image.new("RGB", (_SIDE, height), PAPER)
            letters.write(whole, (GAP, 2), caption, "la")
            whole.paste(picture, ((_SIDE - picture.width) // 2, letters.line))
            sheet.paste(whole, (column * (_SIDE + GAP), top))
        top += height + GAP
    return sheet


def _drawn(tile: Tile, first: int) -> Image.Image:
    """Return an image, at most _SIDE wide and high, under its mask."""
    channels = tile.image if len(tile.image) == 3 else tile.image[:1].expand(3, -1, -1)
    picture: Image.Image = to_pil_image((channels.float().clamp(0, 1) * 255).round().byte())
    factor = _SIDE / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    picture = picture.resize(size, Image.Resampling.BILINEAR)
    if tile.mask is None:
        return picture
    classes = classes_at(tile.mask, (size[1], size[0]), first=first).cpu().numpy()
    shown = np.asarray(picture).astype(np.float32)
    is_edge = _edges(classes)
    for index in np.unique(classes).tolist():
        if first <= index != IGNORED:
            colour = np.array(class_colour(index - first + 1), np.float32)
            inside = classes == index
            shown[inside] += _OPACITY * (colour - shown[inside])
            shown[inside & is_edge] = colour
    picture = Image.fromarray(shown.round().astype(np.uint8))
    if (ignored := classes == IGNORED).any():
        picture.paste(hatched(*size), mask=Image.fromarray((ignored * 160).astype(np.uint8)))
    return picture


def _edges(classes: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return the pixels that have a neighbour of another class, above, below, left or right."""
    edges = np.zeros(classes.shape, np.bool_)
    down, right = classes[1:] != classes[:-1], classes[:, 1:] != classes[:, :-1]
    edges[1:] |= down
    edges[:-1] |= down
    edges[:, 1:] |= right
    edges[:, :-1] |= right
    return edges
