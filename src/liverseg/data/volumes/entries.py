"""What a source names: NIfTI files, DICOM series and segmentations, by the words of names."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from liverseg.data.volumes.dicom import DicomFile, is_dicom, read_header
from liverseg.data.volumes.nifti import is_nifti, is_prediction, without_ending
from liverseg.data.volumes.series import Series, files_below, find_series, series_of
from liverseg.data.volumes.stacks import PngStack, find_stacks

Source = Path | Series  # a NIfTI file, or a DICOM series
Label = Path | DicomFile | PngStack  # a NIfTI file, a DICOM SEG, or a folder of PNG files
# Words that say what a file is, not whose it is.
_OF_LABELS = {
    *("label", "labels", "labelstr", "labelsts", "seg", "segs", "segmentation", "segmentations"),
    *("mask", "masks", "gt", "ground", "truth", "groundtruth", "annotation", "annotations"),
    *("prediction", "predictions", "predicted", "pred", "preds"),
}
_OF_IMAGES = {
    *("image", "images", "imagestr", "imagests", "imaging", "img", "volume", "volumes", "vol"),
    *("ct", "mr", "mri", "scan", "dicom", "dicom_anon", "anon", "dcm", "data", "nifti"),
}
_CHAOS = "dicom_anon"
_KINDS = _OF_LABELS | _OF_IMAGES
_CHANNEL = re.compile(r"0\d{3}")  # at the end of an nnU-Net image's name


@dataclass(frozen=True)
class Entry:
    """A file or series with the words of its name."""

    what: Source | Label
    words: tuple[str, ...]
    stem: str
    patient: str
    is_label: bool  # by its name, or as a DICOM SEG
    is_flat: bool  # the words are those of its own name, none of a folder

    def matches(self, label: "Entry") -> tuple[int, int]:
        """Return how well a label's words fit those of an image; (0, 0) is not at all.

        A label that is called as the image, but for the words of labels, fits best.
        """
        mine, theirs = set(self.words), set(label.words)
        if _is_one_name(self.stem, label.stem) and theirs <= set(_words(self.stem)):
            return 4, len(mine)
        if self.words == label.words:
            return 3, len(mine)
        if self.has_channel_more_than(label):
            return 2, len(theirs)
        is_part = bool(mine and theirs) and (mine <= theirs or theirs <= mine)
        if self.is_flat and label.is_flat:
            is_part = is_part and _are_numbers_in_order(self.words, label.words)
        return (1, len(mine & theirs)) if is_part else (0, 0)

    def has_channel_more_than(self, label: "Entry") -> bool:
        """Tell whether all that a label's name lacks is the channel that nnU-Net adds."""
        *most, last = self.words or ("",)
        return bool(_CHANNEL.fullmatch(last)) and tuple(most) == label.words


def entries_of(source: str | Path | Sequence[str | Path], key: str) -> list[Entry]:
    """Return the volumes and labels that a source names.

    DICOM files that are named one by one, or by a pattern, are put together by series.

    Args:
        source: A file, a folder, a pattern, or a list of these.
        key: What it was typed as, such as ``source``.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If a file that is named is none.
    """
    found: list[Entry] = []
    loose: list[tuple[DicomFile, Path]] = []  # and the folder above which nothing tells
    for one in source if isinstance(source, list | tuple) else [source]:
        path = Path(str(one)).expanduser()
        if path.is_dir():
            found += _below(path, path, key)
        elif path.name.upper() == "DICOMDIR" and path.is_file():
            found += _below(path.parent, path.parent, key)
        elif is_nifti(path) and path.is_file():
            found.append(_entry(path, path.parent, without_ending(path), path.parent))
        elif path.is_file():
            header = read_header(path) if is_dicom(path) else None
            if header is None:
                raise ValueError(
                    f"{key}={path} is no volume that can be read; name a NIfTI file (.nii, "
                    ".nii.gz) or a DICOM series"
                )
            loose.append((header, path.parent))
        elif glob.has_magic(str(path)):
            base = Path(os.path.dirname(re.split(r"[*?\[]", str(path))[0]))
            for file in [Path(one) for one in sorted(glob.glob(str(path), recursive=True))]:
                if file.is_dir():
                    found += _below(file, base, key)
                elif is_nifti(file) and not (key == "source" and is_prediction(file)):
                    found.append(_entry(file, base, without_ending(file), file.parent))
                elif is_dicom(file) and (header := read_header(file)) is not None:
                    loose.append((header, base))
        else:
            raise FileNotFoundError(
                f"{key}={one} does not exist; name a volume, or a folder of them"
            )
    found += _of_loose(loose)
    return _by_header(list({key_of(entry.what): entry for entry in found}.values()))


def _by_header(entries: list[Entry]) -> list[Entry]:
    """Return entries with series of one patient's ID as of one patient, where headers tell several.

    Names stay those of folders, since an ID may tell who it is: a folder that holds several
    patients has a number for each.
    """
    every = [one.what for one in entries if isinstance(one.what, Series)]
    ids = {one.patient for one in every}
    if "" in ids or len(ids) < 2:
        return entries
    within: dict[Path, dict[str, int]] = {}
    for series in sorted(every, key=lambda one: min(file.path for file in one.files)):
        numbers = within.setdefault(series.folder, {})
        numbers.setdefault(series.patient, len(numbers) + 1)
    first: dict[str, str] = {}
    told = []
    for one in entries:
        if isinstance(one.what, Series):
            numbers = within[one.what.folder]
            end = f"_{numbers[one.what.patient]}" if len(numbers) > 1 else ""
            patient = first.setdefault(one.what.patient, one.patient + end)
            one = replace(one, stem=one.stem + end, patient=patient)
        told.append(one)
    return told


def _of_loose(files: Sequence[tuple[DicomFile, Path]]) -> Iterator[Entry]:
    """Yield the series of DICOM files, and the segmentations among them."""
    bases: dict[Path, dict[Path, DicomFile]] = {}
    for header, base in files:
        bases.setdefault(base, {})[header.path] = header
    for base, headers in bases.items():
        for series in series_of(list(headers.values()), base):
            if series.modality == "SEG":
                for file in series.files:
                    yield _entry(file, base, file.path.stem, file.path.parent)
            elif len(series.files) == 1:
                yield _entry(series, base, series.files[0].path.stem, series.folder)
            elif not series.files[0].is_scout:
                yield _entry(series, base, "", series.folder)


def _below(folder: Path, base: Path, key: str) -> Iterator[Entry]:
    """Yield what lies in a folder and below it; what a prediction wrote is no source."""
    for path in files_below(folder):
        if is_nifti(path) and not (key == "source" and is_prediction(path)):
            yield _entry(path, base, without_ending(path), path.parent)
    for series in find_series(folder)[0]:
        if series.modality == "SEG":
            for file in series.files:
                yield _entry(file, base, file.path.stem, file.path.parent)
        elif not series.files[0].is_scout:
            yield _entry(series, base, "", series.folder)
    if key != "source":
        for stack in find_stacks(folder):
            yield _entry(stack, base, "", stack.folder)


def _entry(what: Source | Label, base: Path, stem: str, folder: Path) -> Entry:
    """Return an entry; a name that says nothing but what it is takes that of its folder."""
    above = [] if folder == base else list(folder.relative_to(base).parts)
    is_of_chaos = folder.name.lower() == _CHAOS  # whose folder is the one above
    lone = folder.resolve().parent.name if is_of_chaos else folder.name
    told = [word for part in (*above, stem) for word in _words(part)]
    words = tuple(word for word in told if word not in _KINDS)
    own = [word for word in _words(stem) if word not in _KINDS]
    if not own:
        named = [part for part in above if set(_words(part)) - _KINDS]
        stem = "_".join(named) or stem or lone
    whose = [part for part in above if set(_words(part)) - _KINDS] or above or [lone]
    patient = whose[0] if isinstance(what, Series) else _patient_of(stem, above)
    is_label = is_seg(what) or bool(_OF_LABELS & set(told))
    return Entry(what, words, stem, patient, is_label, is_flat=len(own) == len(words))


def _patient_of(stem: str, above: Sequence[str]) -> str:
    """Return the folder whose name, with a number in it, begins that of a file; "" for none.

    So lie the volumes of a patient in BIDS (``sub-01/ses-1/anat/sub-01_ses-1_T1w``) or ACDC.
    """
    words = _words(stem)
    for part in above:
        own = _words(part)
        if re.search(r"\d", part) and len(own) < len(words) and words[: len(own)] == own:
            return part
    return ""


def _is_one_name(one: str, other: str) -> bool:
    """Tell whether two names are equal in their words, those of labels left out."""
    told = [word for word in _words(one) if word not in _OF_LABELS]
    return told == [word for word in _words(other) if word not in _OF_LABELS] != []


def _are_numbers_in_order(one: Sequence[str], other: Sequence[str]) -> bool:
    """Tell whether one holds the numbers of the other in its order: ``1_2`` is not ``2_1``."""
    numbers = ([word for word in words if word.isdigit()] for words in (one, other))
    few, many = sorted(numbers, key=len)
    left = iter(many)
    return all(number in left for number in few)


def _words(text: str) -> list[str]:
    whole = text.lower()
    return [whole] if whole == _CHAOS else re.findall(r"[^\W_]+", whole)


def source_of(entry: Entry) -> Source:
    """Return the volume of an entry that is no segmentation."""
    assert isinstance(entry.what, Path | Series)
    return entry.what


def is_seg(what: Source | Label) -> bool:
    """Tell whether it is a DICOM SEG."""
    return isinstance(what, DicomFile)


def key_of(what: Source | Label) -> object:
    """Return what is equal for the same file or series, however it was named."""
    if isinstance(what, Path):
        return what.resolve()
    if isinstance(what, Series):
        return what.uid, what.folder.resolve()
    return what.folder.resolve() if isinstance(what, PngStack) else what.path.resolve()


def told_as(what: Source | Label) -> str:
    """Return what it is called in sentences."""
    return str(what.path if isinstance(what, DicomFile) else what)
