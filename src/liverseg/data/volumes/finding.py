"""Which volumes a source names, and which label goes with which."""

import glob
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from liverseg.data.images import IMAGE_SUFFIXES
from liverseg.data.pairs import some_of
from liverseg.data.volumes.dicom import DicomFile, is_dicom
from liverseg.data.volumes.entries import (
    Entry,
    Label,
    Source,
    entries_of,
    is_seg,
    key_of,
    source_of,
    told_as,
)
from liverseg.data.volumes.nifti import (
    is_nifti,
    is_prediction,
    promised_voxels,
    without_ending,
)
from liverseg.data.volumes.series import Series, files_below
from liverseg.data.volumes.stacks import PngStack

_WANTED = "(NIfTI, or a DICOM series); name its folder or file"
_PREDICTED = re.compile(r"[_.-]?(prediction|pred)$", re.IGNORECASE)  # at the end of a name
logger = logging.getLogger(__name__)


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
        predicted: A label that another tool has found.
    """

    name: str
    patient: str
    source: Source
    label: Label | None
    fault: str = ""
    is_lone: bool = False
    predicted: Label | None = None


def find_volumes(source: str | Path | Sequence[str | Path]) -> list[Source]:
    """List the volumes that a source names, see :func:`named_volumes`."""
    return list(named_volumes(source).values())


def named_volumes(source: str | Path | Sequence[str | Path]) -> dict[str, Source]:
    """Return the volumes that a source names, NIfTI files and DICOM series, by a name for each.

    A name is that of the file, or that of a folder where the file's says only what it is; no name
    occurs twice. What by its name is the label of another volume is left out with a word.

    Args:
        source: A NIfTI file, a folder of volumes or of a DICOM series (and folders below it), a
            DICOM file, a pattern such as ``DIR/*_ct.nii.gz``, or a list of these.

    Raises:
        FileNotFoundError: If a source does not exist.
        ValueError: If it holds no volume.
    """
    every = [entry for entry in entries_of(source, "source") if not is_seg(entry.what)]
    images = [entry for entry in every if not entry.is_label]
    marks = [one for one in every if one.is_label and any(of.matches(one)[0] for of in images)]
    if marks:
        told = some_of([told_as(one.what) for one in marks])
        logger.warning("source=%s: left out, as labels by their names: %s", source, told)
    found = [entry for entry in every if entry not in marks]
    if not found:
        raise ValueError(f"source={source} holds no volume {_WANTED}")
    names = [name for name, _ in _named(found, allowed=r"[^/]")]
    return {name: source_of(entry) for name, entry in zip(names, found, strict=True)}


def names_volumes(source: str | Path | Sequence[str | Path]) -> bool:
    """Tell whether a source names volumes, not pictures, by the first of its files that is either.

    A folder names volumes if it holds no picture, and a volume in it or below it.
    """
    if isinstance(source, list | tuple):
        return any(names_volumes(one) for one in source[:1])
    path = Path(str(source)).expanduser()
    if path.is_dir():
        own = [one for one in path.iterdir() if one.is_file() and not one.name.startswith(".")]
        if any(one.suffix.lower() in IMAGE_SUFFIXES for one in own):
            return False
        return any(is_nifti(one) or is_dicom(one) for one in files_below(path))
    if glob.has_magic(str(source)) and not path.exists():
        files = sorted(glob.glob(str(path), recursive=True))
        return any(names_volumes(Path(one)) for one in files[:1])
    return is_nifti(path) or (path.is_file() and is_dicom(path))


def find_cases(
    source: str | Path | Sequence[str | Path],
    labels: str | Path | Sequence[str | Path],
    key: str = "labels",
) -> list[Case]:
    """Pair volumes with their labels, by the words of their names or by what a SEG refers to.

    ``volume-3`` goes with ``segmentation-3``, ``imagesTr/liver_3`` with ``labelsTr/liver_3``,
    ``case_1_0000`` with ``case_1``, ``case_1/imaging`` with ``case_1/segmentation``.

    Args:
        source: Volumes, see :func:`named_volumes`.
        labels: Their labels: NIfTI, DICOM SEG, or PNG files as of CHAOS.
        key: What these were typed as.

    Raises:
        FileNotFoundError: If a source does not exist.
        ValueError: If one holds no volume or no label, or if no label goes with any volume.
    """
    images = entries_of(source, "source")
    marks = _marks_of(labels, key)
    shared = {key_of(one.what) for one in images} & {key_of(one.what) for one in marks}
    if shared:  # both in one folder: names say which is which, unless labels are a part of it
        if not len(shared) == len(marks) < len(images):
            marks = [one for one in marks if one.is_label or key_of(one.what) not in shared]
        taken = {key_of(one.what) for one in marks}
        images = [one for one in images if key_of(one.what) not in taken]
    images = [one for one in images if not is_seg(one.what)]
    marks = [one for one in marks if not isinstance(one.what, Series)]
    if not images:
        raise ValueError(f"source={source} holds no volume {_WANTED}")
    if not marks:
        raise ValueError(
            f"{key}={labels} holds no label (NIfTI, DICOM SEG, or Ground/*.png of a series); name "
            "its folder or file"
        )
    cases = _paired(images, marks, key)
    if all(case.label is None for case in cases):
        if told := next((case.fault for case in cases if not case.is_lone), ""):
            raise ValueError(told)
        raise ValueError(
            f"{key}={labels} holds no label whose name goes with a volume of source={source} "
            f"({told_as(marks[0].what)} and {told_as(images[0].what)}, say); give both the same "
            "names, or name one file each"
        )
    return cases


def find_predictions(
    predictions: str | Path, labels: str | Path | Sequence[str | Path]
) -> list[Case]:
    """Pair label maps with those that were predicted, by the words of their names.

    ``segmentation-3`` goes with ``volume-3_prediction``, ``labelsTs/liver_3`` with ``liver_3``.
    Equal names come first, then names of equal words; what is left goes together where a name
    holds all words of one other name alone. Predictions that go with nothing are named in the log.

    Args:
        predictions: NIfTI label maps.
        labels: The true ones.

    Returns:
        Cases, of which ``source`` is the true label map and ``predicted`` the other.

    Raises:
        FileNotFoundError: If a source does not exist, or true ones have no prediction.
        ValueError: If one is a DICOM file, or two predictions go with one true label map.
    """
    truths = _label_maps(labels, "labels")
    marks = _label_maps(predictions, "predictions")
    found: dict[int, Entry] = {}
    left = list(marks)
    for least in (4, 2, 1):
        fits = {
            place: [mark for mark in left if truth.matches(mark)[0] >= least]
            for place, truth in enumerate(truths)
            if place not in found
        }
        for place, those in fits.items():
            if len(those) > 1:
                raise ValueError(
                    f"{told_as(those[0].what)} and {told_as(those[1].what)} may both be the "
                    f"prediction of {told_as(truths[place].what)}; remove one"
                )
            if those and sum(those[0] in others for others in fits.values()) == 1:
                found[place] = those[0]
        left = [mark for mark in left if mark not in found.values()]
    if len(truths) == len(marks) == 1:
        found, left = {0: marks[0]}, []
    lone = [told_as(truth.what) for place, truth in enumerate(truths) if place not in found]
    if lone:
        remedy = f"; of no label are {some_of([told_as(one.what) for one in left])}" if left else ""
        raise FileNotFoundError(
            f"predictions={predictions} has no label map of {len(lone)} of {len(truths)} labels "
            f"({some_of(lone)}){remedy}; add them, or name the labels that are to be scored"
        )
    if left:
        logger.warning(
            "predictions=%s: %d label maps go with no label and are left out (%s)",
            *(predictions, len(left), some_of([told_as(one.what) for one in left])),
        )
    those = [found[place] for place in range(len(truths))]
    those = [replace(one, stem=_PREDICTED.sub("", one.stem) or one.stem) for one in those]
    return [
        Case(name, patient, source_of(truth), None, predicted=mark.what)
        for (name, patient), truth, mark in zip(_named(those), truths, those, strict=True)
        if not isinstance(mark.what, Series)
    ]


def find_predictions_on(
    source: str | Path | Sequence[str | Path],
    predictions: str | Path,
    labels: str | Path | Sequence[str | Path],
) -> list[Case]:
    """Pair volumes with their labels and with those that were predicted, see :func:`find_cases`.

    Raises:
        FileNotFoundError: If a source does not exist, or volumes with a label have no prediction.
        ValueError: If one holds no volume or no label.
    """
    found = {key_of(one.source): one for one in find_cases(source, predictions, "predictions")}
    for one in found.values():
        if one.fault and not one.is_lone:
            raise ValueError(f"predictions={predictions}: {one.fault}")
    cases = [
        replace(one, predicted=other.label if (other := found.get(key_of(one.source))) else None)
        for one in find_cases(source, labels)
    ]
    lone = [str(one.source) for one in cases if one.label is not None and one.predicted is None]
    if lone:
        raise FileNotFoundError(
            f"predictions={predictions} has no label map of {len(lone)} of {len(cases)} volumes "
            f"({some_of(lone)}); add them, or name the volumes that are to be scored"
        )
    return cases


def _label_maps(source: str | Path | Sequence[str | Path], key: str) -> list[Entry]:
    """Return the NIfTI label maps that a source names."""
    found = _marks_of(source, key)
    for one in found:
        if not isinstance(one.what, Path):
            raise ValueError(
                f"{key}={source} holds {told_as(one.what)}, which is no NIfTI file, and label maps "
                "are scored against one another as NIfTI; convert it, or add source=..., the "
                "volumes that they are of"
            )
    if not found:
        raise ValueError(f"{key}={source} holds no label map (NIfTI); name its folder or file")
    return found


def _marks_of(source: str | Path | Sequence[str | Path], key: str) -> list[Entry]:
    """Return what a source of labels names, without the SEG that a prediction wrote too."""
    found = entries_of(source, key)
    written = {
        one.what.with_name(without_ending(one.what))
        for one in found
        if isinstance(one.what, Path) and is_prediction(one.what)
    }
    return [
        one
        for one in found
        if not (isinstance(one.what, DicomFile) and one.what.path.with_suffix("") in written)
    ]


def _paired(images: list[Entry], marks: list[Entry], key: str) -> list[Case]:
    fitting: dict[int, list[Entry]] = {place: [] for place in range(len(images))}
    if len(images) == len(marks) == 1:
        fitting[0] = marks
    else:
        names = [name for name, _ in _named(images, allowed=r"[^/]")]  # as predictions have them
        called = [replace(one, stem=name) for one, name in zip(images, names, strict=True)]
        for mark in marks:
            for place in _places_of(mark, called):
                fitting[place].append(mark)
    for place, found in fitting.items():
        if len(found) == 1 and images[place].has_channel_more_than(found[0]):
            images[place] = replace(images[place], stem=images[place].stem.rpartition("_")[0])
    cases = []
    for place, (name, patient) in enumerate(_named(images)):
        image, found = images[place], fitting[place]
        others = [
            other for other in fitting if other != place and found and fitting[other] == found
        ]
        if len(found) == 1 and isinstance(found[0].what, PngStack):
            others = []  # the phases of one acquisition share it
        fault = ""
        if not found:
            fault = f"{told_as(image.what)} has no label; add one of the same name, or leave it out"
        elif len(found) > 1:
            fault = (
                f"{told_as(image.what)} has {len(found)} {key} ({told_as(found[0].what)}, "
                f"{told_as(found[1].what)}); name one of each by a pattern, such as "
                f"{key}='DIR/*/liver.nii.gz'"
            )
        elif others:
            fault = (
                f"{told_as(image.what)} has the label of {told_as(images[others[0]].what)} too "
                f"({told_as(found[0].what)}); name one volume per label, by a pattern such as "
                "source='DIR/*_0000.nii.gz' or by its folder"
            )
        label = None if fault else found[0].what
        assert not isinstance(label, Series)
        cases.append(Case(name, patient, source_of(image), label, fault, is_lone=not found))
    return cases


def _places_of(mark: Entry, images: list[Entry]) -> list[int]:
    """Return which images a label goes with: one, or several that fit equally well."""
    if isinstance(mark.what, PngStack):
        above = mark.what.folder.parent.resolve()
        beside = [
            place
            for place, one in enumerate(images)
            if isinstance(one.what, Series) and one.what.folder.resolve().is_relative_to(above)
        ]
        if beside:
            return beside
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
    if isinstance(what, PngStack):
        return 0
    files = what.files if isinstance(what, Series) else (what,)
    return sum(len(file.frames) * file.size[0] * file.size[1] for file in files)


def _named(images: list[Entry], allowed: str = r"[\w.+-]") -> Iterator[tuple[str, str]]:
    """Yield name and patient of each image; no name occurs twice.

    Args:
        images: Volumes.
        allowed: The characters that a name may have; others become ``_``.
    """
    names = [one.stem for one in images]
    for told_more in (_with_words, _with_folder):
        names = [
            told_more(one, name) if names.count(name) > 1 else name
            for one, name in zip(images, names, strict=True)
        ]
    used: set[str] = set()
    for one, name in zip(images, names, strict=True):
        name = unique = _cleaned(name, allowed)
        count = 2
        while unique in used:
            unique, count = f"{name}_{count}", count + 1
        used.add(unique)
        yield unique, _cleaned(one.patient, allowed) or unique


def _with_words(one: Entry, name: str) -> str:
    """Return the name of a volume that is not the only one of this name."""
    number = one.what.number if isinstance(one.what, Series) else ""
    return f"{name}_series{number}" if number else "_".join(one.words) or name


def _with_folder(one: Entry, name: str) -> str:
    source = source_of(one)
    folder = source.folder if isinstance(source, Series) else source.resolve().parent
    return f"{folder.name}_{name}"


def _cleaned(name: str, allowed: str) -> str:
    return "".join(letter if re.match(allowed, letter) else "_" for letter in name)
