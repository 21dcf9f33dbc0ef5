"""Curves that a page draws itself, so that they are sharp, small, and light or dark as it is."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from liverseg.reports.pages import Html, keyed

_WIDTH, _HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 30  # margins
_COLOURS = ("first", "second", "third", "fourth")  # of style.css
_MOST_POINTS = 400  # of a line; more than a screen has columns for


class Line(NamedTuple):
    """A named line; points are (place, value), in order."""

    name: str
    points: Sequence[tuple[float, float]]


def graph(
    title: str,
    lines: Sequence[Line],
    *,
    along: str = "epochs",
    marked: float | None = None,
    limits: tuple[float, float] | None = None,
) -> Html:
    """Return up to four lines over a common axis.

    Values that are no number leave a gap.

    Args:
        title: What is drawn, in a word or two.
        lines: The first four are drawn.
        along: What the horizontal axis counts.
        marked: A place on it with a dotted line, such as the best epoch.
        limits: The lowest and the highest value; None takes those that are there.

    Raises:
        ValueError: If no line has a point that is a number.
    """
    shown = [Line(one.name, _thinned(one.points)) for one in lines[: len(_COLOURS)]]
    finite = [point for one in shown for point in one.points if math.isfinite(point[0] + point[1])]
    if not finite:
        raise ValueError(f"{title} has no point to draw")
    places = [place for place, _ in finite]
    left, right = min(places), max(places)
    if left == right:  # after one epoch
        left, right = 0.0, right or 1.0
    low, high = limits or _range([value for _, value in finite])

    def across(place: float) -> float:
        return _LEFT + (place - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT)

    def down(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = []
    for value in (low, (low + high) / 2, high):
        y = down(value)
        parts.append(f'<path class="axis" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for place, anchor in ((left, "start"), (right, "end")):
        parts.append(
            f'<text x="{across(place):.1f}" y="{_HEIGHT - 10}" text-anchor="{anchor}">{place:g}'
            "</text>"
        )
    parts.append(
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 10}" text-anchor="middle">'
        f"{escape(along)}</text>"
    )
    if marked is not None and left <= marked <= right:
        parts.append(f'<path class="best" d="M{across(marked):.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
    for colour, one in zip(_COLOURS, shown, strict=False):
        path, is_apart = "", True
        for place, value in one.points:
            if math.isfinite(place + value):
                path += f"{'M' if is_apart else 'L'}{across(place):.1f} {down(value):.1f}"
            is_apart = not math.isfinite(place + value)
        parts.append(f'<path class="line" stroke="var(--{colour})" d="{path}"/>')
        if len(one.points) == 1 and path:  # a path of one point is not seen
            at, over = path[1:].split(" ")
            parts.append(f'<circle cx="{at}" cy="{over}" r="3" fill="var(--{colour})"/>')
    keys = "&ensp; ".join(
        keyed(f"var(--{colour})", one.name) for colour, one in zip(_COLOURS, shown, strict=False)
    )
    said = "; ".join(_in_words(one) for one in shown)
    return Html(
        f"<figure><figcaption><strong>{escape(title)}</strong>&ensp; {keys}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(f"{title} over {along}: {said}", quote=True)}">{"".join(parts)}</svg>'
        "</figure>"
    )


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Return a line's points, of many every second, third, ... and the last."""
    step = -(-len(points) // _MOST_POINTS) or 1
    kept = list(points[::step])
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Return the lowest and the highest value, apart from one another."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _in_words(line: Line) -> str:
    values = [value for _, value in line.points if math.isfinite(value)]
    return f"{line.name} from {values[0]:.3g} to {values[-1]:.3g}" if values else line.name
