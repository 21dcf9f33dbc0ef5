"""The table ``cases.csv`` beside the pairs: whose image it is, in which split, and its geometry."""

import csv
import io
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from liverseg.data.pairs import SPLIT_NAMES, Pair

TABLE = "cases.csv"
_DELIMITERS = (",", ";", "\t")
HEAD = ("name", "case", "split")
_NEEDED = ("name", "case")
_MOST_BYTES = 2**27


@dataclass(frozen=True)
class Row:
    """One line of a table: an image by its name, and what is known of it.

    ``case`` is None where the field is empty, ``split`` also where there is no such column.
    ``line`` is where it stands in the file, ``cells`` all that it holds.
    """

    name: str
    case: str | None
    split: str | None
    spacing: tuple[float, float] | None
    number: int | None
    line: int
    cells: tuple[str, ...]


class CaseTable:
    """The rows of ``cases.csv``, whose columns are told by their heads, in any order.

    ``name`` is an image's path below the folder of the table, or the end of it where that is
    enough, with or without the ending of the file; ``case`` its patient. ``split`` (train, val or
    test; empty leaves an image out), ``spacing`` (height and width of a pixel in mm, such as
    ``0.8x0.7``) and ``slice`` (its number within the case) may be there. Other columns are passed
    over. Fields are divided by commas, semicolons or tabs.

    Args:
        file: The table.

    Raises:
        ValueError: If it is no such table.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        text = _decoded(file)
        hint = re.match(r'"?sep=(.)"?\r?\n?', text)  # which Excel writes and hides
        text = text[hint.end() :] if hint else text
        self.delimiter = hint[1] if hint else _delimiter(text)
        try:
            reader = csv.reader(
                io.StringIO(text, newline=""), delimiter=self.delimiter, strict=True
            )
            lines = [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
        except csv.Error as error:
            raise ValueError(f"{file} cannot be read as a table ({error}); repair it") from None
        if not lines:
            raise ValueError(f"{file} is empty; its first line must be {','.join(_NEEDED)}")
        self.head = tuple(cell.strip() for cell in lines[0][1])
        columns = self._columns()
        self.rows = [self._row(cells, line, columns) for line, cells in lines[1:]]
        if not self.rows:
            raise ValueError(f"{file} holds no row below its head; add one for each image")
        self.names_splits = "split" in columns

    def complete(self, pairs: Sequence[Pair], root: Path) -> tuple[list[Pair], list[Row]]:
        """Return pairs with what the table says of them, and the row of each.

        Args:
            pairs: All pairs below the folder of the table.
            root: That folder.

        Raises:
            ValueError: If a row means no image or several, an image has two rows or none.
        """
        known = _names(pairs, root)
        rows: dict[int, Row] = {}
        for row in self.rows:
            found = known.get(_plain_name(row.name, root), [])
            if len(found) != 1:
                what = "is the name of no image" if not found else "is the name of several images"
                remedy = "correct it" if not found else "write its path"
                raise self._wrong(row, f"{row.name} {what} in {root}; {remedy}")
            if (first := rows.setdefault(found[0], row)) is not row:
                raise self._wrong(
                    row, f"{row.name} is the image of line {first.line} too; remove one of the rows"
                )
        if absent := [pair for place, pair in enumerate(pairs) if place not in rows]:
            others = len(absent) - 1
            more = f" (and {others} more image{'s' if others > 1 else ''})" if others else ""
            remedy = "with an empty split to leave it out" if self.names_splits else "for it"
            raise ValueError(
                f"{self.file} has no row for {absent[0].image.relative_to(root)}{more}; add one "
                f"{remedy}"
            )
        its = [rows[place] for place in range(len(pairs))]
        return [_completed(pair, row) for pair, row in zip(pairs, its, strict=True)], its

    def salvage(self, pairs: Sequence[Pair], root: Path) -> list[tuple[Pair, Row]]:
        """Return what :meth:`complete` does of those pairs that one row means; others are left out.

        Args:
            pairs: Some pairs below the folder of the table.
            root: That folder.
        """
        known = _names(pairs, root)
        found = ((known.get(_plain_name(row.name, root), []), row) for row in self.rows)
        rows = {places[0]: row for places, row in found if len(places) == 1}
        return [(_completed(pairs[place], row), row) for place, row in sorted(rows.items())]

    def refuse_shared_cases(self) -> None:
        """Refuse a case that is in two splits.

        Raises:
            ValueError: If there is one.
        """
        first: dict[str, Row] = {}
        for row in self.rows:
            if row.case is None or row.split is None:
                continue
            other = first.setdefault(row.case, row)
            if other.split != row.split:
                raise self._wrong(
                    row,
                    f"case {row.case} is in {row.split} and, by line {other.line}, in "
                    f"{other.split}; put all images of a case into one split",
                )

    def with_splits(self, splits: Mapping[int, str], cases: Mapping[int, str]) -> str:
        """Return the text of this table with another column ``split``.

        Args:
            splits: The split by the line of a row; a row that is not there is left out of all.
            cases: The case by the line of a row, for those that have none.
        """
        place, of_case = self._columns().get("split", len(self.head)), self._columns()["case"]
        head = [*self.head[:place], "split", *self.head[place + 1 :]]
        rows = []
        for row in self.rows:
            cells = [*row.cells[:place], splits.get(row.line, ""), *row.cells[place + 1 :]]
            cells[of_case] = row.case or cases.get(row.line, "")
            rows.append(cells)
        return table_text(head, rows, self.delimiter)

    def _columns(self) -> Mapping[str, int]:
        """Return the place of each column by its head."""
        heads = [head.casefold() for head in self.head]
        for needed in _NEEDED:
            if needed not in heads:
                found = ", ".join(self.head[:6])
                raise ValueError(
                    f"{self.file} has no column {needed} (found {found}); its first line names the "
                    "columns: name, case and, where wanted, split, spacing, slice"
                )
        twice = [head for head in heads if head and heads.count(head) > 1]
        if twice:
            raise ValueError(f"{self.file} has two columns {twice[0]}; rename or remove one")
        return {head: place for place, head in enumerate(heads)}

    def _row(self, cells: Sequence[str], line: int, columns: Mapping[str, int]) -> Row:
        fields = [cell.strip() for cell in cells]
        if len(fields) < len(self.head) or any(fields[len(self.head) :]):
            raise ValueError(
                f"{self.file}, line {line}: it has {len(fields)} fields, and the head "
                f"{len(self.head)}; repair it"
            )
        values = {head: fields[place] for head, place in columns.items()}
        row = Row(
            name=values["name"],
            case=values["case"] or None,
            split=values.get("split", "").casefold() or None,
            spacing=None,
            number=None,
            line=line,
            cells=tuple(fields[: len(self.head)]),
        )
        if not row.name:
            raise self._wrong(row, "it names no image; fill in its name, or remove it")
        if row.split is not None and row.split not in SPLIT_NAMES:
            raise self._wrong(
                row, f"split {values['split']} must be train, val or test, or empty to leave it out"
            )
        spacing = self._spacing(row, values.get("spacing", ""))
        return replace(row, spacing=spacing, number=self._number(row, values.get("slice", "")))

    def _spacing(self, row: Row, text: str) -> tuple[float, float] | None:
        """Return height and width of a pixel in mm; the distance of slices may follow."""
        if not text:
            return None
        if self.delimiter != ",":  # a comma is a decimal one, as in half of Europe
            text = text.replace(",", ".")
        try:
            sides = [
                float(part) for part in re.split(r"\s*[x\u00d7;,]\s*|\s+", text.strip("()[] "))
            ]
        except ValueError:
            sides = []
        if len(sides) not in (1, 2, 3) or not all(0 < side < math.inf for side in sides):
            raise self._wrong(
                row,
                f"spacing {text} must be height and width of a pixel in mm, such as 0.8x0.7, or "
                "one number",
            )
        return sides[0], sides[min(1, len(sides) - 1)]

    def _number(self, row: Row, text: str) -> int | None:
        if not text:
            return None
        if not re.fullmatch(r"-?\d{1,9}(\.0*)?", text):
            raise self._wrong(row, f"slice {text} must be a whole number")
        return int(text.partition(".")[0])

    def _wrong(self, row: Row, what: str) -> ValueError:
        return ValueError(f"{self.file}, line {row.line}: {what}")


def _completed(pair: Pair, row: Row) -> Pair:
    """Return a pair with what its row says of it."""
    return replace(pair, case=row.case or pair.case, spacing=row.spacing, number=row.number)


def _decoded(file: Path) -> str:
    """Return the text of a table; spreadsheets put a mark in front, or write UTF-16."""
    if file.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{file} is larger than {_MOST_BYTES // 2**20} MiB; it is no table")
    content = file.read_bytes()
    is_wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return content.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{file} is no text in UTF-8; save it as CSV in UTF-8") from None


def _delimiter(text: str) -> str:
    head = next((line for line in text.splitlines() if line.strip()), "")
    return max(_DELIMITERS, key=head.count)


def _names(pairs: Sequence[Pair], root: Path) -> dict[str, list[int]]:
    """Return the places of the pairs that each name may mean; a whole path means one alone."""
    ends: dict[str, list[int]] = {}
    whole: dict[str, list[int]] = {}
    for place, pair in enumerate(pairs):
        path = _nfc(pair.image.relative_to(root).as_posix())
        for one in {path, "/".join(part for part in path.split("/") if part != "images")}:
            for name in (one, one.removesuffix(pair.image.suffix)):
                whole.setdefault(name, []).append(place)
                while "/" in name:
                    name = name.partition("/")[2]
                    if place not in (found := ends.setdefault(name, [])):
                        found.append(place)
    return {**ends, **whole}


def _plain_name(name: str, root: Path) -> str:
    """Return a name as :func:`_names` writes it: below the root, with slashes."""
    path = _nfc(name.replace("\\", "/")).removeprefix("./")
    for above in (root.absolute().as_posix(), root.as_posix(), root.name):
        if above and path.startswith(f"{above}/"):
            return path.removeprefix(f"{above}/")
    return path


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def table_text(head: Sequence[str], rows: Iterable[Sequence[str]], delimiter: str = ",") -> str:
    """Return the text of a table."""
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, lineterminator="\n").writerows([head, *rows])
    return stream.getvalue()
