"""Several jobs at once on one computer, each in an operating-system process of its own."""

import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from liverseg.runs import (
    Job,
    child_environment,
    heard,
    is_locked,
    load_config,
    locked,
    num_processes,
    short_path,
)
from liverseg.settings.values import is_whole

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
_POLL_SECONDS = 0.05
_GRACE_SECONDS = 120
_CLAIM = ".claim"
_OUTPUT_FILE = "output.txt"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Running:
    job: Job
    process: subprocess.Popen[bytes]
    since: float  # on the monotonic clock
    claim: ExitStack  # keeps the same sweep, started a second time, from taking the job too


@dataclass(frozen=True)
class Pool:
    """Runs jobs on this computer.

    Raises:
        ValueError: If no job could be started with ``num_slots`` or ``devices``.
    """

    command: Sequence[str]  # runs a job; its folder and this process's id are added
    num_slots: int  # how many jobs run at once
    devices: Sequence[int | str] | str  # GPUs that they share out, by name or number; auto for all

    def __post_init__(self) -> None:
        """Refuse what no job could be started with."""
        slots, devices = self.num_slots, self.devices
        if not is_whole(slots) or slots < 1:
            raise ValueError(f"hydra.launcher.jobs={slots} must be a number from 1 up")
        listed = devices if isinstance(devices, Sequence) and not isinstance(devices, str) else []
        are_named = [isinstance(one, str) or (is_whole(one) and one >= 0) for one in listed]
        if devices != "auto" and not (are_named and all(are_named)):
            raise ValueError(
                f"hydra.launcher.devices={devices} must be auto, or a list such as [0,1]"
            )

    def run(self, jobs: Iterator[Job], has_ended: Callable[[Job], None] = lambda job: None) -> None:
        """Run jobs, several at once, until there are no more.

        A job that fails leaves the others alone. SIGINT, SIGTERM, SIGHUP and SIGUSR1 stop all of
        them so that each saves where it stands; a second one kills them. A job is drawn each time a
        slot is free, and ``has_ended`` is called with each that has ended.

        Raises:
            SystemExit: With 128 + the signal's number, when a signal has stopped the jobs.
        """
        found = find_devices(self.devices)
        free = list(range(self.num_slots))
        running: dict[int, _Running] = {}
        with heard(*_STOPPING) as received:
            try:
                while not received:
                    while free and not received and (job := next(jobs, None)) is not None:
                        if (claim := _claim(job)) is not None:
                            slot = free.pop(0)
                            process = self._start(job, share(found, slot, self.num_slots))
                            running[slot] = _Running(job, process, time.monotonic(), claim)
                    if not running:
                        break
                    for slot, one in list(running.items()):
                        if one.process.poll() is not None:
                            _clean_up(one)
                            del running[slot]
                            free.append(slot)
                            has_ended(one.job)
                    time.sleep(_POLL_SECONDS)
            finally:  # a signal, or no next job could be made
                _stop(running, received)
        if received:
            raise SystemExit(128 + received[0])

    def _start(self, job: Job, devices: Sequence[str]) -> subprocess.Popen[bytes]:
        each = num_processes(load_config(job.folder).trainer, len(devices))
        environment = child_environment(self.num_slots * each)
        told = f"{job.folder.name} starts"
        if devices:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
            told += f" on GPU {','.join(devices)}"
        with ExitStack() as opened:
            output = None
            if self.num_slots > 1:  # side by side they would write over one another
                output = opened.enter_context((job.folder / _OUTPUT_FILE).open("ab"))
                told += f", see {short_path(job.folder / _OUTPUT_FILE)}"
            logger.info(told)
            return subprocess.Popen(
                [*self.command, str(job.folder), str(os.getpid())],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # its own group: Ctrl-C reaches it through this process
            )


def share(devices: Sequence[str], slot: int, num_slots: int) -> list[str]:
    """Return the devices of one slot: equal parts, or one each by turns where there are too few."""
    if num_slots > len(devices) > 0:
        return [devices[slot % len(devices)]]
    bounds = [len(devices) * place // num_slots for place in (slot, slot + 1)]
    return list(devices[bounds[0] : bounds[1]])


def find_devices(wanted: Sequence[int | str] | str) -> list[str]:
    """Return the GPUs that jobs may use, as CUDA_VISIBLE_DEVICES names them.

    They are those wanted, by name or number, or for ``auto`` all that this process may use.
    """
    if wanted != "auto":
        return [str(device) for device in wanted]
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [device.strip() for device in visible.split(",") if device.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())  # not their parts
    return [str(number) for number in range(count)]


def _claim(job: Job) -> ExitStack | None:
    """Take a job, or return None where another process has it or has finished it."""
    with ExitStack() as claim:
        is_free = claim.enter_context(locked(job.folder / _CLAIM, wait=False))
        if is_free and job.status() in ("waiting", "interrupted", "failed"):
            return claim.pop_all()
    return None


def is_elsewhere(job: Job) -> bool:
    """Tell whether another command, or another computer, runs a job."""
    return job.status() == "running" or is_locked(job.folder / _CLAIM)


def _clean_up(one: _Running) -> None:
    """End what a job left behind, and record an end that it could not record itself."""
    _kill(one)
    status, code = one.job.status(), one.process.returncode
    has_saved = code - 128 in _STOPPING  # it heard a signal
    if status in ("running", "interrupted", "waiting") and not has_saved:
        by = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        with warned_of_the_disk():
            seconds = one.job.record()["seconds"] + time.monotonic() - one.since
            one.job.keep("failed", error=by, seconds=round(seconds, 1))
    one.claim.close()


@contextmanager
def warned_of_the_disk() -> Iterator[None]:
    """Say what could not be written, and go on: the jobs may fare better, or have ended well."""
    try:
        yield
    except OSError as error:
        logger.warning("%s: %s", error.filename, error.strerror)


def _stop(running: dict[int, _Running], received: list[int]) -> None:
    """Stop all jobs as SIGTERM does, and wait until each has saved."""
    if received or running:
        why = f"stopped by {signal.Signals(received[0]).name}; " if received else ""
        logger.warning("%s%d running jobs save where they stand", why, len(running))
    for one in running.values():
        one.process.terminate()
    deadline = time.monotonic() + _GRACE_SECONDS
    while any(one.process.poll() is None for one in running.values()):
        if len(received) > 1 or time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    for one in running.values():
        _kill(one)
        one.process.wait()
        one.claim.close()


def _kill(one: _Running) -> None:
    # Mostly nothing is left of its process group; macOS forbids it where only a zombie is.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(one.process.pid, signal.SIGKILL)
