"""Files that are either there and whole, or as they were."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(file: Path, ending: str = "") -> Iterator[Path]:
    """Yield a path to write to, hidden beside a file that it replaces when the block ends.

    Each of several writers has a path of its own. What fails leaves the file as it was.

    Args:
        file: Its folder is made where it is missing.
        ending: That of the path, for what chooses a format by it.

    Raises:
        OSError: If it cannot be written; it names the file that was meant.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{uuid.uuid4().hex}.unfinished{ending}")
    try:
        yield draft
        os.replace(draft, file)
    except OSError as error:
        if error.filename in (None, str(draft), draft):
            error.filename, error.filename2 = str(file), None
        raise
    finally:
        draft.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Delete what writers that were killed have left in a folder that nobody else writes to."""
    for draft in folder.glob(f".{'[0-9a-f]' * 32}.unfinished*"):
        draft.unlink(missing_ok=True)
