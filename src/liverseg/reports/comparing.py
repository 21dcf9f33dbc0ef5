"""Which of several runs is better: sentences, a table, a chart, and the cases that differ most."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from PIL import Image

from liverseg.pictures import find_letters
from liverseg.reports.contestants import Scored, choose_split, find_contestants, refuse_unlike
from liverseg.reports.pages import Html, Section, as_png, page, picture, table
from liverseg.runs import short_path, write_bytes, write_json, write_text
from liverseg.scores import (
    CATALOGUE,
    Comparison,
    Difference,
    Values,
    compare,
    mean_of,
    unit_values,
)

if TYPE_CHECKING:  # imported where it is needed, because it takes a second
    from matplotlib.axes import Axes

_MOST_SHOWN = 6  # cases that differ most, of each two
_MOST_PANELS = 15  # of the chart: six contestants, each with each
_LEAST_SPAN = 0.002  # of its axis of differences, where all are 0
_BETTER, _WORSE, _SAME, _MEAN = "#0072B2", "#D55E00", "#999999", "#000000"  # Okabe & Ito (2008)
_INTERVALS = (
    "Intervals are bootstraps over them; of fewer than 5, of more than 300, and where most are "
    "equal, they are those of Student's t. "
)
_HEADER = ["second less first", "difference", "95 % interval", "p", "wins", "ties", "losses"]


def compare_runs(config: DictConfig) -> tuple[list[str], Path]:
    """Compare runs by one score on one split, and write what comes out of it.

    Args:
        config: What ``configs/compare.yaml`` composes.

    Returns:
        The lines to print, and the page.

    Raises:
        FileNotFoundError: If a folder does not exist.
        ValueError: If runs cannot be compared, see :mod:`liverseg.reports.contestants`.
    """
    if missing := sorted(OmegaConf.missing_keys(config)):
        raise ValueError(f"{missing[0]} is not set; add {missing[0]}=... to the command")
    settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    runs = settings["runs"]
    return compare_folders(
        [runs] if isinstance(runs, str) else runs,
        settings["score"],
        split=settings["split"],
        folder=Path(settings["output_dir"]),
    )


def compare_folders(
    runs: Sequence[str], word: str, *, split: str | None, folder: Path
) -> tuple[list[str], Path]:
    """Compare what folders stand for; what is refused and returned is as above.

    Args:
        runs: The folders.
        word: The score.
        split: The split; None is val where all are folds, else test where all have it.
        folder: Where the page goes.
    """
    if word not in CATALOGUE:
        raise ValueError(f"score={word} is no score; all are {', '.join(CATALOGUE)}")
    contestants = find_contestants(runs)
    split = choose_split(contestants, split)
    scored = {one.name: one.scored(split) for one in contestants}
    refuse_unlike(scored, word, split)
    by_patient = all(
        case.case for members in scored.values() for one in members for case in one.cases
    )
    values = {
        name: mean_of(
            [unit_values(one.cases, word, by_patient=by_patient) for one in members], word
        )
        for name, members in scored.items()
    }
    found = compare(values, word, unit="patients" if by_patient else "images")
    pictures = _write_pictures(folder, found, scored, split, by_patient=by_patient)
    write_text(folder / "comparison.csv", _csv(values))
    write_json(folder / "comparison.json", [_plain(one, split) for one in found])
    chart = folder / "comparison.png"
    write_bytes(chart, _chart(found))
    write_text(folder / "report.html", _page(found, values, scored, split, chart, pictures))
    lines = [one.sentence() for one in found]
    return ["\n\n".join([*lines, _text_table(found)])], folder / "report.html"


def _rows(found: Sequence[Comparison]) -> list[list[str]]:
    return [
        [
            f"{one.second} less {one.first}",
            f"{one.mean:+.4f}",
            f"{one.interval.low:+.4f} to {one.interval.high:+.4f}" if one.interval else "",
            f"{one.adjusted_p:.3g}",
            *(str(count) for count in (one.wins, one.ties, one.losses)),
        ]
        for one in found
    ]


def _text_table(found: Sequence[Comparison]) -> str:
    lines = [_HEADER, *_rows(found)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [
                first.ljust(widths[0]),
                *(one.rjust(w) for one, w in zip(rest, widths[1:], strict=True)),
            ]
        ).rstrip()
        for first, *rest in lines
    )


def _means(values: Values) -> list[float]:
    """Return the finite values of each unit, put together."""
    means = []
    for unit in values.values():
        finite = [value for value in unit.values() if math.isfinite(value)]
        means += [sum(finite) / len(finite)] if finite else []
    return means


def _csv(values: Mapping[str, Values]) -> str:
    """Return one line per unit and structure, with a column for each contestant."""
    import csv

    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["unit", "structure", *values])
    first = next(iter(values.values()))
    for unit in sorted(first):
        for key in first[unit]:
            cells = [of[unit][key] for of in values.values()]
            shown = ["" if math.isnan(cell) else f"{cell:.6f}" for cell in cells]
            writer.writerow([unit, key, *shown])
    return stream.getvalue()


def _plain(one: Comparison, split: str) -> dict[str, Any]:
    return {
        "first": one.first,
        "second": one.second,
        "split": split,
        "score": one.score.word,
        "unit": one.unit,
        "number": len(one.differences),
        "difference": None if math.isnan(one.mean) else one.mean,
        "interval": [one.interval.low, one.interval.high] if one.interval else None,
        "p": one.p,
        "adjusted_p": one.adjusted_p,
        "wins": one.wins,
        "ties": one.ties,
        "losses": one.losses,
        "one_sided": list(one.one_sided),
        "both_infinite": one.both_infinite,
        "sentence": one.sentence(),
    }


def _chart(found: Sequence[Comparison]) -> bytes:
    """Draw the difference of each unit, in order, and their mean with its interval, by two."""
    from matplotlib.figure import Figure

    shown = found[:_MOST_PANELS]
    columns = min(len(shown), 2)
    rows = -(-len(shown) // columns)
    figure = Figure((5.5 * columns, 3.6 * rows), dpi=120, layout="constrained")
    panels: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel, one in zip(panels, shown, strict=False):
        _draw(panel, one)
    for panel in panels[len(shown) :]:
        panel.remove()
    has_band = any(one.interval for one in shown)
    figure.supxlabel(
        f"dot: one of the {shown[0].unit}, in order   line"
        + (" and band: mean and its 95 % interval" if has_band else ": mean")
        + (f"\nthe first {len(shown)} of {len(found)} comparisons" if found[len(shown) :] else ""),
        fontsize=8,
        color="#555555",
    )
    find_letters(figure)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def _draw(panel: "Axes", one: Comparison) -> None:
    values = sorted(difference.value for difference in one.differences)
    sign = 1 if one.score.is_better == "larger" else -1
    colours = [_SAME if v == 0 else _BETTER if sign * v > 0 else _WORSE for v in values]
    panel.scatter(range(1, len(values) + 1), values, c=colours, s=16, zorder=3)
    panel.axhline(0, color=_SAME, linewidth=1)
    if one.interval:
        panel.axhspan(one.interval.low, one.interval.high, color=_MEAN, alpha=0.12, linewidth=0)
    if values:
        panel.axhline(one.mean, color=_MEAN, linewidth=1.2)
    title = f"{one.second}\nless {one.first}"
    panel.set_title(title, loc="left", fontsize=9, parse_math=False)
    panel.set_ylabel(f"difference in {one.score.title}")
    low, high = panel.get_ylim()
    margin = max(0.0, _LEAST_SPAN - (high - low)) / 2
    panel.set_ylim(low - margin, high + margin)
    panel.set_xlim(0, len(values) + 1)
    panel.set_xticks([])
    panel.grid(axis="y", alpha=0.3)


def _write_pictures(
    folder: Path,
    found: Sequence[Comparison],
    scored: Mapping[str, Sequence[Scored]],
    split: str,
    *,
    by_patient: bool,
) -> dict[tuple[str, str, str], tuple[Path, str]]:
    """Write both runs' pictures of the cases that differ most, one below the other, where drawn.

    Returns:
        The files and their captions, by the two names and the unit.
    """
    written: dict[tuple[str, str, str], tuple[Path, str]] = {}
    for one in found:
        members = scored[one.first], scored[one.second]
        for difference in _most_different(one):
            names = _images_of(members[0], difference.unit, by_patient=by_patient)
            drawn = {
                name: (first, second)
                for name in names
                if (first := _drawn_by(members[0], split, name))
                and (second := _drawn_by(members[1], split, name))
            }
            if not drawn:
                continue
            name = _most_telling(drawn, one.score.word, difference)
            file = folder / "pictures" / f"{len(written):02}_{name}.png"
            write_bytes(file, _stacked([_picture_of(run, split, name) for run in drawn[name]]))
            image = f"{difference.unit}, image {name}" if by_patient else name
            above = _told_run(one.first, drawn[name][0], len(members[0]))
            below = _told_run(one.second, drawn[name][1], len(members[1]))
            caption = f"{image}: {above} above, {below} below"
            written[one.first, one.second, difference.unit] = file, caption
    return written


def _most_telling(
    drawn: Mapping[str, tuple[Scored, Scored]], word: str, difference: Difference
) -> str:
    """Return the image on which the runs that are drawn differ most, in the unit's direction."""
    left, right = (
        unit_values(
            (
                case
                for name, runs in drawn.items()
                for case in runs[side].cases
                if case.name == name
            ),
            word,
            by_patient=False,
        )
        for side in (0, 1)
    )
    (found,) = compare({"first": left, "second": right}, word, unit="images")
    sign = math.copysign(1, difference.value)
    values = {one.unit: sign * one.value for one in found.differences}
    return max(drawn, key=lambda name: values.get(name, 0.0))


def _told_run(name: str, run: Scored, count: int) -> str:
    """Return a contestant's name, and which of its runs it is where there are several."""
    return f"{name} ({run.run or run.folder.name}, one of {count} runs)" if count > 1 else name


def _most_different(one: Comparison) -> list[Difference]:
    ordered = sorted(one.differences, key=lambda difference: -abs(difference.value))
    return [difference for difference in ordered[:_MOST_SHOWN] if difference.value]


def _images_of(members: Sequence[Scored], unit: str, *, by_patient: bool) -> list[str]:
    if not by_patient:
        return [unit]
    return list(
        dict.fromkeys(case.name for one in members for case in one.cases if case.case == unit)
    )


def _drawn_by(members: Sequence[Scored], split: str, name: str) -> Scored | None:
    return next((one for one in members if _picture_of(one, split, name).is_file()), None)


def _picture_of(run: Scored, split: str, name: str) -> Path:
    return run.folder / "pictures" / f"{split}_{name}.png"


def _stacked(files: Sequence[Path]) -> bytes:
    drawn = []
    for file in files:
        with Image.open(file) as shown:
            drawn.append(shown.convert("RGB"))
    size = (max(one.width for one in drawn), sum(one.height for one in drawn))
    canvas, top = Image.new("RGB", size, "white"), 0
    for one in drawn:
        canvas.paste(one, (0, top))
        top += one.height
    return as_png(canvas)


def _page(
    found: Sequence[Comparison],
    values: Mapping[str, Values],
    scored: Mapping[str, Sequence[Scored]],
    split: str,
    chart: Path,
    pictures: Mapping[tuple[str, str, str], tuple[Path, str]],
) -> str:
    score, unit = found[0].score, found[0].unit
    better = f"{score.is_better} is better"
    means = [
        [name, sum(of) / len(of) if of else None, len(of), len(scored[name])]
        for name, of in ((name, _means(values[name])) for name in values)
    ]
    how = (
        f"Pairs are {unit} of {split}, {score.title} ({score.definition}; {better}). "
        + (_INTERVALS if any(one.interval for one in found) else "")
        + "p is that of Wilcoxon's signed-rank test"
        + (
            ", corrected for the number of comparisons (Holm), which intervals are not."
            if len(found) > 1
            else "."
        )
    )
    note = "A row is the second less the first; wins are the second's."
    numbers = [of for one in values.values() for unit in one.values() for of in unit.values()]
    if not all(map(math.isfinite, numbers)):
        note += (
            " A mean leaves out what is infinite or not defined with its contestant; a difference "
            "leaves out what is infinite with either, and counts what is not defined with one "
            "alone as the best, so the two need not agree."
        )
    sections = [
        Section("Answer", [*(one.sentence() for one in found), how]),
        Section(
            "Table",
            [
                table("differences", _HEADER, _rows(found)),
                table("means", ["contestant", f"mean {score.title}", unit, "runs"], means),
                note,
            ],
        ),
        Section("Chart", [picture(chart, alt="differences by case, ordered, with their mean")]),
    ]
    for one in found:
        heading = f"What differs most: {one.second} and {one.first}"
        if not (most := _most_different(one)):
            sections.append(Section(heading, [f"No {unit[:-1]} differs."]))
            continue
        parts: list[Html | str] = [
            table(
                f"{unit} that differ most: {one.second} and {one.first}",
                [unit[:-1], one.first, one.second, "difference"],
                [[of.unit, of.first, of.second, of.value] for of in most],
            )
        ]
        for of in most:
            if (one.first, one.second, of.unit) in pictures:
                file, caption = pictures[one.first, one.second, of.unit]
                parts.append(picture(file, alt=f"both predictions of {of.unit}", caption=caption))
        if not any((one.first, one.second, of.unit) in pictures for of in most):
            parts.append(
                "No picture of these lies in both folders; evaluate.py num_pictures=1000 draws all "
                "images."
            )
        sections.append(Section(heading, parts))
    folders = [[name, short_path(one.folder)] for name in scored for one in scored[name]]
    sections.append(Section("Folders", [table("folders", ["contestant", "folder"], folders)]))
    return page(f"{score.title} on {split}: {', '.join(values)}", sections)
