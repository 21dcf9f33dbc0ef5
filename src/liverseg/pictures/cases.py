"""Pictures of what a network does: image, truth, prediction and errors side by side."""

import colorsys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from liverseg.labels import IGNORED

Colour = tuple[int, int, int]

_PANEL_SIZE = 256  # smaller images are enlarged by a whole factor to at least this side
_LINE = 22  # height of a line of text
_TEXT_SIZE = 15
_SQUARE = 12  # side of a colour in a legend
_GAP = 4
_WIDE_GAP = 24  # between best and worst
_OPACITY = 0.45
_ERROR_OPACITY = 0.8
_DIMMED = 0.6  # how bright the image is below the errors
_INK, _PAPER = (0, 0, 0), (255, 255, 255)
_IGNORED_COLOUR = (110, 110, 110)

# Apart from one another and from dark grey by 30 in CIELAB and more, also for eyes without red,
# green or blue receptors, as simulated by Machado et al. 2009, "A physiologically-based model for
# simulation of color vision deficiency", https://doi.org/10.1109/TVCG.2009.113.
OUTCOME_COLOURS: dict[str, Colour] = {
    "right": (235, 235, 235),  # true positive
    "missed": (60, 150, 255),  # false negative: background is predicted
    "false": (255, 140, 0),  # false positive: the truth is background
    "wrong class": (150, 0, 150),  # both: another foreground class is predicted
}


class Case(NamedTuple):
    """What there is to draw of one image."""

    caption: str
    image: Tensor  # (C, h, w), C 1 or 3, in [0, 1]
    prediction: Tensor  # class indices (H, W)
    truth: Tensor  # class indices (H, W), ignored pixels as IGNORED


def draw_case(
    image: Tensor,
    prediction: Tensor,
    truth: Tensor | None = None,
    *,
    caption: str = "",
    class_names: Sequence[str] = (),
    num_columns: int = 4,
) -> Tensor:
    """Draw image, truth, prediction and errors side by side.

    The errors tint the image where a class is predicted or true, see :data:`OUTCOME_COLOURS`; a
    legend below names the colours. Without a truth there are image, prediction and overlay, which
    tints the image where a class is predicted.

    Args:
        image: Image of shape (C, h, w), C 1 or 3, in [0, 1]; resized to the prediction's size.
        prediction: Class indices of shape (H, W).
        truth: Class indices of shape (H, W), ignored pixels as IGNORED (drawn grey).
        caption: A line above the picture, such as the image's name and Dice.
        class_names: Names of the foreground classes; where there are several, those that are
            predicted or true are named below, with their colours.
        num_columns: How many stand side by side; 2 makes a square of four.

    Returns:
        A picture with titles, uint8 of shape (3, height, width).
    """
    prediction = prediction.cpu()
    grey = _to_size(image, (prediction.shape[-2], prediction.shape[-1]))
    if truth is None:
        panels = {"image": grey, "prediction": _coloured(prediction)}
        panels["overlay"] = _tinted(grey, _coloured(prediction), prediction > 0, _OPACITY)
        legend = []
    else:
        truth = truth.cpu()
        panels = {"image": grey, "truth": _coloured(truth), "prediction": _coloured(prediction)}
        panels["errors"] = _draw_errors(grey, prediction, truth)
        legend = _legend(prediction, truth)
    shown = {title: _enlarged(panel) for title, panel in panels.items()}
    classes = {
        name: class_colour(index)
        for index, name in enumerate(class_names, start=1)
        if len(class_names) > 1
        and ((prediction == index).any() or (truth is not None and (truth == index).any()))
    }
    picture: Tensor = pil_to_tensor(_arranged(shown, caption, classes, legend, num_columns))
    return picture


def draw_best_and_worst(best: Sequence[Case], worst: Sequence[Case]) -> Tensor:
    """Draw two columns of cases, each as image and errors below its caption.

    Args:
        best: The best cases, the best one first.
        worst: The worst cases, the worst one first.

    Returns:
        A picture with a legend, uint8 of shape (3, height, width).
    """
    tiles = [[_tile(case) for case in column] for column in (best, worst)]
    heights = [
        max(column[row].height for column in tiles if row < len(column))
        for row in range(max(len(best), len(worst)))
    ]
    width = 2 * _PANEL_SIZE + _GAP
    canvas = Image.new(
        "RGB", (2 * width + _WIDE_GAP, 2 * _LINE + sum(heights) + _GAP * len(heights)), _PAPER
    )
    for place, (title, column) in enumerate(zip(("best", "worst"), tiles, strict=True)):
        left = place * (width + _WIDE_GAP)
        _write(canvas, (left + width // 2, 2), title, "ma")
        for row, tile in enumerate(column):
            canvas.paste(tile, (left, _LINE + sum(heights[:row]) + _GAP * row))
    _write_legend(canvas, _legend(*_joined([*best, *worst])))
    picture: Tensor = pil_to_tensor(canvas)
    return picture


def class_colour(index: int) -> Colour:
    """Return the colour of a class as red, green, blue in 0 ... 255; black for background."""
    if index == 0:
        return (0, 0, 0)
    if index == IGNORED:
        return _IGNORED_COLOUR
    # The golden angle keeps neighbours apart; the first classes look like no outcome.
    hue = (0.45 + (index - 1) * 0.381966) % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def _outcomes(prediction: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Return where each outcome is found, as bool of shape (H, W); ignored pixels are nowhere."""
    predicted, true, counts = prediction > 0, truth > 0, truth != IGNORED
    return {
        "right": predicted & (prediction == truth),
        "missed": true & ~predicted & counts,
        "false": predicted & ~true,
        "wrong class": predicted & true & (prediction != truth) & counts,
    }


def _draw_errors(grey: Tensor, prediction: Tensor, truth: Tensor) -> Tensor:
    panel = grey * _DIMMED
    for outcome, where in _outcomes(prediction, truth).items():
        panel = _tinted(panel, _flat(OUTCOME_COLOURS[outcome]), where, _ERROR_OPACITY)
    return _tinted(panel, _flat(_IGNORED_COLOUR), truth == IGNORED, 1.0)


def _legend(prediction: Tensor, truth: Tensor) -> list[str]:
    """Return the outcomes that can occur: a wrong class only where there are several."""
    has_classes = bool((prediction > 1).any() or ((truth > 1) & (truth != IGNORED)).any())
    return [outcome for outcome in OUTCOME_COLOURS if has_classes or outcome != "wrong class"]


def _joined(cases: Sequence[Case]) -> tuple[Tensor, Tensor]:
    return (
        torch.cat([case.prediction.cpu().flatten() for case in cases]),
        torch.cat([case.truth.cpu().flatten() for case in cases]),
    )


def _to_size(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return an image as colours of shape (3, H, W) in 0 ... 255."""
    image = image.detach().cpu().float().expand(3, -1, -1)
    if image.shape[-2:] != size:
        image = functional.interpolate(image[None], size=size, mode="bilinear", antialias=True)[0]
    return (image.clamp(0, 1) * 255).round()


def _coloured(classes: Tensor) -> Tensor:
    """Return class indices of shape (H, W) as colours of shape (3, H, W) in 0 ... 255."""
    return _palette()[classes.long()].movedim(-1, 0)


@cache
def _palette() -> Tensor:
    return torch.tensor([class_colour(index) for index in range(256)], dtype=torch.float32)


def _flat(colour: Colour) -> Tensor:
    return torch.tensor(colour, dtype=torch.float32)[:, None, None]


def _tinted(panel: Tensor, colour: Tensor, where: Tensor, opacity: float) -> Tensor:
    """Mix a colour into the places of a panel that are marked."""
    return torch.where(where, panel + opacity * (colour - panel), panel)


def _enlarged(panel: Tensor) -> Image.Image:
    """Return a panel with at least :data:`_PANEL_SIZE` pixels along its longer side."""
    height, width = panel.shape[-2:]
    factor = max(1, -(-_PANEL_SIZE // max(height, width)))
    image: Image.Image = to_pil_image(panel.round().to(torch.uint8))
    return image.resize((width * factor, height * factor), Image.Resampling.NEAREST)


def _tile(case: Case) -> Image.Image:
    """Draw image and errors, each at most :data:`_PANEL_SIZE` wide and high, and the caption."""
    prediction, truth = case.prediction.cpu(), case.truth.cpu()
    grey = _to_size(case.image, (prediction.shape[-2], prediction.shape[-1]))
    box = (_PANEL_SIZE, _PANEL_SIZE)
    panels = [
        ImageOps.contain(_enlarged(panel), box, method=Image.Resampling.BOX)
        for panel in (grey, _draw_errors(grey, prediction, truth))
    ]
    tile = Image.new("RGB", (2 * _PANEL_SIZE + _GAP, _LINE + panels[0].height), _PAPER)
    _write(tile, (_GAP, 2), case.caption, "la")
    for place, panel in enumerate(panels):
        tile.paste(panel, (place * (_PANEL_SIZE + _GAP), _LINE))
    return tile


def _arranged(
    panels: dict[str, Image.Image],
    caption: str,
    classes: Mapping[str, Colour],
    legend: Sequence[str],
    num_columns: int,
) -> Image.Image:
    width, height = next(iter(panels.values())).size
    num_rows = -(-len(panels) // num_columns)
    num_columns = min(num_columns, len(panels))
    whole_width = num_columns * (width + _GAP) - _GAP
    lines = _lines_of(classes, whole_width)
    top = _LINE if caption else 0
    below = top + num_rows * (_LINE + height)
    num_lines = len(lines) + bool(legend)
    canvas = Image.new("RGB", (whole_width, below + num_lines * _LINE), _PAPER)
    for row, line in enumerate(lines):
        _write_classes(canvas, below + row * _LINE, {name: classes[name] for name in line})
    if caption:
        _write(canvas, (_GAP, 2), caption, "la")
    for place, (title, panel) in enumerate(panels.items()):
        row, column = divmod(place, num_columns)
        left, title_top = column * (width + _GAP), top + row * (_LINE + height)
        _write(canvas, (left + width // 2, title_top + 2), title, "ma")
        canvas.paste(panel, (left, title_top + _LINE))
    _write_legend(canvas, legend)
    return canvas


@cache
def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(_TEXT_SIZE)


def _write(canvas: Image.Image, place: tuple[int, int], text: str, anchor: str) -> None:
    """Write a line; what does not fit into the canvas loses its middle."""
    pen = ImageDraw.Draw(canvas)
    shown, kept = text, len(text)
    while kept and pen.textlength(shown, _font()) > canvas.width - 2 * _GAP:
        kept -= 1
        shown = f"{text[: (kept + 1) // 2]}...{text[len(text) - kept // 2 :]}"
    pen.text(place, shown, fill=_INK, font=_font(), anchor=anchor)


def _lines_of(names: Iterable[str], width: int) -> list[list[str]]:
    """Divide names into lines that fit into a width."""
    lines: list[list[str]] = []
    left = 0.0
    for name in names:
        length = _SQUARE + 5 + _font().getlength(name) + 12
        if not lines or left + length > width:
            lines.append([])
            left = _GAP
        lines[-1].append(name)
        left += length
    return lines


def _write_classes(canvas: Image.Image, top: int, classes: Mapping[str, Colour]) -> None:
    """Name the colours of classes in a line, from the left."""
    pen, left = ImageDraw.Draw(canvas), _GAP
    for name, colour in classes.items():
        box = (left, top + 4, left + _SQUARE, top + 4 + _SQUARE)
        pen.rectangle(box, fill=colour, outline=_INK)
        left += _SQUARE + 5
        pen.text((left, top + 2), name, fill=_INK, font=_font())
        left += round(_font().getlength(name)) + 12


def _write_legend(canvas: Image.Image, legend: Sequence[str]) -> None:
    """Name the colours of outcomes in the last line, at the right."""
    pen = ImageDraw.Draw(canvas)
    side = _SQUARE
    top, right = canvas.height - _LINE + 4, canvas.width - 2
    for outcome in reversed(legend):
        right -= round(pen.textlength(outcome, _font()))
        _write(canvas, (right, top - 2), outcome, "la")
        right -= side + 5
        pen.rectangle(
            (right, top, right + side, top + side), fill=OUTCOME_COLOURS[outcome], outline=_INK
        )
        right -= 12
