"""What may be compared: the folders that are named, as contestants that were scored alike."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from liverseg.runs import SCORES_FILE, Job, find_jobs, load_config, short_path
from liverseg.scores import CATALOGUE, RECORD_FILE, Case, read_cases
from liverseg.settings.values import as_typed
from liverseg.sweeps import REPEATS, labels

SPLITS = ("test", "val")
# What of a record is typed so, where it is another.
_TYPED = {
    "classes": "data.class_names=[NAME,...]",
    "spacing": "spacing=",
    "tolerance": "tolerance=",
}
Setting = tuple[tuple[str, str], ...]  # keys and what they are set to


class Scored(NamedTuple):
    """A folder with the scores of a split."""

    folder: Path
    record: Mapping[str, Any]  # of scores.json
    cases: list[Case]
    run: str = ""  # what tells it from others of its setting, such as seed=1


class Contestant(NamedTuple):
    """A run, or the runs that repeat one setting with other seeds or folds."""

    name: str
    folders: Mapping[Path, str]  # each with what tells it from the others, such as seed=1
    is_folded: bool

    def scored(self, split: str) -> list[Scored]:
        """Read the scores of a split, of each run.

        Raises:
            ValueError: If a run has none, or a file is damaged.
        """
        return [
            read_scored(folder, split)._replace(run=run) for folder, run in self.folders.items()
        ]


def find_contestants(runs: Sequence[str]) -> list[Contestant]:
    """List what run folders, folders of evaluate.py and sweeps stand for.

    A sweep stands for its settings; jobs that differ in seed or fold repeat one.

    Raises:
        FileNotFoundError: If a folder does not exist.
        ValueError: If a folder holds no scores, or there are fewer than two contestants, one that
            is named twice being one.
    """
    spelt: dict[Path, Path] = {}  # as first typed, whatever other ways lead to the same folder
    for run in runs:
        spelt.setdefault(Path(str(run)).resolve(), Path(str(run)))
    folders = list(spelt.values())
    found: list[Contestant] = []
    for folder in folders:
        if not folder.is_dir():
            what = "is no folder" if folder.exists() else "does not exist"
            raise FileNotFoundError(f"{folder} {what}; name folders of runs, sweeps or evaluate.py")
        if (folder / SCORES_FILE).is_file():
            found.append(Contestant(_short(folder, folders), {folder: ""}, _has_fold(folder)))
        elif jobs := find_jobs(folder):
            found += _of_sweep(_short(folder, folders), jobs, is_alone=len(folders) == 1)
        else:
            raise ValueError(
                f"{folder} holds no {SCORES_FILE}, as a run that has ended does, and no jobs; name "
                "folders of runs, sweeps or evaluate.py"
            )
    if len(found) < 2:
        raise ValueError(
            f"runs=[{','.join(map(str, runs))}] names {len(found)} to compare; name two or more, "
            "or a sweep of several settings"
        )
    return found


def _of_sweep(name: str, jobs: Sequence[Job], *, is_alone: bool) -> list[Contestant]:
    settings: dict[Setting, list[Job]] = {}
    for job in jobs:
        if job.status() == "done":
            settings.setdefault(setting_of(job), []).append(job)
    if not settings:
        raise ValueError(f"no job of the sweep {name} has ended with scores")
    told = labels([dict(setting) for setting in settings]) if len(settings) > 1 else [""]
    return [
        Contestant(
            ": ".join(part for part in ("" if is_alone and label else name, label) if part),
            {job.folder: _repeat_of(job) for job in members},
            any(_has_fold(job.folder) for job in members),
        )
        for label, members in zip(told, settings.values(), strict=True)
    ]


def setting_of(job: Job, repeats: Sequence[str] = REPEATS) -> Setting:
    """Return what a job overrides, ordered by key, but for the keys that repeat a setting."""
    return tuple(sorted((key, value) for key, value in _pairs(job) if key not in repeats))


def _repeat_of(job: Job) -> str:
    """Return what tells a job from others of its setting."""
    return ", ".join(f"{key}={value}" for key, value in _pairs(job) if key in REPEATS)


def _pairs(job: Job) -> list[tuple[str, str]]:
    parts = (override.lstrip("+").partition("=") for override in job.telling())
    return [(key, value) for key, _, value in parts]


def _has_fold(folder: Path) -> bool:
    """Tell whether the val of a run is a fold, so that another run may have another."""
    is_run = (folder / "config.yaml").is_file() and (folder / "checkpoints").is_dir()
    return is_run and fold_of(load_config(folder)) is not None


def fold_of(config: DictConfig) -> int | None:
    """Return the fold that is val in a run, None where its folders are taken as they are."""
    of_data = OmegaConf.select(config, "data.fold")
    found = config.get("fold") if of_data is None else of_data
    return None if found is None else int(found)


def _short(folder: Path, folders: Sequence[Path]) -> str:
    """Return a folder's name, or its path where others have the same name."""
    whole = folder.resolve()
    is_unique = [one.resolve().name for one in folders].count(whole.name) == 1
    return whole.name if is_unique else short_path(whole)


def choose_split(contestants: Sequence[Contestant], split: str | None) -> str:
    """Return the split to compare on: val where all are folds, else test where all have it."""
    if split is not None:
        return split
    folders = [folder for one in contestants for folder in one.folders]
    have = [
        name
        for name in SPLITS
        if all((folder / f"cases_{name}.csv").is_file() for folder in folders)
    ]
    if all(one.is_folded for one in contestants) and "val" in have:
        return "val"
    if not have:
        raise ValueError(
            "the runs share no split: some have only val, others only test; score them with "
            "evaluate.py, and compare its folders"
        )
    return have[0]


def read_scored(folder: Path, split: str) -> Scored:
    """Read the scores of a split.

    Raises:
        ValueError: If there are none, or a file is damaged.
    """
    file = folder / f"cases_{split}.csv"
    if not file.is_file():
        raise ValueError(f"{folder} has no scores of {split}; choose another split")
    try:
        record = json.loads((folder / RECORD_FILE).read_text())[split]
        assert isinstance(record["truth"], str)
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise ValueError(
            f"{folder} does not say in {RECORD_FILE} how {split} was scored, as earlier releases "
            "did not; score it anew with evaluate.py, and compare that folder"
        ) from error
    return Scored(folder, record, read_cases(file))


def refuse_unlike(scored: Mapping[str, Sequence[Scored]], word: str, split: str) -> None:
    """Refuse contestants that were scored on other masks or patients, or by other rules.

    Raises:
        ValueError: With the two that differ, in what, and the remedy.
    """
    if CATALOGUE[word].is_chosen:
        _refuse_without(scored, word, split)
    (first, firsts), *others = scored.items()
    for name, members in [(first, firsts), *others]:
        for one in members:
            for key, what in _rules(word).items():
                here, there = one.record.get(key), firsts[0].record.get(key)
                if key == "classes" and len(here or ()) != len(there or ()):
                    raise ValueError(
                        f"{name} was scored with {len(here or ())} classes and {first} with "
                        f"{len(there or ())}; compare runs of the same classes"
                    )
                if here != there:
                    alike = f" and one {_TYPED[key]}" if key in _TYPED else " alike"
                    raise ValueError(
                        f"{name} was scored with other {what} than {first} "
                        f"({_told(here)}, not {_told(there)}); score {_them(scored)} with "
                        f"evaluate.py{alike}"
                    )
    for name, members in others:
        truths = [{one.record["truth"] for one in of} for of in (firsts, members)]
        names = [{case.name for one in of for case in one.cases} for of in (firsts, members)]
        if truth_of(firsts) == truth_of(members) and names[0] == names[1]:
            continue
        if names[0] != names[1]:
            lone = sorted(names[0] ^ names[1])
            what = f"{len(lone)} images are in the {split} of one alone, such as {lone[0]}"
        elif len(truths[0]) != len(truths[1]):
            what = f"{len(truths[0])} and {len(truths[1])} different parts of {split}"
        else:
            what = "the images have the same names, but masks or folds differ"
        raise ValueError(
            f"{first} and {name} were not scored on the same {split} ({what}); "
            f"{_remedy(scored, split)}"
        )
    _refuse_other_patients(scored, split)


def _refuse_other_patients(scored: Mapping[str, Sequence[Scored]], split: str) -> None:
    """Refuse runs that give one image to two patients; where one knows none, images are paired."""
    lines = [(case, one) for members in scored.values() for one in members for case in one.cases]
    if not all(case.case for case, _ in lines):
        return
    known: dict[str, tuple[Case, Scored]] = {}
    for case, one in lines:
        before, other = known.setdefault(case.name, (case, one))
        if case.case == before.case:
            continue
        anew = f"score {_them(scored)} anew with evaluate.py split={split} and"
        if any(len(members) > 1 for members in scored.values()):
            anew = "train all with"
        raise ValueError(
            f"{short_path(other.folder)} and {short_path(one.folder)} name other patients for the "
            f"same images ({case.name} is of {before.case}, and of {case.case}); {anew} one "
            "cases.csv or one data.case_pattern"
        )


def _refuse_without(scored: Mapping[str, Sequence[Scored]], word: str, split: str) -> None:
    """Refuse contestants without a score that is computed where it is asked for."""
    lacking = [
        name
        for name, members in scored.items()
        if any(word not in one.record.get("scores", ()) for one in members)
    ]
    if lacking:
        has, each = ("has", "it") if len(lacking) == 1 else ("have", "each")
        remedy = f"score {each} with evaluate.py scores=[{word}] split={split} and compare what "
        remedy += "it writes"
        if any(len(scored[name]) > 1 for name in lacking):
            remedy = f"train with scores=[{word}]"
        raise ValueError(
            f"{' and '.join(lacking)} {has} no {word}, which is computed where it is asked for; "
            f"{remedy}"
        )


def _remedy(scored: Mapping[str, Sequence[Scored]], split: str) -> str:
    """Say on what else all may be compared; evaluate.py, too, takes its fold for val of a run."""
    them, runs = _them(scored), [one for members in scored.values() for one in members]
    if split == "test":
        return f"score {them} with evaluate.py on one folder, data.root=DIR"
    if any(_has_fold(one.folder) or one.record["truth"].startswith("folds:") for one in runs):
        anew = f"score {them} with evaluate.py split=test, or on another folder, data.root=DIR, or "
        alike = f"give {them} the same folds"
    else:
        anew, alike = "", f"score {them} with evaluate.py split=val on one folder, data.root=DIR"
    if all((one.folder / "cases_test.csv").is_file() for one in runs):
        return f"add split=test, which all have, or {alike}"
    return anew + alike


def _them(scored: Mapping[str, Sequence[Scored]]) -> str:
    return "both" if len(scored) == 2 else "all"


def truth_of(scored: Sequence[Scored]) -> str:
    """Return the hash of the masks that runs were scored on, of folds that of all."""
    first, *others = parts = sorted({str(one.record["truth"]) for one in scored})
    if not others:
        return first
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(f"{part}\n".encode())
    return f"folds:{digest.hexdigest()}"


def _rules(word: str) -> dict[str, str]:
    """Return the keys of a record that must be equal, and what they are called."""
    rules = {"convention": "rules", "classes": "classes"}
    if CATALOGUE[word].is_length or word == "nsd":
        rules["spacing"] = "spacing"
    if word == "nsd":
        rules["tolerance"] = "tolerance"
    return rules


def _told(value: object) -> str:
    text = as_typed(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
