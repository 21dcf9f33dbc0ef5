"""Paths as they are typed: where ``~`` leads, and what keeps a folder from being written."""

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from liverseg.settings.words import walk

_PATHS = (
    "root",
    "source",
    "ckpt_path",
    "tuned",
    "weights",
    "predictions",
    "runs",
    "labels",
    "output_dir",
    "dir",
)
_READ = ("source", "labels", "predictions", "runs")  # keys of files that a command reads


def as_hydra_reads_it(argument: str) -> str:
    """Return an argument with ``~`` expanded, and quotes around an existing path that needs them.

    Hydra reads no ``~``, takes a folder ``2024`` for a number, and in a path such as that of a
    sweep's job, ``.../0_seed=1``, it meets signs of its own.
    """
    key, equals, value = argument.partition("=")
    if not equals or not re.fullmatch(r"\+{0,2}[\w./@:]+", key):
        return argument
    value = re.sub(
        r"""(?<![^\[,='"])~[\w.-]*(?=[/\],'"]|$)""",
        lambda found: os.path.expanduser(found[0]),
        value,
    )
    if re.split(r"[./]", key)[-1] in _PATHS and re.fullmatch(r"\[.*\]", value):
        return f"{key}=[{','.join(_each_quoted(value[1:-1]))}]"
    needs_none = re.fullmatch(r"[\w/.:+%@?|\\-]*", value)
    is_number = re.fullmatch(r"[\d_.eE+-]+", value) and re.split(r"[./]", key)[-1] in _PATHS
    if key.startswith("resume") or (needs_none and not is_number) or not _exists(value):
        return f"{key}={value}"  # Hydra does not read resume=...
    escaped = value.replace("'", r"\'")
    return f"{key}='{escaped}'"


def _each_quoted(paths: str) -> Iterator[str]:
    """Yield the paths of a list, those with signs of Hydra's own in quotes where they exist.

    A comma or a bracket may belong to a path: the job of a sweep over ``[16,16]``, say.
    """
    parts = paths.split(",")
    while parts:
        count = next(
            (count for count in range(len(parts), 0, -1) if _exists(",".join(parts[:count]))), 1
        )
        path, parts = ",".join(parts[:count]), parts[count:]
        plain = re.fullmatch(r"[\w/.:+%@?|\\*-]*", path) or not _exists(path)
        yield path if plain else "'{}'".format(path.replace("'", r"\'"))


def expand_home(config: DictConfig) -> None:
    """Expand ``~`` in the paths of a config, in place, and read a path such as 2024 as text."""
    for key, value in walk(OmegaConf.to_container(config, resolve=False)):
        is_number = re.split(r"\.", key)[-1] in _PATHS and type(value) is int
        if is_number or (isinstance(value, str) and re.match(r"~[\w.-]*(/|$)", value)):
            OmegaConf.update(config, key, os.path.expanduser(str(value)))


def read_too(folder: Path, plain: Any) -> str:
    """Return the key of a config that names a folder to read from, where it is this one, or "".

    The source of ``predict.py``, which alone has one without labels, may be: it leaves out what it
    has written there.

    Args:
        folder: Where a command is to write.
        plain: The config, as plain values.
    """
    if not isinstance(plain, dict):
        return ""
    data = plain.get("data")
    named = {key: plain.get(key) for key in _READ} | {
        "data.root": data.get("root") if isinstance(data, dict) else None
    }
    if "labels" not in plain:
        del named["source"]
    for key, value in named.items():
        for one in value if isinstance(value, list) else [value]:
            path = os.path.expanduser(str(one))
            if os.path.isdir(path) and os.path.realpath(path) == os.path.realpath(folder):
                return key
    return ""


def what_blocks(folder: Path) -> str | None:
    """Say why a folder can neither be made nor written, or return None where it can."""
    place = folder.absolute()
    while not _exists(place) and place != place.parent:
        if place.is_symlink():
            return f"{place} is a link to nothing"
        place = place.parent
    if not place.is_dir():
        return f"{place} is a file"
    try:
        with tempfile.TemporaryFile(dir=place):
            return None
    except OSError as error:
        return f"{place} may not be written ({error.strerror})"


def _exists(path: str | Path) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # longer than a file system takes, or with a zero in it
        return False
