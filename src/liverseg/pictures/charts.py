"""The curves of a run: loss, scores and learning rate over the epochs."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from liverseg.pictures.colours import Colour, class_colour
from liverseg.pictures.history import read_history
from liverseg.pictures.lettering import find_letters, legend_columns, shortened
from liverseg.scores import AVERAGES, CATALOGUE, score_of

if TYPE_CHECKING:  # imported where they are needed, because it takes a second
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Curve = list[tuple[float, float]]  # (epochs done, value)
_TRAIN, _VAL, _TEST, _QUIET = "#0072B2", "#D55E00", "#000000", "#999999"  # of Okabe & Ito (2008)
_STYLES = ("-", "--", ":", "-.")  # of classes, besides their colours
_MOST_MARKED = 40  # points of a curve


def read_curves(file: str | Path) -> dict[str, Curve]:
    """Return every curve of a run's history, by name.

    A run that was resumed wrote some epochs twice: what was written later replaces what stood at
    its step and after.

    Args:
        file: The run's ``curves.csv``, see :class:`liverseg.pictures.history.History`.

    Returns:
        Points (epochs done, value) in order: what the first epoch ended with stands at 1. Empty
        where no epoch has ended.
    """
    steps: dict[str, list[tuple[int, float]]] = {}
    for step, tag, value in read_history(file):
        points = steps.setdefault(tag, [])
        while points and points[-1][0] >= step:
            points.pop()
        points.append((step, value))
    # Each epoch that ends leaves one point of it.
    ends = enumerate(steps.get("train/loss", []), start=1)
    anchors = [(0, 0), *((step + 1, epoch) for epoch, (step, _) in ends)]
    if len(anchors) == 1:
        return {}
    return {
        tag: [(_epochs_done(step + 1, anchors), value) for step, value in points]
        for tag, points in steps.items()
        if tag != "epoch"  # which Lightning adds
    }


def draw_curves(
    file: Path,
    curves: Mapping[str, Curve],
    *,
    monitor: str = "val/dice",
    mode: Literal["min", "max"] = "max",
    test: Mapping[str, float] | None = None,
) -> "Figure | None":
    """Draw loss, Dice, IoU and learning rate over the epochs of a run.

    Where ``monitor`` is another score than Dice, it has the place of IoU. Both are averaged as it
    is. Where there are several classes, the val score of
    each is a thin line, in the colour that the class has in pictures, and named at the side. The
    best epoch is marked, and the test scores stand there, because they are those of its checkpoint.
    Train scores are counted while the weights change and the images are augmented, so they may lie
    below those of val.

    Args:
        file: The PNG file to write.
        curves: What :func:`read_curves` returned; curves that are missing are left out.
        monitor: The curve that chooses the best epoch.
        mode: Whether its largest or smallest value is best.
        test: Final scores by name, such as ``test/dice``; other names are ignored.

    Returns:
        What was drawn; None where there is nothing to draw, and then no file is written.
    """
    watched = score_of(monitor.partition("/")[2])
    average = watched[1] if watched else ""
    words = dict.fromkeys(["dice", watched[0].word if watched else "iou"])
    words = words if len(words) > 1 else {"dice": None, "iou": None}
    scores = {"loss": "loss"}
    for word in words:
        ends = [end for end in (average, *AVERAGES) if end in CATALOGUE[word].averages]
        scores[word + ends[0]] = f"{CATALOGUE[word].title} ({AVERAGES[ends[0]]})"
    drawn = {
        name: title
        for name, title in scores.items()
        if curves.get(f"train/{name}") or curves.get(f"val/{name}")
    }
    rates = curves.get("train/lr", [])
    if not drawn:
        return None
    from matplotlib.figure import Figure

    last = max(points[-1][0] for points in curves.values() if points)
    best = _best(curves.get(monitor, []), mode)
    figure = Figure(figsize=(10, 6.5), dpi=120, layout="constrained")
    axes: list[Axes] = list(figure.subplots(2, 2).flat)
    for panel, (name, title) in zip(axes, drawn.items(), strict=False):
        _draw_score(panel, curves, name, best, (test or {}).get(f"test/{name}"))
        panel.set_title(title, loc="left", fontsize=11)
        if (found := score_of(name)) and found[0].most == 1:
            panel.set_ylim(-0.02, 1.02)  # a curve at 0 is seen too
    if rates:
        _draw_rates(axes[len(drawn)], rates)
    for panel in axes[len(drawn) + bool(rates) :]:
        panel.remove()
    for panel in axes[: len(drawn) + bool(rates)]:
        _count_epochs(panel, last)
        if best is not None:
            panel.axvline(best, color=_QUIET, linestyle=":", zorder=1)
    handles, labels = axes[0].get_legend_handles_labels()
    if best is not None:
        handles.append(axes[0].lines[-1])
        labels.append(f"best epoch by {monitor}: {best:g} of {last:g}")
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    _name_classes(figure, axes[: len(drawn)], curves, drawn)
    find_letters(figure)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
    return figure


def _epochs_done(step: int, anchors: Sequence[tuple[int, int]]) -> float:
    """Return how many epochs a number of steps is, on the line through anchors (steps, epochs)."""
    place = min(max(bisect_left(anchors, (step, 0)), 1), len(anchors) - 1)
    (step_before, before), (step_after, after) = anchors[place - 1], anchors[place]
    return before + (after - before) * (step - step_before) / (step_after - step_before)


def _best(points: Curve, mode: Literal["min", "max"]) -> float | None:
    """Return where a curve is best, the first place of several."""
    finite = [point for point in points if math.isfinite(point[1])]
    if not finite:
        return None
    sign = 1 if mode == "max" else -1
    return max(finite, key=lambda point: sign * point[1])[0]


def _draw_score(
    panel: "Axes",
    curves: Mapping[str, Curve],
    name: str,
    best: float | None,
    test: float | None,
) -> None:
    """Draw a score of train and val, of each class on val, and the test score at the best epoch."""
    classes = [tag for tag in curves if tag.startswith(f"val/{name}/")]
    for place, tag in enumerate(classes):
        panel.plot(
            *zip(*curves[tag], strict=True),
            color=_on_paper(class_colour(place + 1)),
            linestyle=_STYLES[place % len(_STYLES)],
            linewidth=1,
            marker="." if len(curves[tag]) <= _MOST_MARKED else None,
            markersize=2,
        )
    figures = []
    for split, colour in (("train", _TRAIN), ("val", _VAL)):
        points = curves.get(f"{split}/{name}", [])
        marker = "o" if len(points) <= _MOST_MARKED else None
        panel.plot(
            [epoch for epoch, _ in points],
            [value for _, value in points],
            color=colour,
            marker=marker,
            markersize=3,
            label=split,
        )
        figures += [f"{split} {value:.3f}" for epoch, value in points if epoch == best]
    if best is not None and test is not None:
        panel.plot([best], [test], "D", color=_TEST, fillstyle="none", markersize=7, label="test")
        figures.append(f"test {test:.3f}")
    if figures:
        panel.set_title("  ".join([f"epoch {best:g}:", *figures]), loc="right", fontsize=8)


def _name_classes(
    figure: "Figure", axes: Sequence["Axes"], curves: Mapping[str, Curve], drawn: Iterable[str]
) -> None:
    """Name the curves of classes beside the panels, and make room for that."""
    named: dict[str, Line2D] = {}
    for panel, score in zip(axes, drawn, strict=True):
        start = f"val/{score}/"
        names = [tag.removeprefix(start) for tag in curves if tag.startswith(start)]
        named = dict(zip(names, panel.lines, strict=False)) | named
    if not named:
        return
    columns = legend_columns(len(named))
    figure.set_figwidth(figure.get_figwidth() + 1.8 * columns)
    legend = figure.legend(
        named.values(),
        [shortened(name) for name in named],
        title="val, class by class",
        loc="outside right upper",
        ncols=columns,
        fontsize=8,
        title_fontsize=8,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # $ is a letter of a name


def _on_paper(colour: Colour) -> tuple[float, ...]:
    """Return a class's colour, darker where it would be lost on white."""
    red, green, blue = (part / 255 for part in colour)
    brightness = 0.3 * red + 0.6 * green + 0.1 * blue
    share = min(1.0, 0.65 / brightness) if brightness else 1.0
    return red * share, green * share, blue * share


def _draw_rates(panel: "Axes", rates: Curve) -> None:
    """Draw the learning rate, each value back to where the one before it was noted."""
    epochs, values = zip((0.0, rates[0][1]), *rates, strict=True)
    panel.plot(epochs, values, color=_TRAIN, drawstyle="steps-pre", label="train/lr")
    panel.set_title("learning rate", loc="left", fontsize=11)
    panel.set_ylim(bottom=0)
    panel.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _count_epochs(panel: "Axes", last: float) -> None:
    from matplotlib.ticker import MaxNLocator

    panel.set_xlim(0, 1.03 * last)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panel.set_xlabel("epochs")
    panel.grid(alpha=0.3)
