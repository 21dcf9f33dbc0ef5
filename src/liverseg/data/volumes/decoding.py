"""From the stored pixels of a DICOM frame to numbers, by decoders that survive damaged ones."""

from typing import Any

import numpy as np

from liverseg.data.arrays import Numbers

_JPEG, _JPEG_2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
_BOX = b"jP  "  # of a JPEG 2000 stream in a file of its own
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # JPEG's markers with a size behind
_SCAN, _END = 0xDA, b"\xff\xd9"
_MOST_TILES = 4096
# By the end of a transfer syntax's number. gdcm reads them all, but its older decoders of JPEG-LS
# and JPEG 2000 end the process, or never end, on a damaged stream.
_PLUGINS = {
    ".4.80": "pyjpegls",
    ".4.81": "pyjpegls",
    ".4.90": "pillow",
    ".4.91": "pillow",
}
_COMPRESSED = "1.2.840.10008.1.2"
_HIGH_THROUGHPUT = (".4.201", ".4.202", ".4.203")  # pydicom gives these to no decoder that is here


def decoded_frame(dataset: Any, index: int) -> Numbers:
    """Decode one frame of a file to numbers of shape (rows, columns).

    Args:
        dataset: The file, as pydicom has it.
        index: The frame's place.

    Raises:
        Exception: Whatever pydicom and the decoders raise for what they cannot read.
    """
    from pydicom.encaps import get_frame
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID
    count = int(dataset.get("NumberOfFrames") or 1)
    plugin = ""
    if str(syntax).removeprefix(_COMPRESSED) in _HIGH_THROUGHPUT:
        syntax = dataset.file_meta.TransferSyntaxUID = _as_jpeg_2000(syntax)
    if syntax.is_encapsulated:
        stream = get_frame(dataset.PixelData, index, number_of_frames=count)
        _check_size(stream, (int(dataset.Rows), int(dataset.Columns)))
        wanted = _PLUGINS.get(str(syntax).removeprefix(_COMPRESSED), "")
        plugin = wanted if wanted in get_decoder(syntax).available_plugins else ""
    pixels: Numbers = pixel_array(dataset, index=index, decoding_plugin=plugin)
    if pixels.shape != (dataset.Rows, dataset.Columns):
        raise ValueError(f"it holds pixels of the shape {pixels.shape}")
    return np.asarray(pixels)


def _as_jpeg_2000(syntax: Any) -> Any:
    """Return the syntax under which Pillow decodes High-Throughput JPEG 2000, as OpenJPEG does.

    It is the block coder alone that differs, and the stream says which.
    """
    from PIL import features
    from pydicom.uid import JPEG2000

    version = str(features.version("jpg_2000") or "0").split(".")
    if [int(part) for part in version[:2] if part.isdecimal()] < [2, 5]:
        raise ValueError(f"missing dependencies for '{syntax.name}', such as OpenJPEG 2.5")
    return JPEG2000


def _check_size(stream: bytes, size: tuple[int, int]) -> None:
    """Refuse a stream whose own header says another size, for which decoders would take memory."""
    found: tuple[int, ...] | None = size  # of run lengths, which say none
    if stream[:2] == _JPEG:
        found = _size_of_jpeg(stream)
    elif stream[:4] == _JPEG_2000 or stream[4:8] == _BOX:
        start = stream.find(_JPEG_2000)
        found = _size_of_jpeg_2000(stream[start:]) if start >= 0 else None
    if found != size:
        raise ValueError(f"its pixels are {found or 'damaged'}, not {size}, as its header says")


def _size_of_jpeg(stream: bytes) -> tuple[int, ...] | None:
    """Return rows and columns of one grey JPEG whose parts follow one another up to its end.

    gdcm's decoder ends the process where they do not.
    """
    place, size = 2, None
    while place + 9 < len(stream) and stream[place] == 0xFF:
        marker, length = stream[place + 1], _number(stream, place + 2, 2)
        if marker == 0xFF:  # a byte to fill
            place += 1
            continue
        if marker in _FRAMES:
            if size is not None or stream[place + 9] != 1:
                return None
            size = _number(stream, place + 5, 2), _number(stream, place + 7, 2)
        if marker == _SCAN:
            return size if stream.rstrip(b"\0").endswith(_END) else None
        place += 2 + length
    return None


def _size_of_jpeg_2000(stream: bytes) -> tuple[int, ...] | None:
    right, lower, left, upper, width, height, x, y = (
        _number(stream, 8 + 4 * place, 4) for place in range(8)
    )
    if not width or not height or _number(stream, 40, 2) != 1:
        return None
    tiles = -(-(right - x) // width) * -(-(lower - y) // height)
    return (lower - upper, right - left) if 0 < tiles <= _MOST_TILES else None


def _number(stream: bytes, place: int, length: int) -> int:
    return int.from_bytes(stream[place : place + length], "big")
