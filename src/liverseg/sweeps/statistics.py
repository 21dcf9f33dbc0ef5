"""What repeated runs say together: mean, spread and confidence interval of each setting."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from liverseg.sweeps.table import Row, aligned

REPEATS = ("seed", "fold", "data.fold")  # keys that repeat a setting rather than change it


@dataclass(frozen=True)
class Summary:
    """n values: their mean, sample standard deviation, and 95 % confidence interval of the mean.

    One value has neither deviation nor interval.
    """

    mean: float
    std: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        """Return ``MEAN ± DEVIATION (95 % CI LOW to HIGH)``, three decimals each."""
        if self.std is None:
            return f"{self.mean:.3f} (one value, no interval)"
        return f"{self.mean:.3f} ± {self.std:.3f} (95 % CI {self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Group:
    """The jobs of a sweep with one setting."""

    setting: Mapping[str, str]  # overrides that they share, by key, without the keys that repeat it
    num_jobs: int
    num_finished: int
    values: Mapping[str, tuple[float, ...]]  # the scores of those that finished, by name

    @property
    def scores(self) -> dict[str, Summary]:
        """The summary of each score by name."""
        return {name: summarise(values) for name, values in self.values.items()}


def summarise(values: Sequence[float]) -> Summary:
    """Return mean, sample standard deviation s and the interval mean ± t s / sqrt(n).

    t is the quantile of Student's distribution with n - 1 degrees of freedom: the interval covers
    the true mean in 95 of 100 samples if the values are independent and normal (Student 1908,
    Biometrika 6:1-25).

    Raises:
        ValueError: If there is no value.
    """
    from scipy.special import stdtrit  # here, because it takes a while

    n, mean = len(values), fmean(values)
    if n == 1:
        return Summary(mean, None, None, None)
    std = stdev(values) if all(map(math.isfinite, values)) else math.nan
    half = float(stdtrit(n - 1, 0.975)) * std / math.sqrt(n)
    return Summary(mean, std, mean - half, mean + half)


def group_rows(rows: Sequence[Row], over: Sequence[str] = REPEATS) -> list[Group]:
    """Put the jobs of a sweep that repeat one setting together, in the order of their first jobs.

    What an interval over such jobs says depends on what was repeated. Seeds measure the noise of
    training on these very images, not the spread over patients. Folds share most of their training
    images, so their scores are not independent and the interval over folds is too narrow; no
    unbiased estimate of that variance exists (Bengio & Grandvalet 2004, JMLR 5:1089-1105). Seeds
    and folds together count as if all jobs were independent, which is narrower still.

    Args:
        rows: Of each job what :func:`~liverseg.sweeps.table.row_of` returns. Scores of jobs that
            are "done" count alone.
        over: Keys of overrides that do not tell settings apart.
    """
    members: dict[frozenset[tuple[str, str]], list[Row]] = {}
    for row in rows:
        members.setdefault(frozenset(_setting(row, over).items()), []).append(row)
    groups = []
    for jobs in members.values():
        finished = [job for job in jobs if job["status"] == "done"]
        names = dict.fromkeys(name for job in finished for name in job if "/" in name)
        values = {name: tuple(job[name] for job in finished if name in job) for name in names}
        groups.append(Group(_setting(jobs[0], over), len(jobs), len(finished), values))
    return groups


def _setting(row: Row, over: Sequence[str]) -> dict[str, str]:
    pairs = (override.lstrip("+").partition("=") for override in row["overrides"])
    return {key: value for key, _, value in pairs if key not in over}


def labels(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Return what tells each setting from the others; what all have in common is left out."""
    items = [setting.items() for setting in settings]
    shared = set(items[0]).intersection(*items) if items else set()
    return [
        ", ".join(f"{key}={value}" for key, value in those if (key, value) not in shared)
        or ("no overrides" if len(items) > 1 else "all jobs")
        for those in items
    ]


def format_groups(groups: Sequence[Group], names: Sequence[str]) -> str:
    """Return one line per group: setting, number of finished jobs, and the scores' summaries."""
    counts = []
    for group in groups:
        lost = group.num_jobs - group.num_finished
        counts.append(f"n {group.num_finished}" + (f" ({lost} not finished)" if lost else ""))
    scores = [
        [f"{name} {group.scores[name]}" if name in group.values else "" for group in groups]
        for name in names
    ]
    return aligned([labels([group.setting for group in groups]), counts, *scores], "   ")
