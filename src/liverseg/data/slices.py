"""Neighbouring slices: which images of a patient are seen together, as channels of one.

The number of a slice is that of the table ``cases.csv``, or the last one in a file's name behind
the patient. Beside it stand the next lower and the next higher ones of its patient, at the borders
the slice itself.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from liverseg.data.images import IMAGE_SUFFIXES, read_image
from liverseg.data.pairs import Pair, case_of, is_mask
from liverseg.data.table import TABLE, CaseTable, Row


def stacks_of(pairs: Sequence[Pair], slices: int) -> tuple[list[list[int]], list[str]]:
    """Return the places of the slices that each pair is seen with, from the lowest to the highest.

    Beside it stand the neighbours whose numbers do not follow each other, such as ``a and c``.

    Args:
        pairs: The pairs of a split.
        slices: How many are seen together, odd; the middle one is the pair itself.

    Raises:
        ValueError: If a pair has no case or number, or two of a case have one number.
    """
    volumes: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for place, pair in enumerate(pairs):
        number = slice_number(pair)
        if pair.case is None or number is None:
            lacks = "patient" if pair.case is None else "number"
            raise ValueError(
                f"{pair.image} carries no {lacks}, so data.slices={slices} cannot know its "
                f"neighbours; set data.case_pattern, write a table {TABLE}, or set data.slices=1"
            )
        volumes[pair.case].append((number, place))
    stacks: list[list[int]] = [[] for _ in pairs]
    gaps = []
    for case, numbered in volumes.items():
        numbered.sort()
        order = [place for _, place in numbered]
        for (number, place), (above, other) in pairwise(numbered):
            if number == above:
                raise ValueError(
                    f"{pairs[place].image} and {pairs[other].image} are both slice {number} of "
                    f"{case}; tell them apart by data.case_pattern or by {TABLE}"
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
    name = pair.image.stem
    # The first place: a patient 1 has a slice 11. And whole: img_011 does not name a patient 1.
    case = re.search(rf"(?<!\d){re.escape(pair.case)}(?!\d)", name) if pair.case else None
    numbers = re.findall(r"\d+", name[case.end() :] if case else name)
    return int(numbers[-1]) if numbers else None


class FolderStacks:
    """The slices that an image is seen with, from its own folder.

    Args:
        slices: How many are seen together.
        case_pattern: Regular expression whose first group is the case in a file name; a table
            ``cases.csv`` in the folder, or above it, comes first.
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
        tables = [folder / TABLE for folder in (path.parent, path.parent.parent)]
        table = next((CaseTable(file) for file in tables if file.is_file()), None)
        rows: dict[str, list[Row]] = defaultdict(list)
        for its_row in () if table is None else table.rows:
            rows[_last_part(its_row.name)].append(its_row)

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
                "slices of a patient alike, or set data.image_size or data.slices=1"
            )
    return images[0] if len(images) == 1 else torch.cat(list(images))


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
