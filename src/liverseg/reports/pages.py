"""The frame of a page: one file without a foreign address, light and dark, narrow and wide.

>>> rows = [["first", 0.91], ["second", 0.9]]
>>> scores = Section("Scores", [table("scores", ["run", "Dice"], rows)])
>>> text = page("Two runs", [scores], lead="Which of them is better?")
>>> "<h1>Two runs</h1>" in text and "://" not in text
True

Whatever is no :class:`Html` is text, and is escaped.
"""

import base64
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image

from liverseg.reports.style import STYLE

_MOST_BYTES = 400_000  # of a picture as PNG; a larger one becomes a JPEG
_MOST_SIDE = 1800  # pixels of a picture
_QUALITY = 88
_LONGEST_WHOLE = 28  # characters of a row's name; a longer one is broken where there is no room
# A number, its unit, and an interval or a deviation that belongs to it.
_NUMBER = re.compile(r"[-+]?\d[\d.,]*(e[-+]?\d+)?( ?(%|s|px|mm|MB))?( [(±\[].*)?")


class Html(str):
    """Markup, which is not escaped again."""

    __slots__ = ()


Cell = Html | str | int | float | None
Level = Literal["error", "warning", "note", "good"]


class Section(NamedTuple):
    """A part of a page; texts become paragraphs."""

    heading: str
    parts: Sequence[Html | str]


def page(title: str, sections: Sequence[Section], *, lead: Html | str = "") -> str:
    """Return a whole page, to be written as one file.

    Nothing that a page shows is fetched, and nothing in it runs: its content policy forbids both.

    Args:
        title: The heading, and what a tab is called.
        sections: The parts below, in order; the page begins with links to them.
        lead: What stands below the title, in a sentence or two.
    """
    links = "".join(
        f'<li><a href="#part{place}">{escape(one.heading)}</a></li>'
        for place, one in enumerate(sections, start=1)
    )
    nav = f'<nav aria-label="Parts of this page"><ul>{links}</ul></nav>' * (len(sections) > 1)
    bodies = "".join(
        f'<section id="part{place}" aria-labelledby="head{place}">'
        f'<h2 id="head{place}">{escape(one.heading)}</h2>{_joined(one.parts)}</section>\n'
        for place, one in enumerate(sections, start=1)
    )
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    text = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{escape(title)}</h1>{_joined([lead] if lead else [])}{nav}</header>\n"
        f"<main>\n{bodies}</main>\n</body>\n</html>\n"
    )
    return text.encode(errors="backslashreplace").decode()  # names of files may be no UTF-8


def table(
    name: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, caption: str = ""
) -> Html:
    """Return a table; the first cell of a row names it, and columns of numbers stand right.

    Args:
        name: What a screen reader announces; no other table of the page has it.
        columns: The headers.
        rows: As many cells each. Whole numbers get their thousands apart, others four places; None
            is an empty cell.
        caption: What the table shows, above it.
    """
    rows = [list(row) for row in rows]
    numeric = [
        any(row[place] not in (None, "") for row in rows)
        and all(_is_number(row[place]) for row in rows)
        for place in range(len(columns))
    ]
    kinds = [' class="number"' if one else "" for one in numeric]
    head = "".join(
        f'<th scope="col"{kind}>{_text(one)}</th>' for one, kind in zip(columns, kinds, strict=True)
    )
    lines = [
        f'<tr><th scope="row"{kinds[0] or _whole(row[0])}>{_text(row[0])}</th>'
        + "".join(
            f"<td{kind}>{_text(cell)}</td>" for cell, kind in zip(row[1:], kinds[1:], strict=True)
        )
        + "</tr>"
        for row in rows
    ]
    above = f"<caption>{_text(caption)}</caption>" if caption else ""
    return Html(
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(name, quote=True)}">'
        f"<table>{above}"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def picture(source: Path | bytes | Image.Image, *, alt: str, caption: str = "") -> Html:
    """Return a picture that is part of the page.

    Args:
        source: A picture, or a file of one; large ones are shrunk.
        alt: What is to be seen, for those who do not see it.
        caption: A line below it.

    Raises:
        OSError: If a file cannot be read as a picture.
    """
    shown = source if isinstance(source, Image.Image) else _opened(source)
    kind, content = _encoded(shown)
    data = base64.b64encode(content).decode()
    below = f"<figcaption>{_text(caption)}</figcaption>" if caption else ""
    return Html(
        f'<figure><img alt="{escape(alt, quote=True)}" width="{shown.width}" '
        f'height="{shown.height}" src="data:image/{kind};base64,{data}">{below}</figure>'
    )


def as_png(shown: Image.Image) -> bytes:
    """Return a picture as a PNG file."""
    stream = io.BytesIO()
    shown.save(stream, "PNG")
    return stream.getvalue()


def facts(named: Mapping[str, Cell]) -> Html:
    """Return names and what they are, one below the other."""
    lines = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{_text(value)}</dd></div>"
        for name, value in named.items()
    )
    return Html(f"<dl>{lines}</dl>")


def code(text: str) -> Html:
    """Return commands as they are typed."""
    return Html(
        f'<pre tabindex="0" role="region" aria-label="commands"><code>{escape(text)}</code></pre>'
    )


def mark(level: Level, text: str) -> Html:
    """Return a short word in the colour of its level."""
    return Html(f'<strong class="mark {level}">{escape(text)}</strong>')


def item(level: Level, heading: str, parts: Sequence[Html | str]) -> Html:
    """Return one of several things to be told, with its level, a heading and what belongs to it."""
    return Html(
        f'<article class="{level}-side"><h3>{mark(level, level)}{_text(heading)}</h3>'
        f"{_joined(parts)}</article>"
    )


def fold(summary: str, parts: Sequence[Html | str]) -> Html:
    """Return parts that are shown once the line above them is clicked."""
    return Html(f"<details><summary>{escape(summary)}</summary>{_joined(parts)}</details>")


def columns(parts: Sequence[Html]) -> Html:
    """Return parts side by side where there is room."""
    return Html(f'<div class="columns">{"".join(f"<div>{one}</div>" for one in parts)}</div>')


def keyed(colour: str, name: str) -> Html:
    """Return a name beside its colour, as CSS writes one, as in a legend."""
    swatch = f'<span class="key" style="background:{escape(colour, quote=True)}"></span>'
    return Html(f"{swatch}{escape(name)}")


def _joined(parts: Iterable[Html | str]) -> str:
    return "".join(
        one if isinstance(one, Html) and one.startswith("<") else f"<p>{_text(one)}</p>"
        for one in parts
        if one
    )


def _text(cell: Cell) -> str:
    """Return a cell as markup."""
    if isinstance(cell, Html):
        return cell
    if cell is None:
        return ""
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        return escape(str(cell))
    if isinstance(cell, int):
        return f"{cell:,}"
    return f"{cell:.4f}" if math.isfinite(cell) and abs(cell) < 1e6 else f"{cell:g}"


def _whole(cell: Cell) -> str:
    """Return the class of a cell whose text is short enough to stay in one line."""
    shown = re.sub("<[^>]*>", "", _text(cell))
    return ' class="whole"' if len(shown) <= _LONGEST_WHOLE else ""


def _is_number(cell: Cell) -> bool:
    """Tell whether a cell holds a number, or nothing."""
    if isinstance(cell, str):
        return cell == "" or _NUMBER.fullmatch(cell) is not None
    return not isinstance(cell, bool)


def _opened(source: Path | bytes) -> Image.Image:
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as shown:
        shown.load()
        return shown


def _encoded(shown: Image.Image) -> tuple[str, bytes]:
    """Return a format, and a picture in it."""
    if max(shown.size) > _MOST_SIDE:
        factor = _MOST_SIDE / max(shown.size)
        width, height = (max(1, round(side * factor)) for side in shown.size)
        shown = shown.resize((width, height), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    shown.save(stream, "PNG", optimize=False, compress_level=6)
    if stream.tell() <= _MOST_BYTES:
        return "png", stream.getvalue()
    stream = io.BytesIO()
    shown.convert("RGB").save(stream, "JPEG", quality=_QUALITY, subsampling=0)
    return "jpeg", stream.getvalue()
