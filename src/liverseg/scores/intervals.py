"""How far a mean over patients can be believed: its 95 % confidence interval.

The interval is a bootstrap over patients whose resamples are studentised: each is judged by its own
standard error (Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 12; Hall 1988,
Annals of Statistics 16:927-953). Percentiles of resampled means, and BCa, are too narrow for the
5 to 40 patients of a study: they hold the truth in 80 to 94 of 100. The studentised ones hold it
least where few patients come from a long tail; so an end that lies within that of Student's t is
moved half of the way there. Of five patients or six, a resample of nearly equal ones throws an end
out up to 40 times as far as Student's t; so with fewer than ten none lies further than twice as
far, which at most 0.6 of 100 intervals pay for. ``benchmarks/intervals.py`` counts it.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FEWEST, MOST = 5, 300  # patients for the bootstrap; with fewer or more Student's t is taken
_FEW = 10  # patients, below which an end is kept near that of Student's t
_NUM_RESAMPLES = 2000
_FEWEST_USABLE = 0.99  # share of the resamples; with more of equal patients their tail is unknown
_CONFIDENCE = 0.95
_MOST_VALUES = 2**21  # in memory at once


class Interval(NamedTuple):
    """An estimate, its 95 % confidence interval, and the number of patients behind it."""

    estimate: float
    low: float
    high: float
    num_units: int


def mean_interval(
    values: Array, *, least: float = -math.inf, most: float = math.inf, seed: int = 0
) -> Interval | None:
    """Return the mean of values and its interval, see :func:`ratio_interval`.

    Args:
        values: One value for each patient, of shape (patients).
        least: The smallest value that a mean can have.
        most: The largest.
        seed: Of the resamples.
    """
    above = np.asarray(values, np.float64)[:, None]
    ones = np.ones_like(above)
    return ratio_interval(above, ones, ones, least=least, most=most, seed=seed)


def ratio_interval(
    above: Array,
    below: Array,
    occurs: Array,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    seed: int = 0,
) -> Interval | None:
    """Return the mean over classes of quotients of sums over patients, and its interval.

    The standard error is that of the linearised quotients, for a plain mean s / sqrt(n). Below 5
    patients or where most are equal, so that resamples tell too little, and above 300, where they
    tell no more, the interval is that of Student's t.

    Args:
        above: What each patient adds above the line, of shape (patients, classes).
        below: And below it.
        occurs: What tells whether a class counts: it does where this adds up to more than 0.
        least: The smallest value that a score can have.
        most: The largest.
        seed: Of the resamples.

    Returns:
        None where no class counts, or where fewer than two patients add anything.
    """
    taking_part = occurs.sum(axis=1) > 0
    above, below, occurs = above[taking_part], below[taking_part], occurs[taking_part]
    n = len(above)
    if n < 2:
        return None
    everyone = np.arange(n)[None]
    (estimate,), (error,) = _estimates(above, below, occurs, everyone)
    if error == 0:
        return Interval(float(estimate), float(estimate), float(estimate), n)
    from scipy.special import stdtrit  # here, because it takes a while

    t = float(stdtrit(n - 1, (1 + _CONFIDENCE) / 2))
    quantiles = (-t, t)
    if FEWEST <= n <= MOST:
        draws = np.random.default_rng(seed).integers(0, n, (_NUM_RESAMPLES, n))
        step = max(1, _MOST_VALUES // above.size)
        parts = [
            _estimates(above, below, occurs, draws[start : start + step])
            for start in range(0, len(draws), step)
        ]
        means, errors = (np.concatenate(part) for part in zip(*parts, strict=True))
        usable = errors > 1e-9 * error  # a resample of equal patients has none
        if usable.mean() > _FEWEST_USABLE:
            tail = (1 - _CONFIDENCE) / 2
            ratios = (means[usable] - estimate) / errors[usable]
            low, high = np.quantile(ratios, [tail, 1 - tail])
            furthest = 2 * t if n < _FEW else math.inf
            quantiles = (
                max(-furthest, min(float(low), (float(low) - t) / 2)),
                min(furthest, max(float(high), (float(high) + t) / 2)),
            )
    ends = (float(estimate - quantiles[1] * error), float(estimate - quantiles[0] * error))
    return Interval(float(estimate), max(ends[0], least), min(ends[1], most), n)


def _estimates(above: Array, below: Array, occurs: Array, draws: NDArray[np.int64]) -> list[Array]:
    """Return score and standard error of each resample, of shape (resamples).

    Args:
        above: Of shape (patients, classes), as ``below`` and ``occurs``.
        below: Likewise.
        occurs: Likewise.
        draws: The patients of each resample, of shape (resamples, drawn).
    """
    drawn_above, drawn_below = above[draws], below[draws]  # (resamples, drawn, classes)
    counts = occurs[draws].sum(axis=1) > 0  # (resamples, classes)
    total = drawn_below.sum(axis=1)
    total[total == 0] = 1
    quotients = drawn_above.sum(axis=1) / total
    num_classes = np.maximum(counts.sum(axis=1), 1)
    scores = (quotients * counts).sum(axis=1) / num_classes
    pulls = (drawn_above - quotients[:, None] * drawn_below) / total[:, None] * counts[:, None]
    pulls = pulls.sum(axis=2) / num_classes[:, None]  # what each patient does to the score
    n = draws.shape[1]
    return [scores, np.sqrt((pulls**2).sum(axis=1) * n / (n - 1))]


def signed_rank_p(differences: Array) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test (Wilcoxon 1945, Biometrics 1:80-83).

    Differences of 0 are left out; 1 where none is left. Up to 50 differences p is exact, with ties
    up to 13.
    """
    different = np.asarray(differences, np.float64)
    different = different[different != 0]
    if not different.size:
        return 1.0
    from scipy.stats import wilcoxon  # here, because it takes a while

    return float(wilcoxon(different).pvalue)
