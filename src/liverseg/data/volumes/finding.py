"""Which volumes a source names, and which label goes with which."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from liverseg.data.images import IMAGE_SUFFIXES
from liverseg.data.volumes.dicom import DicomFile, is_dicom, read_header
from liverseg.data.volumes.nifti import is_nifti, promised_voxels, without_ending
from liverseg.data.volumes.series import Series, files_below, find_series

Source = Path | Series  # a NIfTI file, or a DICOM series
Label = Path | DicomFile  # a NIfTI file, or a DICOM SEG
# Words that say what a file is, not whose it is.
_OF_LABELS = {
    *("label", "labels", "labelstr", "labelsts", "seg", "segs", "segmentation", "segmentations"),
    *("mask", "masks", "gt", "ground", "truth", "groundtruth", "annotation", "annotations"),
}
_OF_IMAGES = {
    *("image", "images", "imagestr", "imagests", "imaging", "img", "volume", "volumes", "vol"),
    *("ct", "mr", "mri", "scan", "dicom", "dicom_anon", "anon", "dcm", "data", "nifti"),
}
_WANTED = "(NIfTI, or a DICOM series); name its folder or file"
_PICTURES = (*IMAGE_SUFFIXES, ".gif")
_CHANNEL = re.compile(r"0\d{3}")  # at the end of an nnU-Net image's name


@dataclass(frozen=True)
class Case:
    """One volume that is to be converted.

    Attributes:
        name: What the names of its slices begin with.
        patient: Whose it is.
        source: The volume.
        label: Its label, or None.
        fault: Why it has no label, a sentence; "" where it has one.
        is_lone: Whether that is because no label has its name.
    """

    name: str
    patient: str
    source: Source
    label: Label | None
    fault: str = ""
    is_lone: bool = False


@dataclass(frozen=True)
class _Entry:
    """A file or series with the words of its name."""

    what: Source | Label
    words: tuple[str, ...]
    stem: str
    patient: str
    is_label: bool  # by its name

    def matches(self, label: "_Entry") -> tuple[int, int]:
        """Return how well a label's words fit those of an image; (0, 0) is not at all."""
        mine, theirs = set(self.words), set(label.words)
        if self.words == label.words:
            return 3, len(mine)
        if self.has_channel_more_than(label):
            return 2, len(theirs)
        is_part = bool(mine and theirs) and (mine <= theirs or theirs <= mine)
        return (1, len(mine & theirs)) if is_part else (0, 0)

    def has_channel_more_than(self, label: "_Entry") -> bool:
        """Tell whether all that a label's name lacks is the channel that nnU-Net adds."""
        *most, last = self.words or ("",)
        return bool(_CHANNEL.fullmatch(last)) and tuple(most) == label.words


def find_volumes(source: str | Path | Sequence[str | Path]) -> list[Source]:
    """List the volumes that a source names: NIfTI files and DICOM series.

    Args:
        source: A NIfTI file, a folder of volumes or of a DICOM series (and folders below it), a
            DICOM file, a pattern such as ``DIR/*_ct.nii.gz``, or a list of these.

    Raises:
        FileNotFoundError: If a source does not exist.
        ValueError: If it holds no volume.
    """
    found = [_source(entry) for entry in _entries(source, "source") if not _is_seg(entry.what)]
    if not found:
        raise ValueError(f"source={source} holds no volume {_WANTED}")
    return found


def names_volumes(source: str | Path | Sequence[str | Path]) -> bool:
    """Tell whether a source names volumes, not pictures, by the first of its files that is either.

    A folder names volumes if it holds no picture, and a volume in it or below it.
    """
    if isinstance(source, list | tuple):
        return any(names_volumes(one) for one in source[:1])
    path = Path(str(source)).expanduser()
    if path.is_dir():
        own = [one for one in path.iterdir() if one.is_file() and not one.name.startswith(".")]
        if any(one.suffix.lower() in _PICTURES for one in own):
            return False
        return any(is_nifti(one) or is_dicom(one) for one in files_below(path))
    if glob.has_magic(str(source)) and not path.exists():
        files = sorted(glob.glob(str(path), recursive=True))
        return any(names_volumes(Path(one)) for one in files[:1])
    return is_nifti(path) or (path.is_file() and is_dicom(path))


def name_of(source: Source) -> str:
    """Return what the names of a volume's files begin with."""
    return without_ending(source) if isinstance(source, Path) else source.folder.name


def find_cases(
    source: str | Path | Sequence[str | Path], labels: str | Path | Sequence[str | Path]
) -> list[Case]:
    """Pair volumes with their labels, by the words of their names or by what a SEG refers to.

    ``volume-3`` goes with ``segmentation-3``, ``imagesTr/liver_3`` with ``labelsTr/liver_3``,
    ``case_1_0000`` with ``case_1``, ``case_1/imaging`` with ``case_1/segmentation``.

    Raises:
        FileNotFoundError: If a source does not exist.
        ValueError: If one holds no volume or no label, or if no label goes with any volume.
    """
    images = _entries(source, "source")
    marks = _entries(labels, "labels")
    shared = {_key(one.what) for one in images} & {_key(one.what) for one in marks}
    if shared:  # both in one folder: names say which is which
        marks = [one for one in marks if one.is_label or _key(one.what) not in shared]
        taken = {_key(one.what) for one in marks}
        images = [one for one in images if _key(one.what) not in taken]
    images = [one for one in images if not _is_seg(one.what)]
    marks = [one for one in marks if not isinstance(one.what, Series)]
    if not images:
        raise ValueError(f"source={source} holds no volume {_WANTED}")
    if not marks:
        raise ValueError(
            f"labels={labels} holds no label (NIfTI, or DICOM SEG); name its folder or file"
        )
    cases = _paired(images, marks)
    if all(case.label is None for case in cases):
        raise ValueError(
            f"labels={labels} holds no label whose name goes with a volume of source={source} "
            f"({_name(marks[0].what)} and {_name(images[0].what)}, say); give both the same "
            "names, or name one file each"
        )
    return cases


def _paired(images: list[_Entry], marks: list[_Entry]) -> list[Case]:
    fitting: dict[int, list[_Entry]] = {place: [] for place in range(len(images))}
    if len(images) == len(marks) == 1:
        fitting[0] = marks
    else:
        for mark in marks:
            for place in _places_of(mark, images):
                fitting[place].append(mark)
    for place, found in fitting.items():
        if len(found) == 1 and images[place].has_channel_more_than(found[0]):
            images[place] = replace(images[place], stem=images[place].stem.rpartition("_")[0])
    cases = []
    for place, (name, patient) in enumerate(_names(images)):
        image, found = images[place], fitting[place]
        others = [
            other for other in fitting if other != place and found and fitting[other] == found
        ]
        fault = ""
        if not found:
            fault = f"{_name(image.what)} has no label; add one of the same name, or leave it out"
        elif len(found) > 1:
            fault = (
                f"{_name(image.what)} has {len(found)} labels ({_name(found[0].what)}, "
                f"{_name(found[1].what)}); name one of each by a pattern, such as "
                "labels='DIR/*/liver.nii.gz'"
            )
        elif others:
            fault = (
                f"{_name(image.what)} has the label of {_name(images[others[0]].what)} too "
                f"({_name(found[0].what)}); name one volume per label, by a pattern such as "
                "source='DIR/*_0000.nii.gz' or by its folder"
            )
        label = None if fault else found[0].what
        assert not isinstance(label, Series)
        cases.append(Case(name, patient, _source(image), label, fault, is_lone=not found))
    return cases


def _places_of(mark: _Entry, images: list[_Entry]) -> list[int]:
    """Return which images a label goes with: one, or several that fit equally well."""
    referred: list[int] = []
    if isinstance(mark.what, DicomFile):
        referred = [
            place
            for place, one in enumerate(images)
            if isinstance(one.what, Series) and one.what.uid in mark.what.refers_to
        ]
        if len(referred) == 1:
            return referred
    scores = [
        one.matches(mark) if not referred or place in referred else (0, 0)
        for place, one in enumerate(images)
    ]
    best = max(scores)
    places = [place for place, score in enumerate(scores) if score == best != (0, 0)] or referred
    if len(places) > 1:  # several series of one patient, say, of which one has as many voxels
        count = _count_of(mark.what)
        alike = [place for place in places if count and _count_of(images[place].what) == count]
        return alike if len(alike) == 1 else places
    return places


def _count_of(what: Source | Label) -> int:
    """Return the number of voxels that a header promises; 0 where it cannot be read."""
    if isinstance(what, Path):
        return promised_voxels(what)
    files = what.files if isinstance(what, Series) else (what,)
    return sum(len(file.frames) * file.size[0] * file.size[1] for file in files)


def _names(images: list[_Entry]) -> Iterator[tuple[str, str]]:
    """Yield name and patient of each image; no name occurs twice."""
    stems = [one.stem for one in images]
    used: set[str] = set()
    for one in images:
        name = one.stem
        if stems.count(name) > 1:
            number = one.what.number if isinstance(one.what, Series) else ""
            name = f"{name}_series{number}" if number else "_".join([*one.words]) or name
        name, count = re.sub(r"[^\w.+-]", "_", name), 2
        while (unique := name) in used:
            name, count = f"{re.sub('_[0-9]+$', '', name)}_{count}", count + 1
        used.add(unique)
        yield unique, re.sub(r"[^\w.+-]", "_", one.patient) if one.patient else unique


def _entries(source: str | Path | Sequence[str | Path], key: str) -> list[_Entry]:
    """Return the volumes and labels that a source names, in order."""
    if isinstance(source, list | tuple):
        listed = [entry for one in source for entry in _entries(one, key)]
        return list({_key(entry.what): entry for entry in listed}.values())
    path = Path(str(source)).expanduser()
    if path.is_dir():
        return list(_below(path, path))
    if path.is_file():
        if path.name.upper() == "DICOMDIR":
            return list(_below(path.parent, path.parent))
        return list(_of_file(path, path.parent, key))
    if glob.has_magic(str(source)):
        files = [Path(one) for one in sorted(glob.glob(str(path), recursive=True))]
        base = Path(os.path.dirname(re.split(r"[*?\[]", str(path))[0]))
        found = []
        for file in files:
            if file.is_dir():
                found += list(_below(file, base))
            elif is_nifti(file) or is_dicom(file):
                found += list(_of_file(file, base, key))
        return found
    raise FileNotFoundError(f"{key}={source} does not exist; name a volume, or a folder of them")


def _of_file(path: Path, base: Path, key: str) -> Iterator[_Entry]:
    if is_nifti(path):
        yield _entry(path, base, without_ending(path), path.parent)
        return
    header = read_header(path) if is_dicom(path) else None
    if header is None:
        raise ValueError(
            f"{key}={path} is no volume that can be read; name a NIfTI file (.nii, .nii.gz) or a "
            "DICOM series"
        )
    if header.modality == "SEG":
        yield _entry(header, base, path.stem, path.parent)
    else:
        yield _entry(Series(path.parent, header.series, (header,)), base, path.stem, path.parent)


def _below(folder: Path, base: Path) -> Iterator[_Entry]:
    """Yield what lies in a folder and below it."""
    for path in files_below(folder):
        if is_nifti(path):
            yield _entry(path, base, without_ending(path), path.parent)
    for series in find_series(folder)[0]:
        if series.modality == "SEG":
            for file in series.files:
                yield _entry(file, base, file.path.stem, file.path.parent)
        elif not series.files[0].is_scout:
            yield _entry(series, base, "", series.folder)


def _entry(what: Source | Label, base: Path, stem: str, folder: Path) -> _Entry:
    """Return an entry; a name that says nothing but what it is takes that of its folder."""
    above = [] if folder == base else list(folder.relative_to(base).parts)
    told = [word for part in (*above, stem) for word in _words(part)]
    words = tuple(word for word in told if word not in _OF_LABELS | _OF_IMAGES)
    own = [word for word in _words(stem) if word not in _OF_LABELS | _OF_IMAGES]
    if not own:
        named = [part for part in above if set(_words(part)) - _OF_LABELS - _OF_IMAGES]
        stem = "_".join(named) or stem or folder.name
    patient = (above or [folder.name])[0] if isinstance(what, Series) else ""
    return _Entry(what, words, stem, patient, bool(_OF_LABELS & set(told)))


def _words(text: str) -> list[str]:
    whole = text.lower()
    return [whole] if whole == "dicom_anon" else re.findall(r"[^\W_]+", whole)


def _source(entry: _Entry) -> Source:
    assert isinstance(entry.what, Path | Series)
    return entry.what


def _is_seg(what: Source | Label) -> bool:
    return isinstance(what, DicomFile)


def _key(what: Source | Label) -> object:
    if isinstance(what, Path):
        return what.resolve()
    if isinstance(what, Series):
        return what.uid, what.folder.resolve()
    return what.path.resolve()


def _name(what: Source | Label) -> str:
    return str(what.path if isinstance(what, DicomFile) else what)
