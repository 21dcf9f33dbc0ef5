"""How a network sees the slices of a volume: at which window and spacing."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.transforms.v2 import functional

from liverseg.data.arrays import Numbers
from liverseg.data.images import MOST_PIXELS, resize_image
from liverseg.data.volumes.geometry import Plane, Slicing, Volume
from liverseg.data.volumes.nifti import check_axes
from liverseg.data.volumes.windows import Limits, grey, limits_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SliceView:
    """What pairs of slices were made with, and what prediction has to repeat.

    Attributes:
        window: What becomes black and white, see :func:`limits_of`; None is 16 bits.
        plane: What slices are cut, see :func:`slicing_of`.
        spacing: Height and width of a pixel in mm; None keeps each volume's own.
        assume: Where the axes of NIfTI files point to that do not say, such as ``RAS``.
        tolerance: Millimetres by which the corners of volume and label may lie apart.
        planes: What slices the pairs were; none where this is not known.

    Raises:
        ValueError: If ``assume`` does not name each direction once.
    """

    window: str | Sequence[float] | None
    plane: Plane | None = None
    spacing: Sequence[float] | None = None
    assume: str | None = None
    tolerance: float = 0.005
    planes: Sequence[Plane] = ()

    def __post_init__(self) -> None:
        check_axes(self.assume)

    def size(self, slicing: Slicing, stored: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of slices as they are seen.

        Raises:
            ValueError: If the spacing makes them larger than an image may be.
        """
        if self.spacing is None:
            return stored
        height, width = (
            max(1, round(count * step / wanted))
            for count, step, wanted in zip(stored, slicing.spacing[1:], self.spacing, strict=True)
        )
        if height * width > MOST_PIXELS:
            raise ValueError(
                f"spacing=[{','.join(f'{one:g}' for one in self.spacing)}] makes slices of "
                f"{height} x {width}, more than the {MOST_PIXELS:,} pixels that an image may have; "
                "enlarge it"
            )
        return height, width

    def limits(self, volume: Volume) -> Limits | None:
        """Return what becomes black and white, or refuse a window in HU for what has none.

        Raises:
            ValueError: If the volume is no CT, and the window is one of HU.
        """
        is_hounsfield = self.window is not None and self.window != "percentiles"
        if is_hounsfield and volume.modality not in ("", "CT"):
            raise ValueError(
                f"{volume.path} is {volume.modality}, which has no Hounsfield units; set "
                "window=percentiles"
            )
        if is_hounsfield and volume.voxels.min() >= 0:
            logger.warning(
                "%s holds no value below 0 (%g to %g): are these Hounsfield units?",
                *(volume.path, volume.voxels.min(), volume.voxels.max()),
            )
        return limits_of(self.window, volume.voxels)


def shown_slice(values: Numbers, size: tuple[int, int], limits: Limits | None) -> Numbers:
    """Return a slice (H, W) as the grey of a picture of a size: averaged, or interpolated."""
    if values.shape == size:
        return grey(values, limits)
    whole = torch.from_numpy(np.ascontiguousarray(values, np.float32))
    return grey(resize_image(whole[None], size)[0].numpy(), limits)


def resized_mask(mask: Numbers, size: tuple[int, int]) -> Numbers:
    """Return class indices (H, W) at a size: each pixel takes that under its centre."""
    if mask.shape == size:
        return np.ascontiguousarray(mask)
    resized = functional.resize_image(
        torch.from_numpy(np.ascontiguousarray(mask))[None],
        list(size),
        interpolation=functional.InterpolationMode.NEAREST_EXACT,
        antialias=False,
    )
    nearest: Numbers = resized[0].numpy()
    return nearest
