import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image

from liverseg.pictures import lettering
from liverseg.pictures.lettering import GAP, Entry, Lettering, find_letters


def written(text: str) -> bytes:
    canvas = Image.new("RGB", (120, 22), "white")
    Lettering().write(canvas, (4, 11), text, "lm")
    return canvas.tobytes()


def test_letters_with_accents_and_of_other_alphabets_are_no_boxes() -> None:
    letters = ["Mäh", "Müh", "Mßh", "Méh", "Mčh", "Mжh", "Mλh", "M\uffffh"]
    assert len({written(text) for text in letters}) == len(letters)


def entry(text: str) -> Image.Image:
    canvas = Image.new("RGB", (120, 22), "white")
    Lettering().write_entries(canvas, 0, [Entry(((0, 0, 0),), text)])
    return canvas.convert("L")


def test_an_entry_wider_than_its_line_keeps_its_beginning_and_end() -> None:
    start, end = "portal", "of it"
    long, longer = (entry(start + count * " and more" + end) for count in (8, 20))
    assert long.tobytes() == longer.tobytes()
    assert long.tobytes() != entry(start + 8 * " and more" + "of us").tobytes()
    assert long.crop((120 - GAP, 0, 120, 22)).getextrema() == (255, 255)  # not cut off


def test_of_a_caption_the_name_is_shortened_and_the_score_stays() -> None:
    def right_half(text: str) -> Image.Image:
        canvas = Image.new("RGB", (150, 22), "white")
        Lettering().write(canvas, (4, 11), text, "lm")
        return canvas.convert("L").crop((60, 0, 150, 22))

    low, high = (right_half(f"a_long_name_of_a_file   Dice {score}") for score in ("0.3", "0.4"))
    assert low.tobytes() != high.tobytes()
    assert low.crop((0, 0, 40, 22)).tobytes() == high.crop((0, 0, 40, 22)).tobytes()
    assert low.crop((90 - GAP, 0, 90, 22)).getextrema() == (255, 255)  # not cut off


def font_with(letters: str, file: Path) -> str:
    """Write a font whose letters are squares."""
    names = {ord(letter): f"u{ord(letter):x}" for letter in letters}
    pen = TTGlyphPen(None)
    for step, corner in enumerate([(0, 0), (0, 800), (800, 800), (800, 0)]):
        (pen.lineTo if step else pen.moveTo)(corner)
    pen.closePath()
    square = pen.glyph()
    font = FontBuilder(1000)
    font.setupGlyphOrder([".notdef", *names.values()])
    font.setupCharacterMap(names)
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), **dict.fromkeys(names.values(), square)})
    font.setupHorizontalMetrics(dict.fromkeys(font.font.getGlyphOrder(), (1000, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(file)
    return str(file)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """One font is installed, which has Latin A and 0 and Chinese letters for liver and spleen."""
    file = font_with("A0\u809d\u813e", tmp_path / "squares.ttf")
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(broken), file])
    manager = font_manager.fontManager
    monkeypatch.setattr(manager, "ttflist", [*manager.ttflist])
    known = (lettering._file_with, lettering._say_boxes)
    for one in known:
        one.cache_clear()
    yield file
    for one in known:
        one.cache_clear()


def test_letters_that_our_font_lacks_come_from_one_that_is_installed(
    installed: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert lettering._file_for("\u809d\u813e 0") == installed
    assert "DejaVu" in lettering._file_for("\xe4")
    assert lettering._file_for("a") == ""
    figure = Figure()
    plain = figure.text(0, 0, "\u809d, liver")
    find_letters(figure)
    assert plain.get_fontfamily()[-1] == "Squares"
    figure.canvas.draw()  # and warns of nothing
    assert not caplog.records


@pytest.mark.usefixtures("installed")
def test_letters_that_no_font_has_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    for letter in "\ue123", "\ue124":
        figure = Figure()
        figure.text(0, 0, letter)
        find_letters(figure)
        figure.canvas.draw()  # without a warning of matplotlib's
        written(letter)
    (told,) = caplog.records
    assert told.levelno == logging.WARNING
    assert "no installed font has" in told.message
