"""A disk that is full, a real one of two megabytes: one sentence, whichever file meets it first."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from forks import Command

ROOT = Path(__file__).parents[1]
MEBIBYTE = 2**20
SMALL = (
    *("data=liver", "model=unet_small", "model.depth=1", "model.width=2", "trainer.max_epochs=2"),
    *("trainer.accelerator=cpu", "++trainer.enable_progress_bar=false"),
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, leave: int) -> None:
    """Leave so many bytes on a disk."""
    (disk / "filling").unlink(missing_ok=True)
    (disk / "filling").write_bytes(bytes(max(shutil.disk_usage(disk).free - leave, 0)))


def is_told(text: str, most: int = 3) -> bool:
    """Tell whether an output says that there is no space, in a line or a few."""
    lines = [line for line in text.splitlines() if re.search("disk (is )?full|No space left", line)]
    return 0 < len(lines) <= most


@pytest.mark.slow
@pytest.mark.parametrize("leave", [0, 24 * 1024, 96 * 1024])
def test_a_full_disk_is_told_in_one_sentence_wherever_a_run_meets_it(
    leave: int, disk: Path, pair_root: Path
) -> None:
    run = disk / "run"
    fill(disk, leave)
    command = [f"data.root={pair_root}", f"hydra.run.dir={run}", *SMALL]
    code, text = Command(ROOT / "train.py", *command, folder=disk.parent, rendered=True).end()
    assert "Traceback" not in text, text
    assert is_told(text) if code else (run / "metrics.json").is_file(), text
    assert not list(run.rglob("*.unfinished")), text


@pytest.mark.slow
def test_a_sweep_lives_on_when_its_disk_is_full(disk: Path, pair_root: Path) -> None:
    fill(disk, leave=64 * 1024)
    sweep = [f"hydra.sweep.dir={disk / 'sweep'}", "seed=1,2", "sweep_name=full"]
    command = ["-m", f"data.root={pair_root}", *sweep, *SMALL]
    _, text = Command(ROOT / "train.py", *command, folder=disk.parent, rendered=True).end()
    assert "Traceback" not in text, text
    assert is_told(text, most=9), text  # for each job, and for the table
    (disk / "filling").unlink()
    code, text = Command(ROOT / "train.py", *command, folder=disk.parent, rendered=True).end()
    assert code == 0, text
    assert (disk / "sweep" / "sweep.csv").is_file(), text
