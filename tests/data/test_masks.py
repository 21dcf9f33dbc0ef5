"""What mask files of all kinds mean, and what is written back."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from png_files import write_png

from liverseg.data.masks import MaskReader, colour_names
from liverseg.labels import IGNORED

TRUTH = np.array([[0, 1, 1], [0, 0, 1]], np.uint8)
COLOURS = {"background": [0, 0, 0], "liver": [255, 0, 0], "spleen": "#00ff00"}


def exactly(sentence: str) -> str:
    return f"^{re.escape(sentence)}$"


def save_palette(file: Path, indices: np.ndarray, colours: list[list[int]]) -> Path:
    picture = Image.fromarray(indices.astype(np.uint8)).convert("P")
    picture.putdata(indices.flatten().tolist())
    picture.putpalette([part for colour in colours for part in colour])
    picture.save(file)
    return file


@pytest.mark.parametrize("colour", [[128, 0, 0], [128, 128, 128]])
def test_what_is_ignored_may_be_black_in_a_palette(tmp_path: Path, colour: list[int]) -> None:
    indices = np.array([[0, 1, 2]])
    file = save_palette(tmp_path / "a_mask.png", indices, [colour, [255, 255, 255], [0, 0, 0]])
    assert MaskReader(num_classes=2, ignore_index=2).read(file).tolist() == [[0, 1, IGNORED]]
    with pytest.raises(ValueError, match="has a palette whose index 2 is the darkest and index 0"):
        MaskReader(num_classes=3).read(file)


@pytest.mark.parametrize("first", [0, 255])
def test_a_palette_of_declared_greys_means_what_it_shows(tmp_path: Path, first: int) -> None:
    colours = [[first] * 3, [255 - first] * 3]
    indices = TRUTH if first == 0 else 1 - TRUTH
    file = save_palette(tmp_path / "a_mask.png", indices, colours)
    assert MaskReader(num_classes=1).read(file).tolist() == TRUTH.tolist()


def test_what_quantize_writes_means_what_it_shows(tmp_path: Path) -> None:
    one_pixel = np.array([[0, 1, 0], [0, 0, 0]], np.uint8)
    for name, truth in (("one_pixel", one_pixel), ("a", TRUTH), ("mostly_white", 1 - one_pixel)):
        file = tmp_path / f"{name}_mask.png"
        Image.fromarray(truth * 255).convert("RGB").quantize(2).save(file)
        assert MaskReader(num_classes=1).read(file).tolist() == truth.tolist(), name


def test_a_palette_of_colours_gives_its_indices(tmp_path: Path) -> None:
    indices = np.array([[0, 1, 2]])
    file = save_palette(tmp_path / "a_mask.png", indices, [[0, 0, 0], [128, 0, 0], [0, 128, 0]])
    assert MaskReader(num_classes=3).read(file).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    "colours", [[[255, 0, 0], [0, 0, 0]], [[200, 200, 200], [10, 10, 10]]], ids=["red", "grey"]
)
def test_a_palette_whose_indices_are_not_what_it_shows_is_refused(
    tmp_path: Path, colours: list[list[int]]
) -> None:
    file = save_palette(tmp_path / "a_mask.png", 1 - TRUTH, colours)
    sentence = (
        f"{file} has a palette whose index 1 is the darkest and index 0 is lighter, so its indices "
        "are not what it shows; save it in grey with class values, or declare its colours in "
        "data.mask_colors"
    )
    with pytest.raises(ValueError, match=exactly(sentence)):
        MaskReader(num_classes=1).read(file)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_mask_of_few_bits_keeps_its_class_values(tmp_path: Path, bits: int) -> None:
    packed = np.packbits(
        np.unpackbits(TRUTH[..., None], axis=2)[:, :, 8 - bits :].reshape(2, -1), axis=1
    )
    rows = [bytes(row) for row in packed]
    file = write_png(tmp_path / "a_mask.png", bits, 0, rows, 3)
    assert MaskReader(num_classes=1).read(file).tolist() == TRUTH.tolist()
    most = write_png(tmp_path / "b_mask.png", 4, 0, [b"\x0f\x30"], 3)
    assert MaskReader(num_classes=16).read(most).tolist() == [[0, 15, 3]]


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_sixteen_bits_in_several_channels_are_refused(
    tmp_path: Path, colour: int, channels: int
) -> None:
    row = np.array([1, 1, 1, 65535][:channels], ">u2").tobytes()
    file = write_png(tmp_path / "a_mask.png", 16, colour, [row], 1)
    sentence = (
        f"{file} is a mask with 16 bits in several channels; save it with one channel that holds "
        "class values"
    )
    with pytest.raises(ValueError, match=exactly(sentence)):
        MaskReader(num_classes=1).read(file)


def test_a_mask_is_turned_as_its_file_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    file = tmp_path / "a_mask.png"
    Image.fromarray(np.rot90(TRUTH).copy()).save(file, exif=exif)
    assert MaskReader(num_classes=1).read(file).tolist() == TRUTH.tolist()


def test_a_mask_of_whole_floats_is_read_and_one_of_fractions_refused(tmp_path: Path) -> None:
    file = tmp_path / "a_mask.tif"
    Image.fromarray(TRUTH.astype(np.float32)).save(file)
    assert MaskReader(num_classes=1).read(file).tolist() == TRUTH.tolist()
    Image.fromarray(TRUTH.astype(np.float32) / 2).save(file)
    sentence = f"{file} is a mask with fractions; save it with whole numbers"
    with pytest.raises(ValueError, match=exactly(sentence)):
        MaskReader(num_classes=1).read(file)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_mask_with_a_value_that_is_no_number_is_told_as_such(
    tmp_path: Path, value: float
) -> None:
    numbers = np.zeros((4, 5), np.float32)
    numbers[0, :2] = value
    np.save(tmp_path / "a_mask.npy", numbers)
    Image.fromarray(numbers).save(tmp_path / "a_mask.tif")
    for file in (tmp_path / "a_mask.npy", tmp_path / "a_mask.tif"):
        sentence = (
            f"{file} is a mask with values that are no numbers (NaN or infinite), 2 of 20; replace "
            "them by the value of a class, or by one that data.ignore_index names"
        )
        with pytest.raises(ValueError, match=exactly(sentence)):
            MaskReader(num_classes=1).read(file)


def test_a_mask_compressed_with_loss_needs_a_threshold(tmp_path: Path) -> None:
    file = tmp_path / "a_mask.jpg"
    Image.fromarray(np.kron(TRUTH, np.ones((16, 16), np.uint8)) * 255).save(file)
    sentence = (
        f"{file} is JPEG, which changes the values of a mask; save it as PNG, or declare "
        "data.mask_threshold for one structure with soft edges"
    )
    with pytest.raises(ValueError, match=exactly(sentence)):
        MaskReader(num_classes=1).read(file)
    mask = MaskReader(num_classes=1, mask_threshold=128).read(file)
    assert mask[8::16, 8::16].tolist() == TRUTH.tolist()


@pytest.mark.parametrize(
    ("colours", "num_classes"),
    [
        (COLOURS, 3),
        ({name: colour for name, colour in COLOURS.items() if name != "background"}, 3),
        ({"liver": [[255, 0, 0], [0, 255, 0]]}, 1),
    ],
)
def test_declared_colours_become_classes_and_are_written_back(
    tmp_path: Path, colours: dict, num_classes: int
) -> None:
    pixels = np.array([[[0, 0, 0], [255, 0, 0], [0, 255, 0]]], np.uint8)
    file = tmp_path / "a_mask.png"
    Image.fromarray(pixels).save(file)
    reader = MaskReader(num_classes=num_classes, mask_colors=colours)
    mask = reader.read(file)
    assert mask.tolist() == [[0, 1, 2 if num_classes == 3 else 1]]
    reader.to_file(mask).save(tmp_path / "b_mask.png")
    assert reader.read(tmp_path / "b_mask.png").equal(mask)
    palette = Image.fromarray(pixels).quantize(3)
    palette.save(file)
    assert reader.read(file).equal(mask)


@pytest.mark.parametrize(
    ("colours", "num_classes", "background", "expected"),
    [
        (None, 3, True, None),
        (["liver"], 1, True, ["liver"]),
        (["liver", "ignored", "spleen"], 3, True, ["liver", "spleen"]),
        (["nothing", "liver", "spleen"], 3, True, ["liver", "spleen"]),
        (["sky", "road"], 2, False, ["sky", "road"]),
        (["road", "ignored"], 2, False, ["class_0", "road"]),
    ],
)
def test_the_names_of_colours_are_those_of_the_classes(colours, num_classes, background, expected):
    given = colours and {name: [index, 0, 0] for index, name in enumerate(colours, 1)}
    assert colour_names(given, num_classes, background=background) == expected


def test_ignored_and_undeclared_colours(tmp_path: Path) -> None:
    file = tmp_path / "a_mask.png"
    Image.fromarray(np.array([[[1, 2, 3], [255, 0, 0], [1, 2, 3], [9, 9, 9]]], np.uint8)).save(file)
    colours = {"liver": [255, 0, 0], "ignored": [[1, 2, 3], [9, 9, 9]]}
    mask = MaskReader(num_classes=1, mask_colors=colours).read(file)
    assert mask.tolist() == [[IGNORED, 1, IGNORED, IGNORED]]
    sentence = (
        f"{file} holds 2 undeclared colours, most often #010203 (2 pixels); add it to "
        "data.mask_colors"
    )
    with pytest.raises(ValueError, match=exactly(sentence)):
        MaskReader(num_classes=1, mask_colors={"liver": [255, 0, 0]}).read(file)


@pytest.mark.parametrize(
    ("colours", "sentence"),
    [
        (
            {"liver": [255, 0]},
            "data.mask_colors.liver=[255, 0] must be [R,G,B] from 0 to 255, or '#RRGGBB', or a list"
            " of them",
        ),
        (
            {"liver": "red"},
            "data.mask_colors.liver=red must be [R,G,B] from 0 to 255, or '#RRGGBB', or a list of "
            "them",
        ),
        (
            COLOURS,
            "data.mask_colors names 3 classes (background, liver, spleen), but data.num_classes=1 "
            "needs 2, or 1 where black is class 0; set data.num_classes=3, correct the "
            "colours, or call those that count nowhere ignored",
        ),
        (
            {"liver": [0, 0, 0]},
            "data.mask_colors holds [0, 0, 0] twice; black is class 0 where that is left out",
        ),
    ],
)
def test_a_wrong_table_of_colours_is_refused(colours: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=exactly(sentence)):
        MaskReader(num_classes=1, mask_colors=colours)


@pytest.mark.parametrize(
    ("settings", "written"),
    [
        ({"num_classes": 1}, [0, 255]),
        ({"num_classes": 1, "ignore_index": 255}, [0, 1]),
        ({"num_classes": 3}, [0, 1, 2]),
        ({"num_classes": 3, "mask_values": [0, 63, 126]}, [0, 63, 126]),
        ({"num_classes": 2, "mask_values": [7, [3, 4]]}, [7, 3]),
        ({"num_classes": 2, "mask_values": [0, 1000]}, [0, 1000]),
        ({"num_classes": 1, "mask_threshold": 100}, [0, 255]),
    ],
)
def test_classes_are_written_in_the_values_of_the_data_set(
    tmp_path: Path, settings: dict, written: list[int]
) -> None:
    reader = MaskReader(**settings)
    classes = torch.arange(len(written), dtype=torch.uint8)[None]
    reader.to_file(classes).save(tmp_path / "a_mask.png")
    assert np.asarray(Image.open(tmp_path / "a_mask.png")).tolist() == [written]
    assert reader.read(tmp_path / "a_mask.png").equal(classes)
