"""Pictures of what a network does: image, truth, prediction and errors side by side."""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from liverseg.labels import IGNORED
from liverseg.pictures.colours import OUTCOME_COLOURS, Colour, class_colour
from liverseg.pictures.lettering import GAP, PAPER, Entry, Lettering, hatched

_PANEL_SIZE = 256  # smaller images are enlarged by a whole factor to at least this side
_LARGEST_PANEL = 2048  # larger images are shrunk to this side
_WIDE_GAP = 24  # between best and worst
_NARROWEST = 320  # pixels of either, for its captions
_OPACITY = 0.45
_ERROR_OPACITY = 0.8
_DIMMED = 0.6  # how bright the image is below the errors
_MOST_CONFUSIONS = 4  # that are told
_PLACES = {outcome: place for place, outcome in enumerate(OUTCOME_COLOURS, start=1)}
_SHOWN_WIDTH = 4 * (_PANEL_SIZE + GAP) - GAP


class Case(NamedTuple):
    """What there is to draw of one image."""

    caption: str
    image: Tensor  # (C, h, w), C 1 or 3, in [0, 1]
    prediction: Tensor  # class indices (H, W)
    truth: Tensor  # class indices (H, W), ignored pixels as IGNORED


def as_shown(image: Tensor) -> Tensor:
    """Return a decoded image as it is looked at, float32 in [0, 1].

    Eight bits a channel stay as they are. Of others the values from the 0.5th to the 99.5th
    percentile are spread over [0, 1], as one would set the window of a CT by eye: twelve bits in a
    file of sixteen are not black.

    Args:
        image: uint8, or float of any range, of shape (C, H, W).
    """
    if image.dtype == torch.uint8:
        return image.float() / 255
    image = image.float()
    finite = image[image.isfinite()].numpy()
    if not finite.size:
        return torch.zeros_like(image)
    low, high = (float(bound) for bound in np.percentile(finite, (0.5, 99.5)))
    if low == high:
        low, high = float(finite.min()), float(finite.max())
    return ((image.nan_to_num(low, high, low) - low) / ((high - low) or 1.0)).clamp(0, 1)


def draw_case(
    image: Tensor,
    prediction: Tensor,
    truth: Tensor | None = None,
    *,
    caption: str = "",
    class_names: Sequence[str] = (),
    has_background: bool = True,
    num_columns: int = 4,
    largest_panel: int = _LARGEST_PANEL,
    shown_width: int = _SHOWN_WIDTH,
) -> Tensor:
    """Draw image, truth, prediction and errors side by side.

    The errors tint the image where a class is predicted or true, see :data:`OUTCOME_COLOURS`; a
    legend below names the colours, and says how many pixels of one class are taken for another.
    Without a background only wrong classes are tinted. Without a truth there are image, prediction
    and overlay, which tints the image where a class is predicted.

    Args:
        image: Image of shape (C, h, w), C 1 or 3, in [0, 1]; resized to the prediction's size.
        prediction: Class indices of shape (H, W).
        truth: Class indices of shape (H, W), ignored pixels as IGNORED (drawn hatched).
        caption: A line above the picture, such as the image's name and Dice.
        class_names: Names of the foreground classes; background and those that are predicted or
            true are named below, with their colours.
        has_background: Whether class 0 is background; else it is the first that has a name.
        num_columns: How many stand side by side; 2 makes a square of four.
        largest_panel: Images with a longer side are shrunk to it, in pixels.
        shown_width: Where a picture is wider than this, text grows with it, lest it be illegible
            when the picture is shown so wide.

    Returns:
        A picture with titles, uint8 of shape (3, height, width).
    """
    prediction, truth = prediction.cpu(), None if truth is None else truth.cpu()
    first = 1 if has_background else 0
    names = dict(enumerate(class_names, start=first))
    size = _shrunk_size(prediction, largest_panel)
    grey = _to_size(image, size)
    confused, entries = [], []
    if truth is not None:  # before it is shrunk: a thin structure that is missed is to be seen
        outcomes = _outcomes(prediction, truth, first)
        confused = _confusions(prediction, truth, outcomes, names, first)
        outcomes, truth = classes_at(outcomes, size), classes_at(truth, size, first=first)
    prediction = classes_at(prediction, size, first=first)
    panels = {"image": _enlarged(grey)}
    if truth is None:
        predicted = _coloured(prediction, first)
        panels["prediction"] = _enlarged(predicted)
        panels["overlay"] = _enlarged(_tinted(grey, predicted, prediction >= first, _OPACITY))
    else:
        ignored = truth == IGNORED
        panels["truth"] = _enlarged(_coloured(truth, first), ignored)
        panels["prediction"] = _enlarged(_coloured(prediction, first))
        panels["errors"] = _enlarged(_draw_errors(grey, outcomes), ignored)
        entries = _outcome_entries(prediction, truth, first)
    classes = _class_entries(prediction, truth, names, first)
    entries = [entry for entry in entries if entry not in classes]  # ignored is named once
    picture: Tensor = pil_to_tensor(
        _arranged(panels, caption, [classes, confused, entries], num_columns, shown_width)
    )
    return picture


def draw_best_and_worst(
    best: Sequence[Case],
    worst: Sequence[Case],
    *,
    class_names: Sequence[str] = (),
    has_background: bool = True,
) -> Tensor:
    """Draw two columns of cases, each as image and errors below its caption.

    Args:
        best: The best cases, the best one first.
        worst: The worst cases, the worst one first. Of no cases there is no column.
        class_names: Names of the foreground classes; where there are several, the largest error
            between two of them stands below the caption.
        has_background: Whether class 0 is background; else it is the first that has a name.

    Returns:
        A picture with a legend, uint8 of shape (3, height, width).
    """
    first = 1 if has_background else 0
    names = dict(enumerate(class_names, start=first))
    letters = Lettering()
    shapes = [case.truth.shape for case in (*best, *worst)]
    side = max(math.ceil(_PANEL_SIZE * shape[1] / max(shape)) for shape in shapes)
    width, line = max(2 * side + GAP, _NARROWEST), letters.line
    columns = {
        title: [_tile(case, width, names, first, letters) for case in cases]
        for title, cases in (("best", best), ("worst", worst))
        if cases
    }
    heights = [
        max(column[row].height for column in columns.values() if row < len(column))
        for row in range(max(len(best), len(worst)))
    ]
    whole_width = len(columns) * (width + _WIDE_GAP) - _WIDE_GAP
    entries = _outcome_entries(*_joined([*best, *worst]), first)
    legend = letters.in_lines(entries, whole_width)
    below = line + sum(heights) + GAP * len(heights)
    canvas = Image.new("RGB", (whole_width, below + line * len(legend)), PAPER)
    for place, (title, column) in enumerate(columns.items()):
        left = place * (width + _WIDE_GAP)
        letters.write(canvas, (left + width // 2, 2), title, "ma")
        for row, tile in enumerate(column):
            canvas.paste(tile, (left, line + sum(heights[:row]) + GAP * row))
    for row, shown_entries in enumerate(legend):
        letters.write_entries(canvas, below + row * line, shown_entries)
    picture: Tensor = pil_to_tensor(canvas)
    return picture


def _outcomes(prediction: Tensor, truth: Tensor, first: int) -> Tensor:
    """Return the outcome of each pixel: its place in :data:`OUTCOME_COLOURS` from 1 on, or 0.

    Ignored pixels have none. Where each class is scored, only wrong ones have one.
    """
    outcomes = torch.zeros_like(truth, dtype=torch.uint8)
    is_wrong = (prediction != truth) & (truth != IGNORED)
    if first == 0:
        return outcomes.masked_fill_(is_wrong, _PLACES["wrong class"])
    predicted, true = prediction > 0, truth > 0
    outcomes.masked_fill_(predicted & (prediction == truth), _PLACES["right"])
    outcomes.masked_fill_(is_wrong & ~predicted, _PLACES["missed"])
    outcomes.masked_fill_(is_wrong & ~true, _PLACES["false"])
    return outcomes.masked_fill_(is_wrong & predicted & true, _PLACES["wrong class"])


def _draw_errors(grey: Tensor, outcomes: Tensor) -> Tensor:
    panel = grey * _DIMMED
    for outcome, place in _PLACES.items():
        colour = _flat(OUTCOME_COLOURS[outcome])
        panel = _tinted(panel, colour, outcomes == place, _ERROR_OPACITY)
    return panel


def _confusions(
    prediction: Tensor, truth: Tensor, outcomes: Tensor, names: dict[int, str], first: int
) -> list[Entry]:
    """Say how many pixels of one class are taken for another, the most first."""
    where = outcomes == _PLACES["wrong class"]
    pairs = truth[where].int().mul_(256).add_(prediction[where])
    counts = torch.bincount(pairs, minlength=1)
    found = counts.nonzero()[:, 0].tolist()
    found.sort(key=lambda pair: -int(counts[pair]))
    told = [
        Entry(
            (class_colour(true - first + 1), class_colour(taken - first + 1)),
            f"{int(counts[pair]):,} px {names[true]} taken for {names[taken]}",
        )
        for pair in found
        for true, taken in [divmod(pair, 256)]
        if true in names and taken in names
    ]
    if len(told) > _MOST_CONFUSIONS:
        rest = len(told) - _MOST_CONFUSIONS + 1
        told[_MOST_CONFUSIONS - 1 :] = [Entry((), f"and {rest} more such pairs")]
    return told


def _class_entries(
    prediction: Tensor, truth: Tensor | None, names: dict[int, str], first: int
) -> list[Entry]:
    """Name background, the classes that are predicted or true, and ignored pixels."""
    if not names:
        return []
    found = set(prediction.unique().tolist()) | set(
        [] if truth is None else truth.unique().tolist()
    )
    entries = [Entry((class_colour(0),), "background")] if first else []
    entries += [
        Entry((class_colour(index - first + 1),), name)
        for index, name in names.items()
        if index in found
    ]
    return [*entries, Entry((None,), "ignored")] if IGNORED in found else entries


def _outcome_entries(prediction: Tensor, truth: Tensor, first: int) -> list[Entry]:
    """Name the outcomes that can occur: a wrong class only where there are several."""
    has_classes = bool((prediction > 1).any() or ((truth > 1) & (truth != IGNORED)).any())
    outcomes = [*OUTCOME_COLOURS] if first else ["wrong class"]
    entries = [
        Entry((OUTCOME_COLOURS[outcome],), outcome)
        for outcome in outcomes
        if has_classes or not first or outcome != "wrong class"
    ]
    return [*entries, Entry((None,), "ignored")] if (truth == IGNORED).any() else entries


def _joined(cases: Sequence[Case]) -> tuple[Tensor, Tensor]:
    return (
        torch.cat([case.prediction.cpu().flatten() for case in cases]),
        torch.cat([case.truth.cpu().flatten() for case in cases]),
    )


def classes_at(classes: Tensor, size: tuple[int, int], *, first: int = 1) -> Tensor:
    """Return class indices at another size; in a smaller one, what is thin or small stays.

    Of the classes in a block of pixels that becomes one, that with the fewest pixels in the image
    is kept. Background is kept where there is nothing else, and IGNORED where all pixels are.

    Args:
        classes: Class indices of shape (H, W), 0 ... 255.
        size: Height and width of the result.
        first: Index of the first class that is no background.
    """
    if classes.shape == size:
        return classes
    image = Image.fromarray(classes.to(torch.uint8).cpu().numpy())
    counts = image.histogram()
    order = sorted(range(256), key=lambda one: (one != IGNORED, one >= first, -counts[one]))
    ranks = np.asarray(image.point(np.argsort(order).tolist()))  # no wider: memory
    for axis, (old, new) in enumerate(zip(classes.shape, size, strict=True)):
        ranks = np.maximum.reduceat(ranks, np.arange(new) * old // new, axis=axis)
    return torch.tensor(order, dtype=torch.uint8)[torch.from_numpy(ranks).long()]


def _shrunk_size(classes: Tensor, largest: int) -> tuple[int, int]:
    """Return height and width of class indices (H, W) with no side above a largest one."""
    height, width = classes.shape
    longest = max(height, width, largest)
    return max(1, height * largest // longest), max(1, width * largest // longest)


def _to_size(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return an image as colours of shape (3, H, W) in 0 ... 255."""
    image = image.detach().cpu().float()
    if image.shape[-2:] != size:
        image = functional.interpolate(image[None], size=size, mode="bilinear", antialias=True)[0]
    return (image.expand(3, -1, -1).clamp(0, 1) * 255).round()


def _coloured(classes: Tensor, first: int) -> Tensor:
    """Return class indices of shape (H, W) as colours of shape (3, H, W) in 0 ... 255."""
    return _palette(first)[classes.long()].movedim(-1, 0)


@cache
def _palette(first: int) -> Tensor:
    colours = [class_colour(min(index - first + 1, IGNORED)) for index in range(256)]
    return torch.tensor(colours, dtype=torch.float32)


def _flat(colour: Colour) -> Tensor:
    return torch.tensor(colour, dtype=torch.float32)[:, None, None]


def _tinted(panel: Tensor, colour: Tensor, where: Tensor, opacity: float) -> Tensor:
    """Mix a colour into the places of a panel that are marked."""
    return torch.where(where, panel + opacity * (colour - panel), panel)


def _enlarged(panel: Tensor, ignored: Tensor | None = None) -> Image.Image:
    """Return a panel with at least :data:`_PANEL_SIZE` pixels along its longer side.

    Args:
        panel: Colours of shape (3, H, W) in 0 ... 255.
        ignored: Where it is hatched, bool of shape (H, W).
    """
    height, width = panel.shape[-2:]
    factor = max(1, -(-_PANEL_SIZE // max(height, width)))
    size = (width * factor, height * factor)
    image: Image.Image = to_pil_image(panel.round().to(torch.uint8))
    image = image.resize(size, Image.Resampling.NEAREST)
    if ignored is not None and bool(ignored.any()):
        where = to_pil_image(ignored.to(torch.uint8) * 255).resize(size, Image.Resampling.NEAREST)
        image.paste(hatched(*size, scale=max(size) / _PANEL_SIZE), mask=where)
    return image


def _tile(
    case: Case, width: int, names: dict[int, str], first: int, letters: Lettering
) -> Image.Image:
    """Draw image and errors, each at most :data:`_PANEL_SIZE` wide and high, and the caption."""
    prediction, truth = case.prediction.cpu(), case.truth.cpu()
    outcomes = _outcomes(prediction, truth, first)
    confused = []
    if len(names) > 1:
        confused = _confusions(prediction, truth, outcomes, names, first)[:1]
    size = _shrunk_size(truth, 2 * _PANEL_SIZE)  # a mean of 2 x 2 pixels hides nothing
    grey, ignored = _to_size(case.image, size), classes_at(truth, size, first=first) == IGNORED
    errors = _draw_errors(grey, classes_at(outcomes, size))
    box = (_PANEL_SIZE, _PANEL_SIZE)
    panels = [
        ImageOps.contain(panel, box, method=Image.Resampling.BOX)
        for panel in (_enlarged(grey), _enlarged(errors, ignored))
    ]
    top = letters.line * (1 + len(confused))
    tile = Image.new("RGB", (width, top + panels[0].height), PAPER)
    letters.write(tile, (GAP, 2), case.caption, "la")
    letters.write_entries(tile, letters.line, confused)
    for place, panel in enumerate(panels):
        tile.paste(panel, (place * (panel.width + GAP), top))
    return tile


def _arranged(
    panels: dict[str, Image.Image],
    caption: str,
    legend: Sequence[Sequence[Entry]],
    num_columns: int,
    shown_width: int,
) -> Image.Image:
    width, height = next(iter(panels.values())).size
    num_rows = -(-len(panels) // num_columns)
    num_columns = min(num_columns, len(panels))
    letters = Lettering(max(1.0, (num_columns * (width + GAP) - GAP) / shown_width))
    # Titles stand apart also above narrow panels.
    column_width = max(width, *(math.ceil(letters.length(title)) + GAP for title in panels))
    whole_width = num_columns * (column_width + GAP) - GAP
    lines = [line for part in legend for line in letters.in_lines(part, whole_width)]
    top = letters.line if caption else 0
    below = top + num_rows * (letters.line + height)
    canvas = Image.new("RGB", (whole_width, below + len(lines) * letters.line), PAPER)
    for row, line in enumerate(lines):
        letters.write_entries(canvas, below + row * letters.line, line)
    if caption:
        letters.write(canvas, (GAP, 2), caption, "la")
    for place, (title, panel) in enumerate(panels.items()):
        row, column = divmod(place, num_columns)
        left, title_top = column * (column_width + GAP), top + row * (letters.line + height)
        letters.write(canvas, (left + column_width // 2, title_top + 2), title, "ma")
        canvas.paste(panel, (left + (column_width - width) // 2, title_top + letters.line))
    return canvas
