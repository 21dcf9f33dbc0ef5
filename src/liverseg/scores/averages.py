"""From what was counted of each image to the scores of a split.

A score of a class is one quotient of sums, whichever average it is: of an image's Dice values and
their number, of a patient's, or of pixels where counts are pooled. So a table of what each image or
patient adds is all that a score and its interval need.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from liverseg.scores.catalogue import Score, keys_of, score_of


class Table(NamedTuple):
    """What was counted of each image of a split, in the order of the images.

    ``indices``: places in the split, of shape (M). ``cases``: the number of each image's case, -1
    for none, of shape (M). ``counts``: int64 of shape (M, classes, 3), TP, FP and FN. ``values``:
    float64 of shape (M, classes, words), the scores named in ``words``: infinite where one edge is
    missing, NaN where both are.
    """

    indices: Tensor
    cases: Tensor
    counts: Tensor
    values: Tensor
    words: tuple[str, ...] = ()

    @property
    def has_cases(self) -> bool:
        """Whether every image has a case."""
        return bool((self.cases >= 0).all())

    def units(self) -> Tensor:
        """Return the number of each image's case, or of the image where there are no cases.

        Numbers count from 0, in the order in which they first appear.
        """
        numbers: dict[int, int] = {}
        found = self.cases if self.has_cases else self.indices
        places = [numbers.setdefault(one, len(numbers)) for one in found.tolist()]
        return torch.tensor(places, dtype=torch.int64)

    def counts_of_units(self) -> Tensor:
        """Return the counts summed per case, of shape (cases, classes, 3)."""
        return _summed(self.counts, self.units())


class Addends(NamedTuple):
    """What each image, or case, adds to a score: float64 of shape (rows, classes) each.

    Where ``occurs`` adds up to nothing, the class has no score; where it does not and ``below``
    does, the score is 0.
    """

    above: Tensor
    below: Tensor
    occurs: Tensor

    def per_class(self) -> Tensor:
        """Return the score of each class over all rows, NaN where it has none."""
        above, below, occurs = (addend.sum(dim=0) for addend in self)
        return torch.where(occurs > 0, above / below.where(below > 0, 1), torch.nan)


def of_counts(word: str, counts: Tensor) -> Tensor:
    """Return a score of counts as float64 of shape (...).

    Dice, IoU, precision and recall are 1 where truth and prediction are both empty, and 0 where one
    of them is. The relative volume difference is infinite where the truth alone is empty, and NaN
    where both are.

    Args:
        word: One of :data:`liverseg.scores.catalogue.ALWAYS`.
        counts: True positives, false positives and false negatives, int64 of shape (..., 3).
    """
    counts = counts.cpu().double()
    above, below = _quotient(word, counts)
    if word == "rvd":
        return above / below  # 0 / 0 is NaN
    return torch.where(counts.sum(dim=-1) > 0, above / below.where(below > 0, 1), 1.0)


def dice(counts: Tensor) -> Tensor:
    """Return 2TP / (2TP + FP + FN) as float64; 1 where truth and prediction are both empty.

    Args:
        counts: True positives, false positives and false negatives, int64 of shape (..., 3).
    """
    return of_counts("dice", counts)


def iou(counts: Tensor) -> Tensor:
    """Return TP / (TP + FP + FN) as float64; 1 where truth and prediction are both empty.

    Args:
        counts: True positives, false positives and false negatives, int64 of shape (..., 3).
    """
    return of_counts("iou", counts)


def _quotient(word: str, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return what stands above and below the line of a score's definition."""
    true_positive, false_positive, false_negative = counts.unbind(dim=-1)
    truth, predicted = true_positive + false_negative, true_positive + false_positive
    quotients = {
        "dice": (2 * true_positive, truth + predicted),
        "iou": (true_positive, truth + false_positive),
        "precision": (true_positive, predicted),
        "recall": (true_positive, truth),
        "rvd": ((predicted - truth).abs(), truth),
    }
    return quotients[word]


def addends(table: Table, key: str, *, by_unit: bool = False) -> Addends:
    """Return what is added up for a score.

    Args:
        table: What was counted.
        key: The score's key.
        by_unit: Whether what the images of a case add is put together: rows are then cases, or
            images where there are no cases.
    """
    found = score_of(key)
    assert found is not None, key
    score, average = found
    if average == "_pooled":
        counts = (table.counts_of_units() if by_unit else table.counts).double()
        return Addends(*_quotient(score.word, counts), counts.sum(dim=-1))
    values = values_of(table, score, average)
    is_finite = values.isfinite()
    rows = [values.where(is_finite, 0.0), is_finite.double(), is_finite.double()]
    if by_unit and average == "":
        rows = [_summed(one, table.units()) for one in rows]
    return Addends(*rows)


def values_of(table: Table, score: Score, average: str) -> Tensor:
    """Return a score of each image, or of each case, as float64 of shape (rows, classes)."""
    if score.word in table.words:
        return table.values[:, :, table.words.index(score.word)]
    is_of_cases = average == "_case"
    return of_counts(score.word, table.counts_of_units() if is_of_cases else table.counts)


def split_scores(
    table: Table, words: Sequence[str], class_names: Sequence[str]
) -> dict[str, Tensor]:
    """Return the scores of a split by key, and those of each class where there are several.

    A score that is defined nowhere has no key: a distance, where no structure was found.

    Args:
        table: What was counted.
        words: The scores.
        class_names: The names of the classes.
    """
    scores: dict[str, Tensor] = {}
    for key in keys_of(words, has_cases=table.has_cases):
        per_class = addends(table, key).per_class()
        counted = per_class[~per_class.isnan()]
        if key.endswith("_pooled"):  # truth and prediction are both empty
            per_class = per_class.nan_to_num(1.0)
            counted = counted if len(counted) else per_class
        if len(counted):
            scores[key] = counted.mean()
        if len(per_class) > 1:
            for name, value in zip(class_names, per_class, strict=True):
                if not value.isnan():
                    scores[f"{key}/{name}"] = value
    return scores


def _summed(rows: Tensor, numbers: Tensor) -> Tensor:
    """Return the sums of the rows that have one number, by the number."""
    sums = rows.new_zeros((int(numbers.max()) + 1 if len(numbers) else 0, *rows.shape[1:]))
    return sums.index_add(0, numbers, rows)
