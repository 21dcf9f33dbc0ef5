"""From a mask file to class indices, by declared values or colours, and back."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from liverseg.data.arrays import Numbers, is_array, open_array
from liverseg.data.images import bits_of, decoded, no_numbers, numbers_of
from liverseg.labels import IGNORED

_UNDECLARED = 254
MAX_CLASSES = _UNDECLARED  # masks are bytes, and two values are taken
_LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF")
_IGNORED_NAME = "ignored"  # of colours, in data.mask_colors
_BLACK = (0, 0, 0)


def resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a mask by drawing, for each new pixel, one of the pixels that it covers.

    Where a new pixel lies over an edge, it is then of a class as often as the class covers it, and
    the edge is learnt where it lies. One fixed pixel of those, the nearest, would move every edge
    by up to half a new pixel.

    Args:
        mask: Class indices, of shape (H, W).
        size: New height and width. Where it is a multiple of the old one, nothing is left to
            chance.

    Returns:
        Class indices of the new shape, drawn from torch's global generator.
    """
    if mask.shape == size:
        return mask
    places = (
        (torch.arange(wanted, dtype=torch.float64).view(shape) + torch.rand(size)) * side / wanted
        for side, wanted, shape in zip(mask.shape, size, ((-1, 1), (1, -1)), strict=True)
    )
    rows, columns = (
        place.long().clamp(max=side - 1) for place, side in zip(places, mask.shape, strict=True)
    )
    return mask[rows, columns]


def kept_size(stored: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Return the size in which a mask is kept for :func:`resize_mask`: no larger than it needs.

    Two pixels by two for each new one tell where an edge lies; those of photographs would fill the
    memory.
    """
    return min(stored[0], 2 * size[0]), min(stored[1], 2 * size[1])


class MaskReader:
    """Decode mask files to class indices by declared values, or by declared colours.

    Args:
        num_classes: 1 or 2 for foreground against background, N for the classes 0 ... N - 1.
        ignore_index: Value, or values, of pixels that count nowhere.
        mask_values: The file's value, or list of values, for class 0, 1, ...; None means 0/1 or
            0/255 for foreground against background, and class indices else.
        mask_threshold: For masks with soft edges: values from this one on are foreground.
        mask_colors: For masks in colour: the colour, or list of colours, of each class by its name,
            class 0 first; where class 0 is left out, it is black. A colour is ``[R, G, B]`` or
            ``"#RRGGBB"``. Colours named ``ignored`` count nowhere.

    Raises:
        ValueError: If an argument is out of range or two of them disagree.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        ignore_index: int | Sequence[int] | None = None,
        mask_values: Sequence[int | Sequence[int]] | None = None,
        mask_threshold: int | None = None,
        mask_colors: Mapping[str, Any] | None = None,
    ) -> None:
        if not 1 <= num_classes <= MAX_CLASSES:
            raise ValueError(f"data.num_classes={num_classes} must lie in 1 ... {MAX_CLASSES}")
        is_binary = num_classes <= 2
        ignored = [ignore_index] if isinstance(ignore_index, int) else list(ignore_index or ())
        if mask_threshold is not None:
            if not is_binary or mask_values is not None:
                raise ValueError(
                    f"data.mask_threshold={mask_threshold} is for foreground against background; "
                    "leave it null where data.num_classes > 2 or data.mask_values is set"
                )
            if not 1 <= mask_threshold <= 65535:
                raise ValueError(f"data.mask_threshold={mask_threshold} must lie in 1 ... 65535")
            values = [list(range(mask_threshold)), list(range(mask_threshold, 65536))]
        elif mask_values is not None:
            values = [[one] if isinstance(one, int) else list(one) for one in mask_values]
            if len(values) != max(num_classes, 2):
                raise ValueError(
                    f"data.mask_values={list(mask_values)} must name {max(num_classes, 2)} values, "
                    "one (or a list) per class, background first"
                )
        elif is_binary:
            values = [[0], [1] if 255 in ignored else [1, 255]]
        else:
            values = [[index] for index in range(num_classes)]

        flat = [value for group in values for value in group]
        if len(set(flat)) != len(flat) or not all(0 <= value <= 65535 for value in flat):
            raise ValueError(
                f"data.mask_values={mask_values} must be distinct numbers in 0 ... 65535"
            )
        if mask_threshold is None and (both := sorted({*ignored} & {*flat})):
            raise ValueError(
                f"data.ignore_index={both[0]} is the value of a class too; choose another, "
                "or set data.mask_values"
            )
        self._colours = None
        if mask_colors is not None:
            if mask_values is not None or mask_threshold is not None:
                raise ValueError(
                    "data.mask_colors is for masks in colour; leave data.mask_values and "
                    "data.mask_threshold null"
                )
            self._colours = _colour_table(mask_colors, num_classes)
        self._is_soft = mask_threshold is not None
        self._declared = sorted(flat) if mask_threshold is None else []
        self._both_whites = values == [[0], [1, 255]] and mask_values is None
        self._ignored = ignored
        self._written = _written(values, mask_threshold, is_white=self._both_whites)
        self._table = np.full(65536, _UNDECLARED, dtype=np.uint8)
        for index, group in enumerate(values):
            self._table[group] = index
        if not all(0 <= value <= 65535 for value in ignored):
            raise ValueError(f"data.ignore_index={ignore_index} must lie in 0 ... 65535")
        self._table[ignored] = IGNORED

    def read(self, path: Path) -> Tensor:
        """Decode a mask to uint8 class indices of shape (H, W), ignored pixels as IGNORED.

        Colour images are accepted where they are grey and opaque, or where colours are declared. A
        palette of greys is read by its greys where these are declared, and any other palette by
        its indices, as annotation tools write them.

        Raises:
            ValueError: If the file cannot be decoded, is coloured, was compressed with loss, or
                holds an undeclared value or colour; or if its palette shows something else than
                its indices say.
        """
        if is_array(path):
            return self._by_value(self._of_array(path), path)
        picture = decoded(path)
        if picture.format in _LOSSY and not self._is_soft:
            raise ValueError(
                f"{path} is {picture.format}, which changes the values of a mask; save it as PNG, "
                "or declare data.mask_threshold for one structure with soft edges"
            )
        if self._colours is not None:
            return self._by_colour(picture, path)
        return self._by_value(self._numbers(picture, path), path)

    def _by_value(self, numbers: Numbers, path: Path) -> Tensor:
        """Return class indices by declared values."""
        mask = self._table[numbers]
        found = np.unique(numbers).tolist() if self._both_whites else []
        undeclared = np.unique(numbers[mask == _UNDECLARED]).tolist()
        if undeclared or (self._both_whites and 1 in found and 255 in found):
            what = f"undeclared values ({_some(undeclared)})" if undeclared else _some(found)
            raise ValueError(
                f"{path} holds {what}; declared are "
                f"{_some(sorted(self._declared + self._ignored))}"
                f"{' (1 and 255 not in one file)' if self._both_whites and not undeclared else ''}"
                f"; {self._remedy_for(undeclared)}"
            )
        return torch.from_numpy(mask)

    def _remedy_for(self, undeclared: Sequence[int]) -> str:
        if self.is_binary:
            return (
                "declare them in data.mask_values or data.ignore_index, set data.num_classes=N for "
                "several classes (in train.py with data=pairs), or data.mask_threshold: 1 where "
                "all above 0 are one structure, as in masks of instances, 128 for soft edges"
            )
        ignored = f"={undeclared[0]}" if len(undeclared) == 1 else ", a value or a list of them,"
        return (
            "declare them in data.mask_values, a value or a list of them for each class, raise "
            f"data.num_classes, or set data.ignore_index{ignored} where they are to count nowhere"
        )

    @property
    def is_binary(self) -> bool:
        """Whether there is one structure and its background."""
        return len(self._written) == 2

    def undeclared(self, path: Path) -> dict[int, int]:
        """Return the undeclared values of a mask and how many pixels have each.

        Empty where there is none, where colours are declared, or where it cannot be read at all.
        """
        try:
            is_numbers = is_array(path)
            numbers = self._of_array(path) if is_numbers else self._numbers(decoded(path), path)
        except ValueError:
            return {}
        if self._colours is not None:
            return {}
        values, counts = np.unique(numbers, return_counts=True)
        is_declared = self._table[values] != _UNDECLARED
        return dict(zip(values[~is_declared].tolist(), counts[~is_declared].tolist(), strict=True))

    def to_file(self, indices: Tensor) -> Image.Image:
        """Return class indices, uint8 of shape (H, W), as a picture in the data set's own values.

        Where a class has several values or colours, the first is written; foreground against
        background is 0/255 where nothing else is declared.
        """
        index = indices.numpy()
        if self._colours is not None:
            colours = np.array([group[0] for group in self._colours[0]], np.uint8)
            return Image.fromarray(colours[index])
        return Image.fromarray(self._written[index])

    def _numbers(self, picture: Image.Image, path: Path) -> Numbers:
        """Return the numbers that a file means, integers in 0 ... 65535 of shape (H, W)."""
        remedy = "save it with one channel that holds class values"
        if picture.mode in ("RGB", "RGBA", "LA", "CMYK", "YCbCr"):
            if bits_of(picture) > 8:
                raise ValueError(f"{path} is a mask with 16 bits in several channels; {remedy}")
            bands = [np.asarray(band) for band in picture.split()]
            alpha = bands.pop() if picture.mode.endswith("A") else None
            if any(not np.array_equal(band, bands[0]) for band in bands):
                raise ValueError(
                    f"{path} is a coloured mask ({picture.mode}); {remedy}, or declare its colours "
                    "in data.mask_colors"
                )
            if alpha is not None and not bool((alpha == 255).all()):
                raise ValueError(f"{path} is a mask with transparent pixels; {remedy}")
            return bands[0]
        if picture.mode in ("P", "PA"):
            return self._of_palette(picture, path)
        return _whole(numbers_of(picture), path)

    def _of_array(self, path: Path) -> Numbers:
        """Return the numbers of an array of shape (H, W) or (H, W, 1)."""
        numbers = open_array(path)
        if self._colours is not None or numbers.shape[2:] not in ((), (1,)):
            raise ValueError(
                f"{path} is a mask of shape {numbers.shape}; save it as (height, width) with class "
                "values, and leave data.mask_colors null"
            )
        if numbers.dtype.kind not in "buif":
            raise ValueError(
                f"{path} is a mask of {numbers.dtype.name}; save it with whole numbers"
            )
        numbers = np.array(numbers.reshape(numbers.shape[:2]))
        return _whole(numbers.astype(np.uint8) if numbers.dtype.kind == "b" else numbers, path)

    def _of_palette(self, picture: Image.Image, path: Path) -> Numbers:
        """Return indices or, where the palette shows the declared greys, greys."""
        indices = np.asarray(picture if picture.mode == "P" else picture.getchannel("P"))
        used = np.unique(indices)
        palette = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
        if used[-1] >= len(palette):
            return indices
        shown = palette[used]
        greys = shown[:, 0]
        is_grey = bool((shown == greys[:, None]).all())
        if is_grey and bool((self._table[greys] != _UNDECLARED).all()):
            return np.take(palette[:, 0], indices)
        # Black is background wherever masks are shown. Where another index than 0 is black and 0
        # is not, or where lighter greys have lower indices, indices and eyes tell two stories.
        counts = self._table[used] != IGNORED  # what is ignored may have any colour
        if not counts.any():
            return indices
        used, shown, greys = used[counts], shown[counts], greys[counts]
        is_black = (shown == 0).all(axis=1)
        is_odd = (
            bool((np.diff(greys.astype(int)) < 0).any())
            if is_grey
            else bool(used[0] == 0 and not is_black[0] and is_black.any())
        )
        if is_odd:
            black = used[int(greys.argmin())] if is_grey else used[is_black][0]
            raise ValueError(
                f"{path} has a palette whose index {black} is the darkest and index {used[0]} "
                "is lighter, so its indices are not what it shows; save it in grey with class "
                "values, or declare its colours in data.mask_colors"
            )
        return indices

    def _by_colour(self, picture: Image.Image, path: Path) -> Tensor:
        """Return class indices by declared colours."""
        assert self._colours is not None
        if bits_of(picture) > 8:
            raise ValueError(f"{path} is a mask with 16 bits a channel; save it with 8")
        pixels = np.asarray(picture.convert("RGB")).astype(np.uint32)
        codes = (pixels[..., 0] << 16) | (pixels[..., 1] << 8) | pixels[..., 2]
        mask = np.full(codes.shape, _UNDECLARED, np.uint8)
        classes, ignored = self._colours
        for index, group in [*enumerate(classes), (IGNORED, ignored)]:
            for red, green, blue in group:
                mask[codes == (red << 16 | green << 8 | blue)] = index
        left = mask == _UNDECLARED
        if left.any():
            found, counts = np.unique(codes[left], return_counts=True)
            most = int(found[counts.argmax()])
            wanted = f"data.num_classes={len(classes) + 1}"
            end = f", or, where black is class 0, set {wanted}" if most == 0 else ""
            raise ValueError(
                f"{path} holds {len(found)} undeclared colour{'s' if len(found) > 1 else ''}, most "
                f"often #{most:06x} ({int(counts.max())} pixels); add it to data.mask_colors{end}"
            )
        return torch.from_numpy(mask)


def colour_names(
    mask_colors: Mapping[str, Any] | None, num_classes: int, *, background: bool = True
) -> list[str] | None:
    """Return the names by which colours are declared, one for each class that is scored.

    None where no colours are declared. Class 0 is class_0 where it is left out and scored.
    """
    if not mask_colors:
        return None
    names = [str(name) for name in mask_colors if name != _IGNORED_NAME]
    if len(names) < max(num_classes, 2):
        names.insert(0, "class_0")
    return names[1:] if background else names


def _whole(numbers: Numbers, path: Path) -> Numbers:
    """Return numbers that are whole and lie in 0 ... 65535 as such."""
    is_float = numbers.dtype.kind == "f"
    if is_float and (told := no_numbers(numbers)):
        raise ValueError(
            f"{path} is a mask with {told}; replace them by the value of a class, or by one that "
            "data.ignore_index names"
        )
    if is_float and not np.array_equal(numbers, np.round(numbers)):
        raise ValueError(f"{path} is a mask with fractions; save it with whole numbers")
    if numbers.dtype != np.uint8:
        low, high = numbers.min(), numbers.max()
        if low < 0 or high > 65535:
            raise ValueError(
                f"{path} is a mask with numbers from {low:.0f} to {high:.0f}; class values lie "
                "in 0 ... 65535"
            )
        numbers = numbers.astype(np.uint16)
    return numbers


def _written(values: Sequence[Sequence[int]], threshold: int | None, *, is_white: bool) -> Numbers:
    """Return the value that is written for each class."""
    if threshold is not None:
        return np.array([0, 255], np.uint8)
    first = [0, 255] if is_white else [group[0] for group in values]
    return np.array(first, np.uint8 if max(first) < 256 else np.uint16)


def _colour_table(
    mask_colors: Mapping[str, Any], num_classes: int
) -> tuple[list[list[tuple[int, ...]]], list[tuple[int, ...]]]:
    """Return the colours of each class, and those that count nowhere."""
    named = {str(name): _colours(str(name), given) for name, given in mask_colors.items()}
    ignored = named.pop(_IGNORED_NAME, [])
    classes = list(named.values())
    count = max(num_classes, 2)
    if len(classes) == count - 1:
        classes.insert(0, [_BLACK])
    if len(classes) != count:
        raise ValueError(
            f"data.mask_colors names {len(classes)} classes ({', '.join(named)}), but "
            f"data.num_classes={num_classes} needs {count}, or {count - 1} where black is class 0; "
            f"set data.num_classes={len(classes)}, correct the colours, or call those that count "
            f"nowhere {_IGNORED_NAME}"
        )
    flat = [colour for group in (*classes, ignored) for colour in group]
    if twice := next((colour for colour in flat if flat.count(colour) > 1), None):
        raise ValueError(
            f"data.mask_colors holds {list(twice)} twice; black is class 0 where that is left out"
        )
    return classes, ignored


def _colours(name: str, given: Any) -> list[tuple[int, ...]]:
    """Return the colours of a class as (R, G, B)."""
    is_several = isinstance(given, list | tuple) and any(not isinstance(one, int) for one in given)
    found = []
    for one in given if is_several else [given]:
        if isinstance(one, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", one):
            one = [int(one[place : place + 2], 16) for place in (1, 3, 5)]
        is_colour = isinstance(one, list | tuple) and len(one) == 3
        if not is_colour or not all(isinstance(part, int) and 0 <= part <= 255 for part in one):
            raise ValueError(
                f"data.mask_colors.{name}={given} must be [R,G,B] from 0 to 255, or '#RRGGBB', or "
                "a list of them"
            )
        found.append(tuple(one))
    return found


def _some(values: Sequence[int]) -> str:
    shown = ", ".join(str(value) for value in values[:6])
    return f"{shown}, ... ({len(values)} values)" if len(values) > 6 else shown
