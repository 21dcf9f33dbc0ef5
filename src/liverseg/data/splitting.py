"""Divide a folder by patient into train, val and test, so that the three are alike."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from liverseg.data.datamodule import PairDataModule
from liverseg.data.fingerprints import in_threads
from liverseg.data.layouts import split_meant
from liverseg.data.masks import MaskReader
from liverseg.data.pairs import SPLIT_NAMES, Pair, check_sizes
from liverseg.data.patients import count_pairs
from liverseg.data.table import HEAD, TABLE, table_text
from liverseg.files import written_whole
from liverseg.labels import IGNORED

_Counts = npt.NDArray[np.int64]
_MOST_DIVISIONS = 2000  # that are drawn, of which the most balanced is taken
_MOST_UNITS = 4_000_000  # in all that are drawn


def write_splits(
    data: PairDataModule, *, val: float, test: float, seed: int, overwrite: bool = False
) -> tuple[Path, list[str]]:
    """Write a table ``cases.csv`` that divides all pairs below a folder; return what is to be told.

    Patients stay whole; an image without one is one of its own. Of many divisions drawn, the one is
    taken whose splits differ least in images per patient, in images with foreground and in pixels
    of each class.

    Args:
        data: The pairs. Of a table that is there all columns but ``split`` stay, and so does what
            it leaves out.
        val: Share of the patients, above 0.
        test: Share of the patients; 0 makes no such split.
        seed: Another seed draws other divisions.
        overwrite: Whether a table that is there may be replaced.

    Returns:
        The table, and a line for each split.

    Raises:
        FileExistsError: If there is a table that may not be replaced.
        FileNotFoundError: If there is no such folder.
        ValueError: If a file is faulty, or there are fewer patients than splits.
    """
    if val + test >= 1:
        raise ValueError(f"val={val} and test={test} leave nothing for train; lower one of them")
    if not data.root.is_dir():
        raise FileNotFoundError(f"data.root={data.root} is no folder; name that of the pairs")
    file = data.root / TABLE
    table = data.folders.table
    if table is not None and not overwrite:
        raise FileExistsError(
            f"{file} exists; add overwrite=true to have its column split "
            f"{'written anew' if table.names_splits else 'added'}, all others staying as they are"
        )
    found = data.folders.everything()
    has_splits = any(row is not None and row.split for _, row in found)
    kept = [(pair, row) for pair, row in found if not (has_splits and row and row.split is None)]
    pairs = [pair for pair, _ in kept]
    check_sizes(pairs)
    counts = np.stack(in_threads(lambda pair: _counted(pair, data.mask_reader), pairs))
    units = [f"case {pair.case}" if pair.case else f"image {pair.name}" for pair in pairs]
    shares = {"train": 1 - val - test, "val": val, "test": test}
    its = divide_alike(units, counts, {name: one for name, one in shares.items() if one}, seed)
    if table is None:
        names = [pair.image.relative_to(data.root).as_posix() for pair in pairs]
        cases = [pair.case or "" for pair in pairs]
        text = table_text(HEAD, zip(names, cases, its, strict=True))
    else:
        by_line = {row.line: split for (_, row), split in zip(kept, its, strict=True) if row}
        case_by_line = {row.line: pair.case for pair, row in kept if row and pair.case}
        text = table.with_splits(by_line, case_by_line)
    with written_whole(file) as draft:
        draft.write_text(text, encoding="utf-8", newline="")
    told = [_told(pairs, counts, its, split) for split in shares if split in its]
    tops = {_top_folder(pair.image.relative_to(data.root)) for pair in pairs}
    meant = {
        name: [top for top in sorted(tops) if split_meant(top) == name] for name in SPLIT_NAMES
    }
    folders = [f"{top}/" for name in SPLIT_NAMES for top in meant[name]]
    if folders and not (table is not None and table.names_splits):
        told.append(
            f"the pairs of {', '.join(folders)} are divided anew: as long as there is {TABLE}, "
            "it says which split a pair is in, and its folder does not (its column split, written "
            "by hand, keeps them)"
        )
    if nameless := sum(pair.case is None for pair in pairs):
        told.append(
            f"{nameless} of {len(pairs)} images have no patient (data.case_pattern, or the column "
            f"case of {TABLE} where folders are patients), so each such image is divided alone: "
            "slices of one patient may be in two splits"
        )
    return file, told


def divide_alike(
    units: Sequence[str], counts: _Counts, shares: Mapping[str, float], seed: int
) -> list[str]:
    """Return the split of each image such that no unit is in two, and the splits are alike.

    >>> import numpy as np
    >>> divide_alike("aabbccdd", np.ones((8, 1), int), {"train": 0.75, "val": 0.25}, seed=0)
    ['train', 'train', 'train', 'train', 'train', 'train', 'val', 'val']

    Args:
        units: For each image, what must stay together: its case, or itself.
        counts: What is to be shared out evenly, of shape (images, quantities), at least 0.
        shares: The share of the units for each split; the first one gets what rounding leaves.
        seed: Another seed draws other divisions.

    Raises:
        ValueError: If there are fewer units than splits, or the shares leave none for the first.
    """
    names, places = np.unique(np.array([*units]), return_inverse=True)
    patients = f"{len(names)} patient{'s' if len(names) > 1 else ''}"
    if len(names) < len(shares):
        fewer = ", or have fewer splits (test=0)" if "test" in shares else ""
        raise ValueError(
            f"{patients} cannot be divided into {', '.join(shares)}; add patients{fewer}"
        )
    first, *others = shares
    sizes = [max(1, round(shares[name] * len(names))) for name in others]
    sizes.insert(0, len(names) - sum(sizes))
    if sizes[0] < 1:
        raise ValueError(
            f"{' and '.join(f'{name}={shares[name]}' for name in others)} "
            f"leave{'s' if len(others) == 1 else ''} none of {patients} for {first}; lower "
            f"{' or '.join(others)}"
        )
    of_units = np.zeros((len(names), counts.shape[1]))
    np.add.at(of_units, places, counts)
    of_units = of_units[:, of_units.sum(axis=0) > 0]
    of_units /= of_units.sum(axis=0)
    starts, wanted = np.cumsum([0, *sizes[:-1]]), np.array(sizes)[:, None] / len(names)
    draws = np.random.default_rng(seed)
    best, least = np.arange(len(names)), np.inf
    for _ in range(min(_MOST_DIVISIONS, _MOST_UNITS // len(names) + 1)):
        order = draws.permutation(len(names))
        parts = np.add.reduceat(of_units[order], starts, axis=0)  # (splits, quantities)
        unlike = float((abs(parts - wanted) / wanted).sum())
        if unlike < least:
            best, least = order, unlike
    splits = np.empty(len(names), object)
    splits[best] = np.repeat([*shares], sizes)
    return [str(split) for split in splits[places]]


def _counted(pair: Pair, reader: MaskReader) -> _Counts:
    """Return 1, whether there is foreground, and the pixels of each class."""
    pixels = np.bincount(reader.read(pair.mask).numpy().ravel(), minlength=IGNORED + 1)
    pixels = pixels[:IGNORED]
    return np.array([1, pixels[1:].any(), *pixels])


def _top_folder(image: Path) -> str:
    return next((part for part in image.parent.parts if part != "images"), "")


def _told(pairs: Sequence[Pair], counts: _Counts, its: Sequence[str], split: str) -> str:
    """Say how many pairs and patients a split holds, and how much foreground."""
    chosen = [place for place, one in enumerate(its) if one == split]
    pixels = counts[chosen, 2:].sum(axis=0)
    share = pixels[1:].sum() / max(pixels.sum(), 1)
    return (
        f"{count_pairs({split: [pairs[place].case for place in chosen]})}, {share:.2%} foreground"
    )
