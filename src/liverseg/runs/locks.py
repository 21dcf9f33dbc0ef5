"""Locks that end with the process that holds them, however that ends."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"  # in a run's folder while it trains, in a sweep's while jobs are prepared
# A look takes a lock for less than a millisecond, and a look is not what one gives up for.
_LOOK_SECONDS = 0.5
_NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def locked(file: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock of a file, made where it does not exist; yield whether it is held.

    With ``wait`` it is waited for; else False is yielded where another process holds it, and True
    where a file system knows no locks. Processes that are forked meanwhile do not inherit it.

    Raises:
        OSError: If the file cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file, timeout=-1 if wait else _LOOK_SECONDS, thread_local=False)
    is_held = True
    try:
        lock.acquire()
    except Timeout:
        is_held = False
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:
            raise
    try:
        yield is_held
    finally:
        lock.release()


def is_locked(file: Path) -> bool:
    """Tell whether a process holds the lock of a file; a file that may only be read counts as held.

    Where a file system knows no locks, none is held.

    Others that take the lock at the same moment are not disturbed: they try again.
    """
    if not file.exists():
        return False
    try:
        with FileLock(file, timeout=_LOOK_SECONDS / 5, poll_interval=_LOOK_SECONDS / 50):
            return False
    except (Timeout, PermissionError):
        return True
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:
            raise
        return False
