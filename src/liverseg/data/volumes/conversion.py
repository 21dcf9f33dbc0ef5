"""From volumes and their labels to a folder of image/mask pairs, one volume at a time."""

import csv
import hashlib
import json
import logging
import math
import os
import re
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from PIL import Image
from pydantic import Field

from liverseg.data.volumes.classes import ClassMap
from liverseg.data.volumes.dicom import DicomFile
from liverseg.data.volumes.finding import Case, find_cases
from liverseg.data.volumes.geometry import PLANES, Plane, slicing_of
from liverseg.data.volumes.nifti import check_axes
from liverseg.data.volumes.reading import need_packages, read_label, read_source
from liverseg.data.volumes.series import Series
from liverseg.data.volumes.stacks import PngStack
from liverseg.data.volumes.viewing import SliceView, resized_mask, shown_slice
from liverseg.data.volumes.windows import check_window, window_text
from liverseg.files import written_whole

RECORD_FILE = "volumes.json"  # how a folder of pairs was made from volumes
TABLE_FILE = "cases.csv"
_COLUMNS = ("name", "case", "slice", "spacing", "slice_spacing", "orientation", "source", "window")
_UNFINISHED, _WHOLE = ".unfinished", ".whole"  # folders of one volume on its way
_ENDS = ("_mask.png", ".png")
_ROWS = "rows.json"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """How volumes become pairs, as ``configs/convert.yaml`` names it.

    Attributes:
        window: What becomes black and white, see :func:`limits_of`; None writes 16 bits.
        classes: Values of the label by class, see :class:`ClassMap`.
        plane: What slices are cut; None decides by the spacing, see :func:`slicing_of`.
        spacing: Height and width of a pixel in mm that slices are resampled to; None keeps theirs.
        empty_slices: Share of the slices without foreground that is kept, evenly spread.
        tolerance: Millimetres by which the corners of volume and label may lie apart.
        assume: Where the axes of NIfTI files point to that do not say.
    """

    window: Annotated[
        str | Sequence[float] | None, Field(description="a name, [centre,width] or null")
    ]
    classes: Annotated[
        Mapping[str, int | Sequence[int]] | None,
        Field(description="null, or a mapping of class names to label values such as [1,2]"),
    ]
    plane: Plane | None
    spacing: (
        Annotated[
            Sequence[Annotated[float, Field(gt=0)]],
            Field(min_length=2, max_length=2, description="two lengths, of height and width"),
        ]
        | None
    )
    empty_slices: Annotated[float, Field(ge=0, le=1)]
    tolerance: Annotated[float, Field(ge=0)]
    assume: (
        Annotated[
            str, Field(pattern="^[LRAPIS]{3}$", description="three of L R A P I S, such as RAS")
        ]
        | None
    )

    def __post_init__(self) -> None:
        check_window(self.window)
        ClassMap(self.classes)
        check_axes(self.assume)


@dataclass
class Outcome:
    """What came of a conversion.

    Attributes:
        num_pairs: Pairs in the folder.
        num_cases: Volumes that they are of.
        num_patients: Patients that these are of, as far as names, folders and headers tell.
        refused: Why volumes were not converted, by name.
        num_classes: As ``data.num_classes`` is to be set; None where values were kept.
        class_names: Names of the classes; None where values were kept.
    """

    num_pairs: int
    num_cases: int
    num_patients: int
    refused: dict[str, str]
    num_classes: int | None
    class_names: list[str] | None


class _Written(NamedTuple):
    """What a volume has given: rows of the table, label values, and a line to tell."""

    rows: list[dict[str, str]]
    others: list[int]  # label values that became background
    held: set[int]  # class indices
    told: str


def convert_volumes(
    source: str | Path | Sequence[str | Path],
    labels: str | Path | Sequence[str | Path],
    folder: Path,
    how: Conversion,
) -> Outcome:
    """Fill a folder with pairs ``NAME_slice012.png`` and ``NAME_slice012_mask.png``.

    ``cases.csv`` lists them, and ``volumes.json`` says how they were made. A volume's pairs are
    written beside their place and moved there when all are whole; so the same call goes on where
    an earlier one was stopped. Slices are numbered from below, from behind, or from the left.

    Args:
        source: Volumes, see :func:`find_cases`.
        labels: Their labels.
        folder: Made if missing. Other files in it stay.
        how: The rest.

    Raises:
        FileNotFoundError: If source or labels do not exist.
        ValueError: If one names nothing, or the folder was made in another way.
    """
    need_packages()
    cases = find_cases(source, labels)
    record = _Record(folder, how)
    labelled = {case.patient for case in cases if case.label is not None}
    refused: dict[str, str] = {}
    others: dict[int, str] = {}  # label values, and where they were first seen
    absent = set(range(1, len(how.classes or ()) + 1))  # class indices not seen so far
    for place, case in enumerate(cases, 1):
        told = f"{place}/{len(cases)} {case.name}"
        try:
            if case.is_lone and case.patient in labelled:
                logger.info("%s: left out, since no label is of it", told)
                continue
            if case.fault:
                raise ValueError(case.fault)
            record.refuse_another(case)
            if record.has(case):
                absent = set()  # what it holds is not read again
                logger.info("%s: converted earlier", told)
                continue
            written = _write(case, record.workshop(case), how)
            record.take(case, written.rows)
        except (MemoryError, ValueError, OSError) as error:
            if (
                isinstance(error, OSError)
                and error.filename
                and folder in Path(os.fspath(error.filename)).parents
            ):
                raise  # a full disk stops all
            refused[case.name] = _sentence(case, error)
            logger.error("%s: %s", told, refused[case.name])
            continue
        for value in written.others:
            others.setdefault(value, case.name)
        absent -= written.held
        logger.info("%s: %s", told, written.told)
    if others:
        values, first = sorted(others), others[min(others)]
        logger.warning(
            "label value%s %s %s of no class and became background, as in %s",
            "s" if len(values) > 1 else "",
            ", ".join(map(str, values[:8])) + (" ..." if len(values) > 8 else ""),
            "are" if len(values) > 1 else "is",
            first,
        )
    classes = ClassMap(how.classes)
    if absent and classes.names and record.rows:
        logger.warning(
            "no label holds a voxel of %s; look at the values in classes=",
            ", ".join(classes.names[index - 1] for index in sorted(absent)),
        )
    return Outcome(
        num_pairs=len(record.rows),
        num_cases=len({_volume_of(row) for row in record.rows}),
        num_patients=len({row["case"] for row in record.rows}),
        refused=refused,
        num_classes=classes.num_classes,
        class_names=classes.names,
    )


def _write(case: Case, folder: Path, how: Conversion) -> _Written:
    """Write the pairs of a volume into a folder."""
    assert case.label is not None
    classes = ClassMap(how.classes)
    volume = read_source(case.source, how.assume)
    label, others = read_label(case.label, volume, classes, how.tolerance, how.assume)
    view = SliceView(how.window, how.plane, how.spacing, how.assume)
    limits = view.limits(volume)
    slicing = slicing_of(volume, how.plane)
    images, masks = slicing.cut(volume.voxels), slicing.cut(label)
    count, *sides = images.shape
    size = view.size(slicing, (sides[0], sides[1]))
    spacing = [
        step * before / after
        for step, before, after in zip(slicing.spacing[1:], sides, size, strict=True)
    ]
    spacing.append(slicing.spacing[0])
    chosen = _chosen([bool(mask.any()) for mask in masks], how.empty_slices)
    digits = max(3, len(str(count - 1)))
    window = window_text(how.window, limits)
    rows = []

    def write(place: int) -> None:
        name = f"{case.name}_slice{place:0{digits}}"
        shown, mask = shown_slice(images[place], size, limits), resized_mask(masks[place], size)
        Image.fromarray(shown).save(folder / f"{name}.png")
        Image.fromarray(classes.to_file(mask)).save(folder / f"{name}_mask.png")

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # compressing lets other threads run
        list(pool.map(write, chosen))
    for place in chosen:
        rows.append(
            {
                "name": f"{case.name}_slice{place:0{digits}}",
                "case": case.patient,
                "slice": str(place),
                "spacing": _spacing_text(spacing[:2]),
                "slice_spacing": _spacing_text(spacing[2:]) if volume.has_thickness else "",
                "orientation": slicing.plane,
                "source": str(case.source),
                "window": window,
            }
        )
    described = (
        f"{len(chosen)} of {count} slices, {slicing.plane}, {size[0]} x {size[1]}, "
        f"{_spacing_text(spacing)} mm"
    )
    return _Written(rows, others, set(np.unique(label).tolist()), described)


def _chosen(has_foreground: Sequence[bool], share: float) -> list[int]:
    """Return the places of slices that are kept: all with foreground, a share of the others."""
    empty = [place for place, has in enumerate(has_foreground) if not has]
    count = math.floor(len(empty) * share + 0.5)
    kept = {empty[(2 * step + 1) * len(empty) // (2 * count)] for step in range(count)}
    return [place for place, has in enumerate(has_foreground) if has or place in kept]


def read_conversion(root: Path) -> dict[str, Any] | None:
    """Return how the pairs of a folder, or of its splits, were made from volumes.

    Returns:
        The settings of :class:`Conversion` by name, and ``planes``, those of the slices that train;
        or None where they were made otherwise.
    """
    found = []
    for folder in (root, root / "train", root / "val", root / "test"):
        try:
            settings = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))["settings"]
            found.append((folder, dict(settings)))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    for folder, settings in found[1:]:
        for key in ("window", "classes", "plane", "spacing"):
            if settings.get(key) != found[0][1].get(key):
                logger.warning(
                    "%s was made of volumes with %s=%s, and %s with %s",
                    *(found[0][0], key, _typed(found[0][1].get(key))),
                    *(folder, _typed(settings.get(key))),
                )
    if not found:
        return None
    planes = _planes_of(root) | _planes_of(root / "train")
    return found[0][1] | ({"planes": sorted(planes)} if planes else {})


def _planes_of(folder: Path) -> set[str]:
    """Return the planes of the slices that train, by the table of a folder."""
    try:
        with (folder / TABLE_FILE).open(newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.DictReader(stream) if _trains(row)]
    except (OSError, ValueError, csv.Error):
        return set()
    return {row.get("orientation") or "" for row in rows}.intersection(PLANES)


def _trains(row: Mapping[str, str | None]) -> bool:
    """Tell whether a slice trains: an empty cell leaves it out, a missing column does not."""
    return "split" not in row or (row["split"] or "").strip().casefold() == "train"


class _Record:
    """What a folder of pairs holds, on disk: the table, and how it was made."""

    def __init__(self, folder: Path, how: Conversion) -> None:
        self.folder = folder
        self._file = folder / RECORD_FILE
        self._settings = json.loads(json.dumps(asdict(how)))
        self._done: dict[str, Any] = {}
        self.rows: list[dict[str, str]] = []
        if self._file.exists():
            self._read()
        folder.mkdir(parents=True, exist_ok=True)
        for draft in sorted(folder.glob(f".*{_UNFINISHED}")):
            shutil.rmtree(draft)
        for whole in sorted(folder.glob(f".*{_WHOLE}")):
            self._move(whole)
        self._names = set(os.listdir(folder))

    def _read(self) -> None:
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
            settings, self._done = dict(found["settings"]), dict(found["volumes"])
            table = self.folder / TABLE_FILE
            if table.exists():
                with table.open(newline="", encoding="utf-8") as stream:
                    self.rows = list(csv.DictReader(stream))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self._file} cannot be read ({error}); name another output_dir"
            ) from error
        for key, value in self._settings.items():
            if settings.get(key) != value:
                raise ValueError(
                    f"{self.folder} was made with {key}={_typed(settings.get(key))}, but "
                    f"{key}={_typed(value)} is asked for; name another output_dir"
                )

    def has(self, case: Case) -> bool:
        """Tell whether a volume was converted, and neither it nor its pairs have changed since."""
        done = self._done.get(case.name)
        if done != _stamp(case):
            return False
        files = [
            f"{row['name']}{end}"
            for row in self.rows
            for end in _ENDS
            if _volume_of(row) == case.name
        ]
        return self._names.issuperset(files)

    def refuse_another(self, case: Case) -> None:
        """Refuse a volume whose name one of another place has that is there still."""
        others = {row["source"] for row in self.rows if _volume_of(row) == case.name}
        place = case.source.folder if isinstance(case.source, Series) else case.source
        for told in others - {str(case.source)}:
            other = Path(re.sub(r" \(series [^/]*\)$", "", told))
            if other.exists() and other.resolve() != place.resolve():
                raise ValueError(
                    f"{self.folder} holds slices of {told} by the name {case.name}, which "
                    f"{case.source} has too; name another output_dir"
                )

    def workshop(self, case: Case) -> Path:
        """Return an empty folder in which the pairs of a volume are made."""
        draft = self.folder / f".{case.name}{_UNFINISHED}"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        return draft

    def take(self, case: Case, rows: list[dict[str, str]]) -> None:
        """Move the pairs of a volume to their place, and put them into the table."""
        draft = self.folder / f".{case.name}{_UNFINISHED}"
        content = json.dumps([case.name, _stamp(case), rows])
        (draft / _ROWS).write_text(content, encoding="utf-8")
        whole = draft.with_name(f".{case.name}{_WHOLE}")
        shutil.rmtree(whole, ignore_errors=True)
        draft.rename(whole)
        self._move(whole)

    def _move(self, whole: Path) -> None:
        """Move what is whole, also what an earlier run was killed in the middle of moving."""
        volume, stamp, rows = json.loads((whole / _ROWS).read_text(encoding="utf-8"))
        names = {row["name"] for row in rows}
        with _undisturbed():
            for row in self.rows:  # of an earlier state of the volume
                if _volume_of(row) == volume and row["name"] not in names:
                    for end in _ENDS:
                        (self.folder / f"{row['name']}{end}").unlink(missing_ok=True)
            for row in rows:
                for end in _ENDS:  # the two of a pair within microseconds
                    file = whole / f"{row['name']}{end}"
                    if file.exists():
                        os.replace(file, self.folder / file.name)
            split = {row["case"]: row["split"] for row in self.rows if row.get("split")}
            rows = [{**row, "split": split.get(row["case"], "")} if split else row for row in rows]
            self.rows = [row for row in self.rows if _volume_of(row) != volume] + rows
            self._done[volume] = stamp
            self._write()
        shutil.rmtree(whole)

    def _write(self) -> None:
        columns = [*_COLUMNS, *(key for row in self.rows[:1] for key in row if key not in _COLUMNS)]
        self.rows.sort(key=lambda row: row["name"])
        with (
            written_whole(self.folder / TABLE_FILE) as draft,
            draft.open("w", newline="", encoding="utf-8") as stream,
        ):
            writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        content = {"settings": self._settings, "volumes": self._done}
        with written_whole(self._file) as draft:
            draft.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _volume_of(row: Mapping[str, str]) -> str:
    return row["name"].rpartition("_slice")[0]


def _stamp(case: Case) -> str:
    """Return a hash of paths, sizes and times of the files of a volume and its label."""
    source, label = case.source, case.label
    files = [one.path for one in source.files] if isinstance(source, Series) else [source]
    if isinstance(label, PngStack):
        files += label.files
    elif label is not None:
        files.append(label.path if isinstance(label, DicomFile) else label)
    stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr(stats).encode()).hexdigest()[:32]


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Have Ctrl-C and SIGTERM wait for a moment, where the system can."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _sentence(case: Case, error: BaseException) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError):
        return f"{case.source} does not fit into memory; convert it on a computer that has more"
    return said


def _spacing_text(spacing: Sequence[float]) -> str:
    return "x".join(f"{float(f'{one:.5g}')}" for one in spacing)


def _typed(value: Any) -> str:
    return "null" if value is None else str(value).replace(" ", "").replace("'", "")
