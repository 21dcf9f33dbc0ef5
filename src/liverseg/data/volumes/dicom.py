"""DICOM files: what of each says which series it is of, where its slices lie, and their pixels."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from liverseg.data.arrays import Numbers
from liverseg.data.images import MOST_PIXELS
from liverseg.data.volumes.decoding import decoded_frame
from liverseg.data.volumes.geometry import LEAST_SPACING, MOST_SPACING
from liverseg.data.volumes.nifti import rescaled

_MAGIC = b"DICM"
_HEAD = 132  # bytes, the last four being the magic ones
_FIRST_TAGS = (b"\x02\x00", b"\x08\x00")  # of files without a preamble, little endian
_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_DIRECTORY = "1.2.840.10008.1.3.10"
_MOST_FRAMES = 2**16
_MOST_SLOPE = 1e6


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice: where it is stored, and where it lies in space (millimetres, left, posterior, up).

    Attributes:
        file: The file.
        index: Its place among the frames of the file.
        position: Of the centre of the first pixel, shape (3,).
        right: From one column to the next, shape (3,).
        down: From one row to the next, shape (3,).
        slope: What stored values are multiplied by.
        intercept: What is added then.
        segment: Of a segmentation, the number of its segment; 0 where pixels say it.
        thickness: Millimetres to the next slice, or else of this one; 0 where neither is told.
    """

    file: Path
    index: int
    position: Numbers
    right: Numbers
    down: Numbers
    slope: float
    intercept: float
    segment: int = 0
    thickness: float = 0.0


@dataclass(frozen=True, eq=False)
class DicomFile:
    """What is known of one file without its pixels.

    Attributes:
        path: The file.
        series: What its series is told by.
        number: The number of the series, as the scanner shows it; "" where there is none.
        description: Of the series.
        modality: Such as CT, MR or SEG.
        size: Rows and columns.
        is_scout: Whether it is a localizer.
        patient: The patient's ID; "" where there is none.
        frames: Its slices.
        fault: Why it has none, a sentence; "" where it has.
        refers_to: Series that a segmentation is of.
    """

    path: Path
    series: str
    number: str
    description: str
    modality: str
    size: tuple[int, int] = (0, 0)
    is_scout: bool = False
    patient: str = ""
    frames: list[Frame] = field(default_factory=list)
    fault: str = ""
    refers_to: tuple[str, ...] = ()


def is_dicom(path: Path) -> bool:
    """Tell whether a file looks like DICOM, whatever its name; old ones have no preamble."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError:
        return False
    if head[-4:] == _MAGIC and len(head) == _HEAD:
        return True
    is_explicit = head[4:6].isalpha() and head[4:6].isupper()
    is_short = len(head) > 8 and int.from_bytes(head[4:8], "little") < 2**16
    return head[:2] in _FIRST_TAGS and head[3:4] == b"\x00" and (is_explicit or is_short)


def read_header(path: Path) -> DicomFile | None:
    """Read what a file says beside its pixels; None of a directory or what holds no images.

    Raises:
        ValueError: If the file cannot be read at all.
    """
    dataset = _dataset(path, stop_before_pixels=True)
    with _told(path):
        meta = getattr(dataset, "file_meta", None)
        kind = str(dataset.get("SOPClassUID") or getattr(meta, "MediaStorageSOPClassUID", ""))
        if kind == _DIRECTORY or "Rows" not in dataset or "Columns" not in dataset:
            return None
        is_segmentation = kind in _SEGMENTATIONS or dataset.get("Modality") == "SEG"
        types = dataset.get("ImageType") or ()
        found = DicomFile(
            path=path,
            series=str(dataset.get("SeriesInstanceUID") or path.parent),
            number=_text(dataset.get("SeriesNumber")),
            description=_text(dataset.get("SeriesDescription")),
            modality="SEG" if is_segmentation else _text(dataset.get("Modality")),
            size=(int(dataset.Rows), int(dataset.Columns)),
            is_scout="LOCALIZER" in [str(one) for one in types],
            patient=_text(dataset.get("PatientID")),
            refers_to=tuple(
                str(one.get("SeriesInstanceUID"))
                for one in dataset.get("ReferencedSeriesSequence") or ()
            ),
        )
    try:
        with _told(path):
            frames = list(_frames(path, dataset))
        found.frames.extend(frames)
    except ValueError as error:
        return _with_fault(found, str(error))
    return found


def read_pixels(frames: Sequence[Frame]) -> Iterator[Numbers]:
    """Yield the pixels of slices, shape (rows, columns), as the values they mean.

    Raises:
        ValueError: If a file cannot be decoded.
    """
    path: Path | None = None
    dataset: Any = None
    whole: Numbers | None = None
    for frame in frames:
        with _told(frame.file, "decoded"):
            if frame.file != path:
                path, dataset, whole = frame.file, _dataset(frame.file), None
                _check_pixels(dataset)
            if whole is None and int(dataset.get("BitsAllocated") or 0) == 1:
                shape = (-1, int(dataset.Rows), int(dataset.Columns))
                whole = np.asarray(dataset.pixel_array).reshape(shape)  # bits of all at once
            pixels = decoded_frame(dataset, frame.index) if whole is None else whole[frame.index]
        yield _meant(dataset, pixels, frame)


def header_of(path: Path) -> Any:
    """Return what a file says beside its pixels, as pydicom has it.

    Raises:
        ValueError: If it cannot be read.
    """
    return _dataset(path, stop_before_pixels=True)


def _meant(dataset: Any, pixels: Numbers, frame: Frame) -> Numbers:
    if "ModalityLUTSequence" in dataset and "RescaleSlope" not in dataset:
        from pydicom.pixels.processing import apply_modality_lut

        with _told(frame.file, "decoded"):
            table: Numbers = apply_modality_lut(pixels, dataset)
            return table
    if frame.slope == 1 and frame.intercept == 0:
        return pixels
    return rescaled(pixels, frame.slope, frame.intercept)


def _check_pixels(dataset: Any) -> None:
    """Refuse what would not be numbers of one kind, or would take no end of memory."""
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if rows * columns > MOST_PIXELS or not rows * columns:
        raise ValueError(f"it says {rows} x {columns} pixels")
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise ValueError("it holds colours")


def _frames(path: Path, dataset: Any) -> Iterator[Frame]:
    """Yield the slices of a file from its header."""
    shared = _first(dataset, "SharedFunctionalGroupsSequence")
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    if per_frame is None:
        count = int(dataset.get("NumberOfFrames") or 1)
        if count != 1:
            raise ValueError(
                f"{path} holds {count} frames and does not say where they lie; save them as an "
                "enhanced or a single-frame series"
            )
        yield _frame(path, 0, [dataset])
        return
    if len(per_frame) != int(dataset.get("NumberOfFrames") or 1) or len(per_frame) > _MOST_FRAMES:
        raise ValueError(
            f"{path} says {dataset.get('NumberOfFrames')} frames and describes {len(per_frame)}; "
            "restore it"
        )
    for index, own in enumerate(per_frame):
        yield _frame(path, index, [own, *([] if shared is None else [shared]), dataset])


def _frame(path: Path, index: int, places: list[Any]) -> Frame:
    """Return one slice, from the first place that says each of its properties."""
    position = _numbers(path, places, "PlanePositionSequence", "ImagePositionPatient", 3)
    cosines = _numbers(path, places, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    spacing = _numbers(path, places, "PixelMeasuresSequence", "PixelSpacing", 2)
    right, down = cosines[:3], cosines[3:]
    lengths = np.linalg.norm(right), np.linalg.norm(down)
    if not all(0.99 < one < 1.01 for one in lengths) or abs(float(right @ down)) > 0.01:
        raise ValueError(
            f"{path} has an ImageOrientationPatient of {cosines.tolist()}, which is no right "
            "angle; correct its header"
        )
    if not (spacing > 0).all():
        raise ValueError(f"{path} has a PixelSpacing of {spacing.tolist()} mm; correct its header")
    slope = _number(path, places, "RescaleSlope", 1.0)
    if slope == 0 or abs(slope) > _MOST_SLOPE:
        raise ValueError(f"{path} has a RescaleSlope of {slope:g}; correct its header")
    identified = _sequence(places, "SegmentIdentificationSequence")
    segment = 0 if identified is None else int(identified.get("ReferencedSegmentNumber") or 0)
    return Frame(
        file=path,
        index=index,
        position=position,
        right=right / lengths[0] * spacing[1],
        down=down / lengths[1] * spacing[0],
        slope=slope,
        intercept=_number(path, places, "RescaleIntercept", 0.0),
        segment=segment,
        thickness=_thickness(places),
    )


def _thickness(places: list[Any]) -> float:
    """Return how far the next slice is, or how thick this one; 0 where no number says it."""
    group = _sequence(places, "PixelMeasuresSequence")
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        for place in (group, *places):
            try:
                found = abs(float(place.get(keyword)))
            except (AttributeError, TypeError, ValueError):
                continue
            if LEAST_SPACING <= found <= MOST_SPACING:
                return found
    return 0.0


def _numbers(path: Path, places: list[Any], sequence: str, keyword: str, count: int) -> Numbers:
    """Return the numbers of an entry, found in a functional group or in the file itself."""
    group = _sequence(places, sequence)
    for place in (group, *places):
        if place is not None and place.get(keyword) is not None:
            value = place.get(keyword)
            break
    else:
        raise ValueError(
            f"{path} has no {keyword}, so it is not known where it lies; export the series anew, "
            "or convert it to NIfTI"
        )
    try:
        numbers = np.array([float(one) for one in value], np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise ValueError(
            f"{path} has a {keyword} of {str(value)[:60]!r}, not {count} numbers; correct its "
            "header"
        )
    return numbers


def _number(path: Path, places: list[Any], keyword: str, default: float) -> float:
    group = _sequence(places, "PixelValueTransformationSequence")
    for place in (group, *places):
        if place is not None and place.get(keyword) not in (None, ""):
            try:
                number = float(place.get(keyword))
            except (TypeError, ValueError):
                number = float("nan")
            if not np.isfinite(number):
                raise ValueError(
                    f"{path} has a {keyword} of {str(place.get(keyword))[:60]!r}, which is no "
                    "number; correct its header"
                )
            return number
    return default


def _sequence(places: list[Any], keyword: str) -> Any:
    return next((found for one in places if (found := _first(one, keyword)) is not None), None)


def _first(place: Any, keyword: str) -> Any:
    entries = place.get(keyword)
    return entries[0] if entries else None


def _with_fault(found: DicomFile, fault: str) -> DicomFile:
    return replace(found, frames=[], fault=fault)


def _text(value: object) -> str:
    return "" if value is None else " ".join(str(value).split())


def _dataset(path: Path, **options: Any) -> Any:
    from pydicom import dcmread

    with _told(path):
        return dcmread(path, force=True, **options)


@contextmanager
def _told(path: Path, what: str = "read as DICOM") -> Iterator[None]:
    """Turn whatever is raised for a file into one sentence with its path."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's, of tags that do not conform
            yield
    except MemoryError as error:  # a length that is none; a volume is put together elsewhere
        raise ValueError(
            f"{path} cannot be {what} (it promises more than memory holds); restore it"
        ) from error
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, ValueError) and str(path) in said:
            raise
        if "missing dependencies" in said or said.startswith("No pixel data decoders"):
            raise ValueError(
                f"{path} is compressed in a way that no installed package reads "
                f"({_compression(said)}); pip install 'liverseg[volumes]' brings JPEG, JPEG-LS and "
                "JPEG 2000, or save it uncompressed (dcmdjpeg, gdcmconv --raw)"
            ) from error
        raise ValueError(f"{path} cannot be {what} ({said[:200]}); restore it") from error


def _compression(said: str) -> str:
    return said.partition("'")[2].partition("'")[0] or said[:100]
