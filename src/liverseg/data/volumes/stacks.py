"""Label maps as PNG files, one for each DICOM slice, as the CHAOS challenge has them.

The convention: ``Ground/`` lies beside ``DICOM_anon/`` (``CT/1/Ground``, ``MR/1/T2SPIR/Ground``),
or above the two phases that share it (``MR/1/T1DUAL/Ground`` for ``DICOM_anon/InPhase`` and
``OutPhase``). A PNG file belongs to the DICOM file of the same name; where names differ
(``liver_GT_012.png``, ``i0012,0000b.dcm``), the first belongs to the first and so on, both
ordered by the numbers in their names, and not by where slices lie: in CT, files count from the
head down. Rows and columns are those of the DICOM pixels. White (255) is liver in CT; 63, 126,
189 and 252 are liver, right kidney, left kidney and spleen in MR.

https://chaos.grand-challenge.org/Data, https://doi.org/10.5281/zenodo.3431873; nnU-Net (its
Task037_038_Chaos_Challenge.py) puts them together in the same order.
"""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from liverseg.data.arrays import Numbers
from liverseg.data.volumes.classes import ClassMap
from liverseg.data.volumes.geometry import Volume
from liverseg.data.volumes.nifti import is_nifti

_FOLDER = "ground"
_MODES = ("1", "L", "P", "I", "I;16", "I;16B")
_WHITE = 255
_CLEARLY = 0.5  # times the spread, from where on another order is told
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PngStack:
    """The PNG files of a folder, in the order of the numbers in their names."""

    folder: Path
    files: tuple[Path, ...]

    def __str__(self) -> str:
        return str(self.folder)


def find_stacks(folder: Path) -> Iterator[PngStack]:
    """Yield the folders that hold PNG files: those called ``Ground``, and this one by itself."""
    for place in [folder, *sorted(one for one in folder.rglob("*") if one.is_dir())]:
        if place == folder or place.name.lower() == _FOLDER:
            every = [one for one in place.iterdir() if not one.name.startswith(".")]
            files = [one for one in every if one.suffix.lower() == ".png"]
            is_label = place.name.lower() == _FOLDER or not any(map(is_nifti, every))
            if files and is_label:
                yield PngStack(place, tuple(sorted(files, key=_numbers_first)))


def read_stack_label(
    stack: PngStack, volume: Volume, classes: ClassMap
) -> tuple[Numbers, list[int]]:
    """Return PNG files as class indices on a volume's voxels, and values that became background.

    Where the only value beside 0 is white, 1 and 255 stand for each other in ``classes``.

    Raises:
        ValueError: If there are more or fewer files than slices, sizes differ, or a file is none.
    """
    slices = [path for path, _ in volume.places]
    if len(set(slices)) != len(slices) or not slices:
        raise ValueError(
            f"{stack} holds PNG files, which belong to DICOM series of a file per slice, and "
            f"{volume.path} is none; name its label as NIfTI or DICOM SEG"
        )
    if len(stack.files) != len(slices):
        raise ValueError(
            f"{stack} holds {len(stack.files)} PNG files, and {volume.path} {len(slices)} slices, "
            "so which belongs to which is not known; restore what is missing"
        )
    named = {file.stem: file for file in stack.files}
    ordered = sorted(slices, key=_numbers_first)
    if all(path.stem in named for path in slices):
        found = {path: named[path.stem] for path in slices}
    else:
        found = dict(zip(ordered, stack.files, strict=True))
    label = np.empty(volume.voxels.shape, np.uint16)
    for place, path in enumerate(slices):
        label[:, :, place] = _read(found[path], label.shape[:2]).T
    _tell_other_order(stack, label, volume)
    if set(np.unique(label)) <= {0, 1, _WHITE}:
        label = _as_named(label, classes)
    return classes.indices(label, stack)


def _numbers_first(path: Path) -> list[tuple[int, str]]:
    """Order 2.png before 10.png."""
    parts = re.findall(r"\d+|\D+", path.name)
    return [(int(part) if part.isdecimal() else -1, part) for part in parts]


def _read(file: Path, size: tuple[int, ...]) -> Numbers:
    """Return the values of a PNG file, uint16 of shape (rows, columns)."""
    try:
        with Image.open(file, formats=("PNG",)) as image:
            mode, width, height = image.mode, *image.size
            if (width, height) == tuple(size) and mode in _MODES:
                return np.asarray(image).astype(np.uint16)
    except Exception as error:  # decoders raise all kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{file} cannot be read ({reason[:200]}); restore it") from error
    if mode not in _MODES:
        raise ValueError(f"{file} holds colours ({mode}); save one number per pixel")
    raise ValueError(
        f"{file} is {height} x {width} (height x width), and its slice is {size[1]} x {size[0]}; "
        "restore it"
    )


def _as_named(label: Numbers, classes: ClassMap) -> Numbers:
    """Return a map of white and black with that value for white that classes name."""
    wanted = _WHITE if classes.knows(_WHITE) and not classes.knows(1) else 1
    found: Numbers = np.where(label > 0, wanted, 0).astype(label.dtype)
    return found


def _tell_other_order(stack: PngStack, label: Numbers, volume: Volume) -> None:
    """Warn where what lies below the labels is much more alike with the slices turned round."""
    spreads = [
        float(volume.voxels[there].std()) if there.any() else 0.0
        for there in (label > 0, label[:, :, ::-1] > 0)
    ]
    if spreads[1] < _CLEARLY * spreads[0]:
        logger.warning(
            "%s: values below its labels spread by %.3g, and by %.3g if its files belonged to the "
            "slices of %s from the other end; look at some pairs",
            *(stack, *spreads, volume.path),
        )
