"""Files that are either there and whole, or not there."""

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_json(file: Path, content: Mapping[str, Any] | list[Any]) -> None:
    """Write a file of plain values beside its place, then rename it."""
    write_text(file, json.dumps(content, indent=2) + "\n")


def write_text(file: Path, text: str) -> None:
    """Write a text file beside its place, then rename it."""
    write_bytes(file, text.encode())


def write_bytes(file: Path, content: bytes) -> None:
    """Write a file beside its place, then rename it; of several writers at once, each does.

    Raises:
        OSError: If it cannot be written. What stood there before still does.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.{uuid.uuid4().hex}.unfinished")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, file)
    except OSError as error:
        error.filename, error.filename2 = str(file), None  # the one that was meant
        raise
    finally:
        unfinished.unlink(missing_ok=True)


def read_json(file: Path) -> Any:  # plain values
    """Return what :func:`write_json` wrote.

    Raises:
        ValueError: If the file is damaged.
    """
    try:
        return json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}); restore it, or delete it") from error


def short_path(path: str | Path) -> str:
    """Return a path as one would type it: relative where it lies below the current folder."""
    whole = Path(path).absolute()
    return str(whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole)
