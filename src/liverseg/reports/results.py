"""What a run has trained, on what, and how well it did: the last thing a run folder is given."""

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from liverseg.data import PERCENTILES
from liverseg.pictures import HISTORY_FILE, best_and_worst, rank, read_curves
from liverseg.reports.graphs import Line, graph
from liverseg.reports.pages import Cell, Html, Section, code, columns, facts, fold, page, table
from liverseg.reports.pages import picture as embedded
from liverseg.runs import write_text
from liverseg.scores import intervals_note, read_cases, score_tables, table_of
from liverseg.settings import walk
from liverseg.settings.values import as_typed

RUN_REPORT = "report.html"
_MOST_LISTED = 5  # of the best and of the worst images
_GRAPHS = {"loss": "loss", "dice": "Dice per image", "dice_pooled": "Dice pooled", "iou": "IoU"}
_OF_THE_MOMENT = ("resume", "resume_overrides", "output_dir", "sweep_name", "search")


class Result(NamedTuple):
    """What a page tells of a run, besides what its folder holds.

    ``config`` and ``defaults`` are plain values, the latter empty where they are not known;
    ``starts`` is what ``run.json`` holds, ``facts`` what is to be said of the run in a word each,
    ``intensities`` how bright the training images are.
    """

    config: Mapping[str, Any]
    defaults: Mapping[str, Any]
    scores: Mapping[str, float]
    starts: Sequence[Mapping[str, Any]]
    facts: Mapping[str, Cell]
    intensities: Mapping[str, Any]
    best: float | None  # epochs done at the best check


def write_result(folder: Path, result: Result) -> None:
    """Write ``report.html`` into a run's folder.

    Raises:
        OSError: If it cannot be written.
    """
    monitor = str(result.config.get("monitor", ""))
    splits = [split for split in ("val", "test") if f"{split}/dice" in result.scores]
    sections = [
        Section("Scores", _scores(result, monitor)),
        Section("Training", [facts(result.facts), *_brightness(result)]),
        Section("Curves", _curves(folder, result)),
        *(Section(f"Images of {split}", _images(folder, split)) for split in splits),
        Section("Settings", _settings(result)),
        Section("How to repeat it", _repeat(folder, result)),
    ]
    name = folder.absolute().name
    if not name[:1].isdigit() or "_" not in name:
        name = f"Run {name}"
    lead = "; ".join(
        f"{split} Dice {result.scores[f'{split}/dice']:.3f} per image, "
        f"{result.scores[f'{split}/dice_pooled']:.3f} pooled"
        for split in splits
        if f"{split}/dice_pooled" in result.scores
    )
    write_text(
        folder / RUN_REPORT,
        page(name, [one for one in sections if one.parts], lead=lead),
    )


def _scores(result: Result, monitor: str) -> list[Html | str]:
    parts: list[Html | str] = []
    for one in score_tables(result.scores, monitor):
        name = f"scores of {one.header[0]} by class" if one.header[0] else "scores"
        parts.append(table(name, one.header, one.rows))
    note = intervals_note(result.scores)
    chosen = f"{monitor} chose the checkpoint" if monitor else ""
    parts.append("; ".join(filter(None, [*note, chosen])))
    return parts


def _brightness(result: Result) -> list[Html | str]:
    found = result.intensities
    if not found:
        return []
    rows = [[found["mean"], found["std"], f"{found['black']:.1%}", *found["percentiles"]]]
    heads = ["mean", "std", "black", *(f"p{one}" for one in PERCENTILES)]
    caption = "brightness of training images, in 0 ... 1"
    return [table("brightness of train", heads, rows, caption=caption)]


def _curves(folder: Path, result: Result) -> list[Html | str]:
    curves = read_curves(folder / HISTORY_FILE)
    drawn = []
    for key, title in _GRAPHS.items():
        lines = [
            Line(split, curves[f"{split}/{key}"])
            for split in ("train", "val")
            if any(math.isfinite(value) for _, value in curves.get(f"{split}/{key}", ()))
        ]
        if lines:
            limits = None if key == "loss" else (0.0, 1.0)
            drawn.append(graph(title, lines, marked=result.best, limits=limits))
    if not drawn:
        return []
    note = ["The dotted line is the best epoch."] if result.best is not None else []
    return [columns(drawn), *note]


def _images(folder: Path, split: str) -> list[Html | str]:
    """Show the best and the worst images of a split, and name them with their Dice."""
    parts: list[Html | str] = []
    file = folder / "pictures" / f"best_and_worst_{split}.png"
    try:
        alt = f"the best and the worst images of {split}, with their errors"
        parts.append(embedded(file, alt=alt))
    except OSError:  # none was asked for
        pass
    try:
        cases = read_cases(folder / f"cases_{split}.csv")
    except (OSError, ValueError):
        cases = []
    if not cases:
        return parts
    counted = table_of(cases, ())
    is_known = any(case.case for case in cases)
    tables = [
        table(
            f"{caption.split()[0]} of {split}",
            ["image", *(["case"] if is_known else []), "Dice"],
            [
                [cases[one.index].name, *([cases[one.index].case] if is_known else []), one.dice]
                for one in images
            ],
            caption=caption,
        )
        for images, caption in zip(
            best_and_worst(rank(counted.indices, counted.counts), _MOST_LISTED),
            ("best", f"worst of {len(cases):,}"),
            strict=True,
        )
        if images
    ]
    return [*parts, columns(tables)] if tables else parts


def _settings(result: Result) -> list[Html | str]:
    """Show what differs from the defaults, and all of it on a click."""
    output_dir = str(result.config.get("output_dir", ""))
    here, there = (
        {
            key: value
            for key, value in walk(values, lists=False)
            if not isinstance(value, Mapping) and key.split(".")[0] not in _OF_THE_MOMENT
        }
        for values in (dict(result.config), dict(result.defaults))
    )
    rows = [*map(_shown, here.items())]
    everything = fold("All settings", [table("all settings", ["setting", "value"], rows)])
    if not there:
        return [everything]
    changed = [
        [key, *(_of(settings, key) for settings in (here, there))]
        for key in dict.fromkeys([*here, *there])
        if here.get(key, "not there") != there.get(key, "not there")
        and here.get(key.rpartition(".")[0], "") is not None  # told once, where it begins
        and not (output_dir and output_dir in str(here.get(key, "")))
    ]
    if not changed:
        return ["All settings are the defaults.", everything]
    heads = ["setting", "of this run", "default"]
    return [table("settings that differ", heads, changed), everything]


def _of(settings: Mapping[str, Any], key: str) -> str:
    """Return a setting as one would type it, or that it has others below it, or none."""
    if any(one.startswith(f"{key}.") for one in settings):
        return "several settings"
    return as_typed(settings[key]) if key in settings else "not there"


def _shown(setting: tuple[str, Any]) -> list[str]:
    return [setting[0], as_typed(setting[1])]


def _repeat(folder: Path, result: Result) -> list[Html | str]:
    """Show the commands, and what else decides the numbers."""
    if not result.starts:
        return []
    commands = [
        shlex.join(["python", Path(words[0]).name, *words[1:]])
        for start in result.starts
        if (words := [str(word) for word in start.get("command", [])])
    ]
    last = result.starts[-1]
    named: dict[str, Cell] = {
        "commit": str(last.get("commit", "")) or "none: no checkout of git",
        "changes beside it": "in uncommitted.patch"
        if last.get("has_uncommitted_changes")
        else "none",
        "seed": str(last.get("seed", "")),
        "device": str(last.get("device", "")),
        "platform": str(last.get("platform", "")),
        "versions": ", ".join(f"{name} {one}" for name, one in last.get("versions", {}).items()),
    }
    pairs = {
        f"pairs of {split}": str(fingerprint)
        for split, fingerprint in last.get("pairs", {}).items()
    }
    again = f"python evaluate.py ckpt_path={shlex.quote(f'{folder}/checkpoints/best.ckpt')}"
    return [
        code("\n".join([*commands, f"{again} split=val"])),
        facts({**named, **pairs}),
    ]
