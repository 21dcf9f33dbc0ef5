"""Cross-validation: the pairs of train/ and val/, put together and divided anew.

The division depends on nothing but names: neither on a seed nor on the order of a file system. So
the folds of a folder are the same in every run and on every computer.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from liverseg.data.pairs import Pair


@dataclass(frozen=True)
class Division:
    """Pairs, and the fold that each is in.

    ``num_without_case`` pairs have no case: each such image was taken for a case of its own.
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
    folders: Mapping[str, Sequence[Pair]], *, num_folds: int, where: str
) -> Division:
    """Divide the pairs of all folders into folds.

    Folds are made of whole cases; an image without one is one of its own.

    Args:
        folders: The pairs by the folder's name.
        num_folds: At most the number of cases, or of images.
        where: The folders, for a sentence.

    Raises:
        ValueError: If there are more folds than cases or images.
    """
    pairs = put_together(folders)
    units = [pair.name if pair.case is None else pair.case for pair in pairs]
    count, nameless = len(set(units)), sum(pair.case is None for pair in pairs)
    if count < num_folds:
        unit = "image" if nameless == len(pairs) else "case"
        found = f"{count} {unit}{'s' if count > 1 else ''}"
        remedy = f"set data.num_folds={count} or fewer" if count > 1 else "leave fold out"
        raise ValueError(
            f"data.num_folds={num_folds} is more than the {found} in {where}; {remedy}"
        )
    return Division(pairs, divide(units, num_folds), nameless)


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
