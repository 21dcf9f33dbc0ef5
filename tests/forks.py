"""Runs Python commands one after the other, each as a fork of a process that has imported torch.

A command is a process of its own, with its own folder, environment, arguments and output, but for
the ten seconds that importing takes. So are the jobs of a sweep that it starts. Processes of one
run on several devices are started as ever.

    python tests/forks.py

reads one JSON object per line, {"arguments": [...], "folder": ..., "output": FILE}, where arguments
begin with a script or -m MODULE, and answers each with a line, the exit status.
"""

import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

_HEAVY = (
    *("torch", "torchvision.transforms.v2", "lightning", "torchmetrics", "matplotlib.figure"),
    *("torch.utils.tensorboard", "optuna", "liverseg.launch", "liverseg.sweeps.sweep"),
    "liverseg.sweeps.pruning",
)
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def main() -> None:
    """Answer commands until there are no more."""
    for module in _HEAVY:
        importlib.import_module(module)
    from liverseg.sweeps import pool

    pool.subprocess = SimpleNamespace(  # the names that the pool uses
        Popen=Fork, DEVNULL=subprocess.DEVNULL, run=subprocess.run
    )
    for line in sys.stdin:
        command = json.loads(line)
        with Path(command["output"]).open("wb") as output:
            started = Fork(
                [sys.executable, *command["arguments"]], stdout=output, folder=command["folder"]
            )
        print(started.wait(), flush=True)


class Fork:
    """Stands where ``subprocess.Popen`` of a Python command stands."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: int | None = None,
        stdout: Any = None,
        stderr: Any = None,
        start_new_session: bool = True,
        folder: str = ".",
    ) -> None:
        self.returncode: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _end_with(lambda: _become(command[1:], env, stdout, folder))

    def poll(self) -> int | None:
        """Return the exit status, or None while the process runs."""
        return self._wait(os.WNOHANG)

    def wait(self) -> int | None:
        """Wait for the end, and return the exit status."""
        return self._wait(0)

    def terminate(self) -> None:
        """Send SIGTERM."""
        os.kill(self.pid, signal.SIGTERM)

    def _wait(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def _become(
    arguments: Sequence[str], env: Mapping[str, str] | None, stdout: Any, folder: str
) -> None:
    """Run a script, or a module after -m, as the Python interpreter does."""
    os.setsid()
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if stdout is not None:
        os.dup2(stdout.fileno(), 1)
        os.dup2(stdout.fileno(), 2)
    os.chdir(folder)
    os.environ.update(env or {})
    if arguments[0] == "-m":
        sys.path[0] = os.getcwd()
        sys.argv = ["-m", *arguments[2:]]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(arguments[0]).resolve().parent)
        sys.argv = list(arguments)
        runpy.run_path(arguments[0], run_name="__main__")


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


if __name__ == "__main__":
    main()
