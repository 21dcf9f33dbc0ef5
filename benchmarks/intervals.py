"""Do the 95 % intervals hold the truth, and does the paired test cry wolf?

Each of 500 studies draws patients from a distribution whose mean is known: Dice values that lean to
1, distances with a long tail, and the differences of two networks on the same patients. It counts
how often the interval of `liverseg.scores` holds the mean, beside two bootstraps that are often
used; and how often Wilcoxon's test finds a difference at 5 % where there is none.

    python benchmarks/intervals.py [NUMBER_OF_STUDIES]
"""

import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from liverseg.scores import mean_interval, signed_rank_p

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Array]
PATIENTS = (5, 10, 20, 40, 100)
RESAMPLES = 1000


def hard_and_easy(random: np.random.Generator, n: int) -> Array:
    """Two networks of one kind on patients of whom some are hard: differences with a mean of 0."""
    ease = random.beta(6, 2, n)
    first, second = (random.beta(20 * ease + 1, 20 * (1 - ease) + 1) for _ in range(2))
    return np.asarray(first - second)


STUDIES: dict[str, tuple[Draw, float, float, float]] = {  # drawn, its mean, least, most
    "Dice of an easy organ": (lambda random, n: random.beta(12, 2, n), 12 / 14, 0, 1),
    "Dice that leans to 1": (lambda random, n: random.beta(5, 0.8, n), 5 / 5.8, 0, 1),
    "distance, long tail": (
        lambda random, n: random.lognormal(1, 0.6, n),
        float(np.exp(1 + 0.18)),
        0,
        np.inf,
    ),
    "difference, alike": (hard_and_easy, 0, -1, 1),
    "difference, one better": (
        lambda random, n: hard_and_easy(random, n) + random.normal(0.02, 0.03, n),
        0.02,
        -2,
        2,
    ),
}


def percentile(values: Array, random: np.random.Generator) -> tuple[float, float]:
    """The plain bootstrap: percentiles of the resampled means."""
    means = random.choice(values, (RESAMPLES, len(values))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def bca(values: Array, random: np.random.Generator) -> tuple[float, float]:
    """The bootstrap with corrected bias and acceleration (Efron 1987)."""
    means = random.choice(values, (RESAMPLES, len(values))).mean(axis=1)
    below = np.clip((means < values.mean()).mean(), 1 / RESAMPLES, 1 - 1 / RESAMPLES)
    pulls = values - values.mean()
    skew = (pulls**3).sum() / (6 * (pulls**2).sum() ** 1.5)
    ends = ndtri(below) + ndtri(np.array([0.025, 0.975]))
    low, high = np.quantile(means, ndtr(ndtri(below) + ends / (1 - skew * ends)))
    return float(low), float(high)


def main() -> None:
    """Print how many of 100 studies hold the truth."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    random, begun = np.random.default_rng(0), time.monotonic()
    ways = f"{'ours':>8}{'percentile':>12}{'BCa':>8}"
    print(f"{'of 100 intervals hold the mean':32}{'patients':>9}{ways}")
    for name, (draw, mean, least, most) in STUDIES.items():
        for patients in PATIENTS:
            held = np.zeros(3)
            for _ in range(count):
                values = draw(random, patients)
                ours = mean_interval(values, least=least, most=most)
                assert ours is not None
                ends = [(ours.low, ours.high), percentile(values, random), bca(values, random)]
                held += [low <= mean <= high for low, high in ends]
            shares = 100 * held / count
            print(f"{name:32}{patients:9}{shares[0]:8.1f}{shares[1]:12.1f}{shares[2]:8.1f}")
    print(f"\n{'of 100 tests find what is not':32}{'patients':>9}{'p < 0.05':>12}")
    for patients in PATIENTS:
        wrong = sum(signed_rank_p(hard_and_easy(random, patients)) < 0.05 for _ in range(4 * count))
        print(f"{'difference, alike':32}{patients:9}{100 * wrong / (4 * count):12.1f}")
    print(f"\n{time.monotonic() - begun:.0f} seconds")


if __name__ == "__main__":
    main()
