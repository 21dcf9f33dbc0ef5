"""Paths as they are typed: where ``~`` leads, and what keeps a folder from being written."""

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from liverseg.settings.words import walk

_READ = ("source", "labels", "predictions", "runs", "data.root")  # keys of what a command reads
_HOME = re.compile(r"""(?<![^\[,='"])~[\w.-]*(?=[/\],'"]|$)""")
_ACCENTED = re.compile(r"[\w./@+%~=-]*[^\x00-\x7f][\w./@+%~= -]*")  # a word that Hydra cannot read
_PATHS = (*_READ, "root", "ckpt_path", "tuned", "weights", "output_dir", "dir")


def as_hydra_reads_it(argument: str) -> str:
    """Return an argument with ``~`` expanded, and quotes around what needs them to be read.

    Hydra reads no ``~`` and no letters but those of ASCII, takes a folder ``2024`` for a number,
    and in a path such as that of a sweep's job, ``.../0_seed=1``, it meets signs of its own.
    """
    key, equals, value = argument.partition("=")
    if not equals or not re.fullmatch(r"\+{0,2}[\w./@:]+", key):
        return argument
    value = _HOME.sub(lambda found: os.path.expanduser(found[0]), value)
    if value.startswith("{") and not value.isascii():  # a text, which :func:`expand_home` reads
        return f"{key}={_as_text(value)}"
    is_path = re.split(r"[./]", key)[-1] in _PATHS
    if is_path and (listed := re.fullmatch(r"\[(.*)\]", value)):
        value = f"[{','.join(_each_quoted(listed[1]))}]"
    elif key.startswith("resume"):
        return f"{key}={value}"  # which Hydra does not read
    elif is_path or not _is_number(value):
        value = _quoted(value)
    if not re.search("['\"$]", value):
        value = _ACCENTED.sub(r"'\g<0>'", value)
    return f"{key}={value}"


def _each_quoted(paths: str) -> Iterator[str]:
    """Yield the paths of a list; a comma or a bracket may belong to one: ``.../0_size=[16,16]``."""
    parts = paths.split(",")
    while parts:
        lengths = range(len(parts), 0, -1)
        count = next((count for count in lengths if os.path.exists(",".join(parts[:count]))), 1)
        yield _quoted(",".join(parts[:count]))
        parts = parts[count:]


def _quoted(path: str) -> str:
    """Return a path in quotes, where it exists and Hydra would read something else."""
    is_read_so = re.fullmatch(r"[\w/.:+%@?|\\*-]*", path) and not _is_number(path)
    if is_read_so or not os.path.exists(path):
        return path
    return _as_text(path)


def _as_text(value: str) -> str:
    escaped = value.replace("'", r"\'")
    return f"'{escaped}'"


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[\d_.eE+-]+", text) is not None


def expand_home(config: DictConfig) -> None:
    """Expand ``~`` in the paths of a config, in place; read a path such as 2024 as text.

    A mapping that stands as text, ``{Läsion: 1}``, is read too.
    """
    for key, value in walk(OmegaConf.to_container(config, resolve=False)):
        if isinstance(value, str) and not value.isascii() and re.fullmatch(r"\{.*\}", value):
            OmegaConf.update(config, key, OmegaConf.create(re.sub(r":(?! )", ": ", value)))
            continue
        is_number = key.rpartition(".")[2] in _PATHS and type(value) is int
        if is_number or (isinstance(value, str) and re.match(r"~[\w.-]*(/|$)", value)):
            OmegaConf.update(config, key, os.path.expanduser(str(value)))


def read_too(folder: Path, plain: Any) -> str:
    """Return the key of a plain config that names this folder as one to read from, or "".

    The source of ``predict.py``, which alone has one without labels, may be: it leaves out what it
    has written there.
    """
    named = dict(walk(plain))
    for key in _READ if "labels" in named else _READ[1:]:
        value = named.get(key)
        for one in value if isinstance(value, list) else [value]:
            path = os.path.expanduser(str(one))
            if os.path.isdir(path) and os.path.realpath(path) == os.path.realpath(folder):
                return key
    return ""


def what_blocks(folder: Path) -> str | None:
    """Say why a folder can neither be made nor written, or return None where it can."""
    place = folder.absolute()
    while not os.path.exists(place) and place != place.parent:
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
