import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from liverseg.runs.locks import is_locked, locked

HOLD = """
import sys
from pathlib import Path
from liverseg.runs.locks import locked
with locked(Path(sys.argv[1]), wait=True) as is_held:
    print(is_held, flush=True)
    sys.stdin.read()
"""


def test_a_lock_that_nobody_holds_is_free(tmp_path: Path) -> None:
    file = tmp_path / "folder" / ".lock"
    assert not is_locked(file)
    with locked(file, wait=False) as is_held:
        assert is_held
    assert not is_locked(file)


def test_a_look_at_a_lock_keeps_nobody_from_taking_it(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    file.touch()
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set():
            is_locked(file)

    looks = threading.Thread(target=look)
    looks.start()
    taken = []
    for _ in range(20):
        with locked(file, wait=False) as is_held:
            taken.append(is_held)
    is_over.set()
    looks.join()
    assert all(taken)


def test_a_lock_is_held_against_its_own_process_too(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    with locked(file, wait=False):
        assert is_locked(file)
        with locked(file, wait=False) as is_held:
            assert not is_held
        assert is_locked(file)
    assert not is_locked(file)


@pytest.mark.slow
def test_a_lock_is_held_until_its_process_ends_however_that_ends(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"True\n"
    assert is_locked(file)
    with locked(file, wait=False) as is_held:
        assert not is_held
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    with locked(file, wait=True) as is_held:
        assert is_held


def test_where_a_file_system_knows_no_locks_everyone_holds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with locked(tmp_path / ".lock", wait=False) as is_held:
        assert is_held
    (tmp_path / ".lock").touch()
    assert not is_locked(tmp_path / ".lock")
