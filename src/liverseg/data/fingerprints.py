"""Whether the pairs are those that a run began with: a hash of their names and bytes."""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from liverseg.data.pairs import Pair

_Entry = tuple[int, int, int, str]  # see FileHashes._entry
_NUM_THREADS = 8  # reading waits for the disk, and hashing leaves the interpreter's lock alone
_SETTLED_SECONDS = 2.0  # a file changed twice within a tick of a clock would look unchanged


class FileHashes:
    """Hashes of files' bytes; a file that has not changed since is not read again.

    Args:
        file: Where hashes are kept between starts, beside size and times of change; None keeps
            none. A file that cannot be read is taken for empty.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._known: dict[str, object] = {}
        self._used: dict[str, _Entry] = {}
        if file is not None and file.is_file():
            try:
                known = json.loads(file.read_text())
            except (OSError, ValueError):
                known = None
            self._known = known if isinstance(known, dict) else {}  # its entries: see _entry

    def of(self, files: Sequence[Path]) -> list[str]:
        """Return a BLAKE2b hash of the bytes of each file.

        Raises:
            OSError: If a file cannot be read.
        """
        with ThreadPoolExecutor(_NUM_THREADS) as pool:
            entries = list(pool.map(self._entry, files, chunksize=64))
        self._used |= {str(file.absolute()): one for file, one in zip(files, entries, strict=True)}
        return [entry[-1] for entry in entries]

    def known(self, file: Path) -> str:
        """Return the hash of a file as :meth:`of` has returned it."""
        return self._used[str(file.absolute())][-1]

    def keep(self) -> None:
        """Write what is known and settled, by rename, so that a next start reads the rest alone."""
        if self._file is None:
            return
        latest = time.time_ns() - int(_SETTLED_SECONDS * 1e9)
        settled = {
            name: entry for name, entry in self._used.items() if max(entry[1], entry[2]) < latest
        }
        self._file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            unfinished.write_text(json.dumps(settled))
            unfinished.replace(self._file)
        finally:
            unfinished.unlink(missing_ok=True)

    def _entry(self, file: Path) -> _Entry:
        """Return size, time of change of bytes and of entry in nanoseconds, and the hash."""
        found = file.stat()
        state = (found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        known = self._known.get(str(file.absolute()))
        if isinstance(known, list) and tuple(known[:-1]) == state:
            return (*state, str(known[-1]))
        return (*state, hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest())


def hash_of_bytes(pairs: Sequence[Pair], hashes: FileHashes) -> str:
    """Return a hash of the pairs' names and of the bytes of their files."""
    found = hashes.of([file for pair in pairs for file in (pair.image, pair.mask)])
    digest = hashlib.blake2b(digest_size=16)
    for pair, image, mask in zip(pairs, found[::2], found[1::2], strict=True):
        digest.update(f"{pair.name} {image} {mask}\n".encode())
    return f"bytes:{digest.hexdigest()}"


def hash_of_masks(pairs: Sequence[Pair]) -> str:
    """Return a hash of the pairs' names and of the bytes of their masks: what is scored against."""
    found = FileHashes().of([pair.mask for pair in pairs])
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
