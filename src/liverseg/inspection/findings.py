"""What is found, and how it is told."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")
FIRST_FILES = 5  # that are named
_MOST_FILES = 1000  # that report.json names


@dataclass(frozen=True)
class File:
    """A file, as it lies below the folder, what is to be said of it alone, and its counterpart."""

    path: str
    note: str = ""
    other: str = ""

    def __str__(self) -> str:
        both = f"{self.path} and {self.other}" if self.other else self.path
        return f"{both} ({self.note})" if self.note else both


@dataclass(frozen=True)
class Finding:
    """Something that a study may be ruined by.

    Args:
        level: ``error``: scores or training would be wrong. ``warning``: look at it. ``note``: it
            is so, and may be meant.
        kind: A short name, the same for all findings of a rule.
        text: What is found, in a sentence without a full stop.
        count: How often.
        files: Which files, the first ones first.
        remedy: What can be done.
    """

    level: Level
    kind: str
    text: str
    count: int
    remedy: str
    files: Sequence[File] = ()

    def plain(self) -> dict[str, Any]:
        """Return it as plain values, as ``report.json`` holds them."""
        return {
            "level": self.level,
            "kind": self.kind,
            "text": self.text,
            "count": self.count,
            "files": [
                {"path": one.path, "note": one.note, "other": one.other}
                for one in list(self.files)[:_MOST_FILES]
            ],
            "remedy": self.remedy,
        }

    def lines(self) -> str:
        """Return it as it stands in the terminal."""
        shown = "; ".join(str(one) for one in self.files[:FIRST_FILES])
        more = len(self.files) - FIRST_FILES
        where = f"\n    {shown}{f' and {more} more' if more > 0 else ''}" if shown else ""
        return f"{self.level}: {self.text}{where}\n    {self.remedy}"


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Return errors first, then warnings, then notes."""
    return sorted(findings, key=lambda one: LEVELS.index(one.level))


def number(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun.

    >>> number(1, "pair"), number(2000, "pair")
    ('1 pair', '2,000 pairs')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
