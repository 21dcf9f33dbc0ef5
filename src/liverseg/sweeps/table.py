"""What came out of a sweep, job by job: ``sweep.csv``, and a table of the scores monitored."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from liverseg.runs import Job, shortened, write_text

_FIRST = ("job", "status", "overrides", "monitor", "seconds", "error")
_LONGEST_CELL = 60
Row = dict[str, Any]


def row_of(job: Job) -> Row:
    """Return what became of a job: job, status, overrides, monitor, mode, seconds, error, scores.

    Of the overrides, a list, those that tell no jobs apart are left out.
    """
    record, status = job.record(), job.status()
    is_failed = status == "failed"
    return {
        "job": job.folder.name,
        "status": status,
        "overrides": job.telling(),
        "monitor": record.get("monitor", ""),
        "mode": record.get("mode", "max"),
        "seconds": record["seconds"],
        "error": record.get("error", "").replace(f"{job.folder}/", "") if is_failed else "",
        **job.scores(),
    }


def monitored(rows: Sequence[Row]) -> list[str]:
    """Return the names of the scores that jobs monitor, on val and on test, as far as any has them.

    Jobs that monitor ``val/dice`` are to be judged by ``val/dice`` and ``test/dice``.
    """
    scores = dict.fromkeys(row["monitor"].partition("/")[2] for row in rows)
    names = [f"{split}/{score}" for score in scores for split in ("val", "test")]
    return [name for name in names if any(name in row for row in rows)]


def outcome(job: Job) -> str:
    """Return how a job has ended, in one line: its status, scores or error, and time."""
    row = row_of(job)
    scores = ", ".join(f"{name} {row[name]:.4f}" for name in monitored([row]))
    told = [f"{row['job']} is {row['status']}", scores, row["error"]]
    return f"{': '.join(filter(None, told))} ({_duration(row['seconds'])})"


def write_csv(file: Path, rows: Sequence[Row]) -> None:
    """Write all columns of all rows; scores are empty where a job has none."""
    scores = sorted({name for row in rows for name in row if "/" in name})
    stream = io.StringIO()
    columns = [*_FIRST, *scores]
    writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "overrides": " ".join(row["overrides"])} for row in rows)
    write_text(file, stream.getvalue())


def format_rows(rows: Sequence[Row]) -> str:
    """Return rows as aligned columns under a header; what no row has, or all share, is left out."""
    several = len(rows) > 1
    shared = set.intersection(*(set(row["overrides"]) for row in rows)) if several else set()
    told = [" ".join(shortened(o) for o in row["overrides"] if o not in shared) for row in rows]
    scores = monitored(rows)
    columns = [
        ["job", *(row["job"].partition("_")[0] for row in rows)],
        ["overrides", *told],
        *([name, *(f"{row[name]:.4f}" if name in row else "" for row in rows)] for name in scores),
        ["status", *(row["status"] for row in rows)],
        ["time", *(_duration(row["seconds"]) for row in rows)],
        ["error", *(_cut(row["error"]) for row in rows)],
    ]
    return aligned([column for column in columns if any(column[1:])], "  ")


def aligned(columns: Sequence[Sequence[str]], gap: str) -> str:
    """Return columns of texts side by side."""
    padded = [[cell.ljust(max(map(len, column))) for cell in column] for column in columns]
    return "\n".join(gap.join(line).rstrip() for line in zip(*padded, strict=True))


def _duration(seconds: float) -> str:
    """Return a duration as minutes and seconds, or hours and minutes."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 4] + " ..."
