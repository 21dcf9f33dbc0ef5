"""A volume and its label, of whichever kind their files are."""

from importlib.util import find_spec
from pathlib import Path

from liverseg.data.arrays import Numbers
from liverseg.data.volumes.classes import ClassMap
from liverseg.data.volumes.dicom import DicomFile
from liverseg.data.volumes.geometry import Volume, fitted
from liverseg.data.volumes.nifti import read_nifti, read_nifti_label
from liverseg.data.volumes.segmentations import read_segmentation
from liverseg.data.volumes.series import Series, read_series
from liverseg.data.volumes.stacks import PngStack, read_stack_label


def need_packages() -> None:
    """Refuse to begin where what reads volumes is not installed."""
    for package in ("nibabel", "pydicom", "highdicom"):
        if find_spec(package) is None:
            raise ValueError(
                f"volumes need {package}, which is not installed; pip install 'liverseg[volumes]'"
            )


def read_source(source: Path | Series, assume: str | None = None) -> Volume:
    """Read a NIfTI file or a DICOM series.

    Raises:
        ValueError: If it cannot be read, see :func:`read_nifti` and :func:`read_series`.
    """
    return read_series(source) if isinstance(source, Series) else read_nifti(source, assume)


def read_label(
    label: Path | DicomFile | PngStack,
    volume: Volume,
    classes: ClassMap,
    tolerance: float,
    assume: str | None,
) -> tuple[Numbers, list[int]]:
    """Return a label as class indices on a volume's voxels, and values that became background.

    Raises:
        ValueError: If it cannot be read, or lies elsewhere.
    """
    if isinstance(label, DicomFile):
        return read_segmentation(label, volume, classes, tolerance)
    if isinstance(label, PngStack):
        return read_stack_label(label, volume, classes)
    values, affine = read_nifti_label(label, assume)
    return classes.indices(fitted(values, affine, label, volume, tolerance), label)


def read_label_map(
    path: Path, classes: ClassMap, assume: str | None = None
) -> tuple[Volume, list[int]]:
    """Return a NIfTI label map as a volume of class indices, and values that became background.

    Args:
        path: The file.
        classes: The class of each value.
        assume: Where its axes point to, if it does not say.

    Raises:
        ValueError: If it cannot be read, see :func:`read_nifti_label`.
    """
    values, affine = read_nifti_label(path, assume)
    mask, others = classes.indices(values, path)
    return Volume(path, mask, affine), others
