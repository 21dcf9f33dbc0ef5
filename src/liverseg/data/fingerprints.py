"""What is known of files that have not changed: their bytes' hash, and what their headers say.

A start asks for both of every file. What one start has found out the next one takes over where size
and times of change are the same, so that it reads only what is new.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from liverseg.data.images import decoded_bytes
from liverseg.data.pairs import Pair
from liverseg.files import written_whole

_NUM_THREADS = 8  # reading waits for the disk, and hashing leaves the interpreter's lock alone
_BATCH = 256  # files that a thread takes at once, at most
_TRIED = 32  # items, before it is known whether threads help
_WORTH_THREADS_SECONDS = 0.001  # for one item
_SETTLED_SECONDS = 2.0  # a file changed twice within a tick of a clock would look unchanged
_WORTH_KEEPING = 2_000  # files below a folder, for which a start takes long enough
_MOST_CHECKS = 16
_CHECKED = "checked"  # beside the files in what is kept, whose names are absolute
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
logger = logging.getLogger(__name__)
Header = tuple[tuple[int, int], int]  # as decoded_bytes returns it


def kept_file(root: Path) -> Path:
    """Return where what is known of the files below a folder is kept for every run on it."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    name = hashlib.blake2b(os.fsencode(root.absolute()), digest_size=8).hexdigest()
    return Path(caches).expanduser() / "liverseg" / f"pairs-{name}.json"


class FileFacts:
    """Facts about files; of one that has not changed since they were kept they are not read again.

    Args:
        files: Where facts are kept between starts, beside size and times of change. One that cannot
            be read is taken for empty.
    """

    def __init__(self, *files: Path) -> None:
        self._known: dict[str, object] = {}
        self._checks: dict[str, object] = {}
        self._states: dict[str, tuple[int, int, int]] = {}
        self._hashes: dict[str, str] = {}
        self._headers: dict[str, Header] = {}
        self._has_news = False
        for file in files:
            self.add(file)

    def add(self, file: Path) -> None:
        """Take over what a file holds."""
        try:
            known = json.loads(file.read_text())
        except (OSError, ValueError, RecursionError):
            return
        if isinstance(known, dict):  # its entries are looked at when they are used
            checks = known.pop(_CHECKED, None)
            self._checks |= checks if isinstance(checks, dict) else {}
            self._known |= known

    def of(self, files: Sequence[Path]) -> list[str]:
        """Return a BLAKE2b hash of the bytes of each file.

        Raises:
            OSError: If a file cannot be read.
        """
        return in_threads(self._hash, files)

    def known(self, file: Path) -> str:
        """Return the hash of a file as :meth:`of` has returned it."""
        return self._hashes[_name(file)]

    def headers(self, files: Sequence[Path]) -> list[Header]:
        """Return what :func:`~liverseg.data.images.decoded_bytes` says of each file.

        Raises:
            ValueError: If a file is no image.
        """
        return in_threads(self.header, files)

    def header(self, file: Path) -> Header:
        """Return what :func:`~liverseg.data.images.decoded_bytes` says of a file."""
        name = _name(file)
        if name not in self._headers:
            kept = self._kept(file, name)[4:]
            if len(kept) == 3 and all(type(one) is int and one > 0 for one in kept):
                self._headers[name] = ((kept[0], kept[1]), kept[2])
            else:
                self._headers[name] = decoded_bytes(file)
                self._has_news = True
        return self._headers[name]

    @property
    def has_checks(self) -> bool:
        """Whether an earlier start has read all files of some kind."""
        return bool(self._checks)

    def checked(self, what: str) -> list[int] | None:
        """Return what :meth:`check` was told, here or at an earlier start; None for nothing."""
        found = self._checks.get(what)
        if isinstance(found, list) and all(type(one) is int for one in found):
            return found
        return None

    def check(self, what: str, found: Iterable[int]) -> None:
        """Remember what was found where all files were read."""
        if self.checked(what) is None:
            self._checks = dict(list(self._checks.items())[1 - _MOST_CHECKS :])
            self._checks[what] = sorted(found)
            self._has_news = True

    def keep(self, file: Path, *, with_checks: bool = False) -> None:
        """Write what is known and settled, by rename, so that a next start reads the rest alone.

        Args:
            file: Is replaced.
            with_checks: Whether what :meth:`check` was told is written too.

        Raises:
            OSError: If it cannot be written.
        """
        latest = time.time_ns() - int(_SETTLED_SECONDS * 1e9)
        settled: dict[str, Any] = {}
        for name, found in self._hashes.items():
            state = self._states[name]
            if max(state[1], state[2]) < latest:
                size, value_bytes = self._headers.get(name, ((), 0))
                settled[name] = [*state, found, *size, *([value_bytes] if size else ())]
        if with_checks:
            settled[_CHECKED] = self._checks
        with written_whole(file) as draft:
            draft.write_text(json.dumps(settled))

    def keep_for_all(self, file: Path) -> None:
        """Write what is known, as :meth:`keep` does, where it is worth it and can be written."""
        if len(self._hashes) < _WORTH_KEEPING or not self._has_news:
            return
        try:
            self.keep(file, with_checks=True)
        except OSError as error:
            logger.debug("the next start reads all files again: %s", error)

    def _hash(self, file: Path) -> str:
        name = _name(file)
        kept = self._kept(file, name)[3:4]
        found = kept[0] if kept and isinstance(kept[0], str) else None
        if found is None:
            found = hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
            self._has_news = True
        self._hashes[name] = found
        return found

    def _kept(self, file: Path, name: str) -> list[Any]:
        """Return size, times of change in nanoseconds, and what was kept of a file as it is now."""
        found = file.stat()
        state = (found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        if self._states.setdefault(name, state) != state:  # changed since it was first looked at
            self._states[name] = state
            self._headers.pop(name, None)
        known = self._known.get(name)
        return known if isinstance(known, list) and tuple(known[:3]) == state else list(state)


def in_threads(work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Return what a function makes of each item, in order, by several threads where they help.

    The first items are tried: where each is done at once, as with small images, threads would
    mostly wait for the interpreter's lock, and one alone is faster (``benchmarks/start.py``).
    """
    first, taken = [], [0.0]  # so that no items have a median, too
    for item in items[:_TRIED]:
        begun = time.perf_counter()
        first.append(work(item))
        taken.append(time.perf_counter() - begun)
    rest = items[_TRIED:]
    if median(taken) < _WORTH_THREADS_SECONDS:
        return first + [work(item) for item in rest]
    size = min(_BATCH, len(rest) // (4 * _NUM_THREADS) + 1)

    def batch(start: int) -> list[_Result]:
        return [work(item) for item in rest[start : start + size]]

    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        return first + [one for some in pool.map(batch, range(0, len(rest), size)) for one in some]


def hash_of_bytes(pairs: Sequence[Pair], facts: FileFacts) -> str:
    """Return a hash of the pairs' names and of the bytes of their files."""
    found = facts.of([file for pair in pairs for file in (pair.image, pair.mask)])
    digest = hashlib.blake2b(digest_size=16)
    for pair, image, mask in zip(pairs, found[::2], found[1::2], strict=True):
        digest.update(f"{pair.name} {image} {mask}\n".encode())
    return f"bytes:{digest.hexdigest()}"


def hash_of_masks(pairs: Sequence[Pair]) -> str:
    """Return a hash of the pairs' names and of the bytes of their masks: what is scored against."""
    found = FileFacts().of([pair.mask for pair in pairs])
    digest = hashlib.blake2b(digest_size=16)
    for pair, mask in zip(pairs, found, strict=True):
        digest.update(f"{pair.name} {mask}\n".encode())
    return f"masks:{digest.hexdigest()}"


def hash_of_sizes(pairs: Sequence[Pair]) -> str:
    """Return what earlier releases compared: a hash of the pairs' names and file sizes."""
    digest = hashlib.sha256()
    for pair in pairs:
        sizes = (pair.image.stat().st_size, pair.mask.stat().st_size)
        digest.update(f"{pair.name} {sizes}\n".encode())
    return digest.hexdigest()


def _name(file: Path) -> str:
    return os.fspath(file if file.is_absolute() else file.absolute())
