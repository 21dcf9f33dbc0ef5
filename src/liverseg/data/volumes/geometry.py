"""Where voxels lie: axes and spacing of a volume, how it is cut into slices, whether a label fits.

Affines map voxel indices to millimetres, right, anterior and superior being positive, as NIfTI has
it. Slices are turned as a radiologist sees them; nothing is ever resampled to that end.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from liverseg.data.arrays import Numbers

Plane = Literal["axial", "coronal", "sagittal"]
Affine = npt.NDArray[np.float64]
PLANES: tuple[Plane, ...] = ("sagittal", "coronal", "axial")  # by the axis that they cut
# Where slices, rows and columns count to: the patient's right stands on the left of a picture.
_SEEN = {"axial": "SPL", "coronal": "AIL", "sagittal": "RIP"}
_LINES = ("LR", "PA", "IS")  # the axes of the world, from their lower end to the upper
_THICKER = 1.2  # times the other spacings, from where on slices are taken to be along an axis
_MOST_SHEAR = 0.5  # degrees between what should be right angles
LEAST_SPACING, MOST_SPACING = 1e-3, 1e3  # mm
OF_TOLERANCE = (  # ends the sentence on a label that lies elsewhere
    "where it is known to fit voxel for voxel, convert.py (and no other command) takes it with "
    "tolerance=... (mm)"
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Volume:
    """Numbers on a regular grid in space.

    Attributes:
        path: The file, or the folder of a series.
        voxels: The values, shape (I, J, K): HU for CT, whatever they mean for others.
        affine: Voxel indices to millimetres, shape (4, 4).
        modality: DICOM's word, such as CT or MR; "" where the file does not say.
        places: File and frame of each slice of a DICOM series, in the order of K; none for NIfTI.
        has_thickness: Whether it is known how thick a slice is; of one alone, files may not say.
    """

    path: Path
    voxels: Numbers
    affine: Affine
    modality: str = ""
    places: tuple[tuple[Path, int], ...] = ()
    has_thickness: bool = True


@dataclass(frozen=True, eq=False)
class Slicing:
    """How voxels of one grid become slices as they are looked at, and back.

    Attributes:
        plane: What the slices are.
        axes: The array's axes that count slices, rows and columns.
        flipped: Which of these are turned round.
        spacing: Millimetres between slices, rows and columns.
    """

    plane: Plane
    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    spacing: tuple[float, float, float]

    def cut(self, voxels: Numbers) -> Numbers:
        """Return voxels (I, J, K) as a view of slices (S, H, W)."""
        turned: Numbers = voxels.transpose(self.axes)[self._turns()]
        return turned

    def join(self, slices: Numbers) -> Numbers:
        """Return slices (S, H, W) as voxels (I, J, K): the inverse of :meth:`cut`."""
        back = np.argsort(self.axes)
        return slices[self._turns()].transpose(tuple(int(axis) for axis in back))

    def _turns(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if turned else 1) for turned in self.flipped)


def slicing_of(volume: Volume, plane: Plane | None = None) -> Slicing:
    """Tell how a volume is cut.

    Args:
        volume: The volume.
        plane: What slices are wanted; None cuts along the axis of clearly largest spacing, or of
            which there is one slice, and gives axial slices where no axis stands out.
    """
    spacing = spacing_of(volume.affine)
    world = [axis for axis, _ in _orientation(volume.affine)]
    if plane is None:
        single = [axis for axis, size in enumerate(volume.voxels.shape) if size == 1]
        *others, largest = np.argsort(spacing)
        stands_out = spacing[largest] > _THICKER * spacing[others[-1]]
        cut = single[0] if len(single) == 1 else int(largest) if stands_out else world.index(2)
        plane = PLANES[world[cut]]
    codes = axes_of(volume.affine)
    axes, flipped = [], []
    for wanted in _SEEN[plane]:
        axis = next(place for place, code in enumerate(codes) if code in _line(wanted))
        axes.append(axis)
        flipped.append(codes[axis] != wanted)
    return Slicing(
        plane=plane,
        axes=(axes[0], axes[1], axes[2]),
        flipped=(flipped[0], flipped[1], flipped[2]),
        spacing=(spacing[axes[0]], spacing[axes[1]], spacing[axes[2]]),
    )


def spacing_of(affine: Affine) -> list[float]:
    """Return the millimetres between neighbours along each axis of the array."""
    return [float(one) for one in np.linalg.norm(affine[:3, :3], axis=0)]


def millilitres(volume: Volume) -> float:
    """Return the size of one voxel; NaN where it is not known how thick the slice is."""
    if not volume.has_thickness:
        return float("nan")
    return abs(float(np.linalg.det(volume.affine[:3, :3]))) / 1000  # of mm^3


def tell_no_thickness(path: object) -> None:
    """Say that nobody knows how thick a slice is."""
    logger.warning(
        "%s is one slice, and does not say how thick: millilitres are not told, and where an "
        "affine needs a thickness it is 1 mm",
        path,
    )


def axes_of(affine: Affine) -> str:
    """Return where the axes of the array point to, such as ``RAS``; ``?`` where nowhere."""
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        return "?"
    return "".join(_LINES[axis][way > 0] for axis, way in _orientation(affine))


def _orientation(affine: Affine) -> list[tuple[int, int]]:
    """Return which axis of the world each axis of an array is nearest to, and 1 or -1: its way."""
    from nibabel.orientations import io_orientation

    found = io_orientation(affine)  # type: ignore[no-untyped-call]  # nibabel has no types
    return [(int(axis), int(way)) for axis, way in found]


def check_affine(path: Path, affine: Affine) -> None:
    """Refuse a geometry that is none, or of which slices cannot be cut.

    Raises:
        ValueError: If numbers are not finite, a spacing is out of all proportion, or the axes are
            sheared, as those of a tilted gantry are.
    """
    spacing = spacing_of(affine)
    if not np.isfinite(affine).all() or not all(
        LEAST_SPACING <= one <= MOST_SPACING for one in spacing
    ):
        raise ValueError(
            f"{path} has voxels of {' x '.join(f'{one:g}' for one in spacing)} mm, which cannot "
            "be; correct its header"
        )
    directions = affine[:3, :3] / spacing
    if np.linalg.matrix_rank(directions, tol=1e-6) < 3:
        raise ValueError(f"{path} has axes of which two are one; correct its header")
    cosines = (directions.T @ directions)[np.triu_indices(3, 1)]
    shear = float(np.degrees(np.arcsin(np.clip(np.abs(cosines).max(), 0, 1))))
    if shear > _MOST_SHEAR:
        raise ValueError(
            f"{path} has axes that are {shear:.1f} degrees off a right angle (a tilted gantry?); "
            "resample it to a regular grid, as dcm2niix does"
        )


def fitted(label: Numbers, affine: Affine, path: Path, volume: Volume, tolerance: float) -> Numbers:
    """Return a label in the order of a volume's voxels, where it lies on the same grid.

    Axes may be exchanged and turned round, as between DICOM and NIfTI: the voxels are put in
    order, not resampled.

    Args:
        label: The label's voxels, three axes.
        affine: The label's affine.
        path: The label's file.
        volume: What it is the label of.
        tolerance: Millimetres by which corners may lie apart.

    Raises:
        ValueError: If sizes differ, or corners lie farther apart.
    """
    between = _orientation(np.linalg.inv(volume.affine) @ affine)
    order = tuple(int(axis) for axis in np.argsort([target for target, _ in between]))
    sizes = [label.shape[axis] for axis in order]
    if sizes != list(volume.voxels.shape):
        raise ValueError(
            f"{path} has {_times(label.shape)} voxels ({axes_of(affine)}), but {volume.path} "
            f"{_times(volume.voxels.shape)} ({axes_of(volume.affine)}); save it on the grid of "
            "the volume"
        )
    onto = np.zeros((4, 4))
    onto[3, 3] = 1
    for axis, (target, way) in enumerate(between):
        onto[target, axis] = way
        onto[target, 3] = 0 if way > 0 else label.shape[axis] - 1
    ends = np.array(np.meshgrid(*((0, size - 1) for size in label.shape))).reshape(3, -1)
    corners = np.vstack([ends, np.ones(ends.shape[1])])
    apart = float(
        np.linalg.norm((affine @ corners - volume.affine @ onto @ corners)[:3], axis=0).max()
    )
    if not apart <= tolerance:
        raise ValueError(
            f"{path} lies up to {apart:.3g} mm away from {volume.path} (origins "
            f"{_point(affine)} and {_point(volume.affine @ onto)}, spacings "
            f"{_times(spacing_of(affine))} and {_times(spacing_of(volume.affine @ onto))} mm); "
            f"save it with the geometry of the volume; {OF_TOLERANCE}"
        )
    return label[tuple(slice(None, None, way) for _, way in between)].transpose(order)


def _line(code: str) -> str:
    """Return a direction and its opposite."""
    return next(line for line in _LINES if code in line)


def _times(numbers: Any) -> str:
    return " x ".join(f"{float(one):g}" for one in numbers)


def _point(affine: Affine) -> str:
    return f"({', '.join(f'{one:.4g}' for one in affine[:3, 3])})"
