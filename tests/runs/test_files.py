import errno
import json
import re
import threading
from pathlib import Path

import pytest

from liverseg.runs.files import read_json, write_json, write_text


def test_a_file_that_cannot_be_written_whole_is_left_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "a.json"
    write_json(file, {"a": 1})
    with pytest.raises(TypeError):
        write_json(file, {"a": object()})
    assert json.loads(file.read_text()) == {"a": 1}
    assert list(file.parent.iterdir()) == [file]


def test_a_file_that_several_write_at_once_is_that_of_one_of_them(tmp_path: Path) -> None:
    file = tmp_path / "sweep.csv"
    texts = [str(number) * 5000 for number in range(4)]
    failed: list[BaseException] = []

    def write_often(text: str) -> None:
        try:
            for _ in range(100):
                write_text(file, text)
        except OSError as error:
            failed.append(error)

    writers = [threading.Thread(target=write_often, args=(text,)) for text in texts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failed == []
    assert file.read_text() in texts
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_leaves_nothing_unfinished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sweep.csv"
    write_text(file, "before")

    def fill_up(path: Path, content: bytes) -> None:
        with path.open("wb") as stream:
            stream.write(content[:3])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill_up)
    with pytest.raises(OSError, match=f"No space left on device: '{file}'"):
        write_text(file, "after")
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1,"])
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    write_json(file, [{"a": 1.5}])
    assert read_json(file) == [{"a": 1.5}]
    file.write_bytes(content)
    pattern = rf"^{re.escape(str(file))} is damaged \(.+\); restore it, or delete it$"
    with pytest.raises(ValueError, match=pattern):
        read_json(file)
