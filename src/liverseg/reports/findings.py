"""What a check of a folder has found, as a page, a file of plain values and contact sheets."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from liverseg.data import PERCENTILES, read_shown
from liverseg.inspection import (
    FIRST_FILES,
    LOOKED_FOR,
    Finding,
    Measured,
    Survey,
    tables,
)
from liverseg.pictures import Tile, as_shown, class_colour, draw_sheet
from liverseg.reports.graphs import Line, graph
from liverseg.reports.pages import Html, Section, as_png, facts, item, keyed, page, picture, table
from liverseg.runs import write_bytes, write_json, write_text

REPORT_FILE, PLAIN_FILE, SHEETS = "report.html", "report.json", "sheets"
_PER_SPLIT = 12  # images that show what a split is like


def write_findings(
    folder: Path,
    survey: Survey,
    findings: Sequence[Finding],
    preview: Image.Image | str | None = None,
) -> None:
    """Write ``report.html``, ``report.json`` and the contact sheets in ``sheets/``.

    Args:
        folder: Where they go.
        survey: What was read.
        findings: What was found.
        preview: What augmentation does, or why that cannot be drawn; None leaves it out.

    Raises:
        OSError: If they cannot be written.
    """
    counts = counted(findings)
    plain = {
        "root": str(survey.root),
        **counts,
        "findings": [one.plain() for one in findings],
        "splits": tables(survey),
    }
    write_json(folder / PLAIN_FILE, plain)
    found: list[Html | str] = [
        item(
            finding.level,
            finding.text,
            [finding.remedy, *_files(finding), *_shown(folder, survey, finding, place)],
        )
        for place, finding in enumerate(findings, start=1)
    ]
    sections = [
        Section("What is found", found or ["Nothing."]),
        Section("Splits", [_splits(survey)]),
        Section("Classes", [_classes(survey)]),
        Section("Brightness", _brightness(survey)),
        Section("Images", _images(folder, survey)),
        *([Section("Augmentation", [_preview(folder, preview)])] if preview else []),
        Section("What was looked for", [facts(LOOKED_FOR)]),
    ]
    title, lead = f"Check of {survey.root.absolute().name}", f"{survey.root}: {in_words(counts)}"
    write_text(folder / REPORT_FILE, page(title, sections, lead=lead))


def counted(findings: Sequence[Finding]) -> dict[str, int]:
    """Return how many findings there are of each level, by its name."""
    return {
        f"{level}s": sum(1 for one in findings if one.level == level)
        for level in ("error", "warning", "note")
    }


def in_words(counts: Mapping[str, int]) -> str:
    """Return what :func:`counted` has counted as text.

    >>> in_words({"errors": 1, "warnings": 0, "notes": 2})
    '1 error, 0 warnings, 2 notes'
    """
    return ", ".join(
        f"{count} {level.removesuffix('s') if count == 1 else level}"
        for level, count in counts.items()
    )


def _preview(folder: Path, preview: Image.Image | str) -> Html | str:
    if isinstance(preview, str):
        return preview
    write_bytes(folder / SHEETS / "augmentation.png", as_png(preview))
    return picture(
        preview,
        alt="images of train, each with its mask, and beside it as five epochs of training see it",
        caption="as it is, and as the first five epochs of training see it",
    )


def _files(finding: Finding) -> list[Html]:
    """Return the first files as a table."""
    if not finding.files:
        return []
    shown = finding.files[:FIRST_FILES]
    names = {"file": [one.path for one in shown]}
    for name, cells in (
        ("and", [one.other for one in shown]),
        ("what it is", [one.note for one in shown]),
    ):
        if any(cells):
            names[name] = cells
    rest = len(finding.files) - len(shown)
    caption = f"the first {len(shown)} of {len(finding.files):,}" if rest else ""
    rows = list(zip(*names.values(), strict=True))
    return [table(f"files: {finding.text}", list(names), rows, caption=caption)]


def _shown(folder: Path, survey: Survey, finding: Finding, place: int) -> list[Html]:
    """Draw the first files of a finding that can be drawn, both of a couple, into a file too.

    The file begins with the place of the finding, as several may be of one kind.
    """
    measured = {
        survey.shown(path): one
        for split in survey.splits.values()
        for one in split.measured
        for path in (one.pair.image, one.pair.mask)
    }
    listed = finding.files[:FIRST_FILES]
    names = [name for one in listed for name in (one.path, one.other) if name in measured]
    tiles = _tiles(survey, [measured[name] for name in dict.fromkeys(names)])
    kind = re.sub(r"\W+", "_", finding.kind)
    alt = f"{finding.kind}: {', '.join(tile.caption for tile in tiles)}"
    return _kept(folder, f"{place:02}_{finding.level}_{kind}", tiles, survey, alt)


def _tiles(survey: Survey, measured: Sequence[Measured]) -> list[Tile]:
    tiles: list[Tile] = []
    for one in measured:
        try:
            recipe = survey.recipe
            image = as_shown(read_shown(one.pair.image, recipe.channels, recipe.white_value))
        except (OSError, ValueError):
            continue
        try:
            mask = survey.recipe.reader.read(one.pair.mask)
        except (OSError, ValueError):
            mask = None
        tiles.append(Tile(f"{one.split}/{one.pair.name}", image, mask))
    return tiles


def _kept(folder: Path, name: str, tiles: Sequence[Tile], survey: Survey, alt: str) -> list[Html]:
    """Draw a sheet, write it, and return it for the page; nothing where there is nothing to see."""
    if not tiles:
        return []
    sheet: Image.Image = draw_sheet(tiles, first=survey.first)
    write_bytes(folder / SHEETS / f"{name}.png", as_png(sheet))
    return [picture(sheet, alt=alt)]


def _splits(survey: Survey) -> Html:
    rows = [
        [
            name,
            *(one["pairs"], one["read"], one["patients"] or "none named"),
            *(one["empty_masks"], one["masks_at_the_border"], one["masks_with_specks"]),
            _sizes(survey.splits[name].whole),
        ]
        for name, one in tables(survey).items()
    ]
    return table(
        "splits",
        [
            *("split", "pairs", "read", "patients", "empty masks", "masks at the border"),
            *("masks with specks", "sizes"),
        ],
        rows,
    )


def _sizes(whole: Sequence[Measured]) -> str:
    """Return the smallest and the largest size."""
    sizes = sorted({one.size for one in whole}, key=lambda size: size[0] * size[1])
    ends = dict.fromkeys([*sizes[:1], *sizes[-1:]])
    return " to ".join(f"{height} x {width}" for height, width in ends)


def _classes(survey: Survey) -> Html:
    """Return in how many images each class is, which share of the pixels it takes, and its colour.

    The colours are those of the sheets.
    """
    found = tables(survey)
    rows = [
        [
            keyed(f"rgb{class_colour(index - survey.first + 1)}", name),
            *(
                cell
                for split in found.values()
                for cell in (
                    split["classes"][name]["images"],
                    f"{split['classes'][name]['share']:.2%}",
                )
            ),
        ]
        for index, name in survey.class_names.items()
    ]
    heads = [head for split in found for head in (f"{split}: images", f"{split}: pixels")]
    return table("classes", ["class", *heads], rows)


def _brightness(survey: Survey) -> list[Html | str]:
    statistics = {
        name: split.intensities.statistics() for name, split in survey.splits.items() if split.whole
    }
    if not statistics:
        return ["No image was read."]
    rows = [
        [name, one["mean"], one["std"], f"{one['black']:.1%}", *one["percentiles"]]
        for name, one in statistics.items()
    ]
    heads = ["split", "mean", "std", "black", *(f"p{one}" for one in PERCENTILES)]
    lines = [
        Line(name, list(zip(PERCENTILES, statistics[name]["percentiles"], strict=True)))
        for name in statistics
    ]
    return [
        "Values of images in 0 ... 1, as they are read; each image counts the same.",
        table("brightness", heads, rows),
        graph("value at a percentile", lines, along="percentile", limits=(0, 1)),
    ]


def _images(folder: Path, survey: Survey) -> list[Html | str]:
    """Show some images of each split, evenly spread."""
    parts: list[Html | str] = []
    for name, split in survey.splits.items():
        step = -(-len(split.whole) // _PER_SPLIT) or 1
        tiles = _tiles(survey, split.whole[::step])
        alt = f"{len(tiles)} images of {name} under their masks"
        parts += _kept(folder, f"images_{name}", tiles, survey, alt)
    return parts or ["No image was read."]
