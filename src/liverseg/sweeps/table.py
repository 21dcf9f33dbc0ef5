"""What came out of a sweep: a table at its end, the same as ``sweep.csv``, and statistics."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from liverseg.runs import Job, shortened, telling, write_text

SHOWN = ("val/dice", "val/iou", "test/dice", "test/iou")
_LONGEST_CELL = 60
Row = dict[str, Any]


def rows_of(jobs: Sequence[Job]) -> list[Row]:
    """Return one row per job: job, status, overrides (a list), seconds, error, and its scores.

    Overrides that tell no jobs apart are left out.
    """
    rows = []
    for job in jobs:
        record, status = job.record(), job.status()
        rows.append(
            {
                "job": job.folder.name,
                "status": status,
                "overrides": telling(job.overrides, job.swept),
                "seconds": record["seconds"],
                "error": record.get("error", "") if status == "failed" else "",
                **job.scores(),
            }
        )
    return rows


def outcome(job: Job) -> str:
    """Return how a job has ended, in one line: its status, its Dice or its error, its time."""
    (row,) = rows_of([job])
    dice = [f"{name} {row[name]:.4f}" for name in ("val/dice", "test/dice") if name in row]
    told = [text for text in (", ".join(dice), row["error"]) if text]
    sentence = ": ".join([f"{row['job']} is {row['status']}", *told])
    return f"{sentence} ({_duration(row['seconds'])})"


def write_csv(file: Path, rows: Sequence[Row]) -> None:
    """Write all columns of all rows; scores are empty where a job has none."""
    first = ["job", "status", "overrides", "seconds", "error"]
    scores = sorted({name for row in rows for name in row} - set(first))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [*first, *scores], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "overrides": " ".join(row["overrides"])} for row in rows)
    write_text(file, stream.getvalue())


def format_rows(rows: Sequence[Row]) -> str:
    """Return rows as aligned columns under a header; columns that no row fills are left out."""
    cells = [_cells(row, _shared(rows)) for row in rows]
    order = ("job", "overrides", *SHOWN, "status", "time", "error")
    names = [name for name in order if any(row[name] for row in cells)]
    lines = [names, *([row[name] for name in names] for row in cells)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _shared(rows: Sequence[Row]) -> set[str]:
    """Return the overrides that all of several jobs have: they tell nothing apart."""
    return set.intersection(*(set(row["overrides"]) for row in rows)) if len(rows) > 1 else set()


def _cells(row: Mapping[str, Any], shared: set[str]) -> dict[str, str]:
    overrides = " ".join(shortened(one) for one in row["overrides"] if one not in shared)
    return {
        "job": row["job"].partition("_")[0],
        "overrides": overrides,
        **{name: f"{row[name]:.4f}" if name in row else "" for name in SHOWN},
        "status": row["status"],
        "time": _duration(row["seconds"]),
        "error": _cut(row["error"]),
    }


def _duration(seconds: float) -> str:
    """Return a duration as minutes and seconds, or hours and minutes."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 4] + " ..."
