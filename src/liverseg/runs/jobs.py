"""The jobs of a sweep, as they stand on disk.

A job's folder holds everything its process needs: the config as it was composed when the sweep
began, so that a file edited meanwhile changes no job, and ``job.json``, which says by which
overrides the job is recognised when the same command is given again.
"""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from liverseg.runs.files import read_json, write_json
from liverseg.runs.locks import LOCK, is_locked, locked
from liverseg.runs.resume import HARMLESS, SCORES_FILE, load_config, read_scores, save_config
from liverseg.settings import find_sentence, walk

JOB_FILE = "job.json"
PRUNED_FILE = "pruned.json"
Compose = Callable[[Sequence[str]], DictConfig]  # makes a job's config from its overrides
Status = Literal["waiting", "running", "interrupted", "failed", "pruned", "done"]
_LONGEST_NAME = 100
_HARMLESS = [key for key in HARMLESS if key != "data.root"]  # another folder is another job
_MISSING = object()
_OF_THE_MOMENT = ("output_dir", "sweep_name", "resume", "resume_overrides", "search")


@dataclass(frozen=True)
class Job:
    """One job of a sweep."""

    folder: Path  # its run folder, NUMBER_KEY=VALUE_... of what is swept
    overrides: tuple[str, ...]
    swept: tuple[str, ...] = ()  # those of which the command listed several

    @property
    def number(self) -> int:
        """Its place in the sweep, from 0."""
        return int(self.folder.name.partition("_")[0])

    def record(self) -> dict[str, Any]:
        """Return what its ``job.json`` says."""
        return dict(read_json(self.folder / JOB_FILE))

    def keep(self, status: Status, **more: Any) -> None:
        """Write into its ``job.json`` how far it is, and what belongs to that."""
        write_json(self.folder / JOB_FILE, {**self.record(), "status": status, **more})

    def status(self) -> Status:
        """Tell how far it is, also after processes were killed."""
        if (self.folder / SCORES_FILE).is_file():
            return "done"
        if (self.folder / PRUNED_FILE).is_file():
            return "pruned"
        status: Status = self.record()["status"]
        if status == "running" and not is_locked(self.folder / LOCK):
            return "interrupted"
        return status

    def scores(self) -> dict[str, float]:
        """Return the final scores by name; none where it is not done."""
        return read_scores(self.folder)

    def telling(self) -> list[str]:
        """Return the overrides that tell it from others: swept, or able to change a result."""
        return telling(self.overrides, self.swept)

    def renew(self, config: DictConfig) -> None:
        """Let it take harmless settings from a config composed anew, where it is still to run."""
        if self.status() not in ("waiting", "interrupted", "failed"):
            return
        saved = load_config(self.folder)
        for key in _HARMLESS:
            value = OmegaConf.select(config, key, default=_MISSING)
            if value is not _MISSING:
                OmegaConf.update(saved, key, value, force_add=True)
        save_config(saved, self.folder)


def find_jobs(sweep: Path) -> list[Job]:
    """Return the jobs of a sweep's folder, in order."""
    jobs = []
    for _, file in _numbered(sweep):
        record = read_json(file)
        jobs.append(Job(file.parent, tuple(record["overrides"]), tuple(record["swept"])))
    return jobs


def _numbered(sweep: Path) -> list[tuple[int, Path]]:
    files = [(re.match(r"(\d+)(_|$)", one.parent.name), one) for one in sweep.glob(f"*/{JOB_FILE}")]
    return sorted((int(name[1]), file) for name, file in files if name)


def telling(overrides: Sequence[str], swept: Sequence[str]) -> list[str]:
    """Return the overrides that tell a job from others; the same in any order, the same job."""
    quiet = ("hydra.", *(f"{key}=" for key in ("sweep_name", *_HARMLESS)))
    return [one for one in overrides if one in swept or not one.lstrip("+").startswith(quiet)]


def folder_name(number: int, swept: Sequence[str]) -> str:
    """Return the name of a job's folder: its number and what is swept, fit for any file system."""
    label = re.sub(r"[^\w.=,+-]", "-", "_".join(map(shortened, swept)))
    return f"{number}_{label}"[:_LONGEST_NAME].rstrip("_")


def shortened(override: str) -> str:
    """Return an override with its long fractions rounded to four digits."""
    return re.sub(r"\d+\.\d{5,}(e-?\d+)?", lambda found: f"{float(found[0]):.4g}", override)


def prepare_jobs(
    sweep: Path, wanted: Sequence[tuple[Sequence[str], Sequence[str]]], compose: Compose
) -> list[Job]:
    """Return the jobs of a sweep: those that its folder holds already, and new ones for the rest.

    ``wanted`` holds the overrides of each job, and those among them that are swept.

    Raises:
        ValueError: If a job's config has changed since it was prepared.
    """
    with locked(sweep / LOCK, wait=True):
        known = {frozenset(job.telling()): job for job in find_jobs(sweep)}
        jobs = []
        for overrides, swept in wanted:
            config, name = compose(overrides), frozenset(telling(overrides, swept))
            if (job := known.get(name)) is None:
                job = known[name] = prepare(sweep, config, overrides, swept)
            else:
                before, now = load_config(job.folder), task_config(config, job.folder)
                refuse_changes(f"{job.folder.name} of sweep {sweep.name}", flat(before), flat(now))
                job.renew(config)
            jobs.append(job)
    return list(dict.fromkeys(jobs))


def prepare(
    sweep: Path,
    config: DictConfig,
    overrides: Sequence[str],
    swept: Sequence[str],
    record: Mapping[str, Any] | None = None,
) -> Job:
    """Write the folder of a new job of a sweep, from which its process starts.

    Args:
        sweep: The folder of the sweep.
        config: The job's config, with Hydra's own part.
        overrides: All that its :class:`Job` is to have.
        swept: Those among them that make it differ from others.
        record: What ``job.json`` holds besides.
    """
    number = max((number for number, _ in _numbered(sweep)), default=-1) + 1
    folder = sweep.absolute() / folder_name(number, swept)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / ".hydra").mkdir(parents=True)
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.job.num = number
        config.hydra.job.id = str(number)
        config.hydra.runtime.output_dir = str(folder)
    task = task_config(config, folder)
    OmegaConf.save(task, unfinished / ".hydra" / "config.yaml")
    OmegaConf.save(OmegaConf.masked_copy(config, "hydra"), unfinished / ".hydra" / "hydra.yaml")
    OmegaConf.save(list(overrides), unfinished / ".hydra" / "overrides.yaml")
    save_config(task, unfinished)
    told = {"overrides": list(overrides), "swept": list(swept), "monitor": task.monitor}
    told |= {"mode": task.monitor_mode, "status": "waiting", "seconds": 0.0, **(record or {})}
    write_json(unfinished / JOB_FILE, told)
    os.replace(unfinished, folder)
    return Job(folder, tuple(overrides), tuple(swept))


def task_config(config: DictConfig, folder: Path) -> DictConfig:
    """Return a job's config without Hydra's part, everything that depends on Hydra filled in."""
    HydraConfig.instance().set_config(config)
    kept = [str(key) for key in config if key not in ("hydra", "search")]
    task = OmegaConf.masked_copy(config, kept)
    task.output_dir = str(folder)
    return task


def refuse_changed_search(sweep: Path, config: DictConfig) -> None:
    """Hold what all jobs of a search have in common against what it began with, or keep it as that.

    Raises:
        ValueError: If it has changed.
    """
    file, common = sweep / "search.json", flat(task_config(config, sweep))
    if file.is_file():
        refuse_changes(f"the search {sweep.name}", read_json(file), common)
    else:
        write_json(file, common)


def refuse_changes(what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with other configs, as :func:`flat` returns them, than something began with.

    Raises:
        ValueError: With the first keys whose values differ, and both values.
    """
    pairs = {
        key: (before.get(key, "missing"), now.get(key, "missing"))
        for key in sorted(before.keys() | now.keys())
    }
    changed = [f"{key} (was {was}, is {new})" for key, (was, new) in pairs.items() if was != new]
    if changed:
        raise ValueError(
            f"the configs have changed since {what} began: {', '.join(changed[:3])}; restore them, "
            "or give another sweep_name"
        )


@contextmanager
def recorded(folder: Path) -> Iterator[None]:
    """Keep in a job's ``job.json`` what becomes of it; a run that is no job passes untouched."""
    if not (folder / JOB_FILE).is_file():
        yield
        return
    job = Job(folder, ())
    begun = time.monotonic() - job.record()["seconds"]

    def keep(status: Status, error: str = "") -> None:
        job.keep(status, seconds=round(time.monotonic() - begun, 1), error=error)

    keep("running")
    try:
        yield
    except Exception as error:
        told = find_sentence(error) or f"{type(error).__name__}: {error}"
        told = told.partition("\n    full_key: ")[0]  # what OmegaConf adds is for its makers
        keep("failed", told.strip().splitlines()[-1].strip())
        raise
    except BaseException:
        keep("interrupted")
        raise
    keep("done")


def flat(config: DictConfig) -> dict[str, Any]:
    """Return all values of a config by their key, but for those that may differ."""
    return {
        key: one
        for key, one in walk(OmegaConf.to_container(config, resolve=False), lists=False)
        if (one == {} or not isinstance(one, dict))
        and key not in _HARMLESS
        and key.partition(".")[0] not in _OF_THE_MOMENT
    }
