"""Pairs as tensors: what training, scoring and pictures are served."""

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional
from torchvision.tv_tensors import Image as ImageTensor
from torchvision.tv_tensors import Mask as MaskTensor

from liverseg.data.fingerprints import Header, in_threads
from liverseg.data.images import decoded_bytes, read_image, resize_image
from liverseg.data.intensities import Intensities, histogram, sample_statistics, spread
from liverseg.data.masks import MaskReader, kept_size, resize_mask
from liverseg.data.pairs import Pair
from liverseg.data.slices import stacked, stacks_of
from liverseg.labels import IGNORED


class Sample(TypedDict):
    """What :class:`PairDataset` serves; a batch holds the same keys, with N in front.

    ``image``: float32 (C, H, W), normalised; or as decoded. ``mask``: uint8 (H, W), class indices
    and :data:`liverseg.labels.IGNORED`. ``index``: the pair's place in the dataset. ``case``: the
    number of its case, -1 where names carry none. ``epoch``: the pass that it is served in.
    """

    image: Tensor
    mask: Tensor
    index: int
    case: NotRequired[int]
    epoch: NotRequired[int]


class PairDataset(Dataset[Sample]):
    """The pairs of one split as tensors.

    Args:
        pairs: What :func:`find_pairs` found.
        channels: Channels of the image.
        mask_reader: Decodes masks.
        normalize: Maps an image of shape (C, H, W) in [0, 1] to what the network takes; None serves
            images as they were decoded, uint8 or float32 in [0, 1].
        image_size: Height and width that images are resized to; None keeps each image's own.
        resize_masks: Whether masks are resized as well, by :func:`resize_mask`, as training needs.
            Scores do not: they are counted on the mask's own pixels.
        augment: Maps image and mask in [0, 1] to another such couple; drawn, as resized masks are,
            from torch's global generator, which is seeded by (seed, epoch, index) and put back.
        seed: Seed of what is drawn.
        white_value: What is white in images of 16 bits, see :func:`read_image`.
        cache_megabytes: Decoded pairs stay in memory if all fit into this; 0 decodes every time.
        slices: How many slices of a patient are seen together, see :mod:`liverseg.data.slices`.
        header: Returns :func:`~liverseg.data.images.decoded_bytes` of a file.
        classes: The class indices of all masks, where all pairs have been decoded before: those
            that stay in memory are then decoded when they are first used.
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
        white_value: int | None = None,
        cache_megabytes: int = 0,
        slices: int = 1,
        header: Callable[[Path], Header] = decoded_bytes,
        classes: Collection[int] | None = None,
    ) -> None:
        self.pairs = list(pairs)
        self.cases = [pair.case for pair in self.pairs]
        self._channels = channels
        self._mask_reader = mask_reader
        self._normalize = normalize
        self._image_size = image_size
        self._resize_masks = resize_masks and image_size is not None
        self._augment = augment
        self._seed = seed
        self._white_value = white_value
        self._stacks: list[list[int]] | None = None
        self.gaps: list[str] = []  # between which slices of a patient others are missing
        if slices > 1:
            self._stacks, self.gaps = stacks_of(self.pairs, slices)
        numbers = {case: number for number, case in enumerate(dict.fromkeys(self.cases))}
        has_cases = None not in numbers
        self.case_numbers = [numbers[case] if has_cases else -1 for case in self.cases]
        self._header = header
        self._classes = None if classes is None else set(classes)
        self._cache: list[tuple[Tensor, Tensor] | None] | None = None
        if self._decoded_bytes() <= cache_megabytes * 2**20:
            self._cache = [None] * len(self.pairs)
            if classes is None:
                self._cache = [*in_threads(self._decode, self.pairs)]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """Return the sample at an index, or at (index, epoch), which decides its augmentation."""
        index, epoch = key if isinstance(key, tuple) else (key, 0)
        image, mask = self._decoded_pair(index)
        if self._stacks is not None:
            places = self._stacks[index]
            near = [image if one == index else self._image_of(one) for one in places]
            image = stacked(near, [self.pairs[one].image for one in places])
        if self._normalize is not None or self._augment is not None:
            image = functional.to_dtype(image, torch.float32, scale=True)
        draws = self._resize_masks or self._augment is not None
        with _seeded(self._seed, epoch, index) if draws else nullcontext():
            if self._resize_masks and self._image_size:
                mask = resize_mask(mask, self._image_size)
            if self._augment is not None:
                image, mask = self._augment(ImageTensor(image), MaskTensor(mask))
        if self._normalize is not None:
            image = self._normalize(image)
        return {
            "image": image.as_subclass(Tensor).contiguous(),
            # One thread copies it sooner than torch wakes all of them.
            "mask": torch.from_numpy(mask.numpy().copy()),
            "index": index,
            "case": self.case_numbers[index],
            "epoch": epoch,
        }

    @property
    def is_cached(self) -> bool:
        """Whether all pairs are decoded and in memory."""
        return self._cache is not None

    def classes(self) -> set[int] | None:
        """Return the class indices that the masks hold; None where they are not in memory."""
        if self._cache is None:
            return None
        if self._classes is None:
            is_there = np.zeros(IGNORED + 1, bool)
            for index in range(len(self.pairs)):
                is_there[self._decoded_pair(index)[1].numpy()] = True
            self._classes = set(np.flatnonzero(is_there).tolist()) - {IGNORED}
        return self._classes

    def statistics(self) -> dict[str, Any]:
        """Return how bright the images are, see :meth:`Intensities.statistics`, of some of them."""
        if self._cache is None:
            images = [pair.image for pair in self.pairs]
            return sample_statistics(images, self._channels, self._white_value)
        some = (self._decoded_pair(index)[0] for index in spread(range(len(self.pairs))))
        return Intensities([histogram(image) for image in some]).statistics()

    def sizes(self) -> list[tuple[int, int]]:
        """Return height and width of every mask as served."""
        if self._resize_masks and self._image_size:
            return [self._image_size] * len(self.pairs)
        return [self._header(pair.mask)[0] for pair in self.pairs]

    def _image_of(self, index: int) -> Tensor:
        """Return an image as decoded, at the size that it is served in."""
        return self._decoded_pair(index)[0] if self._cache else self._decoded(self.pairs[index])

    def _decoded(self, pair: Pair) -> Tensor:
        image = read_image(pair.image, self._channels, self._white_value)
        return resize_image(image, self._image_size)

    def _decoded_pair(self, index: int) -> tuple[Tensor, Tensor]:
        """Return image and mask at the size that they are served in, from memory where they are."""
        found = self._cache[index] if self._cache else None
        if found is None:
            found = self._decode(self.pairs[index])
            if self._cache:
                self._cache[index] = found
        return found

    def _decode(self, pair: Pair) -> tuple[Tensor, Tensor]:
        image = self._decoded(pair)
        mask = self._mask_reader.read(pair.mask)
        if self._resize_masks and self._image_size:
            kept = kept_size((mask.shape[0], mask.shape[1]), self._image_size)
            mask = interpolate(mask[None, None], kept, mode="nearest-exact")[0, 0]
        return image, mask

    def _decoded_bytes(self) -> int:
        total = 0
        for pair in self.pairs:
            stored, value_bytes = self._header(pair.image)
            seen = self._image_size or stored
            value_bytes = 4 if self._image_size else value_bytes
            masked = kept_size(stored, seen) if self._resize_masks else stored
            total += seen[0] * seen[1] * self._channels * value_bytes + masked[0] * masked[1]
        return total


@contextmanager
def _seeded(*numbers: int) -> Iterator[None]:
    """Seed torch's global generator by several numbers, and put its state back afterwards."""
    seed = random.Random(repr(numbers)).getrandbits(63)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed goes through all devices
        yield
