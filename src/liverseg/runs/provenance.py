"""Where a result comes from: versions, commit, command, machine."""

import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "torchvision", "lightning", "hydra-core", "omegaconf", "torchmetrics")
_PROJECT = Path(__file__).parents[3]


def origin() -> dict[str, Any]:
    """Return the versions of Python and the packages that decide a result, and the commit.

    The commit is "" where the project is no checkout or git is missing.
    """
    versions = {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
    return {"versions": versions, "commit": _git("rev-parse", "HEAD").strip()}


def uncommitted_changes() -> str:
    """Return what differs from the commit, as a patch; "" where nothing does."""
    return _git("diff", "HEAD")


def describe_run(device: str, seed: int) -> dict[str, Any]:
    """Return what a run folder's ``run.json`` says about a run, as plain values."""
    return {
        "command": sys.argv,
        "seed": seed,
        "device": device,
        "platform": platform.platform(),
        **origin(),
        "has_uncommitted_changes": uncommitted_changes() != "",
    }


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(_PROJECT), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
