"""How image, logits and mask come to agree in size.

A network that pads keeps the size of its image. One that does not ("valid" padding) gives logits
for the middle only: training crops the mask to them, and prediction covers the whole image by
mirrored overlap tiles (Ronneberger et al. 2015, figure 2).
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple, Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from liverseg.network.anatomy import scoring
from liverseg.network.tiles import Tiling, blended_strips, is_large, plan_tiles

# Largest side that one tile predicts; bounds the memory of prediction. The paper's 388, cut to a
# multiple of 2^7, so that down to depth 7 all tiles are halved on one grid and leave no seam.
TILE_SIZE = 384
_MOST_SEEN = 2**27  # pixels of a tile with its border
_MOST_AT_ONCE = 2**26  # numbers of logits that are resized at once
_PROBE = 64  # side in pixels of an image of zeros by which logits are looked at


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


def faulty_logits(net: nn.Module, channels: int, num_classes: int) -> str:
    """Show a network an image of zeros; say what it returns where that is not logits, "" else.

    It is left as it was, and so is torch's random state.

    Args:
        net: The network, on the CPU.
        channels: Channels of the image.
        num_classes: Channels of the logits.

    Raises:
        Exception: What the network raises, which may need an image of another size.
    """
    image = torch.zeros(1, channels, _PROBE, _PROBE)
    wanted = (1, num_classes, _PROBE, _PROBE)
    if trims(net, image):
        side = net.input_size(1)
        image = torch.zeros(1, channels, side, side)
        wanted = (1, num_classes, net.output_size(side), net.output_size(side))
    with scoring(net), torch.no_grad(), torch.random.fork_rng(devices=[]):
        found = net(image)
    if isinstance(found, Tensor) and found.shape == wanted:
        return ""
    hint = ""
    if isinstance(found, Mapping):
        fitting = (key for key, one in found.items() if getattr(one, "shape", None) == wanted)
        hint = f", which its [{key!r}] are" if (key := next(fitting, None)) is not None else ""
    return f"returns {_kind_of(found)} for an image {tuple(image.shape)}, not logits {wanted}{hint}"


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

    Raises:
        ValueError: If the network returns something else while it trains.
    """
    height, width = image.shape[-2:]
    if not isinstance(net, Shrinking) or net.input_size(height) == height:
        return _logits_alone(net, image, (height, width)), mask
    rows, columns = _training_view(net, height), _training_view(net, width)
    seen = _see(image, rows, columns)
    logits = _logits_alone(
        net, seen, (net.output_size(rows.length), net.output_size(columns.length))
    )
    top, left = rows.start + rows.margin, columns.start + columns.margin
    mask = mask[:, top : top + logits.shape[-2], left : left + logits.shape[-1]]
    return logits[..., : mask.shape[-2], : mask.shape[-1]], mask


def whole_image_logits(net: nn.Module, image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return float32 logits of shape (N, K, *size) for the whole image.

    A large image is computed in tiles, see :mod:`liverseg.network.tiles`. On a CPU each image of a
    batch goes through the network alone, so that its logits depend on nothing that lies beside it.

    Args:
        net: The network.
        image: Images of shape (N, C, H, W).
        size: Height and width wanted; where they differ from H and W, the logits are resized
            (bilinear).
    """

    def compute(image: Tensor, rows: slice, columns: slice) -> Tensor:
        return rectangle_logits(net, image, rows, columns)

    strips = strips_of_logits(net, compute, image, size, pads=not trims(net, image))
    return torch.cat(list(strips), dim=2)


def strips_of_logits(
    owner: nn.Module,
    compute: Callable[[Tensor, slice, slice], Tensor],
    image: Tensor,
    size: tuple[int, int],
    *,
    pads: bool,
    tile_size: int | None = None,
) -> Iterator[Tensor]:
    """Yield float32 logits for the whole image in strips, (N, K, rows, width), top to bottom.

    Args:
        owner: What ``compute`` belongs to: a network, or several in one module.
        compute: Returns the logits of a rectangle of an image, given by its rows and columns.
        image: Images of shape (N, C, H, W).
        size: Height and width of all strips together; where they differ from H and W, the logits
            are resized (bilinear).
        pads: Whether borders of a rectangle may differ from what they are within the image.
        tile_size: Larger images are divided, see :func:`~liverseg.network.tiles.is_large`, unless
            a network has an attribute ``resizes`` that is true: it has to see each image whole.
    """
    height, width = image.shape[-2:]
    tiling = None
    sees_whole = any(getattr(one, "resizes", False) is True for one in owner.modules())
    if not sees_whole and is_large(image, tile_size):
        if pads:
            tiling = plan_tiles(owner, lambda one: _whole(compute, one), image, tile_size)
        else:
            tiling = Tiling(max((tile_size or 2 * TILE_SIZE) // TILE_SIZE, 1) * TILE_SIZE, 0, 0)
    strips = blended_strips(partial(compute, image), height, width, tiling)
    if (height, width) == size:
        yield from strips
        return
    logits = torch.cat(list(strips), dim=2)
    if logits.shape[0] * logits.shape[1] * size[0] * size[1] <= _MOST_AT_ONCE:
        yield functional.interpolate(logits, size=size, mode="bilinear")
        return
    num_rows = max(1, _MOST_AT_ONCE // (logits.shape[0] * logits.shape[1] * size[1]))
    for start in range(0, size[0], num_rows):
        yield _resized_rows(logits, size, slice(start, min(start + num_rows, size[0])))


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


def rectangle_logits(
    net: nn.Module,
    image: Tensor,
    rows: slice,
    columns: slice,
    compute: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return the logits of a rectangle of an image.

    A network that pads sees the rectangle; one that does not sees more of the image around it.

    Args:
        net: The network.
        image: Images of shape (N, C, H, W).
        rows: Of the rectangle.
        columns: Of the rectangle.
        compute: Maps what is seen to logits; None calls the network.
    """
    compute = compute or partial(logits_one_by_one, net)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    if not trims(net, image):
        is_whole = (height, width) == image.shape[-2:]
        return compute(image if is_whole else image[..., rows, columns])
    strips = []
    for row in tile_views(net, height):
        row = row._replace(start=row.start + rows.start)
        tiles = [
            compute(_see(image, row, view._replace(start=view.start + columns.start)))
            for view in tile_views(net, width)
        ]
        strips.append(torch.cat([tile[..., :TILE_SIZE, :TILE_SIZE] for tile in tiles], dim=3))
    return torch.cat(strips, dim=2)[..., :height, :width]


def trims(net: nn.Module, image: Tensor) -> TypeGuard[Shrinking]:
    """Tell whether a network gives logits for the middle of an image alone."""
    height = image.shape[-2]
    return isinstance(net, Shrinking) and net.input_size(height) != height


def logits_one_by_one(net: nn.Module, image: Tensor) -> Tensor:
    """Return logits; on a CPU, where nothing is gained by a batch, of each image by itself."""
    if len(image) == 1 or image.device.type != "cpu":
        return net(image)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped
    return torch.cat([net(one) for one in image.split(1)])


def _whole(compute: Callable[[Tensor, slice, slice], Tensor], image: Tensor) -> Tensor:
    return compute(image, slice(0, image.shape[-2]), slice(0, image.shape[-1]))


def _resized_rows(logits: Tensor, size: tuple[int, int], rows: slice) -> Tensor:
    """Return some rows of logits that are resized, as all of them would be (bilinear)."""
    height = logits.shape[2]
    row = torch.arange(rows.start, rows.stop, device=logits.device, dtype=torch.float32)
    place = ((row + 0.5) * (height / size[0]) - 0.5).clamp(0, height - 1)
    upper = place.long()
    lower = (upper + 1).clamp(max=height - 1)
    part = (place - upper)[:, None]
    mixed = logits[:, :, upper] * (1 - part) + logits[:, :, lower] * part
    return functional.interpolate(mixed, size=(len(row), size[1]), mode="bilinear")


def _logits_alone(net: nn.Module, image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return what a network gives for images, if it is logits: some give more while they train."""
    found = net(image)
    if isinstance(found, Tensor) and found.dim() == 4 and found.shape[-2:] == size:
        return found
    raise ValueError(
        f"{type(net).__name__} returns {_kind_of(found)} for images {tuple(image.shape)} while it "
        f"trains, not logits (N, num_classes, {size[0]}, {size[1]}); its forward is to return "
        "logits alone, in training too"
    )


def _kind_of(found: object) -> str:
    if isinstance(found, Tensor):
        return str(tuple(found.shape))
    return "a dict" if isinstance(found, Mapping) else f"a {type(found).__name__}"


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
