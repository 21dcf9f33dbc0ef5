import re
from pathlib import Path

import browser
import pytest
from PIL import Image

from liverseg.reports.graphs import Line, graph
from liverseg.reports.pages import (
    Section,
    code,
    columns,
    facts,
    fold,
    keyed,
    mark,
    page,
    picture,
    table,
)


def test_a_page_loads_nothing_and_runs_nothing() -> None:
    shown = picture(Image.new("RGB", (8, 6), (255, 0, 0)), alt="red")
    text = page("A title", [Section("One", [shown]), Section("Two", ["words"])], lead="So it is.")
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<script|<iframe", text)
    assert "default-src 'none'" in text
    assert re.findall(r'src="(data:image/\w+)', text) == ["data:image/png"]


def test_a_page_has_a_language_a_title_one_heading_and_links_to_its_parts() -> None:
    text = page("A title", [Section("One", ["a"]), Section("Two", ["b"])])
    assert '<html lang="en">' in text
    assert "<title>A title</title>" in text
    assert text.count("<h1>") == 1
    places = re.findall(r'<section id="(\w+)"', text)
    assert re.findall(r'href="#(\w+)"', text) == places == ["part1", "part2"]


def test_what_others_have_written_is_shown_as_text() -> None:
    bad = '<img src=x onerror="alert(1)">&'
    parts = [
        table(bad, [bad, bad], [[bad, bad]], caption=bad),
        facts({bad: bad}),
        code(bad),
        fold(bad, [bad]),
        mark("error", bad),
        graph(bad, [Line(bad, [(0, 1)])], along=bad),
        picture(Image.new("L", (2, 2)), alt=bad, caption=bad),
        bad,
    ]
    text = page(bad, [Section(bad, parts)], lead=bad)
    assert "<img src=x" not in text
    assert 'onerror="' not in text


def test_a_table_names_its_rows_and_columns_and_sets_numbers_right() -> None:
    text = table(
        "scores",
        ["run", "Dice", "images", "interval"],
        [["a", 0.51234, 12345, "0.9 [0.8, 0.95]"], ["b", None, 1, ""]],
    )
    assert re.findall(r'<th scope="col"( class="number")?>', text) == [
        "",
        *[' class="number"'] * 3,
    ]
    assert 'role="region" aria-label="scores"' in text
    assert re.findall(r'<th scope="row" class="whole">(\w)<', text) == ["a", "b"]
    assert re.findall(r'<td class="number">([^<]*)<', text) == [
        *("0.5123", "12,345", "0.9 [0.8, 0.95]"),
        *("", "1", ""),
    ]


def test_a_large_picture_is_shrunk_and_a_damaged_file_is_told(tmp_path: Path) -> None:
    noise = Image.effect_noise((2400, 1200), 80)
    noise.save(tmp_path / "noise.png")
    text = picture(tmp_path / "noise.png", alt="noise")
    assert "data:image/jpeg" in text
    assert len(text) < 3_000_000
    (tmp_path / "noise.png").write_bytes(b"")
    with pytest.raises(OSError, match="cannot identify"):
        picture(tmp_path / "noise.png", alt="noise")


def test_a_graph_says_its_ends_in_words_and_leaves_a_gap_where_a_value_is_none() -> None:
    text = graph("loss", [Line("train", [(1, 4.0), (2, float("nan")), (3, 1.0), (4, 0.5)])])
    assert 'aria-label="loss over epochs: train from 4 to 0.5"' in text
    (path,) = re.findall(r'class="line"[^>]* d="([^"]+)"', text)
    assert [path.count(letter) for letter in "ML"] == [2, 1]


def test_a_graph_of_one_point_shows_it_and_one_of_none_is_refused() -> None:
    assert "<circle" in graph("loss", [Line("train", [(1, 4.0)])])
    with pytest.raises(ValueError, match="no point"):
        graph("loss", [Line("train", [(1, float("inf"))])])


@pytest.mark.parametrize(("place", "right"), [(1.0, "1"), (0.5, "0.5"), (0.0, "1")])
def test_an_axis_with_one_place_begins_at_zero(place: float, right: str) -> None:
    drawn = graph("Dice", [Line("val", [(place, 0.5)])], limits=(0, 1))
    assert 'text-anchor="start">0</text>' in drawn
    assert f'text-anchor="end">{right}</text><text' in drawn


@pytest.mark.slow
@pytest.mark.skipif(browser.PROGRAM is None, reason="there is no chromium here")
def test_long_names_wrap_and_leave_the_numbers_beside_them_in_sight(tmp_path: Path) -> None:
    name = "patient_of_a_hospital_" * 6
    names = table("images", ["image", "case", "Dice"], [[name, name, 0.5]])
    file = tmp_path / "page.html"
    file.write_text(page("Names", [Section("Images", [columns([names, names])])]))
    with browser.Browser(tmp_path / "profile") as shown:
        for width in (1200, 390):
            shown.look_as(width, 900)
            shown.open(file.as_uri())
            shown.wait_for("0.5000")
            wide, cells = (f"[...document.querySelectorAll('{e}')]" for e in (".wide", "tbody *"))
            assert shown.value(f"{wide}.map(e => e.scrollWidth - e.clientWidth)") == [0, 0]
            assert min(shown.value(f"{cells}.slice(1, 3).map(e => e.clientWidth)")) > 100


def test_a_name_stays_in_one_line_up_to_28_characters_without_its_markup() -> None:
    names = ["trainer.max_epochs", "n" * 28, "n" * 29, keyed("#123456", "n" * 28)]
    text = table("settings", ["setting", "value"], [[name, "a"] for name in names])
    kinds = re.findall(r'<th scope="row"([^>]*)>', text)
    assert kinds == [' class="whole"', ' class="whole"', "", ' class="whole"']


@pytest.mark.slow
@pytest.mark.skipif(browser.PROGRAM is None, reason="there is no chromium here")
def test_paper_shows_all_of_wide_tables_and_of_long_commands(tmp_path: Path) -> None:
    interval = "0.768 to 0.946"
    scores = table(
        "scores",
        ["", "val", "95 % interval", "test", "95 % interval"],
        [["precision_pooled", 0.9, interval, 0.8, interval]],
    )
    classes = table(
        "classes",
        ["class", *(f"{split}: {what}" for split in "abc" for what in ("images", "pixels"))],
        [["left_kidney_with_a_long_name_and_longer", *[1234, "12.34%"] * 3]],
    )
    levels = [f"p{one}" for one in (1, 5, 10, 25, 50, 75, 90, 95, 99)]
    brightness = table(
        "brightness", ["split", "mean", "std", "black", *levels], [["train", *[0.1] * 12]]
    )
    command = code(f"python train.py {'data.class_names=[liver,spleen] ' * 9}data.root={'d' * 200}")
    file = tmp_path / "page.html"
    file.write_text(page("A", [Section("B", [scores, classes, brightness, command])]))
    with browser.Browser(tmp_path / "profile") as shown:
        shown.look_as(718, 1000, medium="print")  # A4 less margins of 1 cm
        shown.open(file.as_uri())
        shown.wait_for("precision_pooled")
        cut = "(e.querySelector('table') || e).scrollWidth - e.clientWidth"
        parts = "[...document.querySelectorAll('.wide, pre')]"
        assert max(shown.value(f"{parts}.map(e => {cut})")) <= 0
