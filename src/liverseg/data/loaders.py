"""In which order samples are served, and how they become batches.

Nothing about order or augmentation lives in a generator's state. The order of an epoch is a
function of (seed, epoch), a sample's augmentation one of (seed, epoch, index), and the epoch is
read from the trainer's progress.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from lightning import Trainer
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Sampler, default_collate
from torch.utils.data.distributed import DistributedSampler
from torchvision.transforms.v2.functional import to_dtype

from liverseg.data.samples import PairDataset, Sample
from liverseg.labels import IGNORED


class ResumableSampler(DistributedSampler[Sample]):
    """Yields (index, epoch) in an order that depends on (seed, epoch) alone.

    It starts where the trainer stands: loaders are built, and workers fetch ahead, before a
    trainer announces the epoch, so its progress is read here. Epochs are counted, not the batches
    of all of them: there may have been another number in each before the run was resumed.

    Args:
        dataset: The training pairs.
        trainer: The trainer, its progress restored.
        batch_size: Images in a batch of one rank; those of train, where they are fewer.
        seed: Seed of the order.
        min_steps: Batches of an epoch at least: few images are passed several times, each time in
            another order, and augmented as in another epoch.
    """

    def __init__(
        self,
        dataset: PairDataset,
        *,
        trainer: Trainer,
        batch_size: int,
        seed: int,
        min_steps: int = 1,
    ) -> None:
        super().__init__(
            dataset,
            num_replicas=trainer.world_size,
            rank=trainer.global_rank,
            shuffle=True,
            seed=seed * 1_000_003,  # the epoch is added to it; orders of other seeds stay apart
        )
        self.batch_size = min(batch_size, self.num_samples)  # none is in a batch twice
        self._passes = (min_steps - 1) * self.batch_size // self.num_samples + 1
        epochs: Any = trainer.fit_loop.epoch_progress.current  # typed as its base class
        batches: Any = trainer.fit_loop.epoch_loop.batch_progress
        has_ended = batches.is_last_batch or epochs.processed == epochs.ready
        self.epoch = epochs.ready if has_ended else epochs.ready - 1
        self._skip = 0 if has_ended else batches.current.processed * self.batch_size

    def __iter__(self) -> Iterator[tuple[int, int]]:  # type: ignore[override]  # index and epoch
        """Yield what :meth:`PairDataset.__getitem__` takes."""
        epoch, order = self.epoch, []
        for number in range(epoch * self._passes, (epoch + 1) * self._passes):
            self.epoch = number  # what the order is drawn from
            indices: list[Any] = list(super().__iter__())  # typed as samples
            order += [(index, number) for index in indices]
        self.epoch = epoch
        skip, self._skip = self._skip, 0
        return iter(order[skip:])

    def __len__(self) -> int:
        return self._passes * self.num_samples


class SameSizeBatches(Sampler[list[int]]):
    """Batches of indices in order, each of images of one size, without repetition.

    Args:
        sizes: Height and width by index.
        batch_size: Images in a batch at most.
        rank: This process's number; it takes every ``num_ranks``-th image.
        num_ranks: Number of processes. With more processes than images, the last ones take the
            first image too, so that all take part; scores count an image once.
    """

    def __init__(
        self, sizes: Sequence[tuple[int, int]], *, batch_size: int, rank: int, num_ranks: int
    ) -> None:
        indices = list(range(rank, len(sizes), num_ranks)) or [0]
        indices.sort(key=lambda index: sizes[index])  # stable: by name within a size
        self._batches = [
            same_size[start : start + batch_size]
            for _, group in groupby(indices, key=lambda index: sizes[index])
            for same_size in [list(group)]
            for start in range(0, len(same_size), batch_size)
        ]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches."""
        return iter(self._batches)


def of_one_format(images: Sequence[Tensor]) -> list[Tensor]:
    """Return images of one batch: where some are float32 in [0, 1], those of uint8 become so too.

    torch would promote them without scaling, to values up to 255.
    """
    if len({image.dtype for image in images}) == 1:
        return list(images)
    return [to_dtype(image, torch.float32, scale=True) for image in images]


def stack(samples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Stack samples of one size."""
    images = of_one_format([sample["image"] for sample in samples])
    alike = [{**one, "image": image} for one, image in zip(samples, images, strict=True)]
    batch: dict[str, Tensor] = default_collate(alike)
    return batch


def pad_and_stack(samples: Sequence[Sample]) -> dict[str, Tensor]:
    """Stack samples; smaller ones are padded at the right and bottom with ignored pixels.

    ``sizes`` of the batch, (N, 2), are heights and widths without padding.
    """
    height = max(sample["mask"].shape[0] for sample in samples)
    width = max(sample["mask"].shape[1] for sample in samples)
    padded = []
    for sample in samples:
        rows, columns = sample["mask"].shape
        image, mask = sample["image"], sample["mask"]
        if (rows, columns) != (height, width):
            border = (0, width - columns, 0, height - rows)
            image = functional.pad(image, border)
            mask = functional.pad(mask, border, value=IGNORED)
        padded.append({**sample, "image": image, "mask": mask})
    return {**stack(padded), "sizes": torch.tensor([sample["mask"].shape for sample in samples])}


def spare_cores(num_processes: int) -> int:
    """Return how many cores load for each process that trains on a GPU: its share, at most 8.

    Args:
        num_processes: How many of them train on the cores that this process may use.
    """
    allowed = getattr(os, "sched_getaffinity", None)
    cores = len(allowed(0)) if allowed else os.cpu_count() or 1
    return max(0, min(8, (cores - num_processes) // num_processes))
