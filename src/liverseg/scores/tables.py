"""The final scores as tables, as they stand in the terminal at the end of a run."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from liverseg.scores.catalogue import CATALOGUE, ECE, keys_of
from liverseg.scores.final import FALSE_ALARMS, INFINITE, MISSED, ends_of

_NAME_WIDTH, _CELL_WIDTH = 12, 9  # at least
_INTERVAL = "95 % interval"
_WHOLE = (MISSED, FALSE_ALARMS, "images")
_PER_CLASS = ("dice", "iou", "precision", "recall", "dice_pooled", "images")


class ScoreTable(NamedTuple):
    """Cells as they are shown; the first column is the header of the rows."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def summary(scores: Mapping[str, float], monitor: str = "") -> str:
    """Return loss and scores of each split as a table, and one of the classes of each split.

    Args:
        scores: Final scores by name, such as ``val/dice``, ``val/dice_low`` and, where there are
            several classes, ``val/dice/liver`` and ``val/images/liver``.
        monitor: The score that chose the checkpoint; it has a row, also where it is of one class.
    """
    tables = [_table(table) for table in score_tables(scores, monitor)]
    return "\n\n".join([*tables, *intervals_note(scores)])


def score_tables(scores: Mapping[str, float], monitor: str = "") -> list[ScoreTable]:
    """Return what :func:`summary` shows, cell by cell; columns without a cell are left out."""
    splits = _splits(scores)
    keys = [one for key in keys_of(list(CATALOGUE)) for one in (key, key + INFINITE)]
    shown = dict.fromkeys(("loss", *keys, MISSED, FALSE_ALARMS, ECE, monitor.partition("/")[2]))
    names = [
        name
        for name in shown
        if any(
            f"{split}/{name}" in scores and (scores[f"{split}/{name}"] or INFINITE not in name)
            for split in splits
        )
    ]
    rows = [
        [name, *(cell for split in splits for cell in _cells(scores, f"{split}/{name}"))]
        for name in names
    ]
    header = ["", *(word for split in splits for word in (split, _INTERVAL))]
    tables = [_kept(header, rows)]
    for split in splits:
        start = f"{split}/dice/"
        classes = [key.removeprefix(start) for key in scores if key.startswith(start)]
        columns = [
            name for name in _PER_CLASS if any(f"{split}/{name}/{one}" in scores for one in classes)
        ]
        if classes:
            rows = [
                [
                    one,
                    *(cell for name in columns for cell in _cells(scores, f"{split}/{name}/{one}")),
                ]
                for one in classes
            ]
            header = [split, *(word for name in columns for word in (name, _INTERVAL))]
            tables.append(_kept(header, rows))
    return tables


def _splits(scores: Mapping[str, float]) -> list[str]:
    return [split for split in ("val", "test") if f"{split}/dice" in scores]


def _kept(header: Sequence[str], rows: Sequence[Sequence[str]]) -> ScoreTable:
    """Return a table without the columns that hold nothing."""
    kept = [0, *(at for at in range(1, len(header)) if any(row[at] for row in rows))]
    return ScoreTable([header[at] for at in kept], [[row[at] for at in kept] for row in rows])


def _cells(scores: Mapping[str, float], name: str) -> list[str]:
    """Return a number, and its interval where there is one."""
    _, word, *of_class = name.split("/")
    low, high = (scores.get(end) for end in ends_of(name))
    if of_class and word != "dice":  # classes have a column for each score, and no room for more
        low = None
    value = scores.get(name)
    interval = "" if low is None or high is None else _interval(low, high, value)
    return [_number(value, word), interval]


def _interval(low: float, high: float, value: float | None) -> str:
    """Return an interval with three places, rounded outward where its number would lie outside.

    >>> _interval(0.9995, 0.9998, 0.9996)
    '0.999 to 1.000'
    """
    left, right = round(low, 3), round(high, 3)
    if value is not None:
        left -= 0.001 * (round(value, 4) < left > low)
        right += 0.001 * (round(value, 4) > right < high)
    return f"{left:.3f} to {right:.3f}"


def intervals_note(scores: Mapping[str, float]) -> list[str]:
    """Say over what the intervals are; nothing where there is none."""
    over = []
    for split in _splits(scores):
        if f"{split}/dice_low" in scores:
            what = "patients" if f"{split}/patients" in scores else "images"
            over.append(f"the {scores[f'{split}/{what}']:.0f} {what} of {split}")
    return [f"intervals: 95 %, over {' and '.join(over)}"] if over else []


def _table(table: ScoreTable) -> str:
    """Return lines of cells, each column as wide as its widest cell and a gap of two."""
    lines = [table.header, *table.rows]
    first, *others = (max(map(len, column)) for column in zip(*lines, strict=True))
    first = max(_NAME_WIDTH, first + 1)
    widths = [max(_CELL_WIDTH, width + 2) for width in others]
    return "\n".join(
        name.ljust(first) + "".join(map(str.rjust, cells, widths)) for name, *cells in lines
    )


def _number(value: float | None, word: str) -> str:
    """Return a number with four places, with a power of ten where it is long."""
    if value is None:
        return ""
    if word in _WHOLE or word.endswith(INFINITE):
        return f"{value:.0f}"
    return f"{value:.3e}" if abs(value) >= 1e6 else f"{value:.4f}"
