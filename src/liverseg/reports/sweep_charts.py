"""A sweep's settings side by side: every job, the means and their confidence intervals."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from liverseg.pictures import find_letters
from liverseg.runs import shortened, write_bytes
from liverseg.sweeps import Group, Row, Summary, group_rows, labels, monitored

if TYPE_CHECKING:  # imported where they are needed, because it takes a second
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text
    from matplotlib.transforms import ScaledTranslation

_JOB, _MEAN, _BAND = "#0072B2", "#000000", "#f0f0f0"
_LINES = (_JOB, "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe & Ito (2008)
_MOST_ROWS = 30  # settings on a page
_FEWEST_VALUES = 3  # of a number, to draw a line over it
_TABLE_WIDTH, _CELL_WIDTH = 96, 32  # characters


def draw_comparison(file: Path, rows: Sequence[Row]) -> "Figure | None":
    """Draw the score that a sweep's jobs monitor by setting, val and test side by side.

    A dot is a job, a mark the mean of the jobs that repeat a setting, a bar the 95 % confidence
    interval of that mean, see :func:`~liverseg.sweeps.group_rows`. Where a number was
    swept over at least three values, it is the horizontal axis, with a line for each choice of the
    rest. Otherwise each setting has a row, the best on top; of more than 30 the best 30 are shown.
    Of a single setting each job has a row, in its order, and all of them the last one.

    Args:
        file: The PNG file to write.
        rows: As :func:`~liverseg.sweeps.table.row_of` makes them. Where jobs monitor several
            scores, that of the first is drawn.

    Returns:
        What was drawn; None where no job has the score, and then no file is written.
    """
    monitor = next((row["monitor"] for row in rows), "")
    groups = group_rows(rows)
    names = monitored([{**row, "monitor": monitor} for row in rows if row["status"] == "done"])
    if not names:
        return None
    is_loss = rows[0]["mode"] == "min"
    most = math.inf if is_loss else 1.0
    note = "dot: a job"
    if is_repeated := any(
        len(group.values.get(name, ())) > 1 for group in groups for name in names
    ):
        note += "   mark: mean   bar: its 95 % confidence interval"
    if key := _swept_number(groups):
        figure = _draw_lines(groups, names, key, most)
    else:
        note += "   ±: standard deviation" if is_repeated else ""
        ranked = sorted(groups, key=lambda group: _rank(group, names[0], is_loss))[:_MOST_ROWS]
        if len(groups) == 1 and len(rows) > 1:
            ranked = [*group_rows(rows, over=())[: _MOST_ROWS - 1], *groups]
        figure = _draw_rows(ranked, names, most, height=0.44 if is_repeated else 0.26)
    if lost := sum(group.num_jobs - group.num_finished for group in groups):
        note += f"   {lost} of {len(rows)} jobs did not finish"
    if key is None and len(groups) > _MOST_ROWS:
        note += f"   the best {_MOST_ROWS} of {len(groups)} settings"
    figure.supxlabel(note, fontsize=8, color="#555555")
    find_letters(figure)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_bytes(file, picture.getvalue())
    return figure


def _rank(group: Group, name: str, is_loss: bool) -> float:
    """Return what to sort by, best first, and last of all where there is no mean."""
    mean = group.scores[name].mean if name in group.values else math.nan
    return math.inf if math.isnan(mean) else mean if is_loss else -mean


def _draw_rows(
    groups: Sequence[Group], names: Sequence[str], most: float, *, height: float
) -> "Figure":
    """Draw each setting as a row, ``height`` inches high, beside a table of them."""
    header, *lines = _table(groups)
    panels = _panels((0.5 + 0.075 * len(header), 1.2 + height * len(groups)), names)
    middles = [height * (place + 0.5) for place in range(len(groups))]  # in inches, downwards
    for panel, name in zip(panels, names, strict=True):
        for middle, group in zip(middles, groups, strict=True):
            if name in group.values:
                _draw_row(panel, middle, group.values[name], group.scores[name])
        for middle in middles[1::2]:
            panel.axhspan(middle - height / 2, middle + height / 2, color=_BAND, zorder=0)
        panel.set_xlim(*_limits(groups, names, most))
        panel.set_ylim(height * len(groups), -0.25)
        panel.grid(axis="x", alpha=0.3)
        panel.tick_params(axis="y", length=0)
    panels[0].set_yticks([-0.12, *middles], [header, *lines], fontsize=8, family="monospace")
    panels[0].get_yticklabels()[0].set_fontweight("bold")
    _show_dollars(panels[0].get_yticklabels())
    figure: Figure = panels[0].get_figure(root=True)  # type: ignore[assignment]  # never None here
    return figure


def _panels(size: tuple[float, float], names: Sequence[str]) -> "list[Axes]":
    """Return one panel per score, side by side, of a figure; ``size`` is what else it needs."""
    from matplotlib.figure import Figure

    figure = Figure((size[0] + 4.3 * len(names), size[1]), dpi=120, layout="constrained")
    panels: list[Axes] = list(figure.subplots(1, len(names), sharey=True, squeeze=False).flat)
    for panel, name in zip(panels, names, strict=True):
        panel.set_title(name, loc="left")
    return panels


def _table(groups: Sequence[Group]) -> list[str]:
    """Return a header and one line per group: what differs between them, and their jobs."""
    settings = [group.setting for group in groups]
    keys = list(dict.fromkeys(key for setting in settings for key in setting))
    keys = [key for key in keys if len({setting.get(key) for setting in settings}) > 1]
    short = [key.rpartition(".")[2] for key in keys]
    columns = [
        [
            name if short.count(name) == 1 else key,
            *(shortened(setting.get(key, "")) for setting in settings),
        ]
        for key, name in zip(keys, short, strict=True)
    ]
    if not columns or any((group.num_jobs, group.num_finished) != (1, 1) for group in groups):
        finished = [
            f"{group.num_finished}"
            + (f" of {group.num_jobs}" if group.num_finished < group.num_jobs else "")
            for group in groups
        ]
        columns.append(["jobs", *finished])
    longest, most = [max(map(len, column)) for column in columns], _CELL_WIDTH
    while most > 6 and sum(min(most, length) + 2 for length in longest) > _TABLE_WIDTH:
        most -= 1
    cut = [
        [cell if len(cell) <= most else cell[: most - 1] + "…" for cell in column]
        for column in columns
    ]
    padded = [[cell.rjust(max(map(len, column))) for cell in column] for column in cut]
    return ["  ".join(line) for line in zip(*padded, strict=True)]


def _show_dollars(texts: "Iterable[Text]") -> None:
    """Have $ shown as it is, which else begins a formula; overrides may hold ${key}."""
    for text in texts:
        text.set_parse_math(False)


def _draw_row(panel: "Axes", middle: float, values: Sequence[float], summary: Summary) -> None:
    """Draw a row's jobs as dots, mean and interval below them, and its figures beside it."""
    text, heights = f"{summary.mean:.3f}", [middle]
    if summary.low is not None and summary.high is not None:
        below = middle + 0.09
        panel.plot([summary.low, summary.high], [below, below], color=_MEAN, linewidth=1.2)
        panel.plot([summary.mean], [below], "|", color=_MEAN, markersize=9, markeredgewidth=2)
        text += f" ± {summary.std:.3f}"
        # One above the other in their order, lest equal scores hide one another.
        heights = [middle - 0.13 + 0.13 * place / (len(values) - 1) for place in range(len(values))]
    panel.plot(values, heights, "o", color=_JOB, markersize=4, alpha=0.7, markeredgewidth=0)
    transform = panel.get_yaxis_transform()
    panel.text(1.02, middle, text, transform=transform, fontsize=8, va="center")


def _draw_lines(groups: Sequence[Group], names: Sequence[str], key: str, most: float) -> "Figure":
    """Draw the score over a swept number, one line for each choice of the other overrides."""
    from matplotlib.transforms import ScaledTranslation

    series = _series(groups, key)
    words = {float(group.setting[key]): group.setting[key] for group in groups}
    low, high = min(words), max(words)
    is_log = low > 0 and high >= 10 * low
    panels = _panels((1.5, 4.6), names)
    figure: Figure = panels[0].get_figure(root=True)  # type: ignore[assignment]  # never None here
    for panel, name in zip(panels, names, strict=True):
        for place, (label, members) in enumerate(series.items()):
            # Lines a few points apart, lest their bars hide one another.
            inches = (place - (len(series) - 1) / 2) / 18
            shift = ScaledTranslation(inches, 0, figure.dpi_scale_trans)
            scored = {float(one.setting[key]): one for one in members if name in one.values}
            told, colour = shortened(label), _LINES[place]
            _draw_line(panel, scored, name, colour=colour, label=told, shift=shift)
        panel.set_xscale("log" if is_log else "linear")
        margin = (high / low) ** 0.08 if is_log else 0.08 * (high - low)
        panel.set_xlim((low / margin, high * margin) if is_log else (low - margin, high + margin))
        if len(words) <= 10:
            panel.set_xticks(sorted(words), [shortened(words[value]) for value in sorted(words)])
            panel.minorticks_off()
        panel.set_ylim(*_limits(groups, names, most))
        panel.set_xlabel(key)
        panel.grid(alpha=0.3)
    if len(series) > 1:
        columns = 1 if max(map(len, series)) > _CELL_WIDTH else 3
        lines, shown = panels[0].get_legend_handles_labels()
        legend = figure.legend(
            lines, shown, loc="outside upper center", ncols=columns, frameon=False
        )
        _show_dollars(legend.get_texts())
    return figure


def _draw_line(
    panel: "Axes",
    groups: Mapping[float, Group],
    name: str,
    *,
    colour: str,
    label: str,
    shift: "ScaledTranslation",
) -> None:
    """Draw jobs as dots, means as a line, intervals as bars, of groups by their number."""
    transform = panel.transData + shift
    means = []
    for place, group in sorted(groups.items()):
        values, summary = group.values[name], group.scores[name]
        places = [place] * len(values)
        panel.plot(places, values, "o", color=colour, markersize=4, alpha=0.6, transform=transform)
        if summary.low is not None and summary.high is not None:
            ends = [summary.low, summary.high]
            panel.plot([place, place], ends, color=colour, linewidth=1, transform=transform)
        means.append(summary.mean)
    panel.plot(sorted(groups), means, color=colour, marker="_", label=label, transform=transform)


def _swept_number(groups: Sequence[Group]) -> str | None:
    """Return the key of the number to draw a line over, or None."""
    keys = dict.fromkeys(key for group in groups for key in group.setting)
    counts = {
        key: len({float(group.setting[key]) for group in groups})
        for key in keys
        if all(_is_number(group.setting.get(key, "")) for group in groups)
    }
    for key in sorted(counts, key=lambda key: -counts[key]):
        lines = _series(groups, key).values()
        if len(lines) <= len(_LINES) and min(map(len, lines)) >= _FEWEST_VALUES:
            return key
    return None


def _series(groups: Sequence[Group], key: str) -> dict[str, list[Group]]:
    """Return the groups that differ in one key alone, by a label of the rest."""
    rest = [{one: word for one, word in group.setting.items() if one != key} for group in groups]
    series: dict[str, list[Group]] = {}
    for label, group in zip(labels(rest), groups, strict=True):
        series.setdefault(label, []).append(group)
    return series


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _limits(groups: Sequence[Group], names: Sequence[str], most: float) -> tuple[float, float]:
    """Return an axis that holds every job and, within 0 ... ``most``, every interval."""
    shown = [(group, name) for group in groups for name in names if name in group.values]
    ends = [value for group, name in shown for value in group.values[name]]
    for group, name in shown:
        summary = group.scores[name]
        ends += [end for end in (summary.low, summary.high) if end is not None]
    finite = [min(max(end, 0.0), most) for end in ends if math.isfinite(end)] or [0.0, 1.0]
    margin = max(0.04 * (max(finite) - min(finite)), 0.005)
    return max(min(finite) - margin, -0.005), min(max(finite) + margin, most + 0.005)
