"""Volumes of CT and MR: NIfTI files and DICOM series, to pairs of slices, and labels back.

Reading order: ``geometry`` (where voxels lie, how they are cut, whether a label fits), ``nifti``,
``decoding``, ``dicom`` and ``series`` (files to a volume), ``classes`` (label values to class
indices), ``segmentations`` (DICOM SEG), ``stacks`` (PNG files, as of CHAOS), ``reading`` (of either
kind), ``windows`` and ``viewing`` (HU to grey, at a spacing), ``entries`` (what a source names),
``finding`` (which label goes with which volume), ``conversion`` (a folder of pairs). What is
imported to read files, nibabel and pydicom, is imported when the first one is read.
"""

from liverseg.data.volumes.classes import ClassMap
from liverseg.data.volumes.conversion import (
    Conversion,
    Outcome,
    convert_volumes,
    read_conversion,
)
from liverseg.data.volumes.entries import Source
from liverseg.data.volumes.finding import (
    Case,
    find_cases,
    find_predictions,
    find_predictions_on,
    find_volumes,
    named_volumes,
    names_volumes,
)
from liverseg.data.volumes.geometry import (
    PLANES,
    Slicing,
    Volume,
    millilitres,
    slicing_of,
    spacing_of,
)
from liverseg.data.volumes.nifti import check_axes, is_prediction, promised_bytes, write_label
from liverseg.data.volumes.reading import need_packages, read_label, read_label_map, read_source
from liverseg.data.volumes.segmentations import write_segmentation
from liverseg.data.volumes.viewing import SliceView, shown_slice
from liverseg.data.volumes.windows import check_window, grey, is_same_window, window_text

__all__ = [
    "PLANES",
    "Case",
    "ClassMap",
    "Conversion",
    "Outcome",
    "SliceView",
    "Slicing",
    "Source",
    "Volume",
    "check_axes",
    "check_window",
    "convert_volumes",
    "find_cases",
    "find_predictions",
    "find_predictions_on",
    "find_volumes",
    "grey",
    "is_prediction",
    "is_same_window",
    "millilitres",
    "named_volumes",
    "names_volumes",
    "need_packages",
    "promised_bytes",
    "read_conversion",
    "read_label",
    "read_label_map",
    "read_source",
    "shown_slice",
    "slicing_of",
    "spacing_of",
    "window_text",
    "write_label",
    "write_segmentation",
]
