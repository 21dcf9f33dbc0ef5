"""Neighbouring slices: which images of a patient are seen together, as channels of one.

The number of a slice is that of the table ``cases.csv``, or the last one in a file's name behind
the patient. Beside it stand the next lower and the next higher ones of its patient, at the borders
the slice itself. Where names hold the numbers, as ``NAME_slice012`` does, the rest of a name is its
volume: those of several volumes of a patient are not seen together.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from liverseg.data.images import IMAGE_SUFFIXES, read_image
from liverseg.data.marks import is_ours
from liverseg.data.pairs import Pair, case_of, is_mask
from liverseg.data.table import TABLE, CaseTable, Row

_MOST_ABOVE = 5  # folders in which a table is looked for, as above images/SPLIT/PATIENT/


class _Slice(NamedTuple):
    """A slice of a patient: its number, its place among the pairs, and its volume if names tell."""

    number: int
    place: int
    volume: tuple[Path, str, str] | None


def stacks_of(pairs: Sequence[Pair], slices: int) -> tuple[list[list[int]], list[str]]:
    """Return the places of the slices that each pair is seen with, from the lowest to the highest.

    Beside it stand the neighbours whose numbers do not follow each other, such as ``a and c``.

    Args:
        pairs: The pairs of a split.
        slices: How many are seen together, odd; the middle one is the pair itself.

    Raises:
        ValueError: If a pair has no case or number, or two of a volume have one number.
    """
    patients: dict[str, list[_Slice]] = defaultdict(list)
    for place, pair in enumerate(pairs):
        number = slice_number(pair)
        if pair.case is None or number is None:
            lacks = "patient" if pair.case is None else "number"
            raise ValueError(
                f"{pair.image} carries no {lacks}, so data.slices={slices} cannot know its "
                f"neighbours; name it in a table {TABLE} (name,case,slice), or train with "
                "data.case_pattern=... or data.slices=1"
            )
        patients[pair.case].append(_Slice(number, place, _volume_of(pair, number)))
    stacks: list[list[int]] = [[] for _ in pairs]
    gaps = []
    volumes = ((case, volume) for case, its in patients.items() for volume in _volumes(its))
    for case, volume in volumes:
        numbered = sorted((one.number, one.place) for one in volume)
        order = [place for _, place in numbered]
        for (number, place), (above, other) in pairwise(numbered):
            if number == above:
                raise ValueError(
                    f"{pairs[place].image} and {pairs[other].image} are both slice {number} of "
                    f"{case}; correct their numbers or, where they are of two volumes, name all "
                    f"slices of {case} by volume and number, such as VOLUME_slice{number:03}.png"
                )
            if above != number + 1:
                gaps.append(f"{pairs[place].name} and {pairs[other].name}")
        for middle, place in enumerate(order):
            nearby = range(middle - slices // 2, middle + slices // 2 + 1)
            stacks[place] = [order[min(max(one, 0), len(order) - 1)] for one in nearby]
    return stacks, gaps


def slice_number(pair: Pair) -> int | None:
    """Return the number of a slice, None where neither a table nor its name says it."""
    if pair.number is not None:
        return pair.number
    found = _number_in_name(pair)
    return int(found[0]) if found else None


def _number_in_name(pair: Pair) -> re.Match[str] | None:
    """Return where the name of a slice has its last number, behind the patient."""
    name = pair.image.stem
    # The first place: a patient 1 has a slice 11. And whole: img_011 does not name a patient 1.
    case = re.search(rf"(?<!\d){re.escape(pair.case)}(?!\d)", name) if pair.case else None
    numbers = list(re.compile(r"\d+").finditer(name, case.end() if case else 0))
    return numbers[-1] if numbers else None


def _volume_of(pair: Pair, number: int) -> tuple[Path, str, str] | None:
    """Return folder and name of a slice without its number; None where its name has another."""
    found = _number_in_name(pair)
    if found is None or int(found[0]) != number:
        return None
    return pair.image.parent, found.string[: found.start()], found.string[found.end() :]


def _volumes(slices: Sequence[_Slice]) -> list[list[_Slice]]:
    """Divide the slices of a patient by volume, where their names tell it: all in one elsewhere.

    Names say nothing of it where a table numbers slices otherwise. Nor do names that differ in all
    slices, as by a position in mm, unless the numbers show that the volumes are several.
    """
    volumes: dict[object, list[_Slice]] = defaultdict(list)
    for one in slices:
        volumes[one.volume].append(one)
    is_one = len(volumes) == len(slices) == len({one.number for one in slices})
    return [list(slices)] if is_one or None in volumes else list(volumes.values())


class FolderStacks:
    """The slices that an image is seen with, from its own folder.

    Args:
        slices: How many are seen together.
        case_pattern: Regular expression whose first group is the case in a file name; a table
            ``cases.csv`` that names the image, in its folder or above it, comes first.
        mask_suffix: Images whose names end so are masks.
    """

    def __init__(self, slices: int, *, case_pattern: str, mask_suffix: str) -> None:
        self.slices = slices
        self._case_pattern = case_pattern
        self._mask_suffix = mask_suffix
        self._known: dict[Path, dict[Path, list[Path]]] = {}

    def of(self, path: Path) -> list[Path]:
        """Return the files of the slices that an image is seen with, in their order.

        Raises:
            ValueError: If the image carries no case or number, or shares its number.
        """
        if self.slices == 1:
            return [path]
        known = self._known.setdefault(path.parent, {})
        if path not in known:
            known.update(self._found(path))
        return known[path]

    def _found(self, path: Path) -> dict[Path, list[Path]]:
        """Return the stacks of all slices of the case of an image."""
        rows = _rows_about(path)

        def known(file: Path) -> Pair:
            row = next((one for one in rows.get(file.stem, ()) if _names(one, file)), None)
            case = (row.case if row else None) or case_of(file.stem, self._case_pattern)
            return Pair(file.stem, file, file, case, None, None if row is None else row.number)

        its = known(path)
        pairs = [
            one
            for file in sorted(path.parent.iterdir())
            if file.suffix.lower() in IMAGE_SUFFIXES
            and file != path
            and not file.name.startswith(".")
            and not is_mask(file, self._mask_suffix)
            and not is_ours(file)
            and (one := known(file)).case == its.case
            and slice_number(one) is not None
        ]
        pairs.append(its)
        stacks, _ = stacks_of(pairs if its.case else [its], self.slices)
        return {
            pair.image: [pairs[place].image for place in stack]
            for pair, stack in zip(pairs, stacks, strict=True)
        }


def read_stack(paths: Sequence[Path], channels: int, white_value: int | None) -> Tensor:
    """Decode slices and stack them, shape (slices * channels, H, W).

    Raises:
        ValueError: If a file cannot be read, or two differ in size or depth.
    """
    images = {path: read_image(path, channels, white_value) for path in dict.fromkeys(paths)}
    return stacked([images[path] for path in paths], paths)


def stacked(images: Sequence[Tensor], paths: Sequence[Path]) -> Tensor:
    """Stack slices of shape (channels, H, W) as channels of one image.

    Raises:
        ValueError: If two differ in size or depth.
    """
    for image, path in zip(images, paths, strict=True):
        if image.shape != images[0].shape or image.dtype != images[0].dtype:
            raise ValueError(
                f"{path} and {paths[0]} are neighbours and differ in size or depth; save the "
                "slices of a patient alike, or train with data.image_size=... or data.slices=1"
            )
    return images[0] if len(images) == 1 else torch.cat(list(images))


def _rows_about(path: Path) -> Mapping[str, list[Row]]:
    """Return the rows, by the names of files, of the nearest table that names an image."""
    for folder in path.absolute().parents[:_MOST_ABOVE]:
        if (file := folder / TABLE).is_file():
            rows: dict[str, list[Row]] = {}
            for row in CaseTable(file).rows:
                rows.setdefault(_last_part(row.name), []).append(row)
            if any(_names(row, path) for row in rows.get(path.stem, ())):
                return rows
    return {}


def _names(row: Row, file: Path) -> bool:
    """Tell whether the folders that a row names, if it does, are those that a file lies in."""
    folders = row.name.replace("\\", "/").split("/")[:-1]
    told = [one for one in folders if one not in ("", ".", "images")]
    its = [one for one in file.absolute().parent.parts if one != "images"]
    return its[len(its) - len(told) :] == told


def _last_part(name: str) -> str:
    """Return the name of a file in a table without folders and ending."""
    last = name.replace("\\", "/").rpartition("/")[2]
    stem, dot, ending = last.rpartition(".")
    return stem if f"{dot}{ending}".lower() in IMAGE_SUFFIXES else last
