"""Files of plain values, of text and of bytes, and paths as one types them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from liverseg.files import written_whole


def write_json(file: Path, content: Mapping[str, Any] | list[Any]) -> None:
    """Write a file of plain values, whole or not at all."""
    write_text(file, json.dumps(content, indent=2) + "\n")


def write_text(file: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_bytes(file, text.encode())


def write_bytes(file: Path, content: bytes) -> None:
    """Write a file, whole or not at all.

    Raises:
        OSError: If it cannot be written. What stood there before still does.
    """
    with written_whole(file) as draft:
        draft.write_bytes(content)


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
