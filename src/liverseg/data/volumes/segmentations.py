"""DICOM SEG in and out: segments as a label map on the grid of a volume."""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from liverseg.data.arrays import Numbers
from liverseg.data.volumes.classes import ClassMap
from liverseg.data.volumes.dicom import DicomFile, Frame, header_of, read_pixels
from liverseg.data.volumes.geometry import OF_TOLERANCE, Volume
from liverseg.files import written_whole

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
    most = header_of(file.path).get("MaximumFractionalValue")
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
                + ("" if outside.any() else f"; {OF_TOLERANCE}")
            )
        there = (whole[0], whole[1], whole[2])
        given, left = classes.indices(numbers, file.path)
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


def write_segmentation(
    file: Path, label: Numbers, volume: Volume, names: Mapping[int, str]
) -> None:
    """Write class indices as a DICOM SEG that refers to the series of a volume.

    Args:
        file: The file; it appears whole or not at all.
        label: Class indices, uint8 of the volume's shape.
        volume: The series that was segmented.
        names: Names of the classes that become segments, by index.

    Raises:
        ValueError: If a header of the series does not conform so far that none can refer to it.
    """
    import highdicom
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.sr.coding import Code
    from pydicom.uid import generate_uid

    logging.getLogger("highdicom").setLevel(logging.WARNING)  # it tells each module that it copies
    order = sorted(range(len(volume.places)), key=lambda place: volume.places[place])
    is_single = len({path for path, _ in volume.places}) == len(volume.places)
    order = list(range(len(volume.places))) if is_single else order
    paths = list(dict.fromkeys(volume.places[place][0] for place in order))
    slices = label.transpose(2, 1, 0)[order]  # as the files have them
    tissue = Code("85756007", "SCT", "Tissue")
    segments = {index: name for index, name in names.items() if index}
    try:
        with written_whole(file) as draft, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tags that do not conform
            made = Segmentation(
                source_images=[header_of(path) for path in paths],
                pixel_array=np.stack([slices == index for index in segments], axis=-1),
                segmentation_type="BINARY",
                segment_descriptions=[
                    SegmentDescription(
                        segment_number=number,
                        segment_label=name[:64],
                        segmented_property_category=tissue,
                        segmented_property_type=tissue,
                        algorithm_type="AUTOMATIC",
                        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
                            name="liverseg",
                            family=Code("123110", "DCM", "Artificial Intelligence"),
                            version="1",
                        ),
                    )
                    for number, name in enumerate(segments.values(), 1)
                ],
                series_instance_uid=generate_uid(),
                series_number=999,
                sop_instance_uid=generate_uid(),
                instance_number=1,
                manufacturer="liverseg",
                manufacturer_model_name="liverseg",
                software_versions="1",
                device_serial_number="1",
                omit_empty_frames=False,
            )
            made.save_as(draft)
    except OSError:  # of a full disk, not of the headers
        raise
    except Exception as error:  # highdicom refuses many kinds of tags, in as many ways
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{volume.path} has headers that no DICOM SEG can refer to ({said[:200]}); leave out "
            "seg=true, or correct them"
        ) from error
