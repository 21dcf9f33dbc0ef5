"""Optuna chooses the settings of the next job: ``python train.py -m search=optuna``.

The study is kept on disk, so several commands, also on several computers, work on one study when
they are given the same ``sweep_name``, and a command that was stopped is given again. Optuna and
its storages are used as they are. The Hydra plugin for Optuna cannot serve: it is made for Optuna 2
(its storage fails with SQLAlchemy 2), counts trials anew at each start, and cannot prune.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import optuna
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf, open_dict
from optuna.distributions import BaseDistribution
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from pydantic import Field
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from liverseg.runs import (
    LOCK,
    Compose,
    Job,
    find_jobs,
    load_config,
    locked,
    prepare,
    refuse_changed_search,
)
from liverseg.settings import parse_override
from liverseg.settings.values import Section
from liverseg.sweeps.grid import values_of

_OUTCOMES = {
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "done": TrialState.FAIL,  # with a score that is no number
}
_ATTEMPTS, _PAUSE_SECONDS = 5, 0.2  # to open a database


@dataclass(frozen=True, kw_only=True)
class OptunaSearch:
    """What to look for, and how: the keys of ``configs/search/optuna.yaml``, which tells of them.

    Raises:
        ValueError: If sampler or pruner cannot be made.
    """

    num_trials: Annotated[int, Field(ge=1)]
    # A file is for file systems without locks; null is study.db in the sweep's folder.
    storage: Annotated[
        Annotated[str, Field(pattern=r"^[\w+]+://|\.log$")] | None,
        Field(description="null, a URL such as postgresql://..., or a file ending in .log"),
    ]
    seed: Annotated[int, Field(ge=0)]  # a trial depends on it, its number, and the trials before
    space: Annotated[
        Mapping[str, str | int | float],
        Field(description="a mapping of keys to values, such as interval(1e-4, 1e-2)"),
    ]
    sampler: Section  # is given a seed
    pruner: Section | None  # works in the process of each job

    def __post_init__(self) -> None:
        """Refuse here what would fail in each job."""
        _make("sampler", self.sampler, optuna.samplers.BaseSampler, seed=0)
        if self.pruner is not None:
            _make("pruner", self.pruner, optuna.pruners.BasePruner)

    def distributions(self, overrides: Sequence[Override]) -> dict[str, BaseDistribution]:
        """Return what is chosen from, by key.

        Of the command's overrides, several values of a key take the place of what ``space`` says of
        it, a single one takes it out.

        Raises:
            ValueError: If values cannot be chosen from, or nothing is left to choose.
        """
        found: dict[str, Override] = {}
        for key, values in self.space.items():
            found[key] = parse_override(f"{key}={values}")
            if not found[key].is_sweep_override():
                raise ValueError(
                    f"search.space.{key}={values} leaves no choice; list several, or give "
                    f"{key}={values} to the command"
                )
        found |= {one.key_or_group: one for one in overrides}
        swept = {key: _distribution(one) for key, one in found.items() if one.is_sweep_override()}
        if not swept:
            raise ValueError("search.space holds nothing to choose from; give a key some values")
        if fixed := swept.keys() & {"monitor", "monitor_mode"}:
            raise ValueError(f"{min(fixed)} is what a search judges by; give it a single value")
        return swept


@dataclass
class Study:
    """A search under way: an iterator of jobs that learns from those that have ended.

    Raises:
        ValueError: If the search cannot be what it was when the sweep began, or not be kept.
    """

    search: OptunaSearch
    sweep: Path  # its folder
    overrides: Sequence[Override]  # the command's
    compose: Compose
    monitor: str  # the score of which there is to be most, or least
    mode: Literal["max", "min"]

    def __post_init__(self) -> None:
        """Open the study; what all its trials have in common may not change."""
        self._distributions = self.search.distributions(self.overrides)
        fixed = (one for one in self.overrides if not one.is_sweep_override())
        self._fixed = [one.input_line or "" for one in fixed]
        self._url = self.search.storage or f"sqlite:///{self.sweep.absolute()}/study.db"
        begun = (load_config(job.folder) for job in find_jobs(self.sweep))
        names = (OmegaConf.select(one, "callbacks.pruning.study") for one in begun)
        self._name = next(filter(None, names), self.sweep.name)  # the folder may have been renamed
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with locked(self.sweep / LOCK, wait=True), _told_of_the_storage(self._url):
            refuse_changed_search(self.sweep, self.compose(self._fixed))
            self.study = optuna.create_study(
                storage=open_storage(self._url),
                study_name=self._name,
                direction="maximize" if self.mode == "max" else "minimize",
                load_if_exists=True,
            )
            for trial in self.study.get_trials(deepcopy=False):
                for key in trial.distributions.keys() & self._distributions.keys():
                    _refuse_other_values(key, trial.distributions[key], self._distributions[key])

    def jobs(self) -> Iterator[Job]:
        """Yield interrupted jobs, then new ones until the study has its trials.

        Raises:
            ValueError: If the study can no longer be kept, or no next job be made.
        """
        with _told_of_the_storage(self._url):
            jobs = self._job_of_trial()
            for trial in self.study.get_trials(states=[TrialState.RUNNING]):
                if (job := jobs.get(trial.number)) is None:
                    if drawn := self._drawn_before(trial):
                        yield drawn
                elif job.status() in ("interrupted", "waiting"):
                    job.renew(self.compose(self._fixed))
                    yield job
                else:
                    self.has_ended(job)
            while new := self._next():
                yield new

    def has_ended(self, job: Job) -> None:
        """Tell the study what became of a job; one that was interrupted is still to come."""
        number, status = job.record()["trial"], job.status()
        value = job.scores().get(self.monitor, math.nan)
        with _told_of_the_storage(self._url):
            if status == "done" and math.isfinite(value):
                self.study.tell(number, value, skip_if_finished=True)
            elif status in _OUTCOMES:
                self.study.tell(number, state=_OUTCOMES[status], skip_if_finished=True)

    def best(self) -> tuple[Job, float] | None:
        """Return the job with the best score so far, and the score; None where none has ended."""
        if not self.study.get_trials(states=[TrialState.COMPLETE]):
            return None
        return self._job_of_trial()[self.study.best_trial.number], self.study.best_value

    def _job_of_trial(self) -> dict[int | None, Job]:
        return {job.record().get("trial"): job for job in find_jobs(self.sweep)}

    def _next(self) -> Job | None:
        """Draw a trial and prepare its job, one command at a time."""
        with locked(self.sweep / LOCK, wait=True):
            if (number := len(self.study.trials)) >= self.search.num_trials:
                return None
            (seed,) = np.random.SeedSequence([self.search.seed, number]).generate_state(1)
            self.study.sampler = instantiate(self.search.sampler, seed=int(seed))
            trial = self.study.ask(self._distributions)
            return self._prepare(trial.number, trial.params)

    def _drawn_before(self, trial: FrozenTrial) -> Job | None:
        """Prepare the job of a trial whose command was killed before; None where none can be."""
        with locked(self.sweep / LOCK, wait=True):
            if trial.number in self._job_of_trial():  # by the command that has drawn it, just now
                return None
            if trial.params.keys() == self._distributions.keys():
                return self._prepare(trial.number, trial.params)
            self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            return None

    def _prepare(self, number: int, parameters: Mapping[str, Any]) -> Job:
        chosen = [f"{key}={value}" for key, value in parameters.items()]
        overrides = [*self._fixed, *chosen]
        try:
            config = self.compose(overrides)
        except HydraException as error:
            self.study.tell(number, state=TrialState.FAIL)
            raise ValueError(
                f"search.space or the command leads to what cannot be composed: {chosen} "
                f"({str(error).splitlines()[0]})"
            ) from error
        with open_dict(config):
            config.callbacks.pruning = {
                "_target_": "liverseg.sweeps.pruning.Pruning",
                "storage": self.search.storage or "sqlite:///${output_dir}/../study.db",
                "study": self._name,
                "trial": number,
                "monitor": self.monitor,
                "folder": "${output_dir}",
                "pruner": self.search.pruner or {"_target_": "optuna.pruners.NopPruner"},
            }
        return prepare(self.sweep, config, overrides, chosen, {"trial": number})


def _refuse_other_values(key: str, before: BaseDistribution, now: BaseDistribution) -> None:
    try:
        optuna.distributions.check_distribution_compatibility(before, now)
    except ValueError as error:
        raise ValueError(
            f"{key} cannot be chosen from other values once a search has begun ({error}); give "
            "those that it began with, or another sweep_name"
        ) from error


def open_storage(place: str) -> optuna.storages.BaseStorage:
    """Return a study's storage: a database by its URL, or a file ending in ``.log``."""
    if place.endswith(".log"):
        return optuna.storages.JournalStorage(JournalFileBackend(place))
    engine = {"connect_args": {"timeout": 60}} if place.startswith("sqlite") else {}
    for _ in range(_ATTEMPTS - 1):
        with suppress(DBAPIError):  # perhaps another search makes the tables of a new one just now
            return optuna.storages.RDBStorage(place, engine_kwargs=engine)
        time.sleep(_PAUSE_SECONDS)
    return optuna.storages.RDBStorage(place, engine_kwargs=engine)


@contextmanager
def _told_of_the_storage(place: str) -> Iterator[None]:
    """Turn what a storage raises into a sentence: a wrong URL, a missing driver, no room."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise ValueError(
            f"search.storage={place} cannot be used ({reason}); give a URL such as "
            "sqlite:///study.db, or a file ending in .log, where there is room"
        ) from error


def _make(word: str, config: Mapping[str, Any], kind: type, **given: int) -> None:
    """Make a part of Optuna's for trial."""
    try:
        made = instantiate(config, **given)
    except InstantiationException as error:
        reason = str(error.__cause__ or error).strip().splitlines()[-1]
        raise ValueError(f"search.{word} cannot be made: {reason}") from error
    if not isinstance(made, kind):
        raise ValueError(f"search.{word}._target_={config['_target_']} makes no {word} of Optuna's")


def _distribution(override: Override) -> BaseDistribution:
    """Return what an override's values are for Optuna."""
    sweep = override.value()
    is_log = "log" in getattr(sweep, "tags", ())
    try:
        if isinstance(sweep, IntervalSweep):
            if isinstance(sweep.start, int) and isinstance(sweep.end, int):
                return optuna.distributions.IntDistribution(sweep.start, sweep.end, log=is_log)
            low, high = float(sweep.start or 0), float(sweep.end or 0)
            return optuna.distributions.FloatDistribution(low, high, log=is_log)
        texts = values_of(override)
        if isinstance(sweep, RangeSweep) and all(isinstance(one, int) for one in sweep.range()):
            numbers = sorted(map(int, texts))  # also where it counts down
            step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
            return optuna.distributions.IntDistribution(numbers[0], numbers[-1], step=step)
        return optuna.distributions.CategoricalDistribution(texts)
    except ValueError as error:
        raise ValueError(f"{override.input_line} cannot be searched: {error}") from error
