"""What a run has logged, kept in its own folder whichever loggers it has: ``curves.csv``."""

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

HISTORY_FILE = "curves.csv"
Point = tuple[int, str, float]  # step, name, value


class History(Logger):
    """Appends every value to a file: a line of step, name and value.

    A run that is resumed appends to the same file, and where it has gone back to an earlier step,
    what it logs takes the place of what stood there. Lightning's own CSV logger begins a new one.

    Args:
        file: Where the lines are kept.
    """

    def __init__(self, file: str | Path) -> None:
        super().__init__()
        self._file = Path(file)
        self._lines = io.StringIO()
        self._last: dict[str, int] | None = None  # step of each name, as the file has it

    @property
    def name(self) -> str:
        """No name: Lightning makes folders of names."""
        return ""

    @property
    def version(self) -> str:
        """No version, likewise."""
        return ""

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Leave the settings to ``config.yaml``."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keep values of a step until they are saved."""
        csv.writer(self._lines).writerows(
            (step or 0, name, float(value)) for name, value in metrics.items()
        )

    @rank_zero_only
    def save(self) -> None:
        """Append what has been logged since.

        Raises:
            OSError: If it cannot be written.
        """
        if not (text := self._lines.getvalue()):
            return
        rows = [(int(step), name) for step, name, _ in csv.reader(io.StringIO(text, newline=""))]
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            if self._last is None:
                self._last = {name: step for step, name, _ in read_history(self._file)}
            back = {name: step for step, name in reversed(rows) if step <= self._last.get(name, -1)}
            if back:
                self._cut(back)
            with self._file.open("a+b") as stream:
                stream.seek(max(stream.tell() - 1, 0))
                if stream.read(1) not in (b"\n", b""):  # a line cut off by a kill
                    stream.write(b"\n")
                stream.write(text.encode())
            self._last |= {name: step for step, name in rows}
        except OSError as error:
            raise OSError(
                f"{self._file} could not be written ({error.strerror}); is the disk full?"
            ) from error
        self._lines = io.StringIO()

    def _cut(self, first: Mapping[str, int]) -> None:
        """Remove what is there of each name from a step on."""
        kept = [one for one in read_history(self._file) if one[0] < first.get(one[1], math.inf)]
        draft = self._file.with_name(f".{self._file.name}.tmp")
        with draft.open("w", newline="") as stream:
            csv.writer(stream).writerows(kept)
        draft.replace(self._file)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Append what is left, if the disk takes it: this must not hide why a run ended."""
        try:
            self.save()
        except OSError:
            if status == "success":
                raise


def read_history(file: str | Path) -> list[Point]:
    """Return what was logged, in the order in which it was; empty where there is no file."""
    path = Path(file)
    if not path.is_file():
        return []
    points = []
    with path.open(newline="", errors="replace") as stream:
        for row in csv.reader(stream):
            try:
                step, name, value = row
                points.append((int(step), name, float(value)))
            except ValueError:  # a line cut off by a kill
                continue
    return points
