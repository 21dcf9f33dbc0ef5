"""Words beside pictures: captions, and what colours mean."""

import logging
import warnings
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from liverseg.pictures.colours import HATCHING, Colour

if TYPE_CHECKING:  # imported where it is needed, because it takes a second
    from matplotlib.figure import Figure

INK, PAPER = (0, 0, 0), (255, 255, 255)
GAP = 4
_LINE, _TEXT, _SQUARE, _STRIPE = 22, 15, 12, 4  # pixels
_MOST_NAMES = 30  # below one another in a legend
_SCORE = "   "  # stands before a caption's score
logger = logging.getLogger(__name__)


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
        """Write a line; what does not fit into the canvas loses its middle.

        What stands behind three spaces, such as a score, is kept whole.
        """
        self._write(canvas, place, text, anchor, canvas.width - 2 * GAP)

    def length(self, text: str) -> float:
        """Return how many pixels wide a line is."""
        return _font(self._size, _file_for(text)).getlength(text)

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
        name, space, score = text.partition(_SCORE)
        shown, kept, font = text, len(name), _font(self._size, _file_for(text))
        while kept and font.getlength(shown) > room:
            kept -= 1
            short = f"{name[: (kept + 1) // 2]}...{name[len(name) - kept // 2 :]}"
            shown = short + space + score
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


def find_letters(figure: "Figure") -> None:
    """Let a chart's texts take the letters that its font lacks from a font that is installed."""
    from matplotlib.font_manager import fontManager
    from matplotlib.ft2font import FT2Font
    from matplotlib.text import Text

    texts = [one for one in figure.findobj(Text) if isinstance(one, Text)]
    file = _file_for("".join(text.get_text() for text in texts))
    if file not in ("", _own_file()):
        fontManager.addfont(file)
        for text in texts:
            text.set_fontfamily([*text.get_fontfamily(), FT2Font(file).family_name])
    # What no font has is told in one sentence, see _file_with.
    warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)


@cache
def _font(size: int, file: str) -> ImageFont.FreeTypeFont:
    """Return the font of a file, or Pillow's own where none is named."""
    if file:
        return ImageFont.truetype(file, size)
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # as soon as it is given a size
    return font


def _file_for(text: str) -> str:
    """Return the file of the font that a text needs; none for ASCII, which Pillow's own has."""
    letters = frozenset(letter for letter in text if not letter.isascii())
    return _file_with(letters) if letters else ""


@cache
def _file_with(letters: frozenset[str]) -> str:
    """Return the file of matplotlib's own font, or of an installed one that has more letters."""
    own = _own_file()
    if not _lacking(own, letters):
        return own
    from matplotlib.font_manager import findSystemFonts

    ranks = {
        file: (_lacking(file, letters), file != own, "Regular" not in file)
        for file in (own, *sorted(findSystemFonts()))
    }
    file = min(ranks, key=ranks.__getitem__)
    if ranks[file][0]:
        _say_boxes()
    return file


def _own_file() -> str:
    import matplotlib  # here, because it takes a fifth of a second

    return f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"


def _lacking(file: str, letters: frozenset[str]) -> int:
    """Count the letters that a font lacks: all where it has no Latin ones, or boxes alone."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(file)
    except (OSError, RuntimeError):  # what is installed may be damaged
        return len(letters)
    # U+FFFF is no letter; only a font of last resort has it, with a box for everything.
    if not font.scalable or not font.get_char_index(ord("A")) or font.get_char_index(0xFFFF):
        return len(letters)
    return sum(not font.get_char_index(ord(letter)) for letter in letters)


@cache
def _say_boxes() -> None:
    logger.warning(
        "pictures and charts show boxes for letters that no installed font has; install one that "
        "has them, such as Noto Sans CJK (Debian: fonts-noto-cjk); HTML pages show them"
    )
