"""Which class each value of a label map becomes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from liverseg.data.arrays import Numbers

_MOST = 65536
_OTHER = 255  # of values that are of no class
_LARGEST = 253  # of a mask of bytes; two values are taken
ClassSetting = Mapping[str, int | Sequence[int]] | None


class ClassMap:
    """Maps the values of label maps to class indices, and these to the values of mask files.

    Args:
        classes: The value, or values, of each class by its name; they become 1, 2, ... in this
            order, and all others background. None keeps values as they are.

    Raises:
        ValueError: If a value is none, or stands in two classes.
    """

    def __init__(self, classes: ClassSetting = None) -> None:
        self.names = None if classes is None else [str(name) for name in classes]
        self.table = np.full(_MOST, _OTHER, np.uint8)
        if classes is None:
            self.table[: _LARGEST + 1] = np.arange(_LARGEST + 1)
            return
        self.table[0] = 0
        for index, (name, given) in enumerate(classes.items(), 1):
            values = _values(str(name), given)
            for value in values:
                if value and self.table[value] != _OTHER:
                    raise ValueError(
                        f"classes.{name} holds {value}, which stands in another class too; name "
                        "each value once"
                    )
                self.table[value] = index
        if not classes or len(classes) > _LARGEST or self.table[0]:
            raise ValueError(
                f"classes={dict(classes)} must name 1 to {_LARGEST} classes by values from 1 up; 0 "
                "is background"
            )

    @property
    def num_classes(self) -> int | None:
        """As ``data.num_classes``: 1 for one class, else one more than there are; None: unknown."""
        if self.names is None:
            return None
        return 1 if len(self.names) == 1 else len(self.names) + 1

    def knows(self, value: int) -> bool:
        """Tell whether a value is of a class, or kept."""
        return bool(self.table[value] != _OTHER)

    def indices(self, label: Numbers, source: object) -> tuple[Numbers, list[int]]:
        """Return class indices, uint8 of the same shape, and the values that became background.

        Args:
            label: Values of voxels.
            source: Where they come from, for what is said of them.

        Raises:
            ValueError: If values are kept, and one is too large for a mask.
        """
        mask = self.table[label]
        is_other = mask == _OTHER
        others = [int(one) for one in np.unique(label[is_other])] if is_other.any() else []
        if others and self.names is None:
            raise ValueError(
                f"{source} holds the value {others[-1]}, and masks hold 0 ... {_LARGEST}; set "
                "classes={NAME: VALUE, ...}"
            )
        mask[is_other] = 0
        return mask, others

    def to_file(self, mask: Numbers) -> Numbers:
        """Return class indices as a mask file has them: one class is white."""
        return mask * np.uint8(255) if self.num_classes == 1 else mask


def _values(name: str, given: Any) -> list[int]:
    values = list(given) if isinstance(given, list | tuple) else [given]
    is_whole = all(isinstance(one, int) and not isinstance(one, bool) for one in values)
    if not values or not is_whole or not all(0 <= one < _MOST for one in values):
        raise ValueError(
            f"classes.{name}={given} must be a label value in 1 ... {_MOST - 1}, or a list of them"
        )
    return values
