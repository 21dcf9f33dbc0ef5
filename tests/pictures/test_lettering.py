from PIL import Image

from liverseg.pictures.lettering import GAP, Entry, Lettering


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
