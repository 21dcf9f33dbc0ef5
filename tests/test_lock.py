"""What ``make setup`` installs from."""

import re
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = Path(__file__).parents[1] / "requirements.lock"


def test_extras_are_pinned_with_their_packages() -> None:
    """Where only NAME is pinned, pip looks at the newest NAME[EXTRA], which has no hash here."""
    locked = {}
    for name, extras in re.findall(r"^([\w.-]+)(?:\[(.+)\])?==", LOCK.read_text(), re.MULTILINE):
        locked[name] = set(re.split(r",\s*", extras))
    assert len(locked) > 50
    for package in locked:
        try:
            needed = [Requirement(text) for text in requires(package) or []]
        except PackageNotFoundError:  # for another system
            continue
        for one in needed:
            if one.extras and (one.marker is None or one.marker.evaluate({"extra": ""})):
                assert one.extras <= locked[canonicalize_name(one.name)], f"{package} needs {one}"
