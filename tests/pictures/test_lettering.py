from PIL import Image

from liverseg.pictures.lettering import Lettering


def written(text: str) -> bytes:
    canvas = Image.new("RGB", (120, 22), "white")
    Lettering().write(canvas, (4, 11), text, "lm")
    return canvas.tobytes()


def test_letters_with_accents_and_of_other_alphabets_are_no_boxes() -> None:
    letters = ["Mäh", "Müh", "Mßh", "Méh", "Mčh", "Mжh", "Mλh", "M\uffffh"]
    assert len({written(text) for text in letters}) == len(letters)
