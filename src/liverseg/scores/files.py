"""The tables of a split on disk: ``cases_SPLIT.csv``, ``patients_SPLIT.csv``, ``scores.json``."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from liverseg.scores.averages import Table, of_counts
from liverseg.scores.catalogue import ALWAYS, CATALOGUE, METRIC_CONVENTION
from liverseg.scores.metrics import SegmentationScores

RECORD_FILE = "scores.json"
_PIXELS = ("tp", "fp", "fn")


class Case(NamedTuple):
    """A line of ``cases_SPLIT.csv``.

    ``counts``: TP, FP and FN by class. ``values``: scores from edges by class and word.
    """

    name: str
    case: str
    counts: Mapping[str, tuple[int, int, int]]
    values: Mapping[str, Mapping[str, float]]


def record_of(scores: SegmentationScores, truth: str) -> dict[str, Any]:
    """Return how a split was scored, for ``scores.json``: what must agree to compare two runs.

    Args:
        scores: Its scores.
        truth: A hash of its masks.
    """
    return {
        "truth": truth,
        "classes": scores.class_names,
        "convention": METRIC_CONVENTION,
        "scores": list(scores.chosen),
        "tolerance": scores.tolerance,
        "spacing": list(scores.spacing) if scores.spacing else "each" if scores.spacings else None,
    }


def cases_text(
    table: Table, class_names: Sequence[str], *, names: Sequence[str], cases: Sequence[str | None]
) -> str:
    """Return one line per image: name, case, and per class the scores, TP, FP and FN.

    Args:
        table: What was counted.
        class_names: The names of the classes.
        names: The images' names, by index.
        cases: The images' cases, by index.
    """
    words = [word for word in ALWAYS if "" in CATALOGUE[word].averages]
    lines = [["name", "case", *_header(class_names, [*words, *table.words])]]
    for row, index in enumerate(table.indices.tolist()):
        cells = _cells(table.counts[row], words, table.values[row])
        lines.append([names[index], cases[index] or "", *cells])
    return _as_csv(lines)


def patients_text(table: Table, class_names: Sequence[str], *, cases: Sequence[str | None]) -> str:
    """Return one line per patient: case, number of images, and per class the scores, TP, FP and FN.

    Args:
        table: What was counted, of images that all have a case.
        class_names: The names of the classes.
        cases: The images' cases, by index.
    """
    units = table.units().tolist()
    images: dict[int, list[int]] = {}
    for unit, index in zip(units, table.indices.tolist(), strict=True):
        images.setdefault(unit, []).append(index)
    lines = [["case", "images", *_header(class_names, ALWAYS)]]
    for unit, counts in enumerate(table.counts_of_units()):
        case = cases[images[unit][0]] or ""
        lines.append([case, str(len(images[unit])), *_cells(counts, ALWAYS)])
    return _as_csv(lines)


def tables_text(
    table: Table,
    class_names: Sequence[str],
    *,
    split: str,
    names: Sequence[str],
    cases: Sequence[str | None],
) -> dict[str, str]:
    """Return the tables of a split by the names of their files.

    Args:
        table: What was counted; where not all images have a case there is no table of patients.
        class_names: The names of the classes.
        split: The split.
        names: The images' names, by index.
        cases: The images' cases, by index.
    """
    texts = {f"cases_{split}.csv": cases_text(table, class_names, names=names, cases=cases)}
    if table.has_cases:
        texts[f"patients_{split}.csv"] = patients_text(table, class_names, cases=cases)
    return texts


def read_cases(file: Path) -> list[Case]:
    """Read ``cases_SPLIT.csv``.

    Raises:
        ValueError: If it has no counts, as those of earlier releases, or a line is damaged.
    """
    with file.open(newline="") as stream:
        reader = csv.DictReader(stream)
        header = list(reader.fieldnames or ())
        columns = dict(_columns(header))
        if not columns:
            raise ValueError(
                f"{file} has no columns tp, fp and fn, as earlier releases wrote it; score the "
                "checkpoint again with evaluate.py"
            )
        try:
            return [_case(line, columns) for line in reader]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{file}, line {reader.line_num}, is damaged; score it again with evaluate.py"
            ) from error


def table_of(cases: Sequence[Case], words: Sequence[str]) -> Table:
    """Return lines of ``cases_SPLIT.csv`` as what was counted, in their order.

    Args:
        cases: Of classes of the same names.
        words: The scores from edges that they hold.
    """
    numbers = {name: number for number, name in enumerate(sorted({one.case for one in cases}))}
    values = [[[of[word] for word in words] for of in one.values.values()] for one in cases]
    counts = torch.tensor([list(one.counts.values()) for one in cases], dtype=torch.int64)
    return Table(
        torch.arange(len(cases)),
        torch.tensor([numbers[one.case] if one.case else -1 for one in cases]),
        counts,
        torch.tensor(values, dtype=torch.float64).reshape(*counts.shape[:2], len(words)),
        tuple(words),
    )


def _case(line: Mapping[str, str], columns: Mapping[str, Mapping[str, str]]) -> Case:
    counts, values = {}, {}
    for name, found in columns.items():
        tp, fp, fn = (int(line[found[word]]) for word in _PIXELS)
        counts[name] = (tp, fp, fn)
        values[name] = {
            word: float(line[column] or "nan")
            for word, column in found.items()
            if word in CATALOGUE and CATALOGUE[word].is_chosen
        }
    return Case(line["name"], line["case"], counts, values)


def _columns(header: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each class, "" where there is one alone, and its columns by word."""
    words = [*CATALOGUE, *_PIXELS]
    for column in header:
        if column == "tp" or column.startswith("tp_"):
            end = column.removeprefix("tp")
            yield end.removeprefix("_"), {f: f"{f}{end}" for f in words if f"{f}{end}" in header}


def _header(class_names: Sequence[str], words: Sequence[str]) -> list[str]:
    ends = [f"_{name}" for name in class_names] if len(class_names) > 1 else [""]
    return [f"{word}{end}" for end in ends for word in (*words, *_PIXELS)]


def _cells(counts: Tensor, words: Sequence[str], values: Tensor | None = None) -> list[str]:
    """Return the cells of a line, of counts (classes, 3) and values (classes, chosen words)."""
    cells = []
    for place, pixels in enumerate(counts):
        cells += [_number(float(of_counts(word, pixels))) for word in words]
        cells[len(cells) :] = (
            [] if values is None else [_number(one) for one in values[place].tolist()]
        )
        cells += [str(count) for count in pixels.tolist()]
    return cells


def _number(value: float) -> str:
    """Return six decimals, ``inf``, or nothing where a score is not defined."""
    return "" if math.isnan(value) else f"{value:.6f}"


def _as_csv(lines: Sequence[Sequence[Any]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(lines)
    return stream.getvalue()
