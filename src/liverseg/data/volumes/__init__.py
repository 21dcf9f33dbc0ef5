"""Volumes of CT and MR: NIfTI files and DICOM series, to pairs of slices.

Reading order: ``geometry`` (where voxels lie, how they are cut, whether a label fits), ``nifti``,
``dicom`` and ``series`` (files to a volume), ``classes`` (label values to class indices),
``segmentations`` (DICOM SEG to a label), ``windows`` (HU to grey), ``finding`` (which label goes
with which volume), ``conversion`` (a folder of pairs). What is imported to read files, nibabel and
pydicom, is imported when the first one is read.
"""

from liverseg.data.volumes.conversion import RECORD_FILE, Conversion, Outcome, convert_volumes

__all__ = ["RECORD_FILE", "Conversion", "Outcome", "convert_volumes"]
