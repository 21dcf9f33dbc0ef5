"""Locks that end with the process that holds them, however that ends."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks: there, nothing keeps two processes apart
    fcntl = None  # type: ignore[assignment]  # the module, or none

_TAKEN = (errno.EACCES, errno.EAGAIN)


@contextmanager
def locked(file: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock of a file, made where it does not exist; yield whether it is held.

    Processes that are forked meanwhile do not inherit it. A process can take the same lock twice,
    and loses it when it lets go once.

    Args:
        file: The file.
        wait: Whether to wait for a process that holds the lock; else False is yielded.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as stream:
        yield _take(stream.fileno(), wait)


def is_locked(file: Path) -> bool:
    """Tell whether another process holds the lock of a file."""
    if not file.exists():
        return False
    with locked(file, wait=False) as is_free:
        return not is_free


def _take(descriptor: int, wait: bool) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        # Where a file system knows no locks, there is nothing to wait for.
        return error.errno not in _TAKEN
    return True
