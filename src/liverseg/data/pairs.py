"""What a sample is: an image ``NAME.png`` and its mask ``NAME_mask.png`` in one folder.

:func:`find_pairs` lists them, :func:`read_image` and :class:`MaskReader` decode them, and
:class:`PairDataset` serves them as tensors.
"""

import random
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional
from torchvision.tv_tensors import Image as ImageTensor
from torchvision.tv_tensors import Mask as MaskTensor

from liverseg.labels import IGNORED

_UNDECLARED = 254
MAX_CLASSES = _UNDECLARED  # masks are bytes, and two values are taken
_DECODING_ERRORS = (OSError, SyntaxError, ValueError, zlib.error, Image.DecompressionBombError)


@dataclass(frozen=True)
class Pair:
    """One image and its mask on disk.

    ``name`` is the image's file name without ``.png``, or another that is unique in its split.
    """

    name: str
    image: Path
    mask: Path


class Sample(TypedDict):
    """What :class:`PairDataset` serves; a batch holds the same keys, with N in front.

    ``image``: float32 (C, H, W), normalised. ``mask``: uint8 (H, W), class indices and
    :data:`IGNORED`. ``index``: the pair's place in the dataset. ``case``: the number of its case,
    -1 where names carry none.
    """

    image: Tensor
    mask: Tensor
    index: int
    case: NotRequired[int]


def find_pairs(folder: Path) -> list[Pair]:
    """List the image/mask pairs of one split, ordered by file name.

    An image is ``NAME.png`` and its mask ``NAME_mask.png`` beside it, of the same size. Other
    files are ignored.

    Raises:
        FileNotFoundError: If ``folder`` is missing.
        ValueError: If an image or a mask stands alone, if the two differ in size, if a file is no
            image, or if the folder holds no pair.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"data folder {folder} does not exist; set data.root")
    files = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() == ".png" and not path.name.startswith(".")
    ]
    masks = {path.stem.removesuffix("_mask"): path for path in files if is_mask(path)}
    images = {path.stem: path for path in files if not is_mask(path)}
    kept = {*masks.values(), *images.values()}
    if twins := [path.name for path in files if path not in kept]:
        raise ValueError(f"{folder}: {twins[0]} exists as .PNG and as .png; rename or remove one")
    if lone := sorted(images.keys() ^ masks.keys()):
        found = (images.get(lone[0]) or masks[lone[0]]).name
        wanted = f"{lone[0]}_mask.png" if lone[0] in images else f"{lone[0]}.png"
        more = f" (and {len(lone) - 1} more such files)" if len(lone) > 1 else ""
        raise ValueError(f"{folder}: {found} has no partner {wanted}{more}; add or remove it")
    if not images:
        raise ValueError(
            f"{folder} holds no pair NAME.png + NAME_mask.png (found "
            f"{_census(folder)}); set data.root to the folder above train/ and val/"
        )
    pairs = [Pair(name, images[name], masks[name]) for name in sorted(images)]
    for pair in pairs:
        image_size, mask_size = stored_size(pair.image), stored_size(pair.mask)
        if image_size != mask_size:
            raise ValueError(
                f"{pair.mask} is {_size_text(mask_size)} (height x width) but its image is "
                f"{_size_text(image_size)}; both must have the same size"
            )
    return pairs


def list_images(folder: Path) -> list[Path]:
    """List the ``*.png`` of a folder that are no masks, ordered by name; hidden files do not count.

    Raises:
        OSError: If the folder cannot be read.
    """
    return [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() == ".png" and not is_mask(path) and not path.name.startswith(".")
    ]


def is_mask(path: Path) -> bool:
    """Tell whether a file is a mask by its name."""
    return path.stem.endswith("_mask")


def stored_size(path: Path) -> tuple[int, int]:
    """Return height and width of an image file from its header.

    Raises:
        ValueError: If the file is no image that can be read.
    """
    return _header(path)[0]


def read_image(path: Path, channels: int) -> Tensor:
    """Decode an image to shape (channels, H, W).

    Grey, palette, RGB, and either with transparency (which is dropped) are converted to the
    number of channels asked for, colour to grey by luminance (ITU-R 601). Eight bits a channel
    give uint8; 16-bit grey gives float32 in [0, 1], 65535 being 1.

    Args:
        path: Any image file that Pillow reads.
        channels: 1 for grey, 3 for RGB.

    Raises:
        ValueError: If ``channels`` is neither, or the file cannot be decoded.
    """
    if channels not in (1, 3):
        raise ValueError(f"data.channels={channels} must be 1 (grey) or 3 (RGB)")
    picture = _load(path)
    if _is_16_bit(picture):
        return (_pixels(picture).float() / 65535).clamp(0, 1).expand(channels, -1, -1).clone()
    if "transparency" in picture.info:
        picture = picture.convert("RGBA")
    if picture.mode != "L":
        picture = picture.convert("RGB")
    image: Tensor = functional.pil_to_tensor(picture.convert("L" if channels == 1 else "RGB"))
    return image


class MaskReader:
    """Decode mask files to class indices by declared values.

    Args:
        num_classes: 1 or 2 for foreground against background, N for the classes 0 ... N - 1.
        ignore_index: Value of pixels that count nowhere.
        mask_values: The file's value, or list of values, for class 0, 1, ...; None means 0/1 or
            0/255 for foreground against background, and class indices else.
        mask_threshold: For masks with soft edges: values from this one on are foreground.

    Raises:
        ValueError: If an argument is out of range or two of them disagree.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        ignore_index: int | None = None,
        mask_values: Sequence[int | Sequence[int]] | None = None,
        mask_threshold: int | None = None,
    ) -> None:
        if not 1 <= num_classes <= MAX_CLASSES:
            raise ValueError(f"data.num_classes={num_classes} must lie in 1 ... {MAX_CLASSES}")
        is_binary = num_classes <= 2
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
            values = [[0], [1] if ignore_index == 255 else [1, 255]]
        else:
            values = [[index] for index in range(num_classes)]

        flat = [value for group in values for value in group]
        if len(set(flat)) != len(flat) or not all(0 <= value <= 65535 for value in flat):
            raise ValueError(
                f"data.mask_values={mask_values} must be distinct numbers in 0 ... 65535"
            )
        if ignore_index in flat and mask_threshold is None:
            raise ValueError(
                f"data.ignore_index={ignore_index} is the value of a class too; choose another, "
                "or set data.mask_values"
            )
        self._declared = sorted(flat) if mask_threshold is None else []
        self._both_whites = values == [[0], [1, 255]] and mask_values is None
        # What each class is written as: its first value, and white for a foreground without one.
        written = [group[0] for group in values]
        if mask_threshold is not None or self._both_whites:
            written = [0, 255]
        self._written = torch.tensor(written, dtype=torch.int32)
        self._ignore_index = ignore_index
        self._table = torch.full((65536,), _UNDECLARED, dtype=torch.uint8)
        for index, group in enumerate(values):
            self._table[group] = index
        if ignore_index is not None:
            if not 0 <= ignore_index <= 65535:
                raise ValueError(f"data.ignore_index={ignore_index} must lie in 0 ... 65535")
            self._table[ignore_index] = IGNORED

    def read(self, path: Path) -> Tensor:
        """Decode a mask to uint8 class indices of shape (H, W), ignored pixels as IGNORED.

        Palette images give their indices. Colour images are accepted where they are grey and
        opaque.

        Raises:
            ValueError: If the file cannot be decoded, is coloured, or holds an undeclared value.
        """
        values = self._grey_values(_load(path), path)
        mask = self._table[values]
        found = values.unique().tolist()
        undeclared = values[mask == _UNDECLARED].unique().tolist()
        if undeclared or (self._both_whites and 1 in found and 255 in found):
            ignore = [] if self._ignore_index is None else [self._ignore_index]
            what = f"undeclared values ({_some(undeclared)})" if undeclared else _some(found)
            raise ValueError(
                f"{path} holds {what}; declared are "
                f"{_some(sorted(self._declared + ignore))}"
                f"{' (1 and 255 not in one file)' if self._both_whites and not undeclared else ''}"
                "; set data.num_classes, data.mask_values or data.ignore_index, or "
                "data.mask_threshold for soft edges"
            )
        return mask

    def to_file(self, indices: Tensor) -> Image.Image:
        """Return class indices of shape (H, W) as a picture in the values that masks have.

        Foreground without a value of its own is 255. Values above 255 make a 16-bit picture.
        """
        values = self._written[indices.long()].numpy()
        return Image.fromarray(values.astype("uint8" if self._written.max() < 256 else "uint16"))

    @staticmethod
    def _grey_values(picture: Image.Image, path: Path) -> Tensor:
        """Return the stored numbers, int64 of shape (H, W)."""
        if picture.mode in ("RGB", "RGBA", "LA"):
            bands = [functional.pil_to_tensor(band)[0] for band in picture.split()]
            alpha = bands.pop() if picture.mode.endswith("A") else None
            if any(not band.equal(bands[0]) for band in bands):
                raise ValueError(
                    f"{path} is a coloured mask ({picture.mode}); save it with one channel that "
                    "holds class values"
                )
            if alpha is not None and not bool((alpha == 255).all()):
                raise ValueError(
                    f"{path} is a mask with transparent pixels; save it with one channel that "
                    "holds class values"
                )
        return _pixels(picture).clamp(0, 65535)


def case_of(name: str, case_pattern: str) -> str | None:
    """Return the case (patient) that a file name carries: the pattern's first group, or None."""
    found = re.search(case_pattern, name) if case_pattern else None
    return found.group(1) if found else None


class PairDataset(Dataset[Sample]):
    """The pairs of one split as tensors.

    Args:
        pairs: What :func:`find_pairs` found.
        channels: Channels of the image, 1 or 3.
        mask_reader: Decodes masks.
        normalize: Maps an image of shape (C, H, W) in [0, 1] to what the network takes.
        image_size: Height and width that images are resized to; None keeps each image's own.
        resize_masks: Whether masks are resized as well (nearest), as training needs. Scores do
            not: they are counted on the mask's own pixels.
        augment: Maps image and mask in [0, 1] to another such couple; drawn from torch's global
            generator, which is seeded by (seed, epoch, index) around the call and put back.
        seed: Seed of the augmentation.
        case_pattern: Regular expression whose first group is the case in a file name.
        cache_megabytes: Decoded pairs stay in memory if all fit into this; 0 decodes every time.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        *,
        channels: int,
        mask_reader: MaskReader,
        normalize: Callable[[Tensor], Tensor],
        image_size: tuple[int, int] | None = None,
        resize_masks: bool = False,
        augment: Callable[[ImageTensor, MaskTensor], tuple[Tensor, Tensor]] | None = None,
        seed: int = 0,
        case_pattern: str = "",
        cache_megabytes: int = 0,
    ) -> None:
        self.pairs = list(pairs)
        self.cases = [case_of(pair.image.stem, case_pattern) for pair in self.pairs]
        self._channels = channels
        self._mask_reader = mask_reader
        self._normalize = normalize
        self._image_size = image_size
        self._resize_masks = resize_masks and image_size is not None
        self._augment = augment
        self._seed = seed
        numbers = {case: number for number, case in enumerate(dict.fromkeys(self.cases))}
        has_cases = None not in numbers
        self._case_numbers = [numbers[case] if has_cases else -1 for case in self.cases]
        self._cache: list[tuple[Tensor, Tensor]] | None = None
        if self._decoded_bytes() <= cache_megabytes * 2**20:
            with ThreadPoolExecutor() as pool:  # Pillow decodes outside the interpreter lock
                self._cache = list(pool.map(self._decode, self.pairs))

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """Return the sample at an index, or at (index, epoch), which decides its augmentation."""
        index, epoch = key if isinstance(key, tuple) else (key, 0)
        image, mask = self._cache[index] if self._cache else self._decode(self.pairs[index])
        image = functional.to_dtype(image, torch.float32, scale=True)
        if self._augment is not None:
            with _seeded(self._seed, epoch, index):
                image, mask = self._augment(ImageTensor(image), MaskTensor(mask))
        return {
            "image": self._normalize(image).as_subclass(Tensor).contiguous(),
            "mask": mask.as_subclass(Tensor).clone(),
            "index": index,
            "case": self._case_numbers[index],
        }

    @property
    def is_cached(self) -> bool:
        """Whether all pairs are decoded and in memory."""
        return self._cache is not None

    def classes(self) -> set[int] | None:
        """Return the class indices that the masks hold; None where they are not in memory."""
        if self._cache is None:
            return None
        return {value for _, mask in self._cache for value in mask.unique().tolist()} - {IGNORED}

    def sizes(self) -> list[tuple[int, int]]:
        """Return height and width of every mask as served."""
        if self._resize_masks and self._image_size:
            return [self._image_size] * len(self.pairs)
        return [stored_size(pair.mask) for pair in self.pairs]

    def _decode(self, pair: Pair) -> tuple[Tensor, Tensor]:
        image = resize_image(read_image(pair.image, self._channels), self._image_size)
        mask = self._mask_reader.read(pair.mask)
        if self._resize_masks and self._image_size:
            mask = functional.resize_mask(mask[None], list(self._image_size))[0]
        return image, mask

    def _decoded_bytes(self) -> int:
        total = 0
        for pair in self.pairs:
            stored, value_bytes = _header(pair.image)
            seen = self._image_size or stored
            masked = seen if self._resize_masks else stored
            total += seen[0] * seen[1] * self._channels * value_bytes + masked[0] * masked[1]
        return total


def resize_image(image: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Resize an image of shape (C, H, W), bilinear and antialiased; None leaves it alone."""
    if size is None or image.shape[-2:] == size:
        return image
    resized: Tensor = functional.resize_image(image, list(size), antialias=True)
    return resized


def _load(path: Path) -> Image.Image:
    """Decode a file, or say in a sentence with its path that it is damaged."""
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except _DECODING_ERRORS as error:
        raise ValueError(_unreadable(path, error)) from error


def _header(path: Path) -> tuple[tuple[int, int], int]:
    """Return height and width of a file, and the bytes of one decoded value of its image."""
    try:
        with Image.open(path) as picture:
            return (picture.height, picture.width), 4 if _is_16_bit(picture) else 1
    except _DECODING_ERRORS as error:
        raise ValueError(_unreadable(path, error)) from error


def _unreadable(path: Path, error: Exception) -> str:
    return f"{path} cannot be read as an image ({error}); restore it, or remove it and its partner"


def _is_16_bit(picture: Image.Image) -> bool:
    return picture.mode.startswith("I")


def _pixels(picture: Image.Image) -> Tensor:
    """Return the stored numbers of a one-channel picture, int64 of shape (H, W)."""
    numbers: Tensor = functional.pil_to_tensor(picture)[0].long()
    return numbers


@contextmanager
def _seeded(*numbers: int) -> Iterator[None]:
    """Seed torch's global generator by several numbers, and put its state back afterwards."""
    seed = random.Random(repr(numbers)).getrandbits(63)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _census(folder: Path) -> str:
    """Say what a folder holds, for an error message."""
    suffixes = [
        "folder" if path.is_dir() else path.suffix.lower() or "file" for path in folder.iterdir()
    ]
    counts = [f"{suffixes.count(suffix)} x {suffix}" for suffix in sorted(set(suffixes))]
    return ", ".join(counts) or "nothing"


def _size_text(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _some(values: Sequence[int]) -> str:
    shown = ", ".join(str(value) for value in values[:6])
    return f"{shown}, ... ({len(values)} values)" if len(values) > 6 else shown
