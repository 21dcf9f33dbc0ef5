"""Waits for what another process does."""

import time
from collections.abc import Callable


def wait_for(happens: Callable[[], bool], seconds: float = 400) -> None:
    """Return once it happens; fail where it does not."""
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, f"did not happen within {seconds} s"
        time.sleep(0.02)
