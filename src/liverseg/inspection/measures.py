"""What one pair of files shows, measured while both are decoded once."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage
from torch import Tensor

from liverseg.data import Histogram, MaskReader, Pair, histogram, read_image
from liverseg.inspection.alignment import Numbers, edge_fit, shrink_image, shrink_mask
from liverseg.labels import IGNORED

LOOK = 16  # pixels of a side of the small picture by which images are compared
_SPECK = 2e-5  # of the image's area: a component that is smaller is a speck
_LEAST_SPECK = 4  # pixels
_LEAST_OF_CLASS = 12  # pixels, for the brightness of a class
_LOSSY = "changes the values of a mask"  # as reading says of its format
_MOST_CLASSES = 32  # masks of larger values have soft edges, or values that are far from indices


@dataclass(frozen=True)
class Recipe:
    """How files are read.

    ``first`` is the index of the first class that is no background.
    """

    channels: int
    white_value: int | None
    reader: MaskReader
    first: int


@dataclass(slots=True)
class Measured:
    """What is kept of a pair; numbers are those of the files, not of what the network sees.

    ``fault`` is the kind of fault that keeps a file from being read, with its sentence.
    ``values_hash`` is that of the image's histogram, equal for what is flipped or turned.
    ``look`` holds the image and its foreground, each as LOOK x LOOK bytes. ``inside`` has median
    and standard deviation of the image (0 ... 255) by class. ``ring`` is the share of foreground
    along the border of the image. ``fit`` says how well the mask's edges lie on the image's.
    """

    split: str
    pair: Pair
    fault: tuple[str, str] | None = None
    format: str = ""
    size: tuple[int, int] = (0, 0)
    image_hash: bytes = b""
    values_hash: bytes = b""
    mask_hash: bytes = b""
    histogram: Histogram | None = None  # until it has been added up
    deviation: float = 0.0
    counts: dict[int, int] | None = None
    look: npt.NDArray[np.uint8] | None = None
    inside: dict[int, tuple[float, float]] | None = None
    ring: float = 0.0
    num_specks: int = 0
    fit: float = float("nan")
    contrast: float = float("nan")  # of the foreground against the rest, in 0 ... 255

    @property
    def case(self) -> str | None:
        """Whose image it is, None where that is not known."""
        return self.pair.case

    @property
    def is_whole(self) -> bool:
        """Whether both files were read."""
        return self.fault is None

    def share(self, first: int) -> float:
        """Return the share of foreground."""
        counts = self.counts or {}
        total = sum(counts.values()) - counts.get(IGNORED, 0)
        return sum(_foreground(counts, first).values()) / max(1, total)

    def foreground(self, first: int) -> dict[int, int]:
        """Return the pixels of each class that is no background."""
        return _foreground(self.counts or {}, first)


def _foreground(counts: dict[int, int], first: int) -> dict[int, int]:
    return {index: one for index, one in counts.items() if first <= index != IGNORED}


def measure(split: str, pair: Pair, recipe: Recipe) -> Measured:
    """Read a pair and measure it; a file that cannot be read is a fault, no error."""
    found = Measured(split, pair)
    try:
        image = read_image(pair.image, recipe.channels, recipe.white_value)
        found.format = describe(pair.image)
    except (ValueError, OSError) as error:
        found.fault = ("unreadable image", str(error))
        return found
    try:
        mask = recipe.reader.read(pair.mask)
    except (ValueError, OSError) as error:
        found.fault = (_kind_of_fault(pair.mask, recipe.reader, str(error)), str(error))
        return found
    found.size = (image.shape[-2], image.shape[-1])
    if tuple(mask.shape) != found.size:
        sizes = [" x ".join(map(str, size)) for size in (mask.shape, found.size)]
        found.fault = (
            "size",
            f"{pair.mask} is {sizes[0]} (height x width) but its image is {sizes[1]}; both must "
            "have the same size",
        )
        return found
    _measure_image(found, image)
    _measure_mask(found, grey_of(image), mask.numpy(), recipe.first)
    return found


def hash_of_image(numbers: Numbers) -> bytes:
    """Return a hash of an image's values and shape."""
    content = numbers.tobytes() + repr(numbers.shape).encode()
    return hashlib.blake2b(content, digest_size=12).digest()


def grey_of(image: Tensor) -> Numbers:
    """Return an image of shape (C, H, W) as float32 in 0 ... 255 of shape (H, W)."""
    numbers: Numbers = image.numpy()
    grey: Numbers = numbers[0] if len(numbers) == 1 else numbers.mean(axis=0, dtype=np.float32)
    return (grey if numbers.dtype == np.uint8 else grey * 255).astype(np.float32)


def describe(path: Path) -> str:
    """Return format and mode of an image file, such as ``PNG L``; its ending where it has none."""
    try:
        with Image.open(path) as picture:
            return f"{picture.format} {picture.mode}"
    except OSError:  # an array, or what read_image refuses
        return path.suffix.lower().lstrip(".").upper()


def _kind_of_fault(path: Path, reader: MaskReader, sentence: str) -> str:
    """Return what is wrong with a mask that is refused with a sentence."""
    if _LOSSY in sentence:  # its values are those of the compression
        return "lossy mask"
    values = reader.undeclared(path)
    if not values:
        return "unreadable mask"
    is_soft = reader.is_binary and len(values) > 3 and max(values) > _MOST_CLASSES
    return "soft edges" if is_soft else "undeclared values"


def _measure_image(found: Measured, image: Tensor) -> None:
    found.image_hash = hash_of_image(image.numpy())
    found.histogram = histogram(image)
    found.values_hash = hashlib.blake2b(found.histogram.tobytes(), digest_size=12).digest()
    values = np.arange(len(found.histogram), dtype=np.float64)
    mean = (found.histogram * values).sum()
    found.deviation = float(np.sqrt((found.histogram * (values - mean) ** 2).sum()))


def _measure_mask(found: Measured, grey: Numbers, mask: Numbers, first: int) -> None:
    found.mask_hash = hashlib.blake2b(np.ascontiguousarray(mask).tobytes(), digest_size=12).digest()
    counts = np.bincount(mask.ravel(), minlength=256)
    found.counts = {int(index): int(counts[index]) for index in counts.nonzero()[0]}
    is_foreground = (mask >= first) & (mask != IGNORED)
    ring = np.concatenate(
        [is_foreground[0], is_foreground[-1], is_foreground[1:-1, 0], is_foreground[1:-1, -1]]
    )
    found.ring = float(ring.mean())
    if 0 < is_foreground.sum() < is_foreground.size:
        found.contrast = float(grey[is_foreground].mean() - grey[~is_foreground].mean())
    found.num_specks = _count_specks(mask, list(found.foreground(first)))
    small_grey, small_mask = shrink_image(grey), shrink_mask(mask)
    found.fit = edge_fit(small_grey, small_mask)
    found.inside = {
        index: (float(np.median(inside)), float(inside.std()))
        for index in np.unique(small_mask).tolist()
        if first <= index != IGNORED
        and (inside := small_grey[small_mask == index]).size >= _LEAST_OF_CLASS
    }
    found.look = np.concatenate(
        [
            _look(grey.astype(np.uint8)),
            _look((is_foreground * 255).astype(np.uint8)),
        ]
    )


def _look(numbers: Numbers) -> npt.NDArray[np.uint8]:
    """Return a picture of one channel as LOOK x LOOK bytes."""
    small = Image.fromarray(numbers).resize((LOOK, LOOK), Image.Resampling.BOX)
    return np.asarray(small, np.uint8).ravel()


def _count_specks(mask: Numbers, classes: list[int]) -> int:
    """Return how many components of a class are tiny, those of one that is itself tiny aside."""
    most = max(_LEAST_SPECK, round(_SPECK * mask.size))
    boxes = ndimage.find_objects(
        np.where(mask == IGNORED, 0, mask), max_label=max(classes, default=0)
    )
    total = 0
    for index in classes:
        box = boxes[index - 1] if index else (slice(None), slice(None))
        if box is None:
            continue
        labels, count = ndimage.label(mask[box] == index)
        if count > 1:
            sizes = np.bincount(labels.ravel())[1:]
            total += int((sizes < most).sum()) if sizes.max() >= most else 0
    return total
