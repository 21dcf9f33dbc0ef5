"""Diagrams that explain: a U-Net with the sizes of its maps, and small matrices with their numbers.

Drawn with matplotlib, in colours that the colour-blind can tell apart. Pictures of a network's work
on images are in :mod:`liverseg.pictures.cases`.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor

from liverseg.network import LayerSizes, UNet, map_sizes

# Colours of Okabe and Ito, "Color Universal Design", https://jfly.uni-koeln.de/color/
_BLUE, _ORANGE, _VERMILION, _GREEN, _GREY = "#56b4e9", "#e69f00", "#d55e00", "#009e73", "#666666"

# The drawing's unit of length is the distance between two neighbouring maps, this many inches.
_UNIT = 0.52
_TALLEST = 2.4  # height of the largest map
_WIDTH = 0.4  # of every map
_GAP = 1.5  # between two rows
_LABEL = 0.5  # of the gap is taken by the numbers above and by those below a map


@dataclass(frozen=True)
class _Map:
    """A map and its place in the drawing."""

    slot: int
    bottom: float
    height: float
    channels: int
    side: int

    @property
    def middle(self) -> float:
        return self.slot + _WIDTH / 2

    @property
    def top(self) -> float:
        return self.bottom + self.height


def draw_u(net: UNet, image_size: int) -> Figure:
    """Draw a U-Net as the U of its paper, with the sizes of its maps as measured by hooks.

    A box is a map: its side, in pixels, stands below it and gives its height, its channels stand
    above. The white half of a box was copied from the other side of the U. Where that map was
    cropped, both sides stand on the arrow.

    Args:
        net: The network.
        image_size: Height and width of the image, in pixels.

    Raises:
        ValueError: If the network cannot take that size.
    """
    layers = map_sizes(net, image_size)
    down = [_under(layers, f"encoder.{level}.layers.") for level in range(net.depth + 1)]
    up = [_under(layers, f"decoder.{step}.fuse.layers.") for step in range(net.depth)]
    scale = _TALLEST / image_size
    bottoms = [0.0]
    for row in down[1:]:
        bottoms.append(bottoms[-1] - _GAP - row[0].taken[1] * scale)

    num_slots = 4 * net.depth + 4
    lowest, highest = bottoms[-1] - _LABEL, _TALLEST + _LABEL
    size = (_UNIT * num_slots, _UNIT * (highest - lowest + 1))  # the last row explains the colours
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot(xlim=(-0.5, num_slots), ylim=(lowest, highest))
    axes.set_axis_off()

    ends: list[_Map] = []  # the last map of each row
    for level, row in enumerate(down):
        maps = _maps(row, first_slot=2 * level, bottom=bottoms[level], scale=scale)
        _draw_row(axes, maps, colour=_BLUE)
        if level:
            above = ends[-1]
            _arrow(
                axes,
                (above.middle, above.bottom - _LABEL),
                (above.middle, maps[0].top + _LABEL),
                _VERMILION,
            )
        ends.append(maps[-1])
    deep = ends.pop()
    for step, row in enumerate(up):
        skip = ends.pop()
        maps = _maps(row, first_slot=deep.slot, bottom=skip.bottom, scale=scale)
        if step == net.depth - 1:
            (logits,) = _under(layers, "classify")
            channels, side, _ = logits.given
            end = maps[-1]
            maps.append(_Map(end.slot + 1, end.bottom, side * scale, channels, side))
        joined = maps[0]
        _draw_row(axes, maps, colour=_ORANGE, copied=skip.channels / joined.channels)
        height = joined.bottom + joined.height / 2
        _arrow(axes, (skip.slot + 0.55, height), (joined.slot - 0.1, height), _GREY)
        cropped = f"{skip.side} → {joined.side}" if skip.side > joined.side else f"{joined.side}"
        _text(axes, (skip.slot + joined.slot + _WIDTH) / 2, height + 0.08, cropped, colour=_GREY)
        _arrow(
            axes, (deep.middle, deep.top + _LABEL), (deep.middle, joined.bottom - _LABEL), _GREEN
        )
        deep = maps[-1]
    _explain(figure, is_cropped=net.padding == "valid", columns=4 if net.depth > 2 else 2)
    return figure


def draw_numbers(
    axes: Axes, numbers: Tensor, title: str = "", marked: Tensor | None = None
) -> None:
    """Draw a small matrix with its numbers, larger ones darker.

    Args:
        axes: Where to draw.
        numbers: Of shape (H, W).
        title: Stands above.
        marked: Of shape (H, W), True for cells that get a thick frame.
    """
    height, width = numbers.shape
    low, high = float(numbers.min()), float(numbers.max())
    # Half the range of the colour map keeps black numbers readable.
    axes.imshow(numbers.tolist(), cmap="Blues", vmin=low, vmax=max(2 * high - low, low + 1))
    labels = [[f"{number:.4g}" for number in row] for row in numbers.tolist()]
    size = 12 if max(len(label) for row in labels for label in row) < 4 else 10
    for row in range(height):
        for column in range(width):
            label = labels[row][column]
            axes.text(column, row, label, ha="center", va="center", fontsize=size)
    axes.set_xticks([])  # a minor tick at the place of another is not drawn
    axes.set_yticks([])
    axes.set_xticks(torch.arange(width + 1).sub(0.5).tolist(), minor=True)
    axes.set_yticks(torch.arange(height + 1).sub(0.5).tolist(), minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", bottom=False, left=False)
    axes.set_title(title, fontsize=11)
    if marked is not None:
        for row, column in marked.nonzero().tolist():
            frame = (column - 0.44, row - 0.44)
            axes.add_patch(
                Rectangle(frame, 0.88, 0.88, fill=False, edgecolor=_VERMILION, linewidth=2)
            )


def _under(layers: list[LayerSizes], prefix: str) -> list[LayerSizes]:
    return [layer for layer in layers if layer.name.startswith(prefix)]


def _maps(row: list[LayerSizes], *, first_slot: int, bottom: float, scale: float) -> list[_Map]:
    """Return what the first layer of a row takes and what each of its layers gives."""
    sizes = [row[0].taken, *(layer.given for layer in row)]
    return [
        _Map(first_slot + place, bottom, side * scale, channels, side)
        for place, (channels, side, _) in enumerate(sizes)
    ]


def _draw_row(axes: Axes, maps: list[_Map], *, colour: str, copied: float = 0.0) -> None:
    """Draw maps and the arrows between them; ``copied`` is the white part of the first one."""
    for place, one in enumerate(maps):
        _box(axes, one, _WIDTH, colour)
        if copied and place == 0:
            _box(axes, one, _WIDTH * copied, "white")
        _text(axes, one.middle, one.top + 0.06, f"{one.channels}", colour="black")
        _text(axes, one.middle, one.bottom - 0.08, f"{one.side}", colour="black", va="top")
    for left, right in pairwise(maps):
        height = right.bottom + right.height / 2
        _arrow(axes, (left.slot + _WIDTH + 0.06, height), (right.slot - 0.06, height), "black")


def _box(axes: Axes, one: _Map, width: float, colour: str) -> None:
    corner = (one.slot, one.bottom)
    axes.add_patch(
        Rectangle(corner, width, one.height, facecolor=colour, edgecolor=_GREY, linewidth=0.8)
    )


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    axes.annotate(
        "",
        xy=end,
        xytext=start,
        arrowprops={
            "arrowstyle": "-|>",
            "color": colour,
            "linewidth": 1.4,
            "shrinkA": 0,
            "shrinkB": 0,
            "mutation_scale": 8,
        },
    )


def _text(
    axes: Axes, left: float, bottom: float, label: str, *, colour: str, va: str = "bottom"
) -> None:
    axes.text(left, bottom, label, color=colour, ha="center", va=va, fontsize=9)


def _explain(figure: Figure, *, is_cropped: bool, columns: int) -> None:
    meanings = {
        "3 x 3 convolution + ReLU (last: 1 x 1)": "black",
        "2 x 2 max pooling": _VERMILION,
        "copy and crop" if is_cropped else "copy": _GREY,
        "upsampling": _GREEN,
    }
    figure.legend(
        handles=[
            Line2D([], [], color=colour, marker=">", markersize=5, label=meaning)
            for meaning, colour in meanings.items()
        ],
        title="above a map: channels; below: side in pixels",
        loc="outside lower center",
        ncols=columns,
        fontsize=9,
        title_fontsize=9,
        frameon=False,
    )
