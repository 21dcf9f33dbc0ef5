"""What a run has logged, kept in its own folder whichever loggers it has: ``curves.csv``."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

HISTORY_FILE = "curves.csv"
Point = tuple[int, str, float]  # step, name, value


class History(Logger):
    """Appends every value to a file: a line of step, name and value.

    A run that is resumed appends to the same file. Lightning's own CSV logger begins a new one.

    Args:
        file: Where the lines are kept.
    """

    def __init__(self, file: str | Path) -> None:
        super().__init__()
        self._file = Path(file)
        self._lines = io.StringIO()

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
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a+b") as stream:
                stream.seek(max(stream.tell() - 1, 0))
                if stream.read(1) not in (b"\n", b""):  # a line cut off by a kill
                    stream.write(b"\n")
                stream.write(text.encode())
        except OSError as error:
            raise OSError(
                f"{self._file} could not be written ({error.strerror}); is the disk full?"
            ) from error
        self._lines = io.StringIO()

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
