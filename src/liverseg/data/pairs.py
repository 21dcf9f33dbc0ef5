"""What a sample is: an image ``NAME.png`` and its mask ``NAME_mask.png``.

:func:`find_pairs` lists them, and :class:`PairDataset` serves them as tensors.
"""

import random
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional
from torchvision.tv_tensors import Image as ImageTensor
from torchvision.tv_tensors import Mask as MaskTensor

from liverseg.data.images import (
    IMAGE_SUFFIXES,
    decoded_bytes,
    read_image,
    resize_image,
    stored_size,
)
from liverseg.data.masks import MaskReader
from liverseg.labels import IGNORED


@dataclass(frozen=True)
class Pair:
    """One image and its mask on disk.

    ``name`` is the image's file name without its ending, or another that is unique in its split.
    """

    name: str
    image: Path
    mask: Path


class Sample(TypedDict):
    """What :class:`PairDataset` serves; a batch holds the same keys, with N in front.

    ``image``: float32 (C, H, W), normalised; or as decoded. ``mask``: uint8 (H, W), class indices
    and :data:`liverseg.labels.IGNORED`. ``index``: the pair's place in the dataset. ``case``: the
    number of its case, -1 where names carry none.
    """

    image: Tensor
    mask: Tensor
    index: int
    case: NotRequired[int]


def find_pairs(folder: Path, mask_suffix: str = "_mask") -> list[Pair]:
    """List the image/mask pairs of one split, ordered by name.

    An image is ``NAME.png`` and its mask ``NAME_mask.png`` beside it, or they are
    ``images/NAME.png`` and ``masks/NAME.png`` (or ``NAME_mask.png`` there), of the same size.
    Files may be PNG, JPEG, TIFF, BMP or WebP; what a mask's format loses, :class:`MaskReader`
    refuses. Other files are ignored.

    Args:
        folder: The folder of the split.
        mask_suffix: What a mask's name has behind that of its image.

    Raises:
        FileNotFoundError: If ``folder`` is missing.
        ValueError: If an image or a mask stands alone, if two files have one name, if image and
            mask differ in size, if a file is no image, or if the folder holds no pair.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"data folder {folder} does not exist; set data.root")
    images = _by_name(folder, list_images(folder, mask_suffix))
    masks = _by_name(folder, _list_masks(folder, mask_suffix), mask_suffix)
    if lone := sorted(images.keys() ^ masks.keys()):
        file = images.get(lone[0]) or masks[lone[0]]
        is_image = lone[0] in images
        is_apart = file.parent != folder
        end = f"{'' if is_apart else mask_suffix}.png" if is_image else ".png"
        wanted = f"{'masks/' if is_image else 'images/'}" * is_apart + lone[0] + end
        more = f" (and {len(lone) - 1} more such files)" if len(lone) > 1 else ""
        raise ValueError(
            f"{folder}: {file.relative_to(folder)} has no partner {wanted}{more}; add or remove it"
        )
    if not images:
        raise ValueError(
            f"{folder} holds no pair NAME.png + NAME{mask_suffix}.png (found "
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


def list_images(folder: Path, mask_suffix: str = "_mask") -> list[Path]:
    """List the images of a folder that are no masks, ordered by name; hidden files do not count.

    Where it holds ``images/`` and ``masks/``, these are the images of the former.

    Raises:
        OSError: If the folder cannot be read.
        ValueError: If a name is no text that can be written down.
    """
    if _is_apart(folder):
        return _listed(folder / "images")
    return [file for file in _listed(folder) if not is_mask(file, mask_suffix)]


def is_mask(path: Path, mask_suffix: str = "_mask") -> bool:
    """Tell whether a file is a mask by its name."""
    return path.stem.endswith(mask_suffix)


def _list_masks(folder: Path, mask_suffix: str) -> list[Path]:
    if _is_apart(folder):
        return _listed(folder / "masks")
    return [file for file in _listed(folder) if is_mask(file, mask_suffix)]


def _is_apart(folder: Path) -> bool:
    """Tell whether images and masks have a folder each."""
    return (folder / "images").is_dir() and (folder / "masks").is_dir()


def _listed(folder: Path) -> list[Path]:
    files = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    ]
    for path in files:
        try:
            path.name.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"{str(folder)!r} holds a file whose name is no UTF-8 ({path.name!a}); rename it"
            ) from None
    return files


def _by_name(folder: Path, files: Sequence[Path], mask_suffix: str = "") -> dict[str, Path]:
    """Return files by the name of their pair: NFC, whichever form the file system gives."""
    named: dict[str, Path] = {}
    for path in files:
        name = unicodedata.normalize("NFC", path.stem).removesuffix(mask_suffix)
        if name in named:
            raise ValueError(
                f"{folder}: {path.name} and {named[name].name} have one name; rename or remove one"
            )
        named[name] = path
    return named


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
        normalize: Maps an image of shape (C, H, W) in [0, 1] to what the network takes; None serves
            images as they were decoded, uint8 or float32 in [0, 1].
        image_size: Height and width that images are resized to; None keeps each image's own.
        resize_masks: Whether masks are resized as well (nearest), as training needs. Scores do
            not: they are counted on the mask's own pixels.
        augment: Maps image and mask in [0, 1] to another such couple; drawn from torch's global
            generator, which is seeded by (seed, epoch, index) around the call and put back.
        seed: Seed of the augmentation.
        case_pattern: Regular expression whose first group is the case in a file name.
        white_value: What is white in images of 16 bits, see :func:`read_image`.
        cache_megabytes: Decoded pairs stay in memory if all fit into this; 0 decodes every time.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        *,
        channels: int,
        mask_reader: MaskReader,
        normalize: Callable[[Tensor], Tensor] | None,
        image_size: tuple[int, int] | None = None,
        resize_masks: bool = False,
        augment: Callable[[ImageTensor, MaskTensor], tuple[Tensor, Tensor]] | None = None,
        seed: int = 0,
        case_pattern: str = "",
        white_value: int | None = None,
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
        self._white_value = white_value
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
        if self._normalize is not None:
            image = functional.to_dtype(image, torch.float32, scale=True)
        if self._augment is not None:
            with _seeded(self._seed, epoch, index):
                image, mask = self._augment(ImageTensor(image), MaskTensor(mask))
        if self._normalize is not None:
            image = self._normalize(image)
        return {
            "image": image.as_subclass(Tensor).contiguous(),
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
        image = resize_image(
            read_image(pair.image, self._channels, self._white_value), self._image_size
        )
        mask = self._mask_reader.read(pair.mask)
        if self._resize_masks and self._image_size:
            mask = functional.resize_mask(mask[None], list(self._image_size))[0]
        return image, mask

    def _decoded_bytes(self) -> int:
        total = 0
        for pair in self.pairs:
            stored, value_bytes = decoded_bytes(pair.image)
            seen = self._image_size or stored
            masked = seen if self._resize_masks else stored
            total += seen[0] * seen[1] * self._channels * value_bytes + masked[0] * masked[1]
        return total


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
