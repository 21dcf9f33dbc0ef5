"""Every file of every split, listed and read once, by several processes."""

import logging
import multiprocessing
import time
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from liverseg.data import (
    IMAGE_SUFFIXES,
    Intensities,
    Pair,
    PairDataModule,
    is_mask,
    masks_of,
    renamed_split,
)
from liverseg.inspection.measures import Measured, Recipe, measure
from liverseg.labels import first_scored

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
_FEW = 64  # pairs that are read before other processes would have begun
_CHUNK = 8
_TOLD_EVERY = 15.0  # seconds
logger = logging.getLogger(__name__)


@dataclass
class SplitSurvey:
    """What a split holds.

    ``refused`` is the sentence with which the split is refused as a whole, "" where it is not;
    ``is_empty`` says that its folder holds no image of its own. ``alone`` are files without a
    partner, ``clashing`` those whose name another one has.
    """

    name: str
    pairs: list[Pair] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)
    refused: str = ""
    is_by_table: bool = False
    is_empty: bool = False
    alone: list[Path] = field(default_factory=list)
    clashing: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)  # that are no images by their names
    intensities: Intensities = field(default_factory=Intensities)

    @property
    def whole(self) -> list[Measured]:
        """The pairs of which both files were read."""
        return [one for one in self.measured if one.is_whole]


@dataclass
class Survey:
    """What a folder holds.

    ``absent`` are the splits that are not there, ``unread`` the folders that belong to none, and
    those below a split, beside its pairs.
    """

    root: Path
    class_names: dict[int, str]  # of those that are no background
    num_classes: int
    recipe: Recipe
    splits: dict[str, SplitSurvey] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    @property
    def first(self) -> int:
        """The index of the first class that is no background."""
        return self.recipe.first

    @property
    def whole(self) -> list[Measured]:
        """The pairs of all splits of which both files were read."""
        return [one for split in self.splits.values() for one in split.whole]

    @property
    def is_by_table(self) -> bool:
        """Whether a table says which pairs are in which split."""
        return any(split.is_by_table for split in self.splits.values())

    def shown(self, path: Path) -> str:
        """Return a path as it lies below the folder, fit to be printed."""
        text = str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)
        return text.encode(errors="backslashreplace").decode()


def survey(data: PairDataModule, *, num_processes: int = 1) -> Survey:
    """List and read all splits of a folder.

    Args:
        data: Says where files lie and how they are read.
        num_processes: How many read.

    Raises:
        FileNotFoundError: If the folder, or every split of it, is missing.
    """
    first = first_scored(data.num_classes, data.class_names)
    found = Survey(
        root=data.root,
        class_names=dict(enumerate(data.class_names, start=first)),
        num_classes=max(2, data.num_classes),
        recipe=Recipe(
            channels=data.channels,
            white_value=data.white_value,
            reader=data.mask_reader,
            first=first,
        ),
    )
    if not data.root.is_dir():
        what = "is a file" if data.root.exists() else "does not exist"
        raise FileNotFoundError(
            f"data.root={data.root} {what}; name the folder that holds train/ and val/"
        )
    for name in SPLITS:
        if data.has_split(name):
            found.splits[name] = _listed(data, name)
        elif name != "test":
            found.absent.append(name)
    below = sorted(one.name for one in data.root.iterdir() if one.is_dir())
    if not found.splits:
        if data.folders.is_by_table:
            data.pairs("train")  # says what the table lacks
        shown = ", ".join(f"{name}/" for name in below[:5]) or "no folder"
        remedy = renamed_split(data.root, "train") or (
            "name the folder that holds train/ and val/; a folder of pairs that is not divided is "
            f"divided by: python split.py data.root={data.root}"
        )
        raise FileNotFoundError(f"data.root={data.root} holds no split (found {shown}); {remedy}")
    read = below if data.folders.is_by_table else (*SPLITS, "images", "masks")
    found.unread = [name for name in below if name not in read and not name.startswith(".")]
    found.unread += [
        found.shown(folder)
        for split in found.splits.values()
        if split.pairs and not split.is_by_table
        for folder in _folders_in(data, split.name)
    ]
    jobs = [(name, pair) for name, split in found.splits.items() for pair in split.pairs]
    for one in _told(read_all(jobs, found.recipe, num_processes), len(jobs)):
        split = found.splits[one.split]
        split.measured.append(one)
        if one.histogram is not None:
            split.intensities.add(one.histogram)
            one.histogram = None
    return found


def read_all(
    jobs: Sequence[tuple[str, Pair]], recipe: Recipe, num_processes: int
) -> Iterator[Measured]:
    """Yield what is measured of each pair of a split, in order."""
    if num_processes < 2 or len(jobs) < _FEW:
        for split, pair in jobs:
            yield measure(split, pair, recipe)
        return
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("fork" if "fork" in methods else None)
    with ProcessPoolExecutor(
        num_processes, mp_context=context, initializer=_begin, initargs=(recipe,)
    ) as pool:
        yield from pool.map(_measure_job, jobs, chunksize=_CHUNK)


_RECIPES: list[Recipe] = []  # of this process


def _begin(recipe: Recipe) -> None:
    torch.set_num_threads(1)
    _RECIPES[:] = [recipe]


def _measure_job(job: tuple[str, Pair]) -> Measured:
    return measure(*job, _RECIPES[0])


def _told(measured: Iterable[Measured], total: int) -> Iterator[Measured]:
    """Pass on what is measured, and log how far it has come."""
    since = time.monotonic()
    for count, one in enumerate(measured, start=1):
        yield one
        if time.monotonic() - since > _TOLD_EVERY:
            since = time.monotonic()
            logger.info("%s of %s pairs are read", f"{count:,}", f"{total:,}")


def _listed(data: PairDataModule, name: Split) -> SplitSurvey:
    """List the pairs of a split; where it is refused, those that can be told by their names."""
    split = SplitSurvey(name, is_by_table=data.folders.is_by_table)
    if (data.root / name).is_dir():
        split.others = [
            file
            for file in sorted((data.root / name).iterdir())
            if file.is_file()
            and file.suffix.lower() not in (*IMAGE_SUFFIXES, ".csv", ".json", ".txt")
            and not file.name.startswith(".")
        ]
    try:
        split.pairs = data.pairs(name)
        return split
    except (ValueError, OSError) as error:
        split.refused = str(error)
    try:
        if split.is_by_table:
            split.pairs = _of_table(name, data)
        else:
            _salvage(split, data)
    except (ValueError, OSError):  # the sentence is enough
        split.alone, split.clashing = [], []
    return split


def _of_table(name: Split, data: PairDataModule) -> list[Pair]:
    """Put together those pairs of a split that the table names and that have both files."""
    assert data.folders.table is not None
    images = [one for one in sorted(data.root.rglob("*")) if _is_image(one)]
    images = [one for one in images if not is_mask(one, data.mask_suffix)]
    pairs = [
        Pair(image.stem, image, mask, data.case_in(image.stem))
        for image, mask in masks_of(images, data.mask_suffix).items()
    ]
    named = data.folders.table.salvage(pairs, data.root)
    return [pair for pair, row in named if row.split == name]


def _place(data: PairDataModule, name: str) -> tuple[Path, Path | None]:
    """Return where the images of a split lie, and where its masks, None beside them."""
    folder, masks = data.folders.place(name) or (data.root / name, None)
    if masks is None and all((folder / one).is_dir() for one in ("images", "masks")):
        return folder / "images", folder / "masks"
    return folder, masks


def _folders_in(data: PairDataModule, name: str) -> list[Path]:
    """Return the folders that lie beside the images of a split."""
    folder, _ = _place(data, name)
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [one for one in found if one.is_dir() and not one.name.startswith(".")]


def _salvage(split: SplitSurvey, data: PairDataModule) -> None:
    """Put together what has a partner, and note what has none."""
    folder, masks = _place(data, split.name)
    files = _files(folder)
    is_beside = masks is None
    of_images = [one for one in files if not (is_beside and is_mask(one, data.mask_suffix))]
    of_masks = _files(masks) if masks else [one for one in files if one not in of_images]
    images = _by_name(of_images, "", split.clashing)
    named = _by_name(of_masks, data.mask_suffix, split.clashing)
    split.alone = [images.get(one) or named[one] for one in sorted(images.keys() ^ named.keys())]
    split.pairs = [
        Pair(name, images[name], named[name], data.case_in(images[name].stem))
        for name in sorted(images.keys() & named.keys())
    ]
    if data.folders.table is not None:  # whose cases count, though it is what is refused
        known = data.folders.table.salvage(split.pairs, data.root)
        of_table = {pair.image: pair for pair, _ in known}
        split.pairs = [of_table.get(pair.image, pair) for pair in split.pairs]
    split.is_empty = not split.pairs and not split.alone


def _files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.iterdir()) if _is_image(file)]


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")


def _by_name(files: Sequence[Path], suffix: str, clashing: list[Path]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for file in files:
        name = unicodedata.normalize("NFC", file.stem).removesuffix(suffix)
        if name in named:
            clashing.append(file)
        named.setdefault(name, file)
    return named
