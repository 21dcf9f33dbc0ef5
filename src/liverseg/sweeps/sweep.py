"""One sweep from its first job to its table, and to the best of a search as a config of its own."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.override_parser.types import Override, OverrideType
from hydra.plugins.launcher import Launcher
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from liverseg.runs import Compose, Job, find_jobs, load_config, prepare_jobs, write_text
from liverseg.settings import parse_override
from liverseg.sweeps.grid import combinations, unfinished
from liverseg.sweeps.pool import Pool, is_elsewhere, warned_of_the_disk
from liverseg.sweeps.statistics import format_groups, group_rows
from liverseg.sweeps.table import Row, format_rows, monitored, outcome, row_of, write_csv

if TYPE_CHECKING:  # Optuna is there for those who search
    from liverseg.sweeps.search import Study

Draw = Callable[[Path, Sequence[Row]], object]  # into a file; None where there is nothing to draw
logger = logging.getLogger(__name__)


def run_sweep(
    sweep: Path,
    overrides: Sequence[Override],
    *,
    config: DictConfig,
    compose: Compose,
    is_group: Callable[[str], bool],
    launcher: Pool | Launcher,
    draw: Draw,
) -> None:
    """Run the jobs of a sweep that are not finished, and say what came out of all of them.

    ``sweep`` is its folder, ``overrides`` are the command's, and ``config`` is what it composes
    apart from what it sweeps; ``is_group`` tells whether a key is a config group.

    Raises:
        ValueError: If a setting is wrong, or a job has failed.
        OSError: If the folder cannot be written.
    """
    with _stopped_with_a_word(sweep):
        study, jobs = None, []
        if config.get("search") is None:
            jobs = prepare_jobs(sweep, combinations(overrides), compose)
        else:
            study = _open_study(sweep, overrides, config, compose)
        try:
            _launch(launcher, sweep, jobs, study)
        finally:
            _report(sweep, draw)
            if study is not None:
                _report_best(sweep, study, is_group)
                jobs = find_jobs(sweep)
    left = [job for job in jobs if job.status() not in ("done", "pruned")]
    if elsewhere := [job for job in left if is_elsewhere(job)]:
        logger.info("%d jobs run elsewhere; the command that runs them tells more", len(elsewhere))
    if failed := [job for job in left if job not in elsewhere]:
        remedy = f"the same command with sweep_name={sweep.name} goes on with them"
        if study is not None:
            remedy = "a search does not try them again, and a larger search.num_trials draws others"
        raise ValueError(
            f"{len(failed)} of {len(jobs)} jobs have not succeeded, see {sweep}/sweep.csv; {remedy}"
        )


@contextmanager
def _stopped_with_a_word(sweep: Path) -> Iterator[None]:
    """Say how a sweep that a signal stops, or a disk without room, goes on."""
    try:
        yield
    except (SystemExit, OSError):
        logger.warning("the same command with sweep_name=%s goes on", sweep.name)
        raise


def _report(sweep: Path, draw: Draw) -> None:
    """Log what became of all jobs, and write it to ``sweep.csv`` and ``comparison.png``."""
    rows = [row_of(job) for job in find_jobs(sweep)]
    if not rows:
        return
    logger.info("sweep %s\n\n%s\n", sweep.name, format_rows(rows))
    groups = group_rows(rows)
    if any(group.num_jobs > 1 for group in groups):
        table = format_groups(groups, monitored(rows))
        logger.info("repeated runs, mean ± standard deviation\n\n%s\n", table)
    with warned_of_the_disk():
        write_csv(sweep / "sweep.csv", rows)
        if draw(sweep / "comparison.png", rows) is not None:
            logger.info("compared in %s", sweep / "comparison.png")


def _launch(
    launcher: Pool | Launcher, sweep: Path, jobs: Sequence[Job], study: "Study | None"
) -> None:
    """Run the jobs that a command lists, or those that a study draws."""

    def has_ended(job: Job) -> None:
        if study is not None:
            study.has_ended(job)
        logger.info(outcome(job))
        with warned_of_the_disk():
            write_csv(sweep / "sweep.csv", [row_of(job) for job in find_jobs(sweep)])

    if isinstance(launcher, Pool):
        launcher.run(unfinished(jobs) if study is None else study.jobs(), has_ended)
    elif study is not None:
        raise ValueError(
            "a search runs its jobs as processes; leave out hydra/launcher, and on a cluster give "
            "the same command, with the same sweep_name, to several computers"
        )
    elif waiting := list(unfinished(jobs)):
        named = [[*job.overrides, f"hydra.sweep.subdir='{job.folder.name}'"] for job in waiting]
        launcher.launch(named, initial_job_idx=waiting[0].number)


def _open_study(
    sweep: Path, overrides: Sequence[Override], config: DictConfig, compose: Compose
) -> "Study":
    from liverseg.settings.classes import check_node, class_nodes, refuse_no_class
    from liverseg.sweeps.search import Study

    plain = OmegaConf.to_container(config.search, resolve=True)
    refuse_no_class("search", plain, "write search=optuna")
    for key, node in class_nodes(plain, "search"):
        check_node(key, node)
    return Study(
        instantiate(config.search, _recursive_=False, _convert_="all"),
        sweep=sweep,
        overrides=[one for one in overrides if one.key_or_group.split(".")[0] != "search"],
        compose=compose,
        monitor=config.monitor,
        mode=config.monitor_mode,
    )


def _report_best(sweep: Path, study: "Study", is_group: Callable[[str], bool]) -> None:
    """Write the best job so far as an experiment, and say how to run it."""
    if best := study.best():
        job, value = best
        title = f"Job {job.number} of sweep {sweep.name}: {study.monitor} {value:.4f}"
        with warned_of_the_disk():
            logger.info("%s\n%s", title, write_experiment(sweep, job, title, is_group))


def write_experiment(sweep: Path, job: Job, title: str, is_group: Callable[[str], bool]) -> str:
    """Write a job's telling overrides as ``experiment/best.yaml`` into the sweep's folder.

    ``title`` is a line on the job, and ``is_group`` tells whether a key is a config group.

    Returns:
        The command that runs it again. Keys that the job took out stand there, because no file can
        take them out.
    """
    config, content = load_config(job.folder), OmegaConf.create({"defaults": []})
    command = [f"python train.py --config-dir {sweep} experiment=best"]
    for override in map(parse_override, job.telling()):
        key, is_removed = override.key_or_group, override.type == OverrideType.DEL
        if key == "experiment" and not is_removed:
            content.defaults.insert(0, str(override.value()))
        elif is_group(key):
            choice = None if is_removed else str(override.value())
            content.defaults.append({f"override /{key}": choice})
        elif is_removed:
            command.append(f"~{key}")
        else:
            OmegaConf.update(content, key, OmegaConf.select(config, key), force_add=True)
    if not content.defaults:
        del content.defaults
    head = f"# @package _global_\n# {title}\n# {' '.join(command)}\n"
    write_text(sweep / "experiment" / "best.yaml", head + OmegaConf.to_yaml(content))
    return " ".join(command)
