"""Processes that end with the one that started them, and the signals that they hear."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def die_with(parent: int) -> None:
    """Have the kernel end this process when that parent ends, however that ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the process that started this one has ended")


def child_environment(num_processes: int) -> dict[str, str]:
    """Return the environment of a child that shall import what this process can import.

    Where nothing else is said, it shares the cores with as many processes as there are to be.
    """
    paths = [sys.path[0], *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    threads = {"OMP_NUM_THREADS": str(max(1, num_cores() // num_processes))}
    return {**threads, **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def num_processes(trainer: Mapping[str, Any], num_gpus: int) -> int:
    """Return how many processes the settings of a Trainer ask for on a computer with such GPUs."""
    devices = trainer.get("devices", "auto")
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        return len(devices)
    if devices in ("auto", -1, "-1"):
        on_gpu = trainer.get("accelerator", "auto") in ("auto", "gpu", "cuda")
        return max(num_gpus, 1) if on_gpu else 1
    return int(devices)


def num_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def heard(*numbers: signal.Signals, then: Callable[[], None] | None = None) -> Iterator[list[int]]:
    """Collect signals instead of being ended by them, until the context ends.

    Only the main thread hears any. ``then`` is called after each of them.
    """
    received: list[int] = []

    def keep(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if then is not None:
            then()

    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, keep) for number in numbers if is_main}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
