"""Small volumes to test with: a body without symmetry as NIfTI, and as DICOM series."""

from itertools import permutations, product
from pathlib import Path
from typing import Any

import gdcm
import nibabel as nib
import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

SHAPE = (7, 6, 5)  # right to left, back to front, feet to head, once it is RAS
SPACING = (0.5, 0.75, 2.5)
ORIENTATIONS = [
    "".join(code[way] for code, way in zip(axes, ways, strict=True))
    for axes in permutations(("LR", "PA", "IS"))
    for ways in product((0, 1), repeat=3)
]


def body() -> np.ndarray:
    """HU of axes R A S: every voxel has a value of its own."""
    return (np.arange(np.prod(SHAPE)).reshape(SHAPE) - 100).astype(np.int16)


def organs() -> np.ndarray:
    """Labels 1, 2 and 3, L-shaped, none of which any turn or mirror leaves as it is."""
    label = np.zeros(SHAPE, np.uint8)
    label[1:6, 1, 1] = 1
    label[1, 1:4, 1] = 1
    label[1, 1, 1:4] = 1
    label[4:6, 3, 2] = 2
    label[4, 3:5, 2] = 2
    label[3, 4, 3] = 3
    return label


def affine_of(spacing: tuple[float, ...] = SPACING, origin=(-20.0, 30.0, 7.0)) -> np.ndarray:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return affine


def save(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(voxels, affine_of() if affine is None else affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def turned(voxels: np.ndarray, affine: np.ndarray, codes: str) -> tuple[np.ndarray, np.ndarray]:
    """The same voxels in the same places, stored along other axes."""
    image = nib.Nifti1Image(voxels, affine)
    there = nib.orientations.axcodes2ornt(codes)
    way = nib.orientations.ornt_transform(nib.io_orientation(affine), there)
    image = image.as_reoriented(way)
    return np.asanyarray(image.dataobj), image.affine


def save_series(
    folder: Path,
    stored: np.ndarray,
    *,
    right=(1.0, 0.0, 0.0),
    down=(0.0, 1.0, 0.0),
    step=(0.0, 0.0, 2.5),
    origin=(20.0, -30.0, 7.0),
    spacing=(0.75, 0.5),
    name: str = "IMG{:03}.dcm",
    **tags: Any,
) -> list[Path]:
    """Write slices (K, rows, columns) as a series; a tag may be a function of their number."""
    folder.mkdir(parents=True, exist_ok=True)
    uids = {"SeriesInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid()}
    paths = []
    for place, pixels in enumerate(stored):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / name.format(place)
        dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        position = np.array(origin) + place * np.array(step)
        values = {
            **uids,
            "SOPClassUID": CTImageStorage,
            "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
            "FrameOfReferenceUID": "1.2.3",
            "Modality": "CT",
            "PatientID": "P1",
            "PatientName": "Body^Some",
            "PatientBirthDate": "",
            "PatientSex": "",
            "StudyID": "1",
            "StudyDate": "20260101",
            "StudyTime": "120000",
            "AccessionNumber": "",
            "ReferringPhysicianName": "",
            "SeriesNumber": 2,
            "InstanceNumber": place + 1,
            "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
            "ImageOrientationPatient": [*map(float, right), *map(float, down)],
            "ImagePositionPatient": [float(f"{one:.6f}") for one in position],
            "PixelSpacing": list(spacing),
            "SliceThickness": 2.5,
            "Rows": pixels.shape[0],
            "Columns": pixels.shape[1],
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": 16,
            "BitsStored": 16,
            "HighBit": 15,
            "PixelRepresentation": 1,
            "RescaleSlope": 1,
            "RescaleIntercept": 0,
            **tags,
        }
        for keyword, value in values.items():
            value = value(place) if callable(value) else value
            if value is not None:
                setattr(dataset, keyword, value)
        dataset.PixelData = np.ascontiguousarray(pixels, np.int16).tobytes()
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def slices_of(voxels: np.ndarray) -> np.ndarray:
    """Voxels of axes R A S as slices (K, rows, columns) of an axial series: rows go to the back."""
    return voxels[::-1, ::-1].transpose(2, 1, 0)


def series_affine() -> np.ndarray:
    """Where :func:`save_series` puts ``slices_of(body())``, for axes R A S."""
    affine = affine_of()
    affine[:3, 3] = (-20 - 6 * 0.5, 30 - 5 * 0.75, 7)
    return affine


def compress(path: Path, syntax: str) -> None:
    """Have gdcm compress a file, in place."""
    kind = getattr(gdcm.TransferSyntax, syntax)
    reader, writer = gdcm.ImageReader(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(kind))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
