"""The jobs of a sweep, as they stand on disk.

A job's folder holds everything its process needs: the config as it was composed when the sweep
began, so that a file edited meanwhile changes no job, and ``job.json``, which says by which
overrides the job is recognised when the same command is given again.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from liverseg.runs.files import read_json, write_json
from liverseg.runs.locks import is_locked
from liverseg.runs.resume import (
    HARMLESS,
    RUN_LOCK,
    SCORES_FILE,
    load_config,
    read_scores,
    save_config,
)
from liverseg.settings import find_sentence, walk

JOB_FILE = "job.json"
PRUNED_FILE = "pruned.json"
SWEEP_LOCK = ".lock"  # in a sweep's folder, held while jobs are prepared
Status = Literal["waiting", "running", "interrupted", "failed", "pruned", "done"]
_LONGEST_NAME = 100
_HARMLESS = [key for key in HARMLESS if key != "data.root"]  # another folder is another job
_OF_THE_MOMENT = ("output_dir", "sweep_name", "resume", "resume_overrides", "search")


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        folder: Its run folder; the name is ``NUMBER_KEY=VALUE_...`` of what is swept.
        overrides: Everything that was overridden.
        swept: The overrides among them of which the command listed several.
    """

    folder: Path
    overrides: tuple[str, ...]
    swept: tuple[str, ...] = ()

    @property
    def number(self) -> int:
        """Its place in the sweep, from 0."""
        return int(self.folder.name.partition("_")[0])

    def record(self) -> dict[str, Any]:
        """Return what its ``job.json`` says."""
        record: dict[str, Any] = read_json(self.folder / JOB_FILE)
        return record

    def status(self) -> Status:
        """Tell how far it is, also after processes were killed."""
        if (self.folder / SCORES_FILE).is_file():
            return "done"
        if (self.folder / PRUNED_FILE).is_file():
            return "pruned"
        status: Status = self.record()["status"]
        if status == "running" and not is_locked(self.folder / RUN_LOCK):
            return "interrupted"
        return status

    def scores(self) -> dict[str, float]:
        """Return the final scores by name; none where it is not done."""
        return read_scores(self.folder)


def find_jobs(sweep: Path) -> list[Job]:
    """Return the jobs of a sweep's folder, in order."""
    jobs = []
    for _, folder in _numbered(sweep):
        record = read_json(folder / JOB_FILE)
        jobs.append(Job(folder, tuple(record["overrides"]), tuple(record["swept"])))
    return jobs


def _numbered(sweep: Path) -> list[tuple[int, Path]]:
    """Return the number and the folder of each job, in order."""
    folders = [file.parent for file in sweep.glob(f"*/{JOB_FILE}")]
    named = [(re.match(r"(\d+)(_|$)", folder.name), folder) for folder in folders]
    return sorted((int(name[1]), folder) for name, folder in named if name)


def identity(overrides: Sequence[str], swept: Sequence[str]) -> tuple[str, ...]:
    """Return what makes two jobs the same: their telling overrides in any order."""
    return tuple(sorted(telling(overrides, swept)))


def telling(overrides: Sequence[str], swept: Sequence[str]) -> list[str]:
    """Return the overrides that tell jobs apart: those that are swept or can change a result."""
    kept = []
    for override in overrides:
        key = override.lstrip("+").partition("=")[0]
        is_silent = key in ("sweep_name", *_HARMLESS) or key.startswith("hydra.")
        if override in swept or not is_silent:
            kept.append(override)
    return kept


def folder_name(number: int, swept: Sequence[str]) -> str:
    """Return the name of a job's folder: its number and what is swept, fit for any file system."""
    label = re.sub(r"[^\w.=,+-]", "-", "_".join(map(shortened, swept)))
    return f"{number}_{label}"[:_LONGEST_NAME].rstrip("_")


def shortened(override: str) -> str:
    """Return an override with its long fractions rounded to four digits."""
    return re.sub(r"\d+\.\d{5,}(e-?\d+)?", lambda found: f"{float(found[0]):.4g}", override)


def prepare(
    sweep: Path,
    config: DictConfig,
    overrides: Sequence[str],
    swept: Sequence[str],
    record: Mapping[str, Any] | None = None,
) -> Job:
    """Write the folder of a new job, from which its process starts.

    Args:
        sweep: The folder of the sweep.
        config: The job's config, with Hydra's own part.
        overrides: Everything that was overridden.
        swept: The overrides among them that make this job differ from others.
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
    hydra = OmegaConf.masked_copy(config, "hydra")
    task = task_config(config, folder)
    for name, content in (
        ("config", task),
        ("hydra", hydra),
        ("overrides", OmegaConf.create(list(overrides))),
    ):
        (unfinished / ".hydra" / f"{name}.yaml").write_text(OmegaConf.to_yaml(content))
    save_config(task, unfinished)
    told: dict[str, Any] = {"overrides": list(overrides), "swept": list(swept)}
    told |= {"monitor": task.monitor, "mode": task.monitor_mode}
    told |= {"status": "waiting", "seconds": 0.0, **(record or {})}
    write_json(unfinished / JOB_FILE, told)
    os.replace(unfinished, folder)
    return Job(folder, tuple(overrides), tuple(swept))


def renew(job: Job, config: DictConfig) -> None:
    """Let a job that is still to run take harmless settings from a config composed anew."""
    if job.status() not in ("waiting", "interrupted", "failed"):
        return
    saved = load_config(job.folder)
    before = saved.copy()
    for key in _HARMLESS:
        value = OmegaConf.select(config, key)
        if value is not None and OmegaConf.select(saved, key) != value:
            OmegaConf.update(saved, key, value, force_add=True)
    if saved != before:
        save_config(saved, job.folder)


def task_config(config: DictConfig, folder: Path) -> DictConfig:
    """Return a job's config without Hydra's part, everything that depends on Hydra filled in."""
    HydraConfig.instance().set_config(config)
    task = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    task.output_dir = str(folder)
    with open_dict(task):
        task.pop("search", None)
    return task


def changes(job: Job, config: DictConfig) -> list[str]:
    """Return the keys whose value is no longer that of a job's saved config, with both values."""
    return differences(flat(load_config(job.folder)), flat(config))


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the keys whose values differ, with both values."""
    missing = "missing"
    return [
        f"{key} (was {before.get(key, missing)}, is {now.get(key, missing)})"
        for key in sorted(before.keys() | now.keys())
        if before.get(key, missing) != now.get(key, missing)
    ]


@contextmanager
def recorded(folder: Path) -> Iterator[None]:
    """Keep in a job's ``job.json`` what becomes of it; a run that is no job passes untouched."""
    file = folder / JOB_FILE
    if not file.is_file():
        yield
        return
    record = read_json(file)
    earlier, begun = record["seconds"], time.monotonic()

    def keep(status: Status, error: str = "") -> None:
        seconds = round(earlier + time.monotonic() - begun, 1)
        write_json(file, {**record, "status": status, "seconds": seconds, "error": error})

    keep("running")
    try:
        yield
    except Exception as error:
        keep("failed", last_line(error))
        raise
    except BaseException:
        keep("interrupted")
        raise
    keep("done")


def last_line(error: BaseException) -> str:
    """Return what a table says of an error: its sentence, or the last line of its message."""
    lines = (find_sentence(error) or f"{type(error).__name__}: {error}").strip().splitlines()
    return lines[-1].strip()


def flat(config: DictConfig) -> dict[str, Any]:
    """Return all values of a config by their key, but for those that may differ."""
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    kept = {key: value for key, value in plain.items() if key not in _OF_THE_MOMENT}
    values = {
        key: one for key, one in walk(kept, lists=False) if one == {} or type(one) is not dict
    }
    return {key: one for key, one in values.items() if key not in _HARMLESS}
