"""A sweep's settings side by side: every job, the means and their confidence intervals."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from liverseg.sweeps.statistics import Group, Row, Summary, group_rows, label_groups

if TYPE_CHECKING:  # imported where they are needed, because it takes a second
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text
    from matplotlib.transforms import ScaledTranslation

_JOB, _MEAN, _BAND = "#0072B2", "#000000", "#f0f0f0"
_LINES = (_JOB, "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe & Ito (2008)
_MOST_ROWS = 30  # settings on a page
_FEWEST_VALUES = 3  # of a number, to draw a line over it
_CELL_WIDTH = 32  # characters


def draw_comparison(file: Path, rows: Sequence[Row], score: str = "dice") -> "Figure | None":
    """Draw a score of a sweep's jobs by setting, val and test side by side.

    A dot is a job, a mark the mean of the jobs that repeat a setting, a bar the 95 % confidence
    interval of that mean, see :func:`~liverseg.sweeps.statistics.group_rows`. Where a number was
    swept over at least three values, it is the horizontal axis, with a line for each choice of the
    rest. Otherwise each setting has a row, the best on top; of more than 30 the best 30 are shown.

    Args:
        file: The PNG file to write.
        rows: One mapping per job, as :func:`~liverseg.sweeps.statistics.group_rows` takes them.
        score: A score between 0 and 1, without its split.

    Returns:
        What was drawn; None where no job has the score, and then no file is written.
    """
    groups = group_rows(rows)
    names = [
        f"{split}/{score}"
        for split in ("val", "test")
        if any(f"{split}/{score}" in group.values for group in groups)
    ]
    if not names:
        return None
    key = _swept_number(groups)
    figure = _draw_rows(groups, names) if key is None else _draw_lines(groups, names, key)
    note = "dot: a job"
    if any(len(group.values.get(name, ())) > 1 for group in groups for name in names):
        note += "   mark: mean   bar: its 95 % confidence interval"
        note += "   ±: standard deviation" if key is None else ""
    if lost := sum(group.num_jobs - group.num_finished for group in groups):
        note += f"   {lost} of {len(rows)} jobs did not finish"
    if key is None and len(groups) > _MOST_ROWS:
        note += f"   the best {_MOST_ROWS} of {len(groups)} settings"
    figure.supxlabel(note, fontsize=8, color="#555555")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
    return figure


def _draw_rows(groups: Sequence[Group], names: Sequence[str]) -> "Figure":
    """Draw each setting as a row beside a table of them, the best by the first score on top."""
    from matplotlib.figure import Figure

    ranked = sorted(groups, key=lambda group: _rank(group, names[0]), reverse=True)[:_MOST_ROWS]
    is_repeated = any(len(group.values.get(name, ())) > 1 for group in groups for name in names)
    height = 0.44 if is_repeated else 0.26
    header, *lines = _table(ranked)
    size = (0.5 + 0.075 * len(header) + 4.3 * len(names), 1.2 + height * len(ranked))
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    panels: list[Axes] = list(figure.subplots(1, len(names), sharey=True, squeeze=False).flat)
    middles = [height * (place + 0.5) for place in range(len(ranked))]  # in inches, downwards
    for panel, name in zip(panels, names, strict=True):
        for middle, group in zip(middles, ranked, strict=True):
            if name in group.values:
                _draw_row(panel, middle, group.values[name], group.scores[name])
        for middle in middles[1::2]:
            panel.axhspan(middle - height / 2, middle + height / 2, color=_BAND, zorder=0)
        panel.set_xlim(*_limits(ranked, names))
        panel.set_ylim(height * len(ranked), -0.25)
        panel.set_title(name, loc="left")
        panel.grid(axis="x", alpha=0.3)
        panel.tick_params(axis="y", length=0)
    panels[0].set_yticks([-0.12, *middles], [header, *lines], fontsize=8, family="monospace")
    panels[0].get_yticklabels()[0].set_fontweight("bold")
    _show_dollars(panels[0].get_yticklabels())
    return figure


def _rank(group: Group, name: str) -> float:
    """Return a mean to sort by, below all others where there is none."""
    mean = group.scores[name].mean if name in group.values else math.nan
    return -math.inf if math.isnan(mean) else mean


def _table(groups: Sequence[Group]) -> list[str]:
    """Return a header and one line per group: what differs between them, and their jobs."""
    settings = [_settings(group) for group in groups]
    keys = list(dict.fromkeys(key for setting in settings for key in setting))
    if len(groups) > 1:
        keys = [key for key in keys if len({setting.get(key) for setting in settings}) > 1]
    short = [key.rpartition(".")[2] for key in keys]
    columns = [
        [name if short.count(name) == 1 else key, *(setting.get(key, "") for setting in settings)]
        for key, name in zip(keys, short, strict=True)
    ]
    if not columns or any((group.num_jobs, group.num_finished) != (1, 1) for group in groups):
        finished = [
            f"{group.num_finished}"
            + (f" of {group.num_jobs}" if group.num_finished < group.num_jobs else "")
            for group in groups
        ]
        columns.append(["jobs", *finished])
    cut = [[_cut(cell) for cell in column] for column in columns]
    widths = [max(map(len, column)) for column in cut]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in zip(*cut, strict=True)
    ]


def _show_dollars(texts: "Iterable[Text]") -> None:
    """Have $ shown as it is, which else begins a formula; overrides may hold ${key}."""
    for text in texts:
        text.set_parse_math(False)


def _cut(text: str) -> str:
    return text if len(text) <= _CELL_WIDTH else text[: _CELL_WIDTH - 1] + "…"


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


def _draw_lines(groups: Sequence[Group], names: Sequence[str], key: str) -> "Figure":
    """Draw the score over a swept number, one line for each choice of the other overrides."""
    from matplotlib.figure import Figure
    from matplotlib.transforms import ScaledTranslation

    series = _series(groups, key)
    words = {float(value): value for group in groups for value in [_settings(group)[key]]}
    is_log = min(words) > 0 and max(words) >= 10 * min(words)
    size = (1.5 + 4.5 * len(names), 4.6)
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    panels: list[Axes] = list(figure.subplots(1, len(names), sharey=True, squeeze=False).flat)
    for panel, name in zip(panels, names, strict=True):
        for place, (label, members) in enumerate(series.items()):
            # Lines a few points apart, lest their bars hide one another.
            inches = (place - (len(series) - 1) / 2) / 18
            shift = ScaledTranslation(inches, 0, figure.dpi_scale_trans)
            line = [(float(_settings(group)[key]), group) for group in members]
            _draw_line(panel, line, name, colour=_LINES[place], label=label, shift=shift)
        panel.set_xscale("log" if is_log else "linear")
        panel.set_xlim(*_widened(min(words), max(words), is_log))
        if len(words) <= 10:
            panel.set_xticks(sorted(words), [words[value] for value in sorted(words)])
            panel.minorticks_off()
        panel.set_ylim(*_limits(groups, names))
        panel.set_title(name, loc="left")
        panel.set_xlabel(key)
        panel.grid(alpha=0.3)
    if len(series) > 1:
        handles, labels = panels[0].get_legend_handles_labels()
        columns = 1 if max(map(len, labels)) > _CELL_WIDTH else 3
        legend = figure.legend(
            handles, labels, loc="outside upper center", ncols=columns, frameon=False
        )
        _show_dollars(legend.get_texts())
    return figure


def _widened(low: float, high: float, is_log: bool) -> tuple[float, float]:
    """Return an axis with a margin on both sides."""
    if is_log:
        factor = (high / low) ** 0.08
        return low / factor, high * factor
    return low - 0.08 * (high - low), high + 0.08 * (high - low)


def _draw_line(
    panel: "Axes",
    groups: Sequence[tuple[float, Group]],
    name: str,
    *,
    colour: str,
    label: str,
    shift: "ScaledTranslation",
) -> None:
    """Draw jobs as dots, means as a line, intervals as bars, of groups by their number."""
    scored = [(place, group) for place, group in groups if name in group.values]
    shown = sorted(scored, key=lambda item: item[0])
    transform = panel.transData + shift
    for place, group in shown:
        values, summary = group.values[name], group.scores[name]
        places = [place] * len(values)
        panel.plot(places, values, "o", color=colour, markersize=4, alpha=0.6, transform=transform)
        if summary.low is not None and summary.high is not None:
            ends = [summary.low, summary.high]
            panel.plot([place, place], ends, color=colour, linewidth=1, transform=transform)
    means = [group.scores[name].mean for _, group in shown]
    places = [place for place, _ in shown]
    panel.plot(places, means, color=colour, marker="_", label=label, transform=transform)


def _settings(group: Group) -> dict[str, str]:
    pairs = (override.partition("=") for override in group.overrides)
    return {key: value for key, _, value in pairs}


def _swept_number(groups: Sequence[Group]) -> str | None:
    """Return the key of the number to draw a line over, or None."""
    settings = [_settings(group) for group in groups]
    keys = dict.fromkeys(key for setting in settings for key in setting)
    counts = {
        key: len({float(setting[key]) for setting in settings})
        for key in keys
        if all(_is_number(setting.get(key, "")) for setting in settings)
    }
    for key in sorted(counts, key=lambda key: -counts[key]):
        lines = _series(groups, key).values()
        if len(lines) <= len(_LINES) and min(map(len, lines)) >= _FEWEST_VALUES:
            return key
    return None


def _series(groups: Sequence[Group], key: str) -> dict[str, list[Group]]:
    """Return the groups that differ in one key alone, by a label of the rest."""
    rest = [
        Group(
            tuple(one for one in group.overrides if one.partition("=")[0] != key),
            group.num_jobs,
            group.num_finished,
            group.values,
        )
        for group in groups
    ]
    labels = label_groups(rest)
    series: dict[str, list[Group]] = {}
    for label, group in zip(labels, groups, strict=True):
        series.setdefault(label, []).append(group)
    return series


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _limits(groups: Sequence[Group], names: Sequence[str]) -> tuple[float, float]:
    """Return an axis that holds every job and, within 0 ... 1, every interval."""
    ends: list[float] = []
    for group in groups:
        for name in names:
            ends += group.values.get(name, ())
            if name in group.values:
                summary = group.scores[name]
                ends += [end for end in (summary.low, summary.high) if end is not None]
    finite = [min(max(end, 0.0), 1.0) for end in ends if math.isfinite(end)] or [0.0, 1.0]
    margin = max(0.04 * (max(finite) - min(finite)), 0.005)
    return max(min(finite) - margin, -0.005), min(max(finite) + margin, 1.005)
