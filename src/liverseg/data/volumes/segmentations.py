"""DICOM SEG in: segments as a label map on the grid of a volume."""

import numpy as np

from liverseg.data.arrays import Numbers
from liverseg.data.volumes.classes import ClassMap
from liverseg.data.volumes.dicom import DicomFile, Frame, read_pixels, stored_value
from liverseg.data.volumes.geometry import Volume

_TO_NIFTI = np.array([-1.0, -1.0, 1.0])


def read_segmentation(
    file: DicomFile, volume: Volume, classes: ClassMap, tolerance: float
) -> tuple[Numbers, list[int]]:
    """Return a DICOM SEG as class indices on a volume's voxels, and what became background.

    Frames without a segment may be left out of such a file, so each is put where it lies.

    Args:
        file: The header of the SEG.
        volume: What was segmented.
        classes: The class of each segment by its number.
        tolerance: Millimetres by which a pixel may lie off a voxel.

    Raises:
        ValueError: If a frame lies off the voxels, or two segments of one voxel have two classes.
    """
    if file.fault:
        raise ValueError(file.fault)
    label: Numbers = np.zeros(volume.voxels.shape, np.uint8)
    others: set[int] = set()
    most = stored_value(file.path, "MaximumFractionalValue")
    half = float(most) / 2 if most and most != 1 else 0.5
    inverse = np.linalg.inv(volume.affine)
    for frame, pixels in zip(file.frames, read_pixels(file.frames), strict=True):
        shown = np.asarray(pixels)
        rows, columns = np.nonzero(shown >= half if frame.segment else shown)
        if not len(rows):
            continue
        numbers = np.full(len(rows), frame.segment) if frame.segment else shown[rows, columns]
        places = _voxels_of(frame, rows, columns, inverse)
        whole = np.round(places).astype(int)
        off = np.abs((places - whole).T @ volume.affine[:3, :3].T).max()
        outside = (whole < 0) | (whole >= np.array(volume.voxels.shape)[:, None])
        if off > tolerance or outside.any():
            why = "outside" if outside.any() else f"{off:.3g} mm off the voxels"
            raise ValueError(
                f"{file.path} lies {why} of {volume.path}; name the series that it was drawn on"
                + ("" if outside.any() else ", or set tolerance=... (mm)")
            )
        there = (whole[0], whole[1], whole[2])
        given, left = classes.indices(numbers)
        others.update(left)
        before = label[there]
        if ((before > 0) & (given > 0) & (before != given)).any():
            raise ValueError(
                f"{file.path} has voxels in two segments, of which one is {int(numbers[0])}; name "
                "classes=... such that overlapping segments are one class"
            )
        label[there] = np.maximum(before, given)
    return label, sorted(others)


def _voxels_of(frame: Frame, rows: Numbers, columns: Numbers, inverse: Numbers) -> Numbers:
    """Return the voxel indices of pixels, shape (3, N), as floats."""
    points = (
        frame.position[:, None] + frame.right[:, None] * columns + frame.down[:, None] * rows
    ) * _TO_NIFTI[:, None]
    voxels: Numbers = inverse[:3, :3] @ points + inverse[:3, 3:]
    return voxels
