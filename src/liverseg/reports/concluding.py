"""What a sweep ends with: scores over all folds, and which of its settings is better."""

import logging
import math
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from liverseg.reports.comparing import compare_folders
from liverseg.reports.contestants import (
    Scored,
    Setting,
    fold_of,
    read_scored,
    setting_of,
    truth_of,
)
from liverseg.runs import (
    SCORES_FILE,
    Job,
    find_jobs,
    load_config,
    short_path,
    write_json,
    write_text,
)
from liverseg.scores import (
    RECORD_FILE,
    score_of,
    summary,
    table_numbers,
    table_of,
    tables_text,
)
from liverseg.sweeps import labels

FOLDS_FOLDER, COMPARISON_FOLDER = "out_of_fold", "comparison"
FOLDS = ("fold", "data.fold")  # keys that repeat a setting with another part of its data
_MOST_SETTINGS = 6  # that are compared each with each without being asked to
_TABLES = ("cases_val.csv", "patients_val.csv")
_RULES = ("classes", "convention", "scores", "tolerance", "spacing")
logger = logging.getLogger(__name__)


def conclude_sweep(sweep: Path) -> None:
    """Log and write what the finished jobs of a sweep say together.

    Folds end in scores over all their patients, ``out_of_fold/``. Settings that seeds or folds
    repeat end in what ``compare.py`` says of them, ``comparison/``.

    Args:
        sweep: The folder of a sweep.
    """
    done = [job for job in find_jobs(sweep) if job.status() == "done"]
    for conclude in (_conclude_folds, _conclude_settings):
        try:
            conclude(sweep, done)
        except ValueError as error:  # the scores of each job stand, whatever is said of all
            logger.warning("%s", error)


def _conclude_folds(sweep: Path, done: Sequence[Job]) -> None:
    """Put the folds of each setting and seed together, as if one run had scored all images."""
    folds: dict[Setting, dict[int, Job]] = {}
    configs = {job: load_config(job.folder) for job in done}
    for job, config in configs.items():
        if (fold := fold_of(config)) is not None:
            folds.setdefault(setting_of(job, FOLDS), {})[fold] = job
    folds = {setting: members for setting, members in folds.items() if len(members) > 1}
    told = labels([dict(setting) for setting in folds]) if len(folds) != 1 else [""]
    written = []
    for label, members in zip(told, folds.values(), strict=True):
        folder = sweep / FOLDS_FOLDER / re.sub(r"[^\w.=,+-]", "-", label.replace(", ", "_"))[:100]
        config = configs[next(iter(members.values()))]
        scores = put_together([read_scored(job.folder, "val") for job in members.values()], folder)
        logger.info(
            "cross-validation%s: val is %s, each image scored by the network that has not seen it"
            "\n\n%s\n\nwritten to %s\n",
            f" of {label}" if label else "",
            _told_folds(sorted(members), config),
            _shown(scores, config, is_short=len(folds) > _MOST_SETTINGS),
            short_path(folder),
        )
        written.append(folder)
    _remove_stale(sweep / FOLDS_FOLDER, written)


def _remove_stale(folder: Path, written: Sequence[Path]) -> None:
    """Remove what lies under other names since the sweep had other settings.

    Only scores of folds go, and only where all their lines have just been written elsewhere.
    """
    lines = [set((one / _TABLES[0]).read_text().splitlines()) for one in written]
    found = [folder, *folder.iterdir()] if written else []
    for old in found:
        if old in written or old.is_symlink():
            continue
        try:
            is_of_folds = read_scored(old, "val").record["truth"].startswith("folds:")
        except ValueError:  # something else
            continue
        its_lines = set((old / _TABLES[0]).read_text().splitlines())
        if not is_of_folds or not any(its_lines <= one for one in lines):
            continue
        for name in (*_TABLES, RECORD_FILE, SCORES_FILE):
            (old / name).unlink(missing_ok=True)
        if not any(old.iterdir()):
            old.rmdir()


def _shown(scores: dict[str, float], config: DictConfig, *, is_short: bool) -> str:
    """Return all scores as a table, or the one that is monitored."""
    if not is_short:
        return summary(scores, str(config.monitor))
    return f"{config.monitor} {scores.get(str(config.monitor), math.nan):.4f}"


def _told_folds(folds: Sequence[int], config: DictConfig) -> str:
    count = config.data.get("num_folds")
    if list(folds) == list(range(count or len(folds))):
        return f"all {len(folds)} folds"
    return f"fold {', '.join(map(str, folds))} of {count}, the others being left out"


def put_together(folds: Sequence[Scored], folder: Path) -> dict[str, float]:
    """Write the tables of all folds as those of one val, as ``evaluate.py`` does, and score them.

    Args:
        folds: Parts of one val, scored alike.
        folder: Where ``metrics.json``, ``scores.json`` and the tables go.

    Raises:
        ValueError: If they were scored by other rules.
    """
    record: dict[str, Any] = dict(folds[0].record)
    for one in folds:
        if differing := [key for key in _RULES if one.record.get(key) != record.get(key)]:
            raise ValueError(
                f"{folds[0].folder} and {one.folder} differ in {differing[0]}, so their folds are "
                "not put together; score both with evaluate.py alike"
            )
    lines = sorted((case for one in folds for case in one.cases), key=lambda case: case.name)
    record["truth"] = truth_of(folds)
    table, classes = table_of(lines, record["scores"]), record["classes"]
    cases = [case.case or None for case in lines]
    names = [case.name for case in lines]
    for name, text in tables_text(table, classes, split="val", names=names, cases=cases).items():
        write_text(folder / name, text)
    write_json(folder / RECORD_FILE, {"val": record})
    numbers = table_numbers(table, classes, record["scores"])
    scores = {f"val/{name}": value for name, value in numbers.items()}
    write_json(folder / SCORES_FILE, scores)
    return scores


def _conclude_settings(sweep: Path, done: Sequence[Job]) -> None:
    """Compare the settings of a sweep, where each is repeated."""
    settings = Counter(map(setting_of, done))
    if not 2 <= len(settings) <= _MOST_SETTINGS:
        return
    if min(settings.values()) < 2:
        if (sweep / COMPARISON_FOLDER / "comparison.json").is_file():  # of an earlier start
            shutil.rmtree(sweep / COMPARISON_FOLDER)
        logger.info(
            "one run of a setting does not show what its seed does, so settings are not compared; "
            "seed=1,2,3 repeats each"
        )
        return
    score = score_of(str(done[0].record().get("monitor", "")).removeprefix("val/"))
    word = score[0].word if score else "dice"
    lines, page = compare_folders([str(sweep)], word, split=None, folder=sweep / COMPARISON_FOLDER)
    logger.info("compared\n\n%s\n\npage    %s", "\n".join(lines), short_path(page))
