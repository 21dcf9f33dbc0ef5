"""What image files of all kinds show, against numbers written into them by hand."""

import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from png_files import chunk, write_png

from liverseg.data.images import MOST_PIXELS, read_image, stored_size

SHOWN = np.array([[0, 50, 100], [150, 200, 255]], np.uint8)


def exactly(sentence: str) -> str:
    return f"^{re.escape(sentence)}$"


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "webp"])
def test_a_picture_is_the_same_in_every_format(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(SHOWN).save(file, **({"lossless": True} if suffix == "webp" else {}))
    assert read_image(file, 1)[0].tolist() == SHOWN.tolist()
    assert stored_size(file) == (2, 3)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_its_camera_noted(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    upright = np.kron(SHOWN, np.ones((16, 16), np.uint8))  # blocks, which JPEG keeps
    undone = {  # what a camera that was held so stores
        1: lambda rows: rows,
        2: np.fliplr,
        3: lambda rows: np.rot90(rows, 2),
        4: np.flipud,
        5: np.transpose,
        6: np.rot90,
        7: lambda rows: np.rot90(rows, 2).T,
        8: lambda rows: np.rot90(rows, 3),
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x112] = orientation
    file = tmp_path / f"a.{suffix}"
    options = {"webp": {"lossless": True}, "tif": {"compression": "tiff_lzw"}}.get(suffix, {})
    Image.fromarray(np.ascontiguousarray(undone)).save(file, exif=exif, **options)
    assert stored_size(file) == (32, 48)
    shown = read_image(file, 1)[0].numpy().astype(int)
    assert np.abs(shown - upright).max() <= (3 if suffix == "jpg" else 0)


def test_an_uncompressed_tiff_on_its_side_is_refused_with_its_tag(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    file = tmp_path / "a.tif"
    Image.fromarray(np.rot90(SHOWN).copy()).save(file, exif=exif)
    sentence = (
        f"{file} is an uncompressed TIFF that lies on its side (orientation tag 274 is 6); save it "
        "upright, or with compression"
    )
    with pytest.raises(ValueError, match=exactly(sentence)):
        read_image(file, 1)


def test_an_orientation_behind_the_pixels_counts_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    behind = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    stored = np.rot90(SHOWN)  # three rows of two
    file = write_png(tmp_path / "a.png", 8, 0, [bytes(row) for row in stored], 2, behind)
    assert stored_size(file) == (2, 3)
    assert read_image(file, 1)[0].tolist() == SHOWN.tolist()


def test_floats_from_0_to_1_show_what_their_bytes_show(tmp_path: Path) -> None:
    Image.fromarray((SHOWN / 255).astype(np.float32)).save(tmp_path / "a.tif")
    image = read_image(tmp_path / "a.tif", 1)
    assert image.dtype == torch.float32
    torch.testing.assert_close(image[0], torch.from_numpy(SHOWN) / 255)


@pytest.mark.parametrize(
    ("numbers", "what"),
    [
        (np.float32([[-1000, 400]]), "holds floats from -1000.0 to 400.0, and black and white are"),
        (
            np.float32([[0.25, 1.000001]]),
            "holds floats from 0.25 to 1.000001, and black and white are 0 and 1; clip or scale",
        ),
        (
            np.float32([[0, np.nan], [np.inf, -np.inf]]),
            "holds values that are no numbers (NaN or infinite), 3 of 4; replace them, with 0 (bla",
        ),
        (np.int32([[-1024, 3071]]), "holds numbers from -1024 to 3071, and black and white are"),
        (np.int32([[0, 70000]]), "holds numbers from 0 to 70000, and black and white are"),
        (np.uint16([[0, 4095]]), "has 16 bits and none of its numbers is above 4095, so it would"),
    ],
)
def test_numbers_that_do_not_say_what_is_white_are_refused(
    tmp_path: Path, numbers: np.ndarray, what: str
) -> None:
    file = tmp_path / "a.tif"
    Image.fromarray(numbers).save(file)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{file} {what}')}"):
        read_image(file, 1)


def test_twelve_bits_are_read_where_white_is_declared(tmp_path: Path) -> None:
    Image.fromarray(np.uint16([[0, 819, 4095, 5000]])).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", 1, white_value=4095)
    torch.testing.assert_close(image, torch.tensor([[[0, 0.2, 1, 1]]]))
    dark = read_image(tmp_path / "a.png", 1, white_value=65535)
    assert float(dark.max()) == pytest.approx(5000 / 65535)


def test_sixteen_bits_in_colour_show_their_upper_eight(tmp_path: Path) -> None:
    row = np.array([65535, 0x1234, 0, 256, 512, 768], ">u2").tobytes()
    file = write_png(tmp_path / "a.png", 16, 2, [row], 2)
    assert read_image(file, 3)[:, 0].tolist() == [[255, 1], [0x12, 2], [0, 3]]
    dark = write_png(tmp_path / "b.png", 16, 2, [np.array([4095, 0, 0], ">u2").tobytes()], 1)
    sentence = (
        f"{dark} has 16 bits a channel and uses the lowest 12 of them, so it would be all but "
        "black; save it with 8 bits a channel"
    )
    with pytest.raises(ValueError, match=exactly(sentence)):
        read_image(dark, 3)


@pytest.mark.parametrize("suffix", ["tif", "gif", "png", "webp"])
def test_several_pages_are_refused_with_their_number(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a.{suffix}"
    pages = [Image.new("L", (4, 4), 80 * number) for number in range(3)]
    pages[0].save(file, save_all=True, append_images=pages[1:])
    sentence = f"{file} holds 3 pages or frames; save each as a file of its own"
    with pytest.raises(ValueError, match=exactly(sentence)):
        read_image(file, 1)


def test_an_image_of_too_many_pixels_is_told_as_such(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.new("1", (2**14, 2**13 + 1)).save(file)
    sentence = (
        f"{file} is 8193 x 16384, more than the 134,217,728 pixels that an image may have; cut it "
        "into parts, or make it smaller"
    )
    assert MOST_PIXELS == 134_217_728
    with pytest.raises(ValueError, match=exactly(sentence)):
        stored_size(file)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    sentence = f"{tmp_path / 'a.png'} is no regular file; remove it, or put the image there"
    with pytest.raises(ValueError, match=exactly(sentence)):
        stored_size(tmp_path / "a.png")


def test_a_file_that_promises_more_rows_than_it_holds_is_refused(tmp_path: Path) -> None:
    file = write_png(tmp_path / "a.png", 8, 0, [b"\x07" * 4] * 4, 4)
    content = file.read_bytes()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 8, 8, 0, 0, 0, 0))
    file.write_bytes(content[:8] + head + content[8 + len(head) :])
    with pytest.raises(ValueError, match=rf"^{re.escape(str(file))} cannot be read as an image \("):
        read_image(file, 1)


def test_an_empty_colour_profile_behind_the_pixels_hides_nothing(tmp_path: Path) -> None:
    rows = [bytes(row) for row in SHOWN]
    file = write_png(tmp_path / "a.png", 8, 0, rows, 3, behind=chunk(b"iCCP", b""))
    with pytest.raises(ValueError, match=rf"^{re.escape(str(file))} cannot be read as an image \("):
        read_image(file, 1)


@pytest.mark.parametrize("length", [1, 3, 256, 600])
def test_a_table_of_transparency_of_any_length_changes_no_colour(
    tmp_path: Path, length: int
) -> None:
    colours = [(9, 8, 7), (200, 100, 50)]
    parts = [
        chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 8, 3, 0, 0, 0)),
        chunk(b"PLTE", bytes(colours[0] + colours[1])),
        chunk(b"tRNS", bytes(length)),
        chunk(b"IDAT", zlib.compress(b"\0\1\0")),
        chunk(b"IEND", b""),
    ]
    file = tmp_path / "a.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert read_image(file, 3).permute(1, 2, 0).tolist() == [[[200, 100, 50], [9, 8, 7]]]


def test_an_interlaced_png_is_read(tmp_path: Path) -> None:
    # Adam7 of 3 x 3: the passes hold (0,0), (none), (none), (0,2), (2,0) (2,2), (0,1) (2,1), row 1
    passes = [b"\0\x01", b"\0\x03", b"\0\x07\x09", b"\0\x02", b"\0\x08", b"\0\x04\x05\x06"]
    head = struct.pack(">IIBBBBB", 3, 3, 8, 0, 0, 0, 1)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(b"".join(passes))), (b"IEND", b"")]
    file = tmp_path / "a.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    assert read_image(file, 1)[0].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
