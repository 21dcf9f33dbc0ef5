import re
from pathlib import Path

import pytest

from liverseg.data.pairs import Pair
from liverseg.data.table import CaseTable

HEAD = "name,case,split\n"


def table(folder: Path, content: str | bytes) -> CaseTable:
    file = folder / "cases.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return CaseTable(file)


def pairs(folder: Path, *paths: str) -> list[Pair]:
    return [Pair(Path(path).stem, folder / path, folder / f"{path}_mask") for path in paths]


PLAIN = "name,case,split\na,Ann,train\nb,Bob,val\n"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        "sep=;\r\n" + PLAIN.replace(",", ";"),
        '"name","case","split"\n"a","Ann","train"\n"b","Bob","val"',
        'Split, Name ,CASE,note\nTrain,a,Ann,\n,,,\nval , b,Bob,"x, y"\n\n',
    ],
    ids=["plain", "mark", "utf16", "crlf", "cr", "semicolon", "tab", "sep", "quoted", "spaced"],
)
def test_a_table_is_read_as_spreadsheets_write_it(tmp_path: Path, content: str | bytes) -> None:
    found = table(tmp_path, content)
    assert found.names_splits
    assert [(row.name, row.case, row.split) for row in found.rows] == [
        ("a", "Ann", "train"),
        ("b", "Bob", "val"),
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", " is empty; its first line must be name,case"),
        ("name,patient\na,Ann", " has no column case (found name, patient); its first line"),
        ("case;split\nAnn;val", " has no column name (found case, split); its first line"),
        ("name,case,Case\na,b,c", " has two columns case; rename or remove one"),
        (HEAD, " holds no row below its head; add one for each image"),
        (HEAD + "a,Ann\n", ", line 2: it has 2 fields, and the head 3; repair it"),
        (HEAD + "a,Ann,val,x\n", ", line 2: it has 4 fields, and the head 3; repair it"),
        (HEAD + ",Ann,val\n", ", line 2: it names no image; fill in its name, or remove it"),
        (HEAD + "a,Ann,dev\n", ", line 2: split dev must be train, val or test, or empty"),
        (HEAD + '"a,Ann,val\n', " cannot be read as a table (unexpected end of data); repair it"),
        (b"name,case\n\xe4,b\n", " is no text in UTF-8; save it as CSV in UTF-8"),
        ("name,case,spacing\na,b,wide\n", ", line 2: spacing wide must be height and width of a"),
        ("name,case,spacing\na,b,0x1\n", ", line 2: spacing 0x1 must be height and width of a"),
        ("name,case,slice\na,b,one\n", ", line 2: slice one must be a whole number"),
    ],
)
def test_a_faulty_table_is_refused_in_a_sentence(
    tmp_path: Path, content: str | bytes, sentence: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'{tmp_path}/cases.csv{sentence}')}"):
        table(tmp_path, content)


def test_a_case_in_two_splits_is_refused_where_splits_are_read(tmp_path: Path) -> None:
    found = table(tmp_path, HEAD + "a,Ann,val\nb,Bob,val\nc,Ann,train\n")
    sentence = (
        ", line 4: case Ann is in train and, by line 2, in val; put all images of a case into one "
        "split"
    )
    with pytest.raises(ValueError, match=re.escape(sentence)):
        found.refuse_shared_cases()


def test_what_rows_and_images_do_not_fit_is_left_out_of_what_is_salvaged(tmp_path: Path) -> None:
    found = table(tmp_path, "name,case\nnobody,Ann\nc,Cem\na,Ann\nx/d,Dee\n")
    paths = pairs(tmp_path, "a.png", "b.png", "c.png", "x/d.png")
    salvaged = found.salvage(paths, tmp_path)
    assert [(pair.name, pair.case, row.line) for pair, row in salvaged] == [
        ("a", "Ann", 4),
        ("c", "Cem", 3),
        ("d", "Dee", 5),
    ]


@pytest.mark.parametrize(
    ("text", "spacing"),
    [
        ("0.8x0.7", (0.8, 0.7)),
        ("0.8 0.7", (0.8, 0.7)),
        ("0.5", (0.5, 0.5)),
        ("0.8x0.7x5.0", (0.8, 0.7)),  # and between slices, as of a volume
        ('"[0.8, 0.7]"', (0.8, 0.7)),
        ("", None),
    ],
)
def test_spacing_is_height_and_width(
    tmp_path: Path, text: str, spacing: tuple[float, float] | None
) -> None:
    (row,) = table(tmp_path, f"name,case,spacing,slice\na,b,{text},7\n").rows
    assert (row.spacing, row.number) == (spacing, 7)


def test_a_comma_is_a_decimal_one_beside_semicolons(tmp_path: Path) -> None:
    (row,) = table(tmp_path, "name;case;spacing\na;b;0,8 x 0,7\n").rows
    assert row.spacing == (0.8, 0.7)


@pytest.mark.parametrize(
    "name",
    [
        *("a", "a.png", "train/a", "train/a.png", "images/train/a.png", "./train/a"),
        *("train\\a.png", "{root}/images/train/a.png", "{folder}/train/a"),
    ],
)
def test_an_image_may_be_named_in_many_ways(tmp_path: Path, name: str) -> None:
    typed = name.format(root=tmp_path, folder=tmp_path.name)
    found = table(tmp_path, f"name,case\n{typed},Ann\n")
    (pair,), _ = found.complete(pairs(tmp_path, "images/train/a.png"), tmp_path)
    assert pair.case == "Ann"


def test_a_whole_path_means_one_image_though_others_end_so(tmp_path: Path) -> None:
    found = table(tmp_path, "name,case\na,Ann\nx/a,Bob\n")
    completed, _ = found.complete(pairs(tmp_path, "x/a.png", "a.png"), tmp_path)
    assert [pair.case for pair in completed] == ["Bob", "Ann"]


def test_a_name_of_dots_keeps_them(tmp_path: Path) -> None:
    found = table(tmp_path, "name,case\n1.2.840.1,Ann\n1.2.840.2.png,Bob\n")
    completed, _ = found.complete(pairs(tmp_path, "1.2.840.1.png", "1.2.840.2.png"), tmp_path)
    assert [pair.case for pair in completed] == ["Ann", "Bob"]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("a,Ann\nc,Ann\n", "cases.csv, line 3: c is the name of no image in {root}; correct it"),
        (
            "x/a,Ann\na,Ann\n",
            "cases.csv, line 3: a is the name of several images in {root}; write its path",
        ),
        ("x/a,A\nx/a.png,B\n", "cases.csv, line 3: x/a.png is the image of line 2 too"),
        ("x/a,A\n", "cases.csv has no row for y/a.png (and 1 more image); add one for it"),
    ],
)
def test_rows_and_images_must_fit(tmp_path: Path, rows: str, sentence: str) -> None:
    found = table(tmp_path, f"name,case\n{rows}")
    paths = ["a.png"] if rows.startswith("a,") else ["x/a.png", "y/a.png", "z/b.png"]
    with pytest.raises(ValueError, match=re.escape(sentence.format(root=tmp_path))):
        found.complete(pairs(tmp_path, *paths), tmp_path)


def test_another_column_split_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    found = table(tmp_path, "case;name;note\nAnn;a;x;\n;b;'y, z'\n")
    told = found.with_splits({2: "val"}, {2: "Cem", 3: "Bob"})
    assert told == "case;name;note;split\nAnn;a;x;val\nBob;b;'y, z';\n"
