"""Images with any number of channels: NumPy arrays, and TIFF with several samples or pages."""

import io
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

Numbers = npt.NDArray[Any]  # stored numbers, of whichever kind a file has
_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # of TIFF, and of BigTIFF
_MOST_PAGES = 10_000
# Tags of TIFF: https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES = 256, 257, 258, 259, 262, 277
_ORIENTATION, _PLANAR, _PREDICTOR, _TILE_WIDTH, _EXTRA, _FORMAT = 274, 284, 317, 322, 338, 339
_PLACES = ((273, 279), (324, 325))  # offsets and sizes of strips, and of tiles
_KEPT = (_HEIGHT, _COMPRESSION, 266, 278, _TILE_WIDTH, 323)
_WITHOUT_LOSS = (1, 5, 8, 32773, 32946, 34925, 50000)  # compressions that know of no colours
_WHITE_IS_ZERO = 0


def is_array(path: Path) -> bool:
    """Tell whether a file is a NumPy array by its name."""
    return path.suffix.lower() == ".npy"


def open_array(path: Path) -> Numbers:
    """Open an array of shape (H, W) or (H, W, C); its numbers stay on disk until they are used.

    Raises:
        ValueError: If it cannot be read, has another number of axes, or none in one of them.
    """
    try:
        array: Numbers = np.lib.format.open_memmap(path, mode="r")
    except (MemoryError, Exception) as error:  # whatever numpy makes of a damaged header
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"{path} cannot be read as an array ({reason}); restore it, or remove it and its "
            "partner"
        ) from error
    if array.ndim not in (2, 3) or array.size == 0:
        raise ValueError(
            f"{path} is an array of shape {array.shape}; save it as (height, width) or (height, "
            "width, channels)"
        )
    return array


def channels_first(path: Path) -> str:
    """Return what to do with an array whose first axis is that of the channels; "" for others."""
    shape = open_array(path).shape if is_array(path) else ()
    if len(shape) != 3 or shape[0] >= min(shape[1:]):
        return ""
    return "save it with its channels last, as np.moveaxis(array, 0, -1) has them"


def read_channels(path: Path, channels: int) -> Numbers:
    """Return the numbers of an array, of shape (H, W, C); C is as declared, or 1, or 3.

    Raises:
        ValueError: As :func:`open_array`, or if there are others than uint8, uint16 and floats, or
            another number of channels.
    """
    array = open_array(path)
    if array.ndim == 2:
        array = array[..., None]
    found = array.shape[-1]
    if found != channels and not {found, channels} <= {1, 3}:
        remedy = f"train with data.channels={found}, or save it with {channels}"
        raise ValueError(
            f"{path} has the shape {array.shape}, so {found} channel{'s' if found > 1 else ''}, "
            f"but data.channels={channels}; {channels_first(path) or remedy}"
        )
    if array.dtype.kind != "f" and array.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        raise ValueError(
            f"{path} holds {array.dtype.name}, of which none is known to be white; save what is to "
            "be seen of it as uint8 or uint16, or as floats in 0 ... 1"
        )
    return np.array(array, dtype=array.dtype.newbyteorder("="))


def is_tiff(path: Path) -> bool:
    """Tell whether a file is a TIFF, by its first bytes."""
    with path.open("rb") as stream:
        return stream.read(4) in _MARKS


class LayeredTiff:
    """A TIFF whose channels are samples of a pixel, or pages of one sample each.

    Pillow knows one, three and four samples. A picture of S samples of B bytes, one after the
    other, is one of bytes that is S x B times as wide, which it can decode; samples in planes of
    their own are S pictures.

    Args:
        path: The file.

    Raises:
        ValueError: If the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = path.read_bytes()
        try:
            self.pages = list(self._pages())
            self.size = (self._one(self.pages[0], _HEIGHT), self._one(self.pages[0], _WIDTH))
            self.samples = self._one(self.pages[0], _SAMPLES, 1)
            self.value_bytes = 1 if self._one(self.pages[0], _BITS, 1) <= 8 else 4  # decoded
        except Exception as error:  # whatever Pillow makes of damaged tags
            raise self._damaged(error) from error

    def read(self, channels: int) -> Numbers:
        """Return the numbers, of shape (H, W, channels).

        Raises:
            ValueError: If there is another number of channels, or the file cannot be decoded.
        """
        count = len(self.pages)
        of_pages = [self._one(page, _SAMPLES, 1) for page in self.pages]
        sizes = {(self._one(one, _HEIGHT), self._one(one, _WIDTH)) for one in self.pages}
        is_of_pages = count == channels and set(of_pages) == {1} and len(sizes) == 1
        if not is_of_pages and not (count == 1 and self.samples == channels):
            shown = f"{count} pages" if count > 1 else f"{self.samples} channels"
            raise ValueError(
                f"{self._path} has {shown}, but data.channels={channels}; train with data.channels="
                f"{count if count > 1 else self.samples}, or save it with {channels} channels"
            )
        try:
            return np.concatenate([self._decoded(page) for page in self.pages], axis=-1)
        except _RefusedError as error:
            raise ValueError(str(error)) from None
        except (MemoryError, Exception) as error:  # decoders raise all kinds for a damaged file
            raise self._damaged(error) from error

    def _pages(self) -> Iterator[ImageFileDirectory_v2]:
        is_big = self._content[2:3] == b"+" or self._content[3:4] == b"+"
        stream = io.BytesIO(self._content)
        tags = ImageFileDirectory_v2(stream.read(16 if is_big else 8))
        places: set[int] = set()
        while tags.next and tags.next not in places and len(places) < _MOST_PAGES:
            places.add(tags.next)
            stream.seek(tags.next)
            tags.load(stream)
            yield tags
            following, tags = tags.next, ImageFileDirectory_v2(self._content[: 16 if is_big else 8])
            tags.next = following

    def _decoded(self, tags: ImageFileDirectory_v2) -> Numbers:
        """Return the numbers of a page, of shape (H, W, samples)."""
        samples, height, width = (self._one(tags, tag, 1) for tag in (_SAMPLES, _HEIGHT, _WIDTH))
        is_planar = self._one(tags, _PLANAR, 1) == 2 and samples > 1
        predictor = self._one(tags, _PREDICTOR, 1)
        bits, kinds = set(_values(tags, _BITS)), set(_values(tags, _FORMAT)) or {1}
        if (
            len(bits) != 1
            or (kinds, *bits) not in (({1}, 8), ({1}, 16), ({3}, 32))
            or self._one(tags, _COMPRESSION, 1) not in _WITHOUT_LOSS
            or self._one(tags, _ORIENTATION, 1) != 1
            or self._one(tags, _PHOTOMETRIC, 1) == _WHITE_IS_ZERO
            or predictor not in (1, 2)
        ):
            raise _RefusedError(
                f"{self._path} is a TIFF of a kind that is not read with {samples} channels; save "
                "it upright, uncompressed, in 8 or 16 bits or 32-bit floats, or as .npy"
            )
        kind = np.dtype({8: "u1", 16: "u2", 32: "f4"}[bits.pop()])
        stored = kind.newbyteorder("<" if self._content[:2] == b"II" else ">")
        across = 1 if is_planar else samples
        numbers = []
        for plane in range(samples) if is_planar else [None]:
            grey = self._as_grey(tags, across * kind.itemsize, plane, samples)
            values = np.ascontiguousarray(grey).view(stored).astype(kind)
            numbers.append(values.reshape(height, width, across))
        found = np.concatenate(numbers, axis=-1)
        if predictor == 2:  # each sample as its difference from the pixel before
            step = self._one(tags, _TILE_WIDTH, width)
            for start in range(0, width, step):
                part = found.view(f"u{kind.itemsize}")[:, start : start + step]  # floats too
                part[:] = np.cumsum(part, axis=1, dtype=part.dtype)
        return found

    def _as_grey(
        self, tags: ImageFileDirectory_v2, across: int, plane: int | None, samples: int
    ) -> Image.Image:
        """Decode samples, or one plane, as a picture of bytes that is ``across`` times wider."""
        grey = {tag: _values(tags, tag) for tag in _KEPT if tag in tags}
        for tag in (_WIDTH, _TILE_WIDTH):
            if tag in tags:
                grey[tag] = (self._one(tags, tag) * across,)
        grey |= {_BITS: (8,), _SAMPLES: (1,), _PHOTOMETRIC: (1,)}
        for places in _PLACES:
            if places[0] in tags:
                count = len(_values(tags, places[0])) // (1 if plane is None else samples)
                start = 0 if plane is None else plane * count
                grey |= {tag: _values(tags, tag)[start : start + count] for tag in places}
        content = _with_tags(self._content, grey)
        picture = Image.open(io.BytesIO(content), formats=["TIFF"])
        picture.load()
        return picture

    def _one(self, tags: ImageFileDirectory_v2, tag: int, default: int | None = None) -> int:
        values = _values(tags, tag)
        if not values and default is not None:
            return default
        return int(values[0])

    def _damaged(self, error: BaseException) -> ValueError:
        reason = str(error) or type(error).__name__
        return ValueError(
            f"{self._path} cannot be read as an image ({reason}); restore it, or remove it and its "
            "partner"
        )


class _RefusedError(ValueError):
    """A file that could be read, and is not taken; the message is the whole sentence."""


def _values(tags: ImageFileDirectory_v2, tag: int) -> Sequence[int]:
    """Return the numbers of a tag, none where it is not there."""
    found = tags.get(tag, ())
    return found if isinstance(found, tuple) else (found,)


def _with_tags(content: bytes, tags: Mapping[int, Sequence[int]]) -> bytes:
    """Return a file of one page with other tags, behind all that it holds; all of them are LONG."""
    order = "<" if content[:2] == b"II" else ">"
    start = len(content) + len(content) % 2
    behind = start + 2 + 12 * len(tags) + 4  # where values lie that are no single one
    entries, values = struct.pack(f"{order}H", len(tags)), b""
    for tag, numbers in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        field = packed if len(numbers) == 1 else struct.pack(f"{order}I", behind + len(values))
        entries += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + field
        values += packed if len(numbers) != 1 else b""
    head = content[:2] + struct.pack(f"{order}HI", 42, start)
    return head + content[8:].ljust(start - 8, b"\0") + entries + bytes(4) + values
