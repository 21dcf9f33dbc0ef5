"""Random numbers that are a function of (seed, epoch, index, name), not of a generator's state.

So what a sample gets depends neither on the others in its batch nor on how many processes load or
train, and a run that goes on in the middle of an epoch draws what it would have drawn. Numbers are
hashes of counters, as in Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_Keys = npt.NDArray[np.uint64]
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Draws:
    """What is drawn for the samples of a batch.

    Args:
        seed: The run's.
        epochs: The epoch of each sample, integers of shape (N,).
        indices: The place of each sample in the dataset, likewise.
        name: What is drawn for; another name draws other numbers.
    """

    def __init__(self, seed: int, epochs: Tensor, indices: Tensor, name: str = "") -> None:
        self._of = (seed, epochs, indices)
        keys = np.full(len(indices), seed, np.uint64)
        for part in (epochs.numpy(), indices.numpy(), np.uint64(zlib.crc32(name.encode()))):
            keys = _mixed(keys * _GOLDEN + np.asarray(part).astype(np.uint64) + _GOLDEN)
        self._keys: _Keys = keys

    def of(self, name: str) -> "Draws":
        """Return the draws of another name for the same samples."""
        return Draws(*self._of, name)

    def __len__(self) -> int:
        return len(self._keys)

    def uniform(self, first: int = 0, count: int = 1) -> npt.NDArray[np.float64]:
        """Return numbers from 0 up, below 1, shape (N, count): the ``first``-th and following."""
        counters = np.arange(first + 1, first + count + 1, dtype=np.uint64) * _GOLDEN
        numbers: Any = _mixed(self._keys[:, None] + counters) >> np.uint64(11)
        found: npt.NDArray[np.float64] = numbers / 2.0**53
        return found

    def between(self, bounds: tuple[float, float], place: int) -> npt.NDArray[np.float64]:
        """Return numbers between two bounds, of shape (N,): the ``place``-th of each sample."""
        low, high = bounds
        return low + (high - low) * self.uniform(place)[:, 0]

    def chosen(self, chance: float) -> npt.NDArray[np.bool_]:
        """Return which samples something happens to; uses the 0th number."""
        found: npt.NDArray[np.bool_] = self.uniform(0)[:, 0] < chance
        return found

    def keys(self) -> Tensor:
        """Return a 31-bit key per sample, int64 of shape (N,), for :func:`normal_field`."""
        return torch.from_numpy((self._keys >> np.uint64(33)).astype(np.int64))


def normal_field(keys: Tensor, counters: Tensor) -> Tensor:
    """Return normally distributed numbers, float32 of shape (N, *counters), on their device.

    Args:
        keys: What :meth:`Draws.keys` gives, shape (N,).
        counters: Integers of any shape, one for each number.
    """
    keys = keys.view(-1, *[1] * counters.dim())
    numbers = _mixed_32(_mixed_32(counters)[None] ^ keys)
    # 24 bits, so that float32 holds them all, and never 0 or 1.
    uniform = ((numbers >> 8).float() + 0.5) / 2**24
    return torch.erfinv(2 * uniform - 1) * 2**0.5


def _mixed(keys: _Keys) -> _Keys:
    """Return the last step of SplitMix64 (Steele et al. 2014)."""
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def _mixed_32(numbers: Tensor) -> Tensor:
    """Return a hash of 32 bits in int64: products stay below 2^63."""
    for _ in range(2):
        numbers = ((numbers >> 16) ^ numbers) * 0x45D9F3B & 0xFFFFFFFF
    return (numbers >> 16) ^ numbers
