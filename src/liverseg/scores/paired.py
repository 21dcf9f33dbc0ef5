"""Is the second better than the first? Paired by patient, or by image where there are none."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch

from liverseg.scores.averages import of_counts
from liverseg.scores.catalogue import CATALOGUE, Score
from liverseg.scores.files import Case
from liverseg.scores.intervals import Interval, mean_interval, signed_rank_p

_LEVEL = 0.05
_DECIMALS = 12  # of a difference: below are traces of rounding
Values = Mapping[str, Mapping[str, float]]  # by unit: a patient's one value, or one per structure


class Difference(NamedTuple):
    """What one patient, or image, says: both values, and the second less the first."""

    unit: str
    first: float
    second: float
    value: float


class Comparison(NamedTuple):
    """Two, compared by one score.

    ``differences`` are ordered by unit. ``wins``, ``ties`` and ``losses`` count units from the
    second's side. ``p`` is that of Wilcoxon's signed-rank test, ``adjusted_p`` after Holm's
    correction for all pairs that were compared; ``least_p`` is the smallest that it could be, of
    so many units and pairs. ``one_sided`` counts what is infinite with only the one, or only the
    other, and ``both_infinite`` what is so with both, so that there is no difference: distances of
    structures that were missed or made up, or volumes of units in which one was made up.
    """

    first: str
    second: str
    score: Score
    unit: str
    differences: list[Difference]
    interval: Interval | None
    p: float
    adjusted_p: float
    least_p: float
    wins: int
    ties: int
    losses: int
    one_sided: tuple[int, int]
    both_infinite: int

    @property
    def mean(self) -> float:
        """The mean difference, NaN where there is none."""
        values = [one.value for one in self.differences]
        return sum(values) / len(values) if values else math.nan

    def sentence(self) -> str:
        """Say which one is better, and how sure that is."""
        n, better = len(self.differences), self.second
        units = self.unit if n != 1 else self.unit.removesuffix("s")
        gain = self.mean if self.score.is_better == "larger" else -self.mean
        if gain < 0:
            better = self.first
        ends = f", 95 % interval {_ends(self.interval)}" if self.interval else ""
        facts = (
            f"{self.score.title} of {self.second} less that of {self.first} is {self.mean:+.4f} "
            f"in the mean of {n} {units}{ends}; p = {self.adjusted_p:.3g}; {self.second} wins "
            f"{self.wins}, ties {self.ties}, loses {self.losses}"
        )
        if sum(self.one_sided) or self.both_infinite:
            counted = "structures" if self.score.is_chosen else self.unit
            what = "distance" if self.score.is_length else self.score.title
            facts += (
                f"; {counted} that have no {what}: {self.one_sided[0]} with {self.first} alone, "
                f"{self.one_sided[1]} with {self.second} alone, {self.both_infinite} with both"
            )
        if self.least_p >= _LEVEL:
            is_few = "is" if n == 1 else "are"
            among = " among so many comparisons" if _smallest_p(n) < _LEVEL else ""
            return f"{n} {units} {is_few} too few to tell them apart{among}: {facts}"
        is_apart = self.interval is not None and not self.interval.low <= 0 <= self.interval.high
        if self.adjusted_p < _LEVEL and is_apart:
            return f"{better} is better: {facts}"
        if self.adjusted_p < _LEVEL or (is_apart and self.p == self.adjusted_p):
            return f"Interval and test disagree, so neither is shown to be better: {facts}"
        return f"Neither is shown to be better: {facts}"


def _ends(interval: Interval) -> str:
    return f"{interval.low:+.4f} to {interval.high:+.4f}"


def _smallest_p(n: int) -> float:
    """Return the p of the signed-rank test where all of n differences are of one sign."""
    return min(1.0, 2.0 ** (1 - n))


def unit_values(cases: Iterable[Case], word: str, *, by_patient: bool) -> Values:
    """Return what each patient, or image, scores.

    From counts: one value, of counts summed per patient, the mean over classes that are defined.
    From edges: one value for each structure of each image.

    Args:
        cases: The lines of ``cases_SPLIT.csv``.
        word: Of :data:`liverseg.scores.catalogue.CATALOGUE`.
        by_patient: Whether images of one case are put together.
    """
    units: dict[str, list[Case]] = {}
    for case in cases:
        units.setdefault(case.case if by_patient else case.name, []).append(case)
    if CATALOGUE[word].is_chosen:
        return {
            unit: {
                f"{case.name}/{name}": values[word]
                for case in members
                for name, values in case.values.items()
            }
            for unit, members in units.items()
        }
    found = {}
    for unit, members in units.items():
        counts = torch.tensor([list(case.counts.values()) for case in members]).sum(dim=0)
        values = of_counts(word, counts)
        defined = values[~values.isnan()]
        found[unit] = {"": float(defined.mean()) if len(defined) else math.nan}
    return found


def mean_of(repeats: Sequence[Values], word: str) -> Values:
    """Return the mean of runs that repeat one another, by unit and structure.

    What is not defined in some of them counts as the score's best there: nothing was to be found
    and nothing was. It stays not defined where it is so in all. What is infinite in one of them is
    infinite, and counted as such: a mean of the others would hide that it was missed or made up.

    Args:
        repeats: What :func:`unit_values` returned for each run.
        word: The score.
    """
    units = dict.fromkeys(unit for one in repeats for unit in one)
    result: dict[str, dict[str, float]] = {}
    for unit in units:
        found: dict[str, list[float]] = {}
        for one in repeats:
            for key, value in one.get(unit, {}).items():
                found.setdefault(key, []).append(value)
        result[unit] = {key: _mean(values, CATALOGUE[word]) for key, values in found.items()}
    return result


def _mean(values: Sequence[float], score: Score) -> float:
    if all(math.isnan(value) for value in values):
        return math.nan
    return sum(_counted(value, score) for value in values) / len(values)


def _counted(value: float, score: Score) -> float:
    """Return a value, the best one where it is not defined: nothing was to be found, or found."""
    if not math.isnan(value):
        return value
    return score.most if score.is_better == "larger" else 0.0


def compare(
    contestants: Mapping[str, Values], word: str, *, unit: str = "patients"
) -> list[Comparison]:
    """Compare each with each.

    Args:
        contestants: By name, what :func:`unit_values` returned for the same units.
        word: The score.
        unit: What a unit is called, in the plural.

    Returns:
        One comparison for each two, in their order, p corrected for their number (Holm 1979,
        Scandinavian Journal of Statistics 6:65-70).
    """
    found = [
        _compared((first, contestants[first]), (second, contestants[second]), word, unit)
        for first, second in combinations(contestants, 2)
    ]
    corrected = holm([one.p for one in found])
    least = holm([one.least_p for one in found])
    return [
        one._replace(adjusted_p=p, least_p=smallest)
        for one, p, smallest in zip(found, corrected, least, strict=True)
    ]


def _compared(
    first: tuple[str, Values], second: tuple[str, Values], word: str, unit: str
) -> Comparison:
    score = CATALOGUE[word]
    differences, one_sided, both_infinite = [], [0, 0], 0
    for name in sorted(first[1]):
        both = []
        for key, left in first[1][name].items():
            right = second[1][name][key]
            if math.isnan(left) and math.isnan(right):
                continue
            left, right = _counted(left, score), _counted(right, score)
            if math.isfinite(left) and math.isfinite(right):
                both.append((left, right))
            one_sided[0] += math.isinf(left) and not math.isinf(right)
            one_sided[1] += math.isinf(right) and not math.isinf(left)
            both_infinite += math.isinf(left) and math.isinf(right)
        if both:
            ours, theirs = (sum(values) / len(both) for values in zip(*both, strict=True))
            differences.append(Difference(name, ours, theirs, round(theirs - ours, _DECIMALS)))
    values = np.array([one.value for one in differences])
    gains = values if score.is_better == "larger" else -values
    return Comparison(
        first=first[0],
        second=second[0],
        score=score,
        unit=unit,
        differences=differences,
        interval=mean_interval(values, least=-score.most, most=score.most),
        p=(p := signed_rank_p(values)),
        adjusted_p=p,
        least_p=_smallest_p(len(values)),
        wins=int((gains > 0).sum()),
        ties=int((gains == 0).sum()),
        losses=int((gains < 0).sum()),
        one_sided=(one_sided[0], one_sided[1]),
        both_infinite=both_infinite,
    )


def holm(values: Sequence[float]) -> list[float]:
    """Return p corrected for the number of tests: any error at all stays below the level.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected, highest = [0.0] * len(values), 0.0
    for place, index in enumerate(sorted(range(len(values)), key=lambda one: values[one])):
        highest = max(highest, min(1.0, (len(values) - place) * values[index]))
        corrected[index] = highest
    return corrected
