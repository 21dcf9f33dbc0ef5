import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from liverseg.data.images import (
    as_three,
    decoded_bytes,
    read_image,
    read_shown,
    shown_channels,
    stored_size,
)
from liverseg.data.masks import MaskReader

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(0)


def numbers(*shape: int, kind: str = "u1") -> Array:
    most = {"u1": 255, "u2": 65535, "f4": 1}[kind]
    return (RANDOM.random(shape) * most).astype(kind)


def save_array(path: Path, array: Array) -> Path:
    np.save(path, array)
    return path


def save_tiff(
    path: Path, array: Array, *, planar: bool, deflate: bool, predictor: int, tile: int, order: str
) -> Path:
    """Write a TIFF of any number of samples by the book, independent of what reads it."""
    height, width, samples = array.shape
    parts = [array[..., [one]] for one in range(samples)] if planar else [array]
    chunks = []
    for part in parts:
        for top in range(0, height, tile or 4):
            for left in range(0, width, tile or width):
                chunk = part[top : top + (tile or 4), left : left + (tile or width)]
                if tile:
                    missing = ((0, tile - chunk.shape[0]), (0, tile - chunk.shape[1]), (0, 0))
                    chunk = np.pad(chunk, missing)
                if predictor == 2:  # of whole numbers, also those whose bits are a float's
                    chunk = chunk.view(f"u{chunk.dtype.itemsize}")
                    chunk = np.concatenate([chunk[:, :1], chunk[:, 1:] - chunk[:, :-1]], axis=1)
                content = chunk.astype(chunk.dtype.newbyteorder(order)).tobytes()
                chunks.append(zlib.compress(content) if deflate else content)
    ends = np.cumsum([8, *map(len, chunks)]).tolist()
    bits, kind = 8 * array.dtype.itemsize, 3 if array.dtype.kind == "f" else 1
    sizes = [*map(len, chunks)]
    places = {322: [tile], 323: [tile], 324: ends[:-1], 325: sizes}
    tags = {
        **{256: [width], 257: [height], 258: [bits] * samples, 259: [8 if deflate else 1]},
        **{262: [1], 277: [samples], 284: [2 if planar else 1], 317: [predictor]},
        **{338: [0] * (samples - 1), 339: [kind] * samples},
        **(places if tile else {273: ends[:-1], 278: [4], 279: sizes}),
    }
    start = ends[-1] + ends[-1] % 2
    entries, values = struct.pack(f"{order}H", len(tags)), b""
    for tag, found in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(found)}I", *found)
        place = struct.pack(f"{order}I", start + 6 + 12 * len(tags) + len(values))
        entries += struct.pack(f"{order}HHI", tag, 4, len(found))
        entries += packed if len(found) == 1 else place
        values += b"" if len(found) == 1 else packed
    mark = b"II*\0" if order == "<" else b"MM\0*"
    content = mark + struct.pack(f"{order}I", start) + b"".join(chunks)
    path.write_bytes(content.ljust(start, b"\0") + entries + bytes(4) + values)
    return path


PLAIN = {"planar": False, "deflate": False, "predictor": 1, "tile": 0, "order": "<"}


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"order": ">"},
        {"deflate": True},
        {"deflate": True, "predictor": 2},
        {"deflate": True, "predictor": 2, "tile": 16, "order": ">"},
        {"planar": True, "tile": 16},
        {"planar": True, "deflate": True, "order": ">"},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
@pytest.mark.parametrize("samples", [2, 4, 6])
def test_a_tiff_may_have_any_number_of_samples(
    tmp_path: Path, how: dict[str, Any], kind: str, samples: int
) -> None:
    array = numbers(11, 37, samples, kind=kind)
    file = save_tiff(tmp_path / "a.tif", array, **{**PLAIN, **how})
    image = read_image(file, samples, 65535)
    assert image.shape == (samples, 11, 37)
    expected = torch.from_numpy(array.astype(np.float32)).movedim(-1, 0)
    if kind == "u1":
        assert image.dtype == torch.uint8
    assert torch.equal(image.float(), expected / (65535 if kind == "u2" else 1))
    assert decoded_bytes(file) == ((11, 37), 1 if kind == "u1" else 4)


def test_the_pages_of_a_tiff_are_channels_where_as_many_are_declared(tmp_path: Path) -> None:
    array = numbers(5, 7, 4)
    pages = [Image.fromarray(array[..., page]) for page in range(4)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert np.array_equal(read_image(tmp_path / "a.tif", 4).movedim(0, -1), array)
    assert stored_size(tmp_path / "a.tif") == (5, 7)
    for channels in (1, 2, 3, 5):
        with pytest.raises(ValueError, match=r"holds 4 pages|has 4 pages, but data\.channels="):
            read_image(tmp_path / "a.tif", channels)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "CMYK"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_the_bands_of_a_picture_are_its_channels(tmp_path: Path, mode: str, suffix: str) -> None:
    if (mode, suffix) == ("CMYK", "png"):
        return
    array = numbers(5, 7, len(mode))
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(array, mode).save(file)
    assert np.array_equal(read_image(file, len(mode)).movedim(0, -1), array)
    with pytest.raises(ValueError, match=f"has {len(mode)} channels"):
        read_image(file, 5)


@pytest.mark.parametrize("kind", ["u1", "u2", "f4", ">u2", "f8", "f2"])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 6)])
def test_an_array_is_height_width_channels(
    tmp_path: Path, kind: str, shape: tuple[int, ...]
) -> None:
    most = {"u1": 255, "u2": 65535}.get(kind.strip(">"), 1)
    array = (RANDOM.random(shape) * most).astype(kind)
    channels = shape[2] if len(shape) == 3 else 1
    image = read_image(save_array(tmp_path / "a.npy", array), channels, 65535)
    expected = array.reshape(5, 7, channels).astype(np.float32) / (65535 if most == 65535 else 1)
    assert np.array_equal(image.movedim(0, -1).float(), expected)
    assert stored_size(tmp_path / "a.npy") == (5, 7)


def test_arrays_are_converted_between_grey_and_colour(tmp_path: Path) -> None:
    grey = read_image(save_array(tmp_path / "a.npy", numbers(5, 7)), 3)
    assert grey.shape == (3, 5, 7)
    assert torch.equal(grey[0], grey[2])
    colour = save_array(tmp_path / "b.npy", numbers(5, 7, 3))
    assert read_image(colour, 1).shape == (1, 5, 7)


@pytest.mark.parametrize(
    ("array", "channels", "sentence"),
    [
        (
            numbers(4, 9, 9),
            4,
            "has the shape (4, 9, 9), so 9 channels, but data.channels=4; save it with its "
            "channels last, as np.moveaxis(array, 0, -1) has them",
        ),
        (numbers(4, 9, 8), 1, "so 8 channels, but data.channels=1; save it with its channels last"),
        (
            *(numbers(9, 9, 2), 1),
            "so 2 channels, but data.channels=1; train with data.channels=2, or save it with 1",
        ),
        (
            *(numbers(9, 9, 4), 3),
            "so 4 channels, but data.channels=3; train with data.channels=4, or save it with 3",
        ),
        (numbers(9), 1, "is an array of shape (9,); save it as (height, width) or"),
        (numbers(0, 9), 1, "is an array of shape (0, 9); save it as (height, width) or"),
        (numbers(9, 9).astype(np.int16), 1, "holds int16, of which none is known to be white"),
        (numbers(9, 9) + 0.0, 1, "holds floats from"),
        (
            np.full((9, 9), np.nan),
            1,
            "holds values that are no numbers (NaN or infinite), 81 of 81",
        ),
        (numbers(9, 9).astype(np.uint16), 1, "set data.white_value=4095 for 12 bits"),
        (np.array([[{}]]), 1, "cannot be read as an array"),
    ],
)
def test_an_array_that_means_nothing_is_refused(
    tmp_path: Path, array: Array, channels: int, sentence: str
) -> None:
    file = tmp_path / "a.npy"
    np.save(file, array, allow_pickle=True)
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        read_image(file, channels)
    assert str(caught.value).startswith(f"{file} ")


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"PK\3\4", b"\x93NUMPY\1\0\xff\xff{"])
def test_a_file_that_is_no_array_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/a.npy cannot be read as an array")):
        stored_size(tmp_path / "a.npy")


def test_an_array_that_is_cut_or_claims_too_much_is_refused(tmp_path: Path) -> None:
    file = save_array(tmp_path / "a.npy", numbers(50, 50))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="cannot be read as an array"):
        read_image(file, 1)
    huge = np.lib.format.open_memmap(file, mode="w+", dtype="u1", shape=(2**15, 2**13))
    del huge
    with pytest.raises(ValueError, match="more than the 134,217,728 pixels"):
        stored_size(file)


@pytest.mark.parametrize("kind", ["u1", "?", "i8", "f4"])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1)])
def test_a_mask_may_be_an_array(tmp_path: Path, kind: str, shape: tuple[int, ...]) -> None:
    array = np.array([0, 1, 1, 0, 0, 1]).reshape(shape).astype(kind)
    mask = MaskReader(num_classes=1).read(save_array(tmp_path / "a.npy", array))
    assert mask.tolist() == [[0, 1, 1], [0, 0, 1]]


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.full((2, 2), 0.5), "is a mask with fractions"),
        (np.full((2, 2), -1), "is a mask with numbers from -1 to -1"),
        (np.full((2, 2), 7), "holds undeclared values (7)"),
        (np.zeros((2, 2, 3), int), "is a mask of shape (2, 2, 3)"),
        (np.zeros((2, 2), "S1"), "is a mask of bytes8"),
    ],
)
def test_a_mask_that_means_nothing_is_refused(tmp_path: Path, array: Array, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        MaskReader(num_classes=1).read(save_array(tmp_path / "a.npy", array))


def test_pictures_show_three_of_the_channels(tmp_path: Path) -> None:
    file = save_array(tmp_path / "a.npy", numbers(5, 7, 6))
    assert torch.equal(read_shown(file, 6), read_image(file, 6)[:3])
    assert shown_channels(6) == "pictures show channels 1, 2 and 3 of 6"
    assert shown_channels(2) == "pictures show channel 1 of 2"
    assert shown_channels(1) == shown_channels(3) == ""
    assert as_three(torch.ones(2, 5, 7)).shape == (3, 5, 7)
