"""Every combination of the values that a command lists: one job each."""

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig

from liverseg.runs import (
    LOCK,
    Job,
    find_jobs,
    flat,
    identity,
    load_config,
    locked,
    prepare,
    refuse_changes,
    task_config,
)

Combination = tuple[list[str], list[str]]  # all overrides, and those that are swept
Compose = Callable[[Sequence[str]], DictConfig]  # makes a job's config from its overrides
logger = logging.getLogger(__name__)


def combinations(overrides: Sequence[Override]) -> list[Combination]:
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


def prepare_jobs(sweep: Path, wanted: Sequence[Combination], compose: Compose) -> list[Job]:
    """Return the jobs of a sweep: those that its folder holds already, and new ones for the rest.

    Raises:
        ValueError: If a job's config has changed since it was prepared.
    """
    with locked(sweep / LOCK, wait=True):
        known = {identity(job.overrides, job.swept): job for job in find_jobs(sweep)}
        jobs = []
        for overrides, swept in wanted:
            config, name = compose(overrides), identity(overrides, swept)
            if (job := known.get(name)) is None:
                job = known[name] = prepare(sweep, config, overrides, swept)
            else:
                before, now = load_config(job.folder), task_config(config, job.folder)
                refuse_changes(f"{job.folder.name} of sweep {sweep.name}", flat(before), flat(now))
                job.renew(config)
            jobs.append(job)
    return list(dict.fromkeys(jobs))


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
