"""The score that a run watches: is it logged, in which direction is it better?"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.optim.lr_scheduler import ReduceLROnPlateau

from liverseg.data import TABLE, PairDataModule, PairFolders, colour_names
from liverseg.scores import CATALOGUE, computed, keys_of, score_of
from liverseg.settings import nearest
from liverseg.settings.classes import Plain, find_target, refuse_no_class
from liverseg.settings.values import as_typed, is_whole


def score_names(data: Mapping[str, Any], chosen: Sequence[str] = ()) -> list[str]:
    """Return the names of what a run measures on val and may watch.

    Args:
        data: The section ``data`` of a config.
        chosen: The scores that ``scores`` names.
    """
    has_cases = data.get("case_pattern") or Path(str(data.get("root")), TABLE).is_file()
    words = [word for word in computed(chosen) if not CATALOGUE[word].forgets]
    scores = keys_of(words, has_cases=bool(has_cases))
    count = data["num_classes"] if is_whole(data.get("num_classes")) else 2
    first = 0 if data.get("background") is False else 1
    names = (
        data.get("class_names")
        or colour_names(data.get("mask_colors"), count, background=first > 0)
        or [f"class_{index}" for index in range(first, count)]
    )
    per_class = [f"{score}/{name}" for score in scores for name in names if count - first > 1]
    return [f"val/{name}" for name in ("loss", *scores, *per_class)]


def check_monitors(plain: Plain) -> None:
    """Refuse a monitor that no one logs, or a mode that does not fit it."""
    names = score_names(plain["data"], plain.get("scores") or ())
    _check_monitor("monitor", plain["monitor"], names)
    _check_mode("monitor_mode", plain.get("monitor_mode", "max"), plain["monitor"])
    for name, node in (plain.get("callbacks") or {}).items():
        refuse_no_class(f"callbacks.{name}", node, f"leave it out with ~callbacks.{name}")
        watched = node.get("monitor")
        if watched is None:
            continue
        _check_monitor(f"callbacks.{name}.monitor", watched, names)
        target = find_target(f"callbacks.{name}", node["_target_"])
        if isinstance(target, type) and issubclass(target, ModelCheckpoint | EarlyStopping):
            _check_mode(f"callbacks.{name}.mode", node.get("mode", "min"), watched)
    target = find_target("scheduler", plain["scheduler"]["_target_"])
    if isinstance(target, type) and issubclass(target, ReduceLROnPlateau):
        _check_mode("scheduler.mode", plain["scheduler"].get("mode", "min"), plain["monitor"])


def _check_monitor(key: str, monitor: str, names: Sequence[str]) -> None:
    if monitor in names:
        return
    score, _, _ = monitor.removeprefix("val/").partition("/")
    found = score_of(score) if monitor.startswith("val/") else None
    if found is not None and found[0].forgets:
        raise ValueError(
            f"{key}={monitor} would reward a network that misses structures, which have no "
            f"distance; set {key}=val/nsd, with scores=[nsd], where they count 0"
        )
    if found is not None and found[0].is_chosen and found[0].word not in _words_of(names):
        raise ValueError(
            f"{key}={monitor} is computed where it is asked for; add scores=[{found[0].word}]"
        )
    if found is not None and found[1] == "_case":
        raise ValueError(
            f"{key}={monitor} needs data.case_pattern, which finds the patient in a file name; set "
            f"it, or {key}=val/{score.removesuffix('_case')}"
        )
    split, _, rest = monitor.partition("/")
    if split in ("train", "test") and f"val/{rest}" in names:
        raise ValueError(
            f"{key}={monitor} must be a score of val, which judges a network while it is trained; "
            f"the nearest is val/{rest}"
        )
    closest = f"val/{monitor}" if f"val/{monitor}" in names else nearest(monitor, names)
    if closest is None:
        few = [name for name in names if name.count("/") == 1]
        raise ValueError(f"{key}={monitor} is not logged; choose one of {', '.join(few)}")
    raise ValueError(f"{key}={monitor} is not logged; the nearest is {closest}")


def _words_of(names: Sequence[str]) -> set[str]:
    return {name.split("/")[1] for name in names}


def _check_mode(key: str, mode: str, monitor: str) -> None:
    found = score_of(monitor.removeprefix("val/"))
    is_larger = found is not None and found[0].is_better == "larger"
    best, better = ("max", "larger") if is_larger else ("min", "smaller")
    if mode != best:
        raise ValueError(
            f"{key}={mode} does not fit {monitor}: {better} is better; set {key}={best}"
        )


def check_scores(plain: Plain) -> None:
    """Refuse a score that there is not."""
    chosen = plain.get("scores") or []
    for word in chosen:
        if word not in CATALOGUE:
            closest = nearest(str(word), CATALOGUE)
            raise ValueError(
                f"scores={as_typed(chosen)}: {word} is no score; "
                + (f"the nearest is {closest}, " if closest else "")
                + f"all are {', '.join(CATALOGUE)}"
            )


def check_cases(plain: Plain) -> None:
    """Refuse to monitor a score per case where a name carries no case.

    With folds, any pair of train/ and val/ may come to be in val.
    """
    data, watched = plain["data"], {"monitor": plain["monitor"]}
    for name, node in plain["callbacks"].items():
        watched[f"callbacks.{name}.monitor"] = node.get("monitor") or ""
    of_cases = [key for key, name in watched.items() if re.match(r"val/\w+_case(/|$)", name)]
    is_known = find_target("data", data["_target_"]) is PairDataModule
    if not of_cases or not is_known or data.get("root") in (None, "???"):
        return
    folders = PairFolders(
        Path(data["root"]),
        mask_suffix=data.get("mask_suffix", "_mask"),
        case_pattern=data["case_pattern"],
    )
    splits = ["val"] if data.get("fold") is None else ["train", "val"]
    splits = [split for split in splits if folders.has(split)]
    pairs = [pair for split in splits for pair in folders.listed(split)]
    if without := [pair.name for pair in pairs if pair.case is None]:
        key, monitor = of_cases[0], watched[of_cases[0]]
        carrier = "every file name" if folders.table is None else f"every row of {TABLE}"
        raise ValueError(
            f"{key}={monitor} needs a patient in {carrier}, and {len(without)} of "
            f"{len(pairs)} in {' and '.join(map(folders.where, splits))} carry none, such as "
            f"{without[0]}; set data.case_pattern, or {key}={monitor.replace('_case', '', 1)}"
        )
