"""Whether a mask lies where its image says: its edges on edges, its inside as bright as others'."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import fft

from liverseg.labels import IGNORED

Numbers = npt.NDArray[Any]  # whole numbers or floats
Floats = npt.NDArray[np.float32]
SIDE = 96  # pixels of the longer side at which edges are compared
_REACH = SIDE // 4  # how far a mask is tried elsewhere
_LEAST_EDGE = 24  # pixels of a mask's edge; fewer lie on something anywhere
_BAND = 2.5  # standard deviations around what is usual inside a class
_WEIGHT = 6.0  # of what is inside, against the edges


def shrink_image(grey: Numbers) -> Floats:
    """Return an image of shape (H, W), 0 ... 255, with a longer side of at most SIDE pixels."""
    picture = Image.fromarray(grey.astype(np.uint8))
    size = _small_size(picture.size)
    return np.asarray(picture.resize(size, Image.Resampling.BOX), np.float32)


def shrink_mask(mask: Numbers) -> Numbers:
    """Return class indices of shape (H, W) at the size of :func:`shrink_image`."""
    picture = Image.fromarray(mask.astype(np.uint8))
    return np.asarray(picture.resize(_small_size(picture.size), Image.Resampling.NEAREST))


def edge_fit(grey: Floats, mask: Numbers) -> float:
    """Return how much better a mask's edges lie on the image's edges here than elsewhere.

    In standard deviations of what they would lie on at other places, near and far: about 3 for a
    good mask of an organ, about 0 for one that belongs elsewhere; NaN where the mask has hardly
    any edge.

    Args:
        grey: What :func:`shrink_image` returned.
        mask: What :func:`shrink_mask` returned.
    """
    fits = _edge_fits(grey, mask)
    return float("nan") if fits is None else float(fits[0, 0])


def better_place(
    grey: Floats, mask: Numbers, usual: Mapping[int, tuple[float, float]]
) -> tuple[float, tuple[float, float], float] | None:
    """Look for a place where a mask would fit better.

    Args:
        grey: What :func:`shrink_image` returned.
        mask: What :func:`shrink_mask` returned.
        usual: By class, the brightness of its inside in other images, and its deviation.

    Returns:
        How much better it fits there, in the units of :func:`edge_fit`, how far that is (down and
        right, in shares of the longer side), and how much more of its inside is as bright as usual
        there (0 ... 1). None where the mask has hardly any edge, or no class of it is known.
    """
    fits = _edge_fits(grey, mask)
    if fits is None:
        return None
    total, inside = 0.0, np.zeros_like(fits)
    for index, (middle, deviation) in usual.items():
        of_class = (mask == index).astype(np.float32)
        if count := float(of_class.sum()):
            is_usual = (np.abs(grey - middle) < _BAND * deviation).astype(np.float32)
            inside += _correlated(is_usual, of_class)
            total += count
    if not total:
        return None
    inside /= total
    both = fits + _WEIGHT * inside
    down, right = np.unravel_index(int(both.argmax()), both.shape)
    side = max(grey.shape)
    moved = tuple(
        _signed(int(place), both.shape[axis]) / side for axis, place in enumerate((down, right))
    )
    gain = float(both[down, right] - both[0, 0])
    return gain, (moved[0], moved[1]), float(inside[down, right] - inside[0, 0])


def _edge_fits(grey: Floats, mask: Numbers) -> Floats | None:
    """Return the fit at each place: [0, 0] is here, then further down, and from the end upwards."""
    edges = np.zeros(mask.shape, np.float32)
    counts = mask != IGNORED
    for one, other in (
        ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
    ):
        differs = (mask[one] != mask[other]) & counts[one] & counts[other]
        edges[one][differs] = 1
        edges[other][differs] = 1
    count = float(edges.sum())
    if count < _LEAST_EDGE or min(grey.shape) < 2:
        return None
    down, right = np.gradient(grey)
    steepness = np.hypot(down, right)
    most = float(np.percentile(steepness, 95)) + 1e-6  # one sharp edge is not all that counts
    fits = _correlated(np.minimum(steepness, most), edges) / count
    standard: Floats = (fits - fits.mean()) / (fits.std() + 1e-6)
    return standard


def _correlated(field: Floats, shape: Floats) -> Floats:
    """Return the sum of a field below a shape, moved by up to _REACH pixels."""
    height, width = (2 * side for side in field.shape)
    product = fft.rfft2(field, (height, width)) * np.conj(fft.rfft2(shape, (height, width)))
    whole = fft.irfft2(product, (height, width))
    rows, columns = (
        np.r_[0 : min(_REACH, side - 1) + 1, -min(_REACH, side - 1) : 0] for side in field.shape
    )
    near: Floats = whole[np.ix_(rows, columns)].astype(np.float32)
    return near


def _signed(place: int, count: int) -> int:
    """Return a place of what :func:`_correlated` returned as pixels down or right."""
    return place if place <= count // 2 else place - count


def _small_size(size: tuple[int, int]) -> tuple[int, int]:
    factor = min(1.0, SIDE / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
