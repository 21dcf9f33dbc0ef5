"""What is removed from a prediction, and filled in: components, specks and holes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Classes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Cleaning:
    """Removes and fills by class, in this order: specks, all but the largest component, holes.

    Pixels of one class that touch, also at a corner, are a component; what is filled is enclosed by
    one class, edges counting. Where a component is removed, its pixels become what lies around it:
    the class that most often touches an edge of it. Filled are pixels of background alone, so that
    a tumour within a liver stays. Classes take their turn by their indices, each on what those
    before it have left.

    Attributes:
        min_pixels: Components of a class with fewer pixels are removed.
        largest_component: Classes of which only the largest component stays; of two equal ones the
            upper, then the left one.
        fill_holes: Classes whose holes are filled.
    """

    min_pixels: Mapping[int, int] = field(default_factory=dict)
    largest_component: Sequence[int] = ()
    fill_holes: Sequence[int] = ()

    def __bool__(self) -> bool:
        """Tell whether anything can change."""
        return bool(self.min_pixels or self.largest_component or self.fill_holes)

    def __call__(self, classes: Tensor) -> Tensor:
        """Return cleaned class indices; what is given is left as it was.

        Args:
            classes: uint8 of shape (N, H, W), or (N, D, H, W) for volumes; each of the N is cleaned
                as a whole. On a GPU they are fetched and sent back, once for all.
        """
        if not self:
            return classes
        cleaned = classes.cpu().numpy().copy()
        for one in cleaned:
            self._clean(one)
        return torch.from_numpy(cleaned).to(classes.device)

    @classmethod
    def of_names(
        cls,
        class_names: Sequence[str],
        first: int,
        *,
        min_pixels: int | Mapping[str, int] | None = None,
        largest_component: bool | Sequence[str] | None = None,
        fill_holes: bool | Sequence[str] | None = None,
    ) -> "Cleaning":
        """Make one for classes by their names.

        Args:
            class_names: Names of the scored classes.
            first: The index of the first of them, 0 where there is no background.
            min_pixels: One number for all classes, or one by name.
            largest_component: True for all classes, or some of their names.
            fill_holes: True for all classes, or some of their names.

        Raises:
            ValueError: If a name is none of theirs, or holes are to be filled where there is no
                background that could be one.
        """
        indices = {name: index for index, name in enumerate(class_names, first)}

        def chosen(key: str, given: bool | Sequence[str] | None) -> tuple[int, ...]:
            names = list(indices) if given is True else list(given or ())
            return tuple(sorted(_index_of(key, name, indices) for name in names))

        sizes = min_pixels or {}
        if isinstance(sizes, int):
            sizes = dict.fromkeys(indices, sizes)
        if fill_holes and first == 0:
            raise ValueError(
                "fill_holes is for classes on a background, and here every class is scored "
                "(data.background=false); leave it out"
            )
        return cls(
            {_index_of("min_pixels", name, indices): size for name, size in sizes.items()},
            chosen("largest_component", largest_component),
            chosen("fill_holes", fill_holes),
        )

    def _clean(self, classes: Classes) -> None:
        from scipy.ndimage import binary_fill_holes

        for index in sorted({*self.min_pixels, *self.largest_component, *self.fill_holes}):
            box = _around(classes == index)
            if box is None:
                continue
            part = classes[box]
            smallest = self.min_pixels.get(index, 0)
            if smallest > 1 or index in self.largest_component:
                _remove(part, index, smallest, only_largest=index in self.largest_component)
            if index in self.fill_holes:
                filled = binary_fill_holes(part == index)
                part[filled & (part == 0)] = index


def _index_of(key: str, name: str, indices: Mapping[str, int]) -> int:
    if name not in indices:
        raise ValueError(f"{key} names {name}; the classes are {', '.join(indices)}")
    return indices[name]


def _around(is_class: npt.NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """Return the box around what is true and one pixel more, or None where nothing is."""
    box = []
    for axis in range(is_class.ndim):
        others = tuple(one for one in range(is_class.ndim) if one != axis)
        places = np.flatnonzero(is_class.any(axis=others))
        if len(places) == 0:
            return None
        box.append(slice(max(int(places[0]) - 1, 0), int(places[-1]) + 2))
    return tuple(box)


def _remove(classes: Classes, index: int, smallest: int, *, only_largest: bool) -> None:
    """Give components of a class, too small or not the largest, to what lies around them."""
    from scipy.ndimage import generate_binary_structure, label

    numbers, count = label(classes == index, generate_binary_structure(classes.ndim, classes.ndim))
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)
    sizes[0] = 0
    is_removed = sizes < smallest
    if only_largest:
        is_removed |= np.arange(count + 1) != sizes.argmax()
    is_removed[0] = False
    if is_removed.any():
        is_lost = is_removed[numbers]
        heirs = _most_around(classes, numbers, is_lost)
        classes[is_lost] = heirs[numbers[is_lost]]


def _most_around(
    classes: Classes, numbers: npt.NDArray[np.int32], is_counted: npt.NDArray[np.bool_]
) -> Classes:
    """Return for each component the class that touches most of its edges, 0 where none does."""
    most = int(classes.max()) + 1
    counts = np.zeros((int(numbers.max()) + 1) * most, np.int64)
    for axis in range(classes.ndim):
        # Neighbours along an axis, without a copy.
        parts = [np.moveaxis(one, axis, 0) for one in (classes, numbers, is_counted)]
        for here, there in ((slice(None, -1), slice(1, None)), (slice(1, None), slice(None, -1))):
            kinds, components, counted = parts
            is_edge = counted[here] & (components[there] != components[here])
            pairs = components[here][is_edge].astype(np.int64) * most + kinds[there][is_edge]
            counts += np.bincount(pairs, minlength=len(counts))
    heirs: Classes = counts.reshape(-1, most).argmax(axis=1).astype(np.uint8)
    return heirs
