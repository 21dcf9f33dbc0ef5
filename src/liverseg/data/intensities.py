"""How bright the images of a folder are: a few numbers, and how far those of two folders lie apart.

A network that was trained on one intensity window is lost in another, and nothing in a file says
which it was saved with. Each image counts the same, whatever its size.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from liverseg.data.fingerprints import in_threads
from liverseg.data.images import read_image

_Item = TypeVar("_Item")
_ENOUGH = 256  # images, of a folder of any number
LEVELS = 256  # bins of [0, 1]
PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
_BLACK = 1 / 255  # values below this are
# Measured on slices of CT: how far folders of 1 to 75 slices of other patients, in the same window,
# lie from the 479 of training, in units of their spread. Another window lies beyond.
_FAR, _FAR_OF_ONE = 0.65, 1.0
_LEAST = 0.03  # of [0, 1]: folders nearer than this are never far apart
Histogram = npt.NDArray[np.float64]  # shares of LEVELS, of one image or averaged over several


def histogram(image: Tensor) -> Histogram:
    """Return the share of an image's values in each of 256 levels of [0, 1].

    Args:
        image: uint8, or float32 in [0, 1], of shape (C, H, W).
    """
    levels = image if image.dtype == torch.uint8 else (image * 255).round().clamp(0, 255)
    counts = np.bincount(levels.to(torch.uint8).numpy().ravel(), minlength=LEVELS)
    shares: Histogram = counts / max(1, counts.sum())
    return shares


class Intensities:
    """Adds up the histograms of images.

    Args:
        histograms: Those to begin with.
    """

    def __init__(self, histograms: Sequence[Histogram] = ()) -> None:
        self._sum = np.zeros(LEVELS)
        self._quantiles: list[npt.NDArray[np.float32]] = []
        for one in histograms:
            self.add(one)

    def add(self, one: Histogram) -> None:
        """Count an image in."""
        self._sum += one
        self._quantiles.append(_quantiles(one).astype(np.float32))

    def statistics(self) -> dict[str, Any]:
        """Return what describes the images, as plain values; empty where there is none.

        ``images``, ``mean``, ``std``, ``percentiles`` (of :data:`PERCENTILES`), ``black`` (the
        share of it) and ``spread``: how far single images lie from all of them, as
        :func:`distance` measures it, 90 of 100 nearer.
        """
        if not self._quantiles:
            return {}
        shares = self._sum / len(self._quantiles)
        values = np.arange(LEVELS) / (LEVELS - 1)
        mean = float((shares * values).sum())
        all_of_them = _quantiles(shares)
        apart = np.abs(np.stack(self._quantiles) - all_of_them).mean(axis=1)
        return {
            "images": len(self._quantiles),
            "mean": round(mean, 5),
            "std": round(float(np.sqrt((shares * (values - mean) ** 2).sum())), 5),
            "percentiles": [round(float(one), 5) for one in all_of_them],
            "black": round(float(shares[values < _BLACK].sum()), 5),
            "spread": round(float(np.percentile(apart, 90)), 5),
        }


def sample_statistics(
    images: Sequence[Path], channels: int, white_value: int | None = None
) -> dict[str, Any]:
    """Return :meth:`Intensities.statistics` of some images, evenly spread, as they are read.

    Those that cannot be read are passed over: who needs them says so.

    Args:
        images: Any number of files.
        channels: As :func:`~liverseg.data.read_image` takes it.
        white_value: Likewise.
    """

    def read(image: Path) -> Histogram | None:
        try:
            return histogram(read_image(image, channels, white_value))
        except (OSError, ValueError):
            return None

    found = in_threads(read, spread(images))
    return Intensities([one for one in found if one is not None]).statistics()


def spread(items: Sequence[_Item]) -> Sequence[_Item]:
    """Return as many items as say enough about all of them, evenly spread."""
    return items[:: -(-len(items) // _ENOUGH) or 1]


def distance(these: Mapping[str, Any], those: Mapping[str, Any]) -> float:
    """Return the mean distance of the percentiles of two folders, in units of [0, 1]."""
    differences = np.subtract(these["percentiles"], those["percentiles"])
    return float(np.abs(differences).mean())


def far_apart(
    these: Mapping[str, Any],
    reference: Mapping[str, Any] | None,
    num_independent: int | None = None,
) -> str | None:
    """Say how the images of a folder differ from those of a reference, if they are far apart.

    A folder of few images may lie farther away than one of many.

    Args:
        these: What :meth:`Intensities.statistics` returned for the folder.
        reference: The same for what the network was trained on.
        num_independent: How many patients the folder's images are of, as slices of one are alike;
            None takes each image for one of its own.

    Returns:
        Such as ``mean 0.211 against 0.090, median 0.141 against 0.000, 38% black against 59%``;
        where mean and median are alike, also the percentile that differs most. None where they
        are near enough, or where either holds no image or is not known.
    """
    if not (_is_statistics(these) and _is_statistics(reference)):
        return None
    assert reference is not None
    count = num_independent or these["images"]
    most = reference["spread"] * (_FAR + _FAR_OF_ONE / count**0.5)
    if distance(these, reference) <= max(_LEAST, most):
        return None
    apart = np.abs(np.subtract(these["percentiles"], reference["percentiles"]))
    middle, most_apart = PERCENTILES.index(50), int(apart.argmax())
    told = (
        f"mean {these['mean']:.3f} against {reference['mean']:.3f}, median "
        f"{these['percentiles'][middle]:.3f} against {reference['percentiles'][middle]:.3f}, "
        f"{these['black']:.0%} black against {reference['black']:.0%}"
    )
    if max(abs(these["mean"] - reference["mean"]), apart[middle]) > _LEAST:
        return told
    percentile = PERCENTILES[most_apart]
    return (
        f"{told}, {percentile}{'st' if percentile == 1 else 'th'} percentile "
        f"{these['percentiles'][most_apart]:.3f} against "
        f"{reference['percentiles'][most_apart]:.3f}"
    )


def _is_statistics(values: object) -> bool:
    """Tell whether values have the form of statistics: a checkpoint may hold anything there."""
    if not isinstance(values, Mapping):
        return False
    percentiles = values.get("percentiles")
    return (
        isinstance(percentiles, list)
        and len(percentiles) == len(PERCENTILES)
        and all(isinstance(one, float | int) for one in percentiles)
        and all(
            isinstance(values.get(name), float | int)
            for name in ("images", "mean", "black", "spread")
        )
        and values["images"] > 0
    )


def _quantiles(shares: Histogram) -> npt.NDArray[np.float64]:
    """Return the values of :data:`PERCENTILES` in [0, 1]."""
    places = np.searchsorted(np.cumsum(shares), np.array(PERCENTILES) / 100 - 1e-9)
    quantiles: npt.NDArray[np.float64] = np.minimum(places, LEVELS - 1) / (LEVELS - 1)
    return quantiles
