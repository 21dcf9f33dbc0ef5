"""Words beside pictures: captions, and what colours mean."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from liverseg.pictures.colours import HATCHING, Colour

INK, PAPER = (0, 0, 0), (255, 255, 255)
GAP = 4
_LINE, _TEXT, _SQUARE, _STRIPE = 22, 15, 12, 4  # pixels
_MOST_NAMES = 30  # below one another in a legend


class Entry(NamedTuple):
    """What colours mean."""

    colours: tuple[Colour | None, ...]  # None for the hatching of ignored pixels
    text: str


class Lettering:
    """Text of a size.

    Args:
        scale: 1 for text of 15 pixels in lines of 22.
    """

    def __init__(self, scale: float = 1.0) -> None:
        self.line, self._square = round(_LINE * scale), round(_SQUARE * scale)
        self._size = round(_TEXT * scale)
        self._space = round(5 * scale)

    def write(self, canvas: Image.Image, place: tuple[int, int], text: str, anchor: str) -> None:
        """Write a line; what does not fit into the canvas loses its middle."""
        self._write(canvas, place, text, anchor, canvas.width - 2 * GAP)

    def length(self, text: str) -> float:
        """Return how many pixels wide a line is."""
        return _font(self._size, text.isascii()).getlength(text)

    def in_lines(self, entries: Iterable[Entry], width: int) -> list[list[Entry]]:
        """Divide entries into lines that fit into a width."""
        lines: list[list[Entry]] = []
        left = 0
        for entry in entries:
            length = self._length(entry)
            if not lines or left + length > width:
                lines.append([])
                left = GAP
            lines[-1].append(entry)
            left += length
        return lines

    def write_entries(self, canvas: Image.Image, top: int, entries: Sequence[Entry]) -> None:
        """Write entries in a line, from the left; one that does not fit loses its middle."""
        pen, left, side = ImageDraw.Draw(canvas), GAP, self._square
        first = top + (self.line - side) // 2
        for entry in entries:
            start = left
            for colour in entry.colours:
                if colour is None:
                    canvas.paste(hatched(side, side), (left, first))
                box = (left, first, left + side, first + side)
                pen.rectangle(box, fill=colour, outline=INK)
                left += side + self._space
            place, room = (left, top + self.line // 2), canvas.width - GAP - left
            self._write(canvas, place, entry.text, "lm", room)
            left = start + self._length(entry)

    def _length(self, entry: Entry) -> int:
        squares = len(entry.colours) * (self._square + self._space)
        return squares + round(self.length(entry.text)) + 3 * self._space

    def _write(
        self, canvas: Image.Image, place: tuple[int, int], text: str, anchor: str, room: int
    ) -> None:
        """Write a line, without its middle where it is wider than there is room."""
        shown, kept = text, len(text)
        while kept and self.length(shown) > room:
            kept -= 1
            shown = f"{text[: (kept + 1) // 2]}...{text[len(text) - kept // 2 :]}"
        font = _font(self._size, text.isascii())
        ImageDraw.Draw(canvas).text(place, shown, fill=INK, font=font, anchor=anchor)


def shortened(name: str) -> str:
    """Return a name for a legend, a long one without its middle."""
    return name if len(name) <= 20 else f"{name[:10]}...{name[-7:]}"


def legend_columns(count: int) -> int:
    """Return in how many columns so many names stand in a legend beside a chart."""
    return -(-count // _MOST_NAMES)


def hatched(width: int, height: int, scale: float = 1.0) -> Image.Image:
    """Return the stripes that ignored pixels are drawn as."""
    place = torch.arange(height)[:, None] + torch.arange(width)
    stripes = (place // round(_STRIPE * scale)) % 2
    pattern: Image.Image = to_pil_image(_stripes()[stripes].movedim(-1, 0))
    return pattern


@cache
def _stripes() -> Tensor:
    return torch.tensor(HATCHING, dtype=torch.uint8)


@cache
def _font(size: int, is_ascii: bool) -> ImageFont.FreeTypeFont:
    """Return Pillow's own font, or, since that has no letters but these, one of matplotlib's."""
    if is_ascii:
        font = ImageFont.load_default(size)
        assert isinstance(font, ImageFont.FreeTypeFont)  # as soon as it is given a size
        return font
    import matplotlib  # here, because it takes a fifth of a second

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)
