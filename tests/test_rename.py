"""A clone under a name of its own."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rename", ROOT / "docs" / "rename.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


OLD = script().OLD
# In a clone that has been renamed there is nothing left to try.
pytestmark = pytest.mark.skipif(not (ROOT / "src" / OLD).is_dir(), reason="renamed already")


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", "a name is missing"),
        ("my-study", "must be small letters, digits and single underscores"),
        ("2study", "must be small letters"),
        ("a/../b", "must be small letters"),
        ("class", "is a word or a module of Python itself"),
        ("code", "is a word or a module of Python itself"),
        ("numpy", "exists already"),
        ("configs", "exists already"),
        ("train", "exists already"),
        (OLD, "is what the package is called already"),
    ],
)
def test_a_name_that_cannot_be_is_refused(name: str, sentence: str) -> None:
    assert sentence in script().refusal(name, ROOT)


@pytest.mark.slow
@pytest.mark.parametrize("chosen", ["mystudy", "a_much_longer_name"])
def test_a_clone_is_renamed_and_loads_what_was_written_before(tmp_path: Path, chosen: str) -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no clone of git")
    clone = tmp_path / "clone"
    for name in git(ROOT, "ls-files", "-z").split("\0"):
        if name and (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    git(tmp_path, "init", "-q", str(clone))
    assert "not committed" not in script().refusal(chosen, clone)
    git(clone, "add", "-A")
    git(clone, "commit", "-q", "-m", "as it was")
    (clone / "README.md").write_text("changed")
    assert "not committed (README.md)" in script().refusal(chosen, clone)
    git(clone, "checkout", "-q", "README.md")

    command = [sys.executable, "docs/rename.py", chosen]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=True)
    assert f"files now speak of {chosen}" in done.stdout
    left = git(clone, "grep", "--untracked", "-I", "-l", OLD).split()
    earlier = f"src/{chosen}/training/earlier.py"
    assert left == ["CHANGELOG.md", "LICENSE", "pyproject.toml", earlier]
    assert ('"E501"' in (clone / "pyproject.toml").read_text()) is (len(chosen) > len(OLD))
    ruff = [sys.executable, "-m", "ruff"]
    subprocess.run([*ruff, "check", "."], cwd=clone, check=True)
    subprocess.run([*ruff, "format", "--check", "."], cwd=clone, check=True)

    loading = (
        f"from {chosen}.checkpoints import load_checkpoint, load_task\n"
        "print(type(load_task(load_checkpoint('tests/training/format_1.ckpt')).net))\n"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", loading],
        cwd=clone,
        env={"PYTHONPATH": str(clone / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{chosen}.network.unet.UNet" in loaded.stdout
    assert "has been renamed already" in script().refusal("another", clone)
