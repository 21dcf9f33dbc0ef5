"""How image, logits and mask come to agree in size.

A network that pads keeps the size of its image. One that does not ("valid" padding) gives logits
for the middle only: training crops the mask to them, and prediction covers the whole image by
mirrored overlap tiles (Ronneberger et al. 2015, figure 2).
"""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

# Largest side that one tile predicts; bounds the memory of prediction. The paper's 388, cut to a
# multiple of 2^7, so that down to depth 7 all tiles are halved on one grid and leave no seam.
TILE_SIZE = 384
_MOST_SEEN = 2**27  # pixels of a tile with its border


@runtime_checkable
class Shrinking(Protocol):
    """A network that can tell how large its logits are."""

    def output_size(self, input_size: int) -> int:
        """Return the side of the logits for an image side; ValueError if it cannot be taken."""
        ...

    def input_size(self, output_size: int) -> int:
        """Return the smallest image side whose logits span ``output_size`` pixels."""
        ...


class View(NamedTuple):
    """What a network sees along one axis of an image, in pixels of that image."""

    start: int  # first pixel seen; negative where the image is continued by mirroring
    length: int  # pixels seen
    margin: int  # pixels seen before the first that gets a logit


def training_logits(net: nn.Module, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and the part of the mask that they predict.

    A network without padding sees an image as it is where it can take the size and its logits span
    at least half of it (572 gives 388); else the image is mirrored outward until they span all.

    Args:
        net: The network.
        image: Images of shape (N, C, H, W).
        mask: Masks of shape (N, H, W).

    Returns:
        Logits of shape (N, K, h, w) and a mask of shape (N, h, w), h <= H and w <= W.
    """
    height, width = image.shape[-2:]
    if not isinstance(net, Shrinking) or net.input_size(height) == height:
        return net(image), mask
    rows, columns = _training_view(net, height), _training_view(net, width)
    logits: Tensor = net(_see(image, rows, columns))
    top, left = rows.start + rows.margin, columns.start + columns.margin
    mask = mask[:, top : top + logits.shape[-2], left : left + logits.shape[-1]]
    return logits[..., : mask.shape[-2], : mask.shape[-1]], mask


def whole_image_logits(net: nn.Module, image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return float32 logits of shape (N, K, *size) for the whole image.

    Args:
        net: The network.
        image: Images of shape (N, C, H, W).
        size: Height and width wanted; where they differ from H and W, the logits are resized
            (bilinear).
    """
    logits = _tiled_logits(net, image).float()
    if logits.shape[-2:] != size:
        logits = functional.interpolate(logits, size=size, mode="bilinear")
    return logits


def tile_views(net: Shrinking, side: int, tile_size: int = TILE_SIZE) -> list[View]:
    """Return what the tiles that cover one axis of an image see, each with its border.

    Args:
        net: A network without padding.
        side: Height or width of the image.
        tile_size: Pixels that a tile predicts at most; the last one may reach beyond the image.
    """
    length = net.input_size(min(side, tile_size))
    output = net.output_size(length)
    margin = (length - output) // 2
    return [View(start - margin, length, margin) for start in range(0, side, min(side, tile_size))]


def _tiled_logits(net: nn.Module, image: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    if not isinstance(net, Shrinking) or net.input_size(height) == height:
        return net(image)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped
    rows = tile_views(net, height)
    columns = tile_views(net, width)
    strips = []
    for row in rows:
        tiles = [net(_see(image, row, column)) for column in columns]
        strips.append(torch.cat([tile[..., :TILE_SIZE, :TILE_SIZE] for tile in tiles], dim=3))
    return torch.cat(strips, dim=2)[..., :height, :width]


def _training_view(net: Shrinking, side: int) -> View:
    try:
        output = net.output_size(side)
    except ValueError:
        output = 0
    if 2 * output >= side:
        return View(start=0, length=side, margin=(side - output) // 2)
    return tile_views(net, side, tile_size=side)[0]


def _see(image: Tensor, rows: View, columns: View) -> Tensor:
    """Cut a view out of the image, continued by mirroring at its borders as often as needed."""
    if rows.length * columns.length > _MOST_SEEN:
        raise ValueError(
            f"the network sees {rows.length} x {columns.length} pixels for the logits of one tile; "
            "lower model.depth or model.dilations, or set model.padding=same"
        )
    row_index = _mirrored(rows, image.shape[-2], image.device)
    column_index = _mirrored(columns, image.shape[-1], image.device)
    return image.index_select(-2, row_index).index_select(-1, column_index)


def _mirrored(view: View, side: int, device: torch.device) -> Tensor:
    """Map pixels ... -2 -1 0 1 2 ... to 2 1 0 1 2 ...; the border pixel is not repeated."""
    index = torch.arange(view.start, view.start + view.length, device=device)
    period = max(2 * (side - 1), 1)
    index = index.remainder(period)
    return torch.where(index < side, index, period - index)
