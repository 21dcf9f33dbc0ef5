"""Cross-validation: the pairs of train/ and val/, put together and divided anew.

The division depends on nothing but names: neither on a seed nor on the order of a file system. So
the folds of a folder are the same in every run and on every computer.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from liverseg.data.pairs import Pair, case_of, find_pairs


@dataclass(frozen=True)
class Division:
    """Pairs, and the fold that each is in.

    ``num_without_case`` names carry no case: each such image was taken for a case of its own.
    """

    pairs: list[Pair]
    folds: list[int]
    num_without_case: int

    def inside(self, fold: int) -> list[Pair]:
        """Return the pairs of a fold, ordered by name."""
        return [pair for pair, its in zip(self.pairs, self.folds, strict=True) if its == fold]

    def outside(self, fold: int) -> list[Pair]:
        """Return the pairs of all other folds, ordered by name."""
        return [pair for pair, its in zip(self.pairs, self.folds, strict=True) if its != fold]


def divide_folders(
    folders: Sequence[Path], *, case_pattern: str, num_folds: int, mask_suffix: str = "_mask"
) -> Division:
    """Divide the pairs of all folders into folds.

    Folds are made of whole cases; an image whose name carries none is one of its own.

    Args:
        folders: Each as :func:`~liverseg.data.pairs.find_pairs` reads it.
        case_pattern: Regular expression whose first group is the case in a file name.
        num_folds: At most the number of cases, or of images.
        mask_suffix: What a mask's name has behind that of its image.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If a folder is faulty, or there are more folds than cases or images.
    """
    pairs = put_together({folder.name: find_pairs(folder, mask_suffix) for folder in folders})
    # The case stands in the file's own name: what is put in front of it is no part of it.
    cases = [case_of(pair.image.stem, case_pattern) for pair in pairs]
    units = [pair.name if case is None else case for case, pair in zip(cases, pairs, strict=True)]
    count = len(set(units))
    if count < num_folds:
        unit = "image" if cases.count(None) == len(cases) else "case"
        found = f"{count} {unit}{'s' if count > 1 else ''}"
        remedy = f"set data.num_folds={count} or fewer" if count > 1 else "leave fold out"
        raise ValueError(
            f"data.num_folds={num_folds} is more than the {found} in "
            f"{' and '.join(map(str, folders))}; {remedy}"
        )
    return Division(pairs, divide(units, num_folds), cases.count(None))


def put_together(folders: Mapping[str, Sequence[Pair]]) -> list[Pair]:
    """Join the pairs of several folders, ordered by name, no name twice.

    Names stay as they are where all differ. Where one name is in two folders, as ``000`` often is,
    every pair gets its folder in front: ``train_000``, ``train_001``, ``val_000``.

    Args:
        folders: The pairs by the folder's name.
    """
    names = Counter(pair.name for pairs in folders.values() for pair in pairs)
    joined = [
        pair if len(names) == names.total() else replace(pair, name=f"{folder}_{pair.name}")
        for folder, pairs in folders.items()
        for pair in pairs
    ]
    return sorted(joined, key=lambda pair: pair.name)


def divide(units: Sequence[str], num_folds: int) -> list[int]:
    """Return the fold, 0 ... num_folds - 1, of each image such that no unit is in two folds.

    The largest unit left goes to the smallest fold so far (Graham 1969, "longest processing time
    first"), so two folds differ by the images of the largest unit at most. Units of one size come
    in the order of the SHA-256 of their names: neighbouring numbers, which often come from one
    hospital or one day, are spread.

    >>> divide(["Ann", "Ann", "Ann", "Bob", "Cem", "Dee"], num_folds=2)
    [0, 0, 0, 1, 1, 1]

    Args:
        units: For each image, what must stay together: its case, or its own name.
        num_folds: With more folds than units, some stay empty.
    """
    sizes = Counter(units)
    num_images = [0] * num_folds
    folds: dict[str, int] = {}
    for unit in sorted(sizes, key=lambda unit: (-sizes[unit], _digest(unit))):
        folds[unit] = num_images.index(min(num_images))
        num_images[folds[unit]] += sizes[unit]
    return [folds[unit] for unit in units]


def _digest(unit: str) -> str:
    return hashlib.sha256(unit.encode()).hexdigest()
