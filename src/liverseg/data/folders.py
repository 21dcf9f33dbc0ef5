"""Where the pairs of each split lie: in folders of their own, or as a table says."""

from functools import cached_property
from pathlib import Path

from liverseg.data.pairs import (
    SPLIT_NAMES,
    Headers,
    Pair,
    check_sizes,
    list_below,
    list_pairs,
)
from liverseg.data.table import TABLE, CaseTable, Row


class PairFolders:
    """The pairs below a folder, by split.

    A split is ``root/train`` and so on, or ``root/images/train`` with ``root/masks/train``. Where
    there is a table ``root/cases.csv``, it says whose image each is, see
    :class:`~liverseg.data.table.CaseTable`; and if it has a column ``split``, also where it
    belongs: the pairs then lie anywhere below ``root``.

    Args:
        root: The folder.
        mask_suffix: What a mask's name has behind that of its image.
        case_pattern: Regular expression whose first group is the case in a file name, where no
            row of a table says it; empty for none.
    """

    def __init__(self, root: Path, *, mask_suffix: str = "_mask", case_pattern: str = "") -> None:
        self.root = root
        self._mask_suffix = mask_suffix
        self._case_pattern = case_pattern

    @cached_property
    def table(self) -> CaseTable | None:
        """The table of the folder, read once; None where there is none.

        Raises:
            ValueError: If it is faulty.
        """
        file = self.root / TABLE
        return CaseTable(file) if file.is_file() else None

    @property
    def is_by_table(self) -> bool:
        """Whether a table says which pairs are in which split."""
        return self.table is not None and self.table.names_splits

    def has(self, split: str) -> bool:
        """Tell whether there is a split of this name.

        Raises:
            ValueError: If the table is faulty, or the split lies in two places.
        """
        if self.table is not None and self.table.names_splits:
            return any(row.split == split for row in self.table.rows)
        return self.place(split) is not None

    def place(self, split: str) -> tuple[Path, Path | None] | None:
        """Return the folder of a split, and that of its masks where they have one above it.

        Raises:
            ValueError: If there are two.
        """
        beside = self.root / split
        apart = (self.root / "images" / split, self.root / "masks" / split)
        is_apart = all(folder.is_dir() for folder in apart)
        if not beside.is_dir():
            return apart if is_apart else None
        if is_apart:
            raise ValueError(
                f"{self.root} holds {split}/, and images/{split}/ with masks/{split}/, so it is "
                "not clear which are meant; move or remove one or the other"
            )
        return beside, None

    def where(self, split: str) -> str:
        """Return where a split lies, for a sentence."""
        if self.is_by_table:
            return f"{self.root / TABLE} ({split})"
        place = self.place(split)
        return str(place[0] if place else self.root / split)

    def layout(self) -> str:
        """Say how the folder is laid out where it is not simply pairs side by side; else ""."""
        told = []
        if self.is_by_table:
            told.append(f"splits and patients by {TABLE}")
        else:
            place = self.place("train")
            if place and place[1]:
                told.append("images/SPLIT/NAME with masks/SPLIT/NAME")
            elif place and (place[0] / "images").is_dir():
                told.append("SPLIT/images/NAME with SPLIT/masks/NAME")
            elif self._mask_suffix != "_mask":
                told.append(f"NAME with NAME{self._mask_suffix}")
            if self.table is not None:
                told.append(f"patients by {TABLE}")
        return ", ".join(told)

    def pairs(self, split: str, headers: Headers | None = None) -> list[Pair]:
        """List the pairs of a split, ordered by name, with their cases.

        Args:
            split: The split.
            headers: As :func:`~liverseg.data.pairs.check_sizes` takes it.

        Raises:
            FileNotFoundError: If the split is missing.
            ValueError: If it or the table is faulty, if image and mask differ in size, or if a file
                is no image.
        """
        found = self.listed(split)
        check_sizes(found, headers)
        return found

    def listed(self, split: str) -> list[Pair]:
        """List the pairs of a split by their names, as :meth:`pairs` does; no image is opened."""
        if self.table is None:
            found = self._in_folder(split)
        else:
            found = [pair for pair, its in self._of_table if its == split]
        if not found:
            if not self.is_by_table:
                self._in_folder(split)  # says what is missing
            raise ValueError(
                f"{self.root / TABLE} names no image for {split}; write {split} into its column "
                "split"
            )
        return found

    def everything(self) -> list[tuple[Pair, Row | None]]:
        """List all pairs below the root, whichever split they are in, with the table's rows.

        Raises:
            ValueError: If a file has no partner, or the table is faulty.
        """
        pairs = list_below(
            self.root, mask_suffix=self._mask_suffix, case_pattern=self._case_pattern
        )
        if self.table is None:
            return [(pair, None) for pair in pairs]
        return list(zip(*self.table.complete(pairs, self.root), strict=True))

    @cached_property
    def _of_table(self) -> list[tuple[Pair, str | None]]:
        """The pairs of all splits with what the table says of them, and the split of each."""
        assert self.table is not None
        if self.table.names_splits:
            self.table.refuse_shared_cases()  # not in everything(), which is to be divided anew
            return [(pair, row.split if row else None) for pair, row in self.everything()]
        found = [
            (pair, split)
            for split in SPLIT_NAMES
            if self.has(split)
            for pair in self._in_folder(split)
        ]
        completed, _ = self.table.complete([pair for pair, _ in found], self.root)
        return [(pair, split) for pair, (_, split) in zip(completed, found, strict=True)]

    def _in_folder(self, split: str) -> list[Pair]:
        folder, masks = self.place(split) or (self.root / split, None)
        return list_pairs(
            folder, masks, mask_suffix=self._mask_suffix, case_pattern=self._case_pattern
        )
