"""The final scores as tables, as they stand in the terminal at the end of a run."""

from collections.abc import Iterable, Mapping, Sequence

from liverseg.scores.metrics import SCORES, SegmentationScores

_NAME_WIDTH, _CELL_WIDTH = 12, 9  # at least
_PER_CLASS = ("dice", "iou", "dice_pooled", "images")


def images_that_hold(scores: SegmentationScores) -> dict[str, float]:
    """Return in how many images each class is true, as ``images/NAME``; empty for one class."""
    if len(scores.class_names) < 2:
        return {}
    true_positive, _, false_negative = scores.table()[2].unbind(dim=2)  # (images, classes)
    counts = (true_positive + false_negative > 0).sum(dim=0).tolist()
    names = (f"images/{name}" for name in scores.class_names)
    return dict(zip(names, map(float, counts), strict=True))


def summary(scores: Mapping[str, float], monitor: str = "") -> str:
    """Return loss, Dice and IoU of each split as a table, and one of the classes of each split.

    Args:
        scores: Final scores by name, such as ``val/dice`` and, where there are several classes,
            ``val/dice/liver`` and ``val/images/liver``.
        monitor: The score that chose the checkpoint; it has a row, also where it is of one class.
    """
    splits = [split for split in ("val", "test") if f"{split}/dice" in scores]
    shown = dict.fromkeys(("loss", *SCORES, monitor.partition("/")[2]))
    names = [name for name in shown if any(f"{split}/{name}" in scores for split in splits)]
    rows = [(name, [scores.get(f"{split}/{name}") for split in splits]) for name in names]
    tables = [_table("", splits, rows)]
    for split in splits:
        start = f"{split}/dice/"
        classes = [key.removeprefix(start) for key in scores if key.startswith(start)]
        columns = [
            name for name in _PER_CLASS if any(f"{split}/{name}/{one}" in scores for one in classes)
        ]
        if classes:
            cells = [[scores.get(f"{split}/{name}/{one}") for name in columns] for one in classes]
            tables.append(_table(split, columns, zip(classes, cells, strict=True)))
    return "\n\n".join(tables)


def _table(
    corner: str, columns: Sequence[str], rows: Iterable[tuple[str, Sequence[float | None]]]
) -> str:
    """Return lines of cells, each column as wide as its widest cell and a gap of two."""
    lines = [
        [corner, *columns],
        *(
            [name, *(_number(cell, column) for cell, column in zip(cells, columns, strict=True))]
            for name, cells in rows
        ),
    ]
    first, *others = (max(map(len, column)) for column in zip(*lines, strict=True))
    first = max(_NAME_WIDTH, first + 1)
    widths = [max(_CELL_WIDTH, width + 2) for width in others]
    return "\n".join(
        name.ljust(first) + "".join(map(str.rjust, cells, widths)) for name, *cells in lines
    )


def _number(value: float | None, column: str) -> str:
    """Return a number with four places, with a power of ten where it is long."""
    if value is None:
        return ""
    if column == "images":
        return f"{value:.0f}"
    return f"{value:.3e}" if abs(value) >= 1e6 else f"{value:.4f}"
