"""Python commands, each as a fork of a process that has imported torch.

A command is a process of its own, with its own folder, environment, arguments and output, but for
the seconds that importing takes. So are the jobs of a sweep that it starts, and the processes of a
run on several devices. They are forks of multiprocessing's fork server, which has one thread.
"""

import logging
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from sketches import leave_charts_empty

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(  # before any start; what cannot be imported is left out
    [
        *("pytest", "torch", "torchvision.transforms.v2", "lightning", "torchmetrics"),
        *("matplotlib.figure", "torch.utils.tensorboard", "optuna", "scipy.stats"),
        *("torch.distributed.launcher.api", "liverseg.launch", "liverseg.sweeps.sweep"),
        *("liverseg.sweeps.pruning", "prepared"),
    ]
)
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def process(target: Callable[..., None], arguments: Sequence[Any]) -> ForkServerProcess:
    """Return a process, not yet started, that is a fork of the one that has imported torch."""
    with pytest.MonkeyPatch.context() as patch:  # it imports what lies beside this file, too
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        forkserver.ensure_running()
    return _PROCESSES.Process(target=target, args=tuple(arguments))


class Command:
    """A script, or a module after ``-m``, with its arguments, as after ``python``.

    Args:
        words: The command.
        folder: Where it is typed.
        environment: What it has beside the environment of the tests.
        rendered: Whether the charts of a run are drawn; else their files are empty.
    """

    def __init__(
        self,
        *words: str | Path,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        rendered: bool = False,
    ) -> None:
        self._output = tempfile.NamedTemporaryFile()  # noqa: SIM115  # closed by end()
        self._process = process(
            _start,
            (
                [str(word) for word in words],
                {**os.environ, **(environment or {})},
                *(self._output.name, str(folder), rendered),
            ),
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def end(self, seconds: float = 300) -> tuple[int, str]:
        """Wait for the end; return the exit status and what was printed."""
        self._process.join(seconds)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
        with self._output:
            text = Path(self._output.name).read_text(errors="replace")
        assert code is not None, f"still running after {seconds} seconds\n{text}"
        return code, text


class Fork:
    """Stands where ``subprocess.Popen`` of a Python command stands."""

    def __init__(
        self,
        args: Sequence[str],
        *,
        env: Mapping[str, str],
        stdin: int | None = None,
        stdout: Any = None,
        stderr: Any = None,
        start_new_session: bool = True,
    ) -> None:
        self.returncode: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        words = [one for one in args[1:] if one != "-u"]
        self.pid = os.fork()
        if self.pid == 0:
            _end_with(lambda: _become(words, env, stdout and stdout.fileno(), "."))

    def poll(self) -> int | None:
        """Return the exit status, or None while the process runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float = 300) -> int:
        """Wait for the end, and return the exit status."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("fork", timeout)
            time.sleep(0.01)
        assert self.returncode is not None
        return self.returncode

    def terminate(self) -> None:
        """Send SIGTERM."""
        os.kill(self.pid, signal.SIGTERM)


def _start(
    words: Sequence[str], env: Mapping[str, str], output: str, folder: str, rendered: bool
) -> None:
    import torch
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    from liverseg.sweeps import pool

    multiprocessing.set_start_method("fork", force=True)  # as in an ordinary process
    torch.set_num_threads(1)
    pool.subprocess = SimpleNamespace(  # the names that the pool uses
        Popen=Fork, DEVNULL=subprocess.DEVNULL, run=subprocess.run
    )
    subprocess_handler.Popen = Fork
    if not rendered:
        leave_charts_empty(pytest.MonkeyPatch())  # and never undone
    stream = os.open(output, os.O_WRONLY | os.O_APPEND)
    _end_with(lambda: _become(words, env, stream, folder))


def _become(words: Sequence[str], env: Mapping[str, str], output: int | None, folder: str) -> None:
    """Run a script, or a module after -m, as the Python interpreter does."""
    os.setsid()
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if output is not None:
        os.dup2(output, 1)
        os.dup2(output, 2)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    _forget()
    paths = [one for one in env.get("PYTHONPATH", "").split(os.pathsep) if one]
    if words[0] == "-m":
        sys.path[:1] = [os.getcwd(), *paths]
        sys.argv = ["-m", *words[2:]]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.path[:1] = [str(Path(words[0]).resolve().parent), *paths]
        sys.argv = list(words)
        runpy.run_path(words[0], run_name="__main__")


def _forget() -> None:
    """Forget what a process that has been started anew would not know of its parent."""
    tempfile.tempdir = None  # looked up again
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None
    for handler in list(logging.root.handlers):
        logging.root.removeHandler(handler)
    logging.root.setLevel(logging.WARNING)


def _end_with(run: Callable[[], None]) -> None:
    """End this process with the status that an interpreter would end with."""
    code = 0
    try:
        run()
    except SystemExit as ended:
        if isinstance(ended.code, int) or ended.code is None:
            code = ended.code or 0
        else:
            print(ended.code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
