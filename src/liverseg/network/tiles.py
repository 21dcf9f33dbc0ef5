"""Large images piece by piece, such that the pieces add up to what the whole would give.

A network that pads sees only so far: a pixel's logits depend on the pixels within its reach. Tiles
overlap by twice that, so every pixel is inside of a tile that holds all it depends on, and between
two such tiles weights go over from one to the other in a straight line. Where a network sees the
whole image (a norm over it, attention), tiles differ from the whole, and the line spans all of the
overlap.
"""

import logging
import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from liverseg.network.anatomy import scoring

WHOLE_SIDE = 2048  # an image of more pixels than this square is tiled
DEFAULT_TILE = 1024  # at 32 channels, a level's features of this square take 128 MiB
GRID = 128  # tiles begin on multiples of it, so that down to depth 7 all are halved alike
_LARGEST_REACH = 1024  # one that sees farther counts as one that sees everything
_ROWS = 64  # of an image in which the reach is measured
logger = logging.getLogger(__name__)
_reaches: WeakKeyDictionary[nn.Module, int | None] = WeakKeyDictionary()


class Tiling(NamedTuple):
    """How an axis is divided, in pixels; all but ``exact`` are multiples of :data:`GRID`."""

    size: int  # of a tile; at least four margins, so that no three tiles meet
    margin: int  # two tiles overlap by twice this
    exact: int  # of a margin, what may differ from the whole image; 0 where all of it may


def is_large(image: Tensor, tile_size: int | None) -> bool:
    """Tell whether an image of shape (N, C, H, W) is divided.

    Args:
        image: The image.
        tile_size: Larger images are divided into squares of about this; None divides images of more
            than :data:`WHOLE_SIDE` squared pixels into squares of :data:`DEFAULT_TILE`.
    """
    height, width = image.shape[-2:]
    return height * width > WHOLE_SIDE**2 if tile_size is None else max(height, width) > tile_size


def plan_tiles(
    owner: nn.Module,
    compute: Callable[[Tensor], Tensor],
    image: Tensor,
    tile_size: int | None = None,
) -> Tiling:
    """Return how a large image is divided for a network that pads.

    Args:
        owner: The network, or several in one module; its reach is measured once.
        compute: Maps an image to its logits.
        image: The image, of shape (N, C, H, W).
        tile_size: See :func:`is_large`.
    """
    if owner not in _reaches:
        with scoring(owner), torch.no_grad():
            _reaches[owner] = measure_reach(compute, image)
    reach, wanted = _reaches[owner], _on_grid(tile_size or DEFAULT_TILE)
    if reach is None:
        logger.warning(
            "the network sees an image as a whole, so what it finds in tiles of %d pixels differs "
            "from that; tile_size=%d or more computes in one piece",
            *(wanted, max(image.shape[-2:])),
        )
        margin = max(wanted // 8 // GRID, 1) * GRID
        return Tiling(max(wanted, 4 * margin), margin, exact=0)
    margin = max(_on_grid(reach), GRID)
    return Tiling(max(wanted, 4 * margin), margin, exact=reach)


def measure_reach(compute: Callable[[Tensor], Tensor], image: Tensor) -> int | None:
    """Return how many pixels from a pixel its logits can depend on, None if on all of them.

    One half of an image is made not a number, and so is every logit that depends on it: through
    any convolution, pooling and norm, whatever the weights. Where that is refused, as by an
    exported file, one half is changed at random, and logits that change with it are counted.

    Args:
        compute: Maps images to logits of the same height and width.
        image: Images whose type, channels and device are taken.
    """
    for half in (_LARGEST_REACH // 4, _LARGEST_REACH // 2, _LARGEST_REACH):
        reaches = [
            _reach_across(compute, image, half=half, axis=axis, is_first=is_first)
            for axis in (-1, -2)
            for is_first in (True, False)
        ]
        if max(reaches) < half:
            return max(reaches)
    return None


def _reach_across(
    compute: Callable[[Tensor], Tensor], image: Tensor, *, half: int, axis: int, is_first: bool
) -> int:
    """Return how many logits beyond the middle of an image depend on its first, or second, half."""
    length = 2 * half
    shape = [1, image.shape[1], _ROWS, _ROWS]
    shape[axis] = length
    line = torch.zeros(length, device=image.device)
    line[:half] = math.nan
    line = line if is_first else line.flip(0)
    seen = line.reshape((-1, 1) if axis == -2 else (1, -1)).expand(shape).contiguous()
    try:
        depends = compute(seen).isnan()
    except ValueError:
        source = torch.Generator().manual_seed(0)
        one, other = (
            torch.randint(256, shape, generator=source).to(image.device) / 255 for _ in range(2)
        )
        depends = compute(one) != compute(torch.where(seen.isnan(), other, one))
    count = depends.movedim(axis, -1).flatten(end_dim=-2).any(dim=0).sum()
    return int(count) - half


def blended_strips(
    compute: Callable[[slice, slice], Tensor], height: int, width: int, tiling: Tiling | None
) -> Iterator[Tensor]:
    """Yield float32 logits of an image in strips of rows, (N, K, some rows, width), top to bottom.

    Args:
        compute: Returns the logits of a rectangle of the image, given by its rows and columns.
        height: Of the image.
        width: Of the image.
        tiling: How it is divided; None computes it in one piece.
    """
    if tiling is None:
        yield compute(slice(0, height), slice(0, width)).float()
        return
    rows, columns = _spans(height, tiling), _spans(width, tiling)
    overlap: Tensor | None = None  # what the tiles above have added to rows of those below
    for place, row in enumerate(rows):
        begin = rows[place + 1].start if place + 1 < len(rows) else height
        strip: Tensor | None = None
        for column in columns:
            tile = compute(row, column).float()
            if strip is None:
                strip = tile.new_zeros((*tile.shape[:3], width))
            weight = _weights(column, width, tiling, tile.device)
            strip[..., column] += tile * weight
        assert strip is not None
        strip *= _weights(row, height, tiling, strip.device)[:, None]
        if overlap is not None:
            strip[..., : overlap.shape[2], :] += overlap
        overlap = strip[..., begin - row.start :, :].clone()
        yield strip[..., : begin - row.start, :]


def _spans(side: int, tiling: Tiling) -> list[slice]:
    """Return what the tiles of an axis cover; the last one ends with the image."""
    step = tiling.size - 2 * tiling.margin
    starts = [0]
    while starts[-1] + tiling.size < side:
        starts.append(starts[-1] + step)
    return [slice(start, min(start + tiling.size, side)) for start in starts]


def _weights(span: slice, side: int, tiling: Tiling, device: torch.device) -> Tensor:
    """Return the weight of each pixel of a tile along an axis; of all tiles they add up to 1."""
    pixel = torch.arange(span.start, span.stop, device=device)
    ramp = 2 * (tiling.margin - tiling.exact)
    weight = torch.ones(len(pixel), device=device)
    for before, after in pairwise(_spans(side, tiling)):
        # The overlap of two tiles, without what may be wrong in either, is where weights change.
        begin = after.start + tiling.exact
        rising = ((pixel - begin + 0.5) / ramp if ramp else (pixel >= begin).float()).clamp(0, 1)
        if span == after:
            weight = weight * rising
        elif span == before:
            weight = weight * (1 - rising)
    return weight


def _on_grid(pixels: int) -> int:
    return -(-pixels // GRID) * GRID
