"""Every combination of the values that a command lists: one job each."""

import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException

from liverseg.runs import Job

logger = logging.getLogger(__name__)


def combinations(overrides: Sequence[Override]) -> list[tuple[list[str], list[str]]]:
    """Return the overrides of each job, and those among them that differ between jobs.

    Of several overrides of a key, the last one counts.

    Raises:
        ValueError: If an override names no finite list of values.
    """
    texts: dict[str, list[str]] = {}
    for override in overrides:
        key = override.get_key_element()
        if override.type == OverrideType.DEL:
            texts[key] = [override.input_line or key]
        elif not override.is_sweep_override():  # written as in a list: 1e-3 is 0.001
            texts[key] = [f"{key}={override.get_value_element_as_str()}"]
        else:
            texts[key] = [f"{key}={value}" for value in values_of(override)]
    swept = {key for key, values in texts.items() if len(values) > 1}
    return [
        (list(values), [value for key, value in zip(texts, values, strict=True) if key in swept])
        for values in itertools.product(*texts.values())
    ]


def values_of(override: Override) -> list[str]:
    """Return the values that an override lists, as they are typed.

    Raises:
        ValueError: If there are none, or no end of them.
    """
    key, typed = override.get_key_element(), override.input_line
    if not override.is_discrete_sweep():
        raise ValueError(
            f"{typed} has no end of values; list some ({key}=1,2), or let search=optuna choose"
        )
    try:
        values = [str(value) for value in override.sweep_string_iterator()]
    except (ValueError, HydraException) as error:  # a step of 0
        raise ValueError(f"{typed} cannot be listed ({error}); list some ({key}=1,2)") from error
    if not values:
        raise ValueError(f"{typed} holds no value; list some ({key}=1,2)")
    return values


def unfinished(jobs: Sequence[Job]) -> Iterator[Job]:
    """Yield the jobs that are to be run, each as it stands when its turn comes.

    A job that another process finishes, fails or runs meanwhile is passed over.
    """
    before = {job: job.status() for job in jobs}
    told = [f"{count} {status}" for status, count in Counter(before.values()).items()]
    logger.info("%d jobs: %s", len(jobs), ", ".join(told))
    for job in jobs:
        status = job.status()
        if status in ("waiting", "interrupted") or status == before[job] == "failed":
            yield job
