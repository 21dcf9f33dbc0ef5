"""Which images of a split are its best and its worst: one order for pictures and pages."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from liverseg.scores import dice


@dataclass(frozen=True)
class Rank:
    """What an image is ranked by."""

    index: int
    dice: float  # mean over the foreground classes
    num_wrong: int  # pixels
    num_true: int  # foreground pixels of the truth

    @property
    def is_empty(self) -> bool:
        """Whether nothing was to be found, and nothing was: Dice is 1, and there is no art."""
        return self.num_true + self.num_wrong == 0

    def badness(self) -> tuple[bool, float, int, int]:
        """Order the worst first: by Dice, then by the number of wrong pixels; empty ones last."""
        return self.is_empty, self.dice, -self.num_wrong, self.index

    def goodness(self) -> tuple[bool, float, int, int]:
        """Order the best first: by Dice, then by the pixels of the truth; empty ones last."""
        return self.is_empty, -self.dice, -self.num_true, self.index


def rank(indices: Tensor, counts: Tensor) -> list[Rank]:
    """Return what images are ranked by.

    Args:
        indices: Of the images, of shape (N)
        counts: TP, FP and FN of each class, int64 of shape (N, foreground classes, 3).
    """
    means = dice(counts).mean(dim=1).tolist()
    wrong = counts[:, :, 1:].sum(dim=(1, 2)).tolist()
    true = (counts[:, :, 0] + counts[:, :, 2]).sum(dim=1).tolist()
    return [Rank(*values) for values in zip(indices.tolist(), means, wrong, true, strict=True)]


def best_and_worst(images: Iterable[Rank], most: int) -> tuple[list[Rank], list[Rank]]:
    """Return the best images, the best one first, and the worst, the worst one first.

    None is among both: a short split is shared out, the larger half to the worst. Empty images are
    among neither.

    Args:
        images: Each once.
        most: How many of each at most.
    """
    telling = sorted((one for one in images if not one.is_empty), key=Rank.badness)
    worst = telling[: min(most, (len(telling) + 1) // 2)]
    return sorted(telling[len(worst) :], key=Rank.goodness)[:most], worst
