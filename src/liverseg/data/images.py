"""From an image file to numbers: whole, upright, at its own depth, or refused in a sentence."""

import io
import stat
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import functional

from liverseg.data.arrays import (
    LayeredTiff,
    Numbers,
    is_array,
    is_tiff,
    open_array,
    read_channels,
)

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".npy"),
    *(".ppm", ".pgm", ".pbm"),
)
FORMATS = "PNG, JPEG, TIFF, BMP, WebP, GIF, PPM or NPY"  # those, for a sentence
MOST_PIXELS = 2**27  # of an image; such a one takes half a gigabyte as float32
WHITE = 65535  # of 16 bits a channel
TWELVE_BITS = 4095  # the most that most scanners and cameras with deep pixels give
_ORIENTATION = 0x112  # EXIF's and TIFF's tag: how the stored rows lie; 1 is upright
_ON_ITS_SIDE = (5, 6, 7, 8)  # orientations that exchange height and width
_BITS_PER_SAMPLE = 258  # of TIFF
_HEAD = (0, 32)  # key of Pillow's info, whose own are texts: the first bytes of a PNG
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"  # how a PNG begins
_SMALL = 2**14  # bytes
_PIECE = 2**20  # bytes that are inflated at once
_INTERLACED = (  # Adam7: first row and column of a pass, and its steps
    *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)),
    *((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
)

# This package bounds sizes itself, and says so in a sentence.
Image.MAX_IMAGE_PIXELS = None


def stored_size(path: Path) -> tuple[int, int]:
    """Return height and width of an image file from its header, as it is to be shown.

    Raises:
        ValueError: If the file is no image that can be read, or has too many pixels.
    """
    return decoded_bytes(path)[0]


def decoded_bytes(path: Path) -> tuple[tuple[int, int], int]:
    """Return height and width of a file, and the bytes of one decoded value of its image.

    Raises:
        ValueError: If the file is no image that can be read, or has too many pixels.
    """
    _refuse_irregular(path)
    if found := _of_small_png(path):
        return found
    if is_array(path):
        array = open_array(path)
        return _bounded(path, array.shape[:2]), 1 if array.dtype == np.uint8 else 4
    try:
        with opened(path) as picture:
            size = _upright_size(picture, _orientation(picture))
            return size, 4 if _is_deep(picture) else 1
    except ValueError as error:
        if not isinstance(error.__cause__, UnidentifiedImageError) or not is_tiff(path):
            raise
    layered = LayeredTiff(path)  # of more channels than Pillow knows
    return _bounded(path, layered.size), layered.value_bytes


def _of_small_png(path: Path) -> tuple[tuple[int, int], int] | None:
    """Return what :func:`decoded_bytes` does, of a PNG that lies upright in its first few bytes.

    Of folders with 100,000 files that takes a quarter of the time. None leaves it to Pillow.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_SMALL)
    except OSError:
        return None
    if not content.startswith(_PNG) or len(content) < 33:
        return None
    width, height, bits, colour, sum_of_head = struct.unpack_from(">IIBB3xI", content, 16)
    if sum_of_head != zlib.crc32(content[12:29]):
        return None
    names = [name for name, _ in _chunks(io.BytesIO(content))]
    if names[-1] != b"IEND" or b"eXIf" in names or not 0 < height * width <= MOST_PIXELS:
        return None
    return (height, width), 4 if (bits, colour) == (16, 0) else 1


def read_image(path: Path, channels: int, white_value: int | None = None) -> Tensor:
    """Decode an image to shape (channels, H, W), as it is to be shown.

    With one or three channels, grey, palette, colour, and either with transparency (which is
    dropped) are converted to the number asked for, colour to grey by luminance (ITU-R 601). With
    another number, a file must hold as many: LA has two, RGBA and CMYK four, a TIFF its samples or
    its pages, an array of NumPy its last axis. An orientation that a camera has noted (EXIF) is
    applied. Eight bits a channel give uint8, and so do sixteen of RGB, of which the upper eight
    count; other images of sixteen bits give float32 in [0, 1], and floats in [0, 1] are taken as
    they are.

    Args:
        path: Any image file that Pillow reads, a TIFF of any number of channels, or ``.npy``.
        channels: 1 for grey, 3 for RGB, or the number that the files have.
        white_value: What is white in 16 bits, brighter ones too; None is 65535, and refuses
            images that use twelve of their bits or fewer, which would be all but black.

    Raises:
        ValueError: If ``channels`` is below 1 or not those of the file, if the file cannot be
            decoded, holds several pages, or its numbers do not say what is white.
    """
    if channels < 1:
        raise ValueError(f"data.channels={channels} must be at least 1")
    _refuse_irregular(path)
    if is_array(path):
        _bounded(path, open_array(path).shape[:2])
        return _as_image(read_channels(path, channels), path, channels, white_value)
    if channels > 1 and is_tiff(path):
        layered = LayeredTiff(path)
        if channels != 3 or len(layered.pages) == channels:
            _bounded(path, layered.size)
            return _as_image(layered.read(channels), path, channels, white_value)
    picture = decoded(path)
    if channels not in (1, 3):
        return _all_channels(picture, path, channels)
    if _is_deep(picture):
        return _as_image(np.asarray(picture)[..., None], path, channels, white_value)
    if bits_of(picture) > 8:
        most = int(np.asarray(picture.convert("RGB")).max())
        if most * 256 <= TWELVE_BITS:
            raise ValueError(
                f"{path} has 16 bits a channel and uses the lowest {8 + most.bit_length()} of them,"
                " so it would be all but black; save it with 8 bits a channel"
            )
    # Never applied: a damaged table of it would fail in the conversion, outside of `opened`.
    picture.info.pop("transparency", None)
    if picture.mode != "L":
        picture = picture.convert("RGB")
    image: Tensor = functional.pil_to_tensor(picture.convert("L" if channels == 1 else "RGB"))
    return image


def read_shown(path: Path, channels: int, white_value: int | None = None) -> Tensor:
    """Decode what pictures show of an image, shape (3, H, W): see :func:`shown_channels`.

    Args:
        path: As :func:`read_image`.
        channels: What the network takes of the file.
        white_value: As :func:`read_image`.
    """
    return as_three(read_image(path, 3 if channels in (1, 3) else channels, white_value))


def as_three(image: Tensor) -> Tensor:
    """Return the channels that are shown, of an image of shape (C, H, W); one stands for all."""
    return image[:3] if len(image) > 2 else image[:1].expand(3, -1, -1)


def shown_channels(channels: int) -> str:
    """Say which channels pictures show, where these are not all: "" for one and three."""
    if channels in (1, 3):
        return ""
    return f"pictures show channel{'s 1, 2 and 3' if channels > 2 else ' 1'} of {channels}"


def is_coloured(path: Path, white_value: int | None = None) -> bool:
    """Tell whether some pixels in a hundred of an image have a colour; grey stored as RGB has none.

    Args:
        path: As :func:`read_image`.
        white_value: As :func:`read_image`.
    """
    image = functional.to_dtype(read_image(path, 3, white_value), torch.float32, scale=True)
    share = float(((image.amax(0) - image.amin(0)) > 0.1).float().mean())
    return share > 0.01


def resize_image(image: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Resize an image of shape (C, H, W), bilinear and antialiased; None leaves it alone.

    Returns:
        float32 in [0, 1], not rounded to 8 bits again: an exported file, which resizes by itself,
        would round some ties to the other side. With None, what was given.
    """
    if size is None:
        return image
    image = functional.to_dtype(image, torch.float32, scale=True)
    if image.shape[-2:] == size:
        return image
    resized: Tensor = functional.resize_image(image, list(size), antialias=True)
    return resized


def decoded(path: Path) -> Image.Image:
    """Decode a file whole and turn it upright.

    Raises:
        ValueError: If it cannot be decoded, has too many pixels, or holds several pages.
    """
    with opened(path) as picture:
        # A photograph of a phone (MPO) carries a preview behind it.
        pages = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
        if pages > 1:
            raise _RefusedError(
                f"{path} holds {pages} pages or frames; save each as a file of its own"
            )
        orientation = _orientation(picture)
        size = _upright_size(picture, orientation)
        if picture.format == "PNG":
            _refuse_missing_rows(picture)
        if picture.format == "TIFF" and orientation in _ON_ITS_SIDE and _is_raw(picture):
            raise _RefusedError(  # Pillow 13 decodes it to other pixels
                f"{path} is an uncompressed TIFF that lies on its side (orientation tag 274 is "
                f"{orientation}); save it upright, or with compression"
            )
        picture.load()
        if orientation > 1 and picture.format != "TIFF":  # Pillow turns a TIFF by itself
            picture.getexif()[_ORIENTATION] = orientation
            ImageOps.exif_transpose(picture, in_place=True)
        if (picture.height, picture.width) != size:
            raise ValueError("its header and its pixels differ in size")
        return picture


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open a file as a picture; whatever goes wrong becomes a sentence with its path.

    Raises:
        ValueError: If it cannot be read as an image, the cause being what was raised; or, without
            a cause, if it is one that is not taken, such as one of too many pixels.
    """
    _refuse_irregular(path)
    try:
        with Image.open(path) as picture:
            if told := _too_large(path, (picture.height, picture.width)):
                raise _RefusedError(told)
            if picture.format == "PNG":
                with _stream_of(picture) as stream:
                    stream.seek(0)
                    picture.info[_HEAD] = stream.read(32)
            yield picture
    except _RefusedError as error:
        raise ValueError(str(error)) from None
    except (MemoryError, Exception) as error:  # decoders raise all kinds for a damaged file
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"{path} cannot be read as an image ({reason}); restore it, or remove it and its "
            "partner"
        ) from error


def _refuse_irregular(path: Path) -> None:
    """Refuse what is there and is no file; a pipe would be waited for."""
    try:
        is_regular = stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return  # who opens it says why not
    if not is_regular:
        raise ValueError(f"{path} is no regular file; remove it, or put the image there")


def _bounded(path: Path, size: Sequence[int]) -> tuple[int, int]:
    """Return height and width of an image, unless it has too many pixels."""
    if told := _too_large(path, size):
        raise ValueError(told)
    return size[0], size[1]


def _too_large(path: Path, size: Sequence[int]) -> str:
    """Say that an image has too many pixels; "" where it has not."""
    height, width = size
    if height * width <= MOST_PIXELS:
        return ""
    return (
        f"{path} is {height} x {width}, more than the {MOST_PIXELS:,} pixels that an image may "
        "have; cut it into parts, or make it smaller"
    )


class _RefusedError(ValueError):
    """A file that could be read, and is not taken; the message is the whole sentence."""


def _upright_size(picture: Image.Image, orientation: int) -> tuple[int, int]:
    """Return height and width as they are to be shown."""
    if picture.format != "TIFF" and orientation in _ON_ITS_SIDE:
        return picture.width, picture.height
    return picture.height, picture.width


def bits_of(picture: Image.Image) -> int:
    """Return the bits of one channel as they are stored; those that Pillow decodes may be fewer.

    Only PNG and TIFF are asked: other formats have eight, or one.
    """
    if picture.format == "PNG":
        return _head_of(picture)[24]  # of IHDR, the first chunk
    if picture.format == "TIFF":
        bits = getattr(picture, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,))
        return int(bits[0] if isinstance(bits, tuple) else bits)
    return 1 if picture.mode == "1" else 8


def numbers_of(picture: Image.Image) -> Numbers:
    """Return the stored numbers of a picture with one channel, of shape (H, W).

    Two and four bits of grey, which Pillow spreads over 0 ... 255, are put back.
    """
    numbers: Numbers = np.asarray(picture)
    if picture.mode == "1":
        numbers = numbers.astype(np.uint8)
    if picture.mode == "L" and (bits := bits_of(picture)) in (2, 4):
        numbers = np.floor_divide(numbers, np.uint8(255 // (2**bits - 1)))
    return numbers


def _head_of(picture: Image.Image) -> bytes:
    """Return the first bytes of the PNG file that a picture was read from."""
    head: bytes = picture.info[_HEAD]
    return head


@contextmanager
def _stream_of(picture: Image.Image) -> Iterator[BinaryIO]:
    """Give the file of a picture that is not loaded yet, and put it back to where it stood."""
    stream: BinaryIO = picture.fp  # type: ignore[attr-defined]  # of what Image.open returns
    place = stream.tell()
    try:
        yield stream
    finally:
        stream.seek(place)


def _is_raw(picture: Image.Image) -> bool:
    """Tell whether pixels are stored without compression."""
    tiles = picture.tile  # type: ignore[attr-defined]  # of what Image.open returns
    return any(tile[0] == "raw" for tile in tiles)


def _is_deep(picture: Image.Image) -> bool:
    """Tell whether a picture has one channel of more than eight bits."""
    return picture.mode.startswith(("I", "F"))


def _all_channels(picture: Image.Image, path: Path, channels: int) -> Tensor:
    """Return the bands of a picture as they are stored."""
    found = len(picture.getbands())
    if found != channels or picture.mode not in ("LA", "RGBA", "CMYK"):
        raise ValueError(
            f"{path} has {found} channel{'s' if found > 1 else ''} ({picture.mode}), but "
            f"data.channels={channels}; train with data.channels={1 if found == 1 else 3}, or save "
            f"it as TIFF or .npy with {channels} channels"
        )
    return torch.from_numpy(np.array(picture)).movedim(-1, 0)


def _as_image(numbers: Numbers, path: Path, channels: int, white_value: int | None) -> Tensor:
    """Return numbers of shape (H, W, C) as uint8, or as float32 in [0, 1], of shape (C, H, W)."""
    if numbers.dtype == np.uint8:
        image = torch.from_numpy(np.ascontiguousarray(numbers)).movedim(-1, 0)
    else:
        image = _scaled(numbers, path, white_value).movedim(-1, 0)
    if len(image) == channels:
        return image.contiguous()
    if channels == 1:
        grey: Tensor = functional.rgb_to_grayscale(image)
        return grey
    return image.expand(channels, -1, -1).clone()


def _scaled(numbers: Numbers, path: Path, white_value: int | None) -> Tensor:
    """Return numbers of more than eight bits as float32 in [0, 1]."""
    low, high = numbers.min(), numbers.max()
    if numbers.dtype.kind == "f":
        if told := no_numbers(numbers):
            raise ValueError(f"{path} holds {told}; replace them, with 0 (black) for example")
        if low < 0 or high > 1:
            raise ValueError(
                f"{path} holds floats from {low!s} to {high!s}, and black and white are 0 and 1; "
                "clip or scale them to that, or save them as 8 or 16 bits"
            )
        return torch.from_numpy(numbers.astype(np.float32))
    if low < 0 or high > WHITE:
        raise ValueError(
            f"{path} holds numbers from {low:.0f} to {high:.0f}, and black and white are 0 and "
            f"{WHITE}; save what is to be seen of them (a window) as 8 or 16 bits"
        )
    if white_value is None and 0 < high <= TWELVE_BITS:
        raise ValueError(
            f"{path} has 16 bits and none of its numbers is above {high:.0f}, so it would all but "
            f"be black; set data.white_value={TWELVE_BITS} for 12 bits, or ={WHITE} where it is so"
        )
    scaled = torch.from_numpy(numbers.astype(np.float32)) / (white_value or WHITE)
    return scaled.clamp(0, 1)


def no_numbers(values: Numbers) -> str:
    """Say how many of some floats are NaN or infinite; "" where none is."""
    count = int((~np.isfinite(values)).sum())
    what = "values that are no numbers (NaN or infinite)"
    return f"{what}, {count:,} of {values.size:,}" if count else ""


def _orientation(picture: Image.Image) -> int:
    """Return the orientation that a file names, 1 where it names none; the pixels stay unread."""
    if picture.format == "PNG" and "exif" not in picture.info:
        # Pillow would decode the whole file to look for it behind the pixels.
        found = _chunk_of_png(picture, b"eXIf")
        if found is None:
            return 1
        exif = Image.Exif()
        exif.load(found)
        return int(exif.get(_ORIENTATION, 1))
    return int(picture.getexif().get(_ORIENTATION, 1))


def _chunk_of_png(picture: Image.Image, name: bytes) -> bytes | None:
    """Return the content of a chunk of a PNG file, or None where there is none."""
    with _stream_of(picture) as stream:
        return next((stream.read(size) for found, size in _chunks(stream) if found == name), None)


def _chunks(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield the name and size of each chunk of a PNG file, which then stands at its content."""
    place = stream.seek(8)
    while len(head := stream.read(8)) == 8:
        size, name = struct.unpack(">I4s", head)
        yield name, size
        place = stream.seek(place + size + 12)


def _refuse_missing_rows(picture: Image.Image) -> None:
    """Refuse a PNG that holds fewer rows than its header says; Pillow would make them black."""
    size, bits, channels, is_interlaced = _layout(picture)
    expected = 0
    for top, left, down, right in _INTERLACED if is_interlaced else ((0, 0, 1, 1),):
        rows, columns = (
            -(-(side - at) // step)
            for side, at, step in zip(size, (top, left), (down, right), strict=True)
        )
        if rows > 0 and columns > 0:
            expected += rows * (1 + -(-columns * bits * channels // 8))  # a filter before each row
    inflated, inflate = 0, zlib.decompressobj()
    with _stream_of(picture) as stream:
        for name, length in _chunks(stream):
            if name == b"IDAT":
                rest = stream.read(length)
                while rest and inflated < expected:
                    inflated += len(inflate.decompress(rest, _PIECE))
                    rest = inflate.unconsumed_tail
    if inflated < expected:
        raise ValueError(f"it holds {inflated} of the {expected} bytes that its header promises")


def _layout(picture: Image.Image) -> tuple[tuple[int, int], int, int, bool]:
    """Return size, bits and number of channels of a PNG, and whether it is interlaced."""
    width, height, bits, colour, _, _, interlace = struct.unpack(
        ">IIBBBBB", _head_of(picture)[16:29]
    )
    return (height, width), bits, {2: 3, 4: 2, 6: 4}.get(colour, 1), bool(interlace)
