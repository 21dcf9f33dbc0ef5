"""DICOM series: the files of a folder by series, and the slices of one as a volume."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from liverseg.data.arrays import Numbers
from liverseg.data.volumes.dicom import DicomFile, Frame, is_dicom, read_header, read_pixels
from liverseg.data.volumes.geometry import Volume, check_affine, tell_no_thickness

_JITTER = 0.11  # mm by which a slice may lie off: positions are often written with one decimal
_TILT = 0.5  # degrees
_FEWEST = 3  # files that are a stack by more than chance
_TURNED = 1e-3  # by which the directions of slices may differ
_TO_NIFTI = np.diag([-1.0, -1.0, 1.0, 1.0])  # left and posterior to right and anterior
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Series:
    """The files of one DICOM series.

    Attributes:
        folder: Where they lie, or what is above them where they lie in several.
        uid: What the series is told by.
        files: What their headers say.
    """

    folder: Path
    uid: str
    files: tuple[DicomFile, ...]

    def __str__(self) -> str:
        first = self.files[0]
        told = " ".join(filter(None, [first.number, first.description]))
        return f"{self.folder}" + (f" (series {told})" if told else "")

    @property
    def number(self) -> str:
        """The number that the scanner gave."""
        return self.files[0].number

    @property
    def patient(self) -> str:
        """The patient's ID; "" where there is none."""
        return self.files[0].patient

    @property
    def modality(self) -> str:
        """DICOM's word, such as CT."""
        return self.files[0].modality


def find_series(folder: Path) -> tuple[list[Series], list[Path]]:
    """Read the headers of all DICOM files below a folder.

    Returns:
        The series that hold images, by folder and number, and files that are no DICOM. Directories
        (DICOMDIR), reports and the like are passed over. One UID in the folders of two patients,
        as anonymising leaves it, is two series.
    """
    headers, others = [], []
    for path in files_below(folder):
        if not is_dicom(path):
            others.append(path)
            continue
        header = read_header(path)
        if header is not None:
            headers.append(header)
    return series_of(headers, folder), others


def series_of(headers: Sequence[DicomFile], folder: Path) -> list[Series]:
    """Return the series of files that lie in a folder or below it, see :func:`find_series`."""
    found: dict[tuple[str, str], list[DicomFile]] = {}
    for header in headers:
        found.setdefault((header.series, header.patient), []).append(header)
    series = [one for (uid, _), files in found.items() for one in _by_patient(folder, uid, files)]
    return sorted(_joined(series), key=lambda one: (str(one.folder), one.number.zfill(9), one.uid))


def _by_patient(folder: Path, uid: str, files: Sequence[DicomFile]) -> list[Series]:
    """Return one series; or one of each folder, where these hold slices of the same region.

    A series whose files lie in several folders stays one: together they are a regular stack, or
    one folder goes on where another one ends.
    """
    whole = Series(_above([file.path for file in files]), uid, tuple(files))
    frames = _frames_of(whole)
    if whole.modality == "SEG" or not frames or _is_stack(whole, frames):
        return [whole]
    parts: dict[tuple[str, ...], list[DicomFile]] = {}
    for file in files:
        parts.setdefault(file.path.parent.relative_to(folder).parts[:1], []).append(file)
    if len(parts) == 1:
        return _by_folder(files) or [whole]
    normal = np.cross(frames[0].right, frames[0].down)
    places = [
        [float(frame.position @ normal) for file in part for frame in file.frames]
        for part in parts.values()
    ]
    ends = sorted((min(one), max(one)) for one in places if one)
    if all(after[0] > before[1] for before, after in pairwise(ends)):
        return [whole]
    return [
        one
        for part in parts.values()
        for one in _by_folder(part)
        or [Series(_above([file.path for file in part]), uid, tuple(part))]
    ]


def _by_folder(files: Sequence[DicomFile]) -> list[Series]:
    """Return a series of each folder where each is a stack: phases of one UID; else none."""
    parts: dict[Path, list[DicomFile]] = {}
    for file in files:
        parts.setdefault(file.path.parent, []).append(file)
    found = [Series(place, part[0].series, tuple(part)) for place, part in parts.items()]
    return found if len(found) > 1 and all(_is_stack(one, _frames_of(one)) for one in found) else []


def _joined(found: Sequence[Series]) -> list[Series]:
    """Join the files of a folder that each have a UID of their own, where they are a stack.

    Anonymising leaves such UIDs.
    """
    alone: dict[tuple[Path, str, str], list[DicomFile]] = {}
    for one in found:
        (file, *more) = one.files
        if not more and len(file.frames) == 1 and not file.is_scout:
            alone.setdefault((file.path.parent, file.modality, file.patient), []).append(file)
    joined = []
    for (place, modality, _), files in alone.items():
        whole = Series(place, files[0].series, tuple(files))
        if len(files) >= _FEWEST and modality != "SEG" and _is_stack(whole, _frames_of(whole)):
            joined.append(whole)
    taken = {file.path for one in joined for file in one.files}
    return [one for one in found if one.files[0].path not in taken] + joined


def _frames_of(series: Series) -> list[Frame]:
    return [frame for file in series.files for frame in file.frames]


def _is_stack(series: Series, frames: Sequence[Frame]) -> bool:
    if len(frames) < 2:
        return False
    try:
        _check_alike(series)
        _stacked(series, frames)
    except ValueError:
        return False
    return True


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder in order; hidden ones do not count."""
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        for name in sorted(files):
            path = Path(place) / name
            if not name.startswith(".") and path.is_file():
                yield path


def read_series(series: Series) -> Volume:
    """Read the slices of a series as one volume, in the order in which they lie in space.

    Neither names of files nor instance numbers count. Axis I are columns, J rows, K slices. One
    slice alone is as thick as SpacingBetweenSlices says, or else SliceThickness.

    Raises:
        ValueError: If a file cannot be read, or slices are missing, doubled, of different kinds or
            no regular stack.
    """
    for file in series.files:
        if file.fault:
            raise ValueError(file.fault)
    frames = _frames_of(series)
    _check_alike(series)
    ordered, step = _stacked(series, frames)
    first = ordered[0]
    has_thickness = len(ordered) > 1 or first.thickness > 0
    if not has_thickness:
        tell_no_thickness(series)
    affine = np.eye(4)
    affine[:3] = np.column_stack([first.right, first.down, step, first.position])
    affine = _TO_NIFTI @ affine
    check_affine(series.folder, affine)
    rows, columns = series.files[0].size
    voxels: Numbers | None = None
    for place, pixels in enumerate(read_pixels(ordered)):
        if voxels is None:
            voxels = np.zeros((len(ordered), rows, columns), pixels.dtype)
        if pixels.dtype != voxels.dtype and not np.can_cast(pixels.dtype, voxels.dtype):
            voxels = voxels.astype(np.promote_types(voxels.dtype, pixels.dtype))
        voxels[place] = pixels
    assert voxels is not None
    return Volume(
        path=series.folder,
        voxels=voxels.transpose(2, 1, 0),
        affine=affine,
        modality=series.modality,
        places=tuple((frame.file, frame.index) for frame in ordered),
        has_thickness=has_thickness,
    )


def _check_alike(series: Series) -> None:
    """Refuse slices of several sizes."""
    sizes: dict[tuple[int, int], list[Path]] = {}
    for file in series.files:
        sizes.setdefault(file.size, []).append(file.path)
    if len(sizes) > 1:
        odd = min(sizes.items(), key=lambda item: len(item[1]))
        raise ValueError(
            f"{series} holds slices of several sizes ({odd[0][0]} x {odd[0][1]} in "
            f"{_some(odd[1])}); take those of another kind out of the folder"
        )


def _stacked(series: Series, frames: Sequence[Frame]) -> tuple[list[Frame], Numbers]:
    """Return slices in the order in which they lie, and the step from one to the next."""
    ways = [np.concatenate([frame.right, frame.down]) for frame in frames]
    middle = np.median(ways, axis=0)
    odd = [
        frame.file
        for frame, way in zip(frames, ways, strict=True)
        if np.abs(way - middle).max() > _TURNED * np.abs(middle).max()
    ]
    if odd:
        raise ValueError(
            f"{series} holds slices of several directions or spacings (a scout?): {_some(odd)} "
            f"{'differ' if len(odd) > 1 else 'differs'} from the others; take "
            f"{'them' if len(odd) > 1 else 'it'} out of the folder"
        )
    normal = np.cross(frames[0].right, frames[0].down)
    normal /= np.linalg.norm(normal)
    ordered = sorted(frames, key=lambda frame: float(frame.position @ normal))
    if len(ordered) == 1:
        return ordered, normal * (ordered[0].thickness or 1.0)
    places = np.array([frame.position @ normal for frame in ordered])
    gaps = np.diff(places)
    usual = float(np.median(gaps))
    _check_doubled(series, ordered, gaps)
    for (before, after), gap in zip(pairwise(ordered), gaps, strict=True):
        if gap > 1.5 * usual:
            raise ValueError(
                f"{series} lacks slices: {_short(before)} and {_short(after)} are {gap:.3g} mm "
                f"apart, others {usual:.3g}; restore what is missing"
            )
    step = (ordered[-1].position - ordered[0].position) / (len(ordered) - 1)
    regular = ordered[0].position + np.arange(len(ordered))[:, None] * step
    off = np.abs((np.array([frame.position for frame in ordered]) - regular) @ normal)
    if off.max() > _JITTER:
        worst = ordered[int(off.argmax())]
        raise ValueError(
            f"{series} is not regularly spaced: {_short(worst)} lies {off.max():.2g} mm off where "
            f"slices every {usual:.3g} mm would put it; resample it to a regular grid"
        )
    sideways = np.linalg.norm(step - (step @ normal) * normal)
    tilt = float(np.degrees(np.arctan2(sideways, abs(step @ normal))))
    if tilt > _TILT:
        raise ValueError(
            f"{series} was taken with a gantry that is tilted by {tilt:.1f} degrees; resample it "
            "to a regular grid, as dcm2niix does"
        )
    apart = np.linalg.norm([frame.position for frame in ordered] - regular, axis=1)
    if apart.max() > 1:
        worst = ordered[int(apart.argmax())]
        raise ValueError(
            f"{series} holds slices that are shifted sideways: {_short(worst)} by "
            f"{apart.max():.3g} mm; take those of another kind out of the folder"
        )
    return ordered, step


def _check_doubled(series: Series, ordered: Sequence[Frame], gaps: Numbers) -> None:
    """Refuse two slices at one place: copies, phases, echoes."""
    doubled = gaps < max(1e-3, 0.02 * float(gaps.max()))
    if not doubled.any():
        return
    place = int(doubled.argmax())
    count = int(doubled.sum())
    raise ValueError(
        f"{series} holds {count} slice{'s' if count > 1 else ''} at the place of another, such as "
        f"{_short(ordered[place])} and {_short(ordered[place + 1])} (a copy, or several phases or "
        "echoes); leave one of each in the folder"
    )


def _short(frame: Frame) -> str:
    return f"{frame.file.name}" + (f" frame {frame.index + 1}" if frame.index else "")


def _some(paths: Sequence[Path]) -> str:
    names = [path.name for path in paths[:3]]
    return ", ".join(names) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _above(paths: Sequence[Path]) -> Path:
    """Return the folder that all files lie in or below."""
    return Path(os.path.commonpath([path.parent for path in paths]))
