"""Random settings must end in a result or in one sentence: ``python benchmarks/fuzz_settings.py``.

Each command runs in a fork of a process that has imported everything, in a temporary folder, and so
do the jobs of a sweep. What counts as a fault: a traceback, an end without a sentence, or with more
than one, and more than 10 seconds of a core. The same seed draws the same settings.
"""

import argparse
import collections
import os
import random
import re
import runpy
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import hydra
import lightning
import matplotlib.figure
import torch
import torchvision.transforms.v2
from omegaconf import OmegaConf

import liverseg.launch
from liverseg.settings import all_keys
from liverseg.sweeps import pool, sweep

ROOT = Path(__file__).parents[1]
SLOW_SECONDS, PATIENCE_SECONDS = 10, 120  # of a core, of a clock
HEAVY = (lightning, matplotlib.figure, torchvision.transforms.v2, liverseg.launch, sweep)
VALUES = (
    *("null", "true", "-1", "0", "1", "2", "1.5", "1e21", "1e400", "nan", "99999999999999999999"),
    *("word", '""', "{}", "[]", "[1,b]", "{a:1}", "[[1]]", "${x}", "${data.root}", "~/x"),
    *("/proc/x", "os.getcwd", "torch.nn.Conv2d", "val/dice", "?", "a b", "'", "[1,", "???"),
    *("range(5,1)", "1,2", "choice(a,b)", "interval(0,1)", "glob(*)", "ä", "\x00", "x" * 300),
)
SMALL = (
    *("data=liver", "model=unet_small", "model.depth=2", "model.width=4", "trainer.max_epochs=1"),
    *("trainer.accelerator=cpu", "++trainer.enable_progress_bar=false"),
    *("callbacks.pictures.num_pictures=1", "callbacks.pictures.num_worst=0"),
)
# Nobody's mistake: as many processes as were asked for.
LEFT_OUT = ("num_workers", "devices", "num_nodes", "jobs")


def overrides(keys: Sequence[str], draw: random.Random) -> list[str]:
    """Return one to three random settings."""
    found = []
    for _ in range(draw.randint(1, 3)):
        key = draw.choice(keys)
        if draw.random() < 0.1:
            place = draw.randrange(len(key))
            key = key[:place] + draw.choice("xyz") + key[place + 1 :]
        sign = draw.choice(["", "", "", "+", "++", "~"])
        value = draw.choice(VALUES).replace("\x00", "\N{SNOWMAN}")  # no shell passes a zero
        found.append(f"~{key}" if sign == "~" else f"{sign}{key}={value}")
    return found


class Fork:
    """Stands where ``subprocess.Popen`` of a job's process stands."""

    def __init__(self, args: Sequence[str], *, env: dict[str, str], **_: object) -> None:
        self.returncode: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            os.environ.update(env)
            sys.argv = ["-m", *args[3:]]
            end_with(lambda: runpy.run_module(args[2], run_name="__main__"))

    def poll(self) -> int | None:
        """Return the exit status, or None while the process runs."""
        if self.returncode is None and (status := os.waitpid(self.pid, os.WNOHANG))[0]:
            self.returncode = os.waitstatus_to_exitcode(status[1])
        return self.returncode

    def wait(self) -> int:
        """Wait for the end, and return the exit status."""
        while self.poll() is None:
            time.sleep(0.01)
        return self.returncode or 0

    def terminate(self) -> None:
        """Send SIGTERM."""
        os.kill(self.pid, signal.SIGTERM)


def end_with(work: object) -> None:
    """End this process with the status that an interpreter would end with."""
    code = 0
    try:
        work()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run(script: str, arguments: Sequence[str], folder: Path) -> tuple[int, str, float]:
    """Run a command in a fork; return its status, what it printed, and its seconds of a core."""
    output, begun = folder / "output.txt", time.monotonic()
    pid = os.fork()
    if pid == 0:
        file = os.open(output, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.chdir(folder)
        pool.subprocess = SimpleNamespace(Popen=Fork, DEVNULL=None, run=None)
        sys.argv = [str(ROOT / script), *arguments]
        end_with(lambda: runpy.run_path(sys.argv[0], run_name="__main__"))
    while not (ended := os.wait4(pid, os.WNOHANG))[0]:
        time.sleep(0.005)
        if time.monotonic() - begun > PATIENCE_SECONDS:
            os.kill(pid, signal.SIGKILL)
    seconds = ended[2].ru_utime + ended[2].ru_stime
    return os.waitstatus_to_exitcode(ended[1]), output.read_text(errors="replace"), seconds


def faults(code: int, said: str, seconds: float) -> list[str]:
    """Return what is wrong with how a command has ended."""
    found = ["traceback"] if "Traceback (most recent" in said else []
    found += ["slow"] if seconds > SLOW_SECONDS else []
    if code != 0:
        # Behind the last line of the log, and the table of a sweep, stands the sentence.
        last = re.split(r"^\[20\d\d-.*$|^\s*$", said.rstrip(), flags=re.MULTILINE)[-1].strip()
        found += ["silent"] if not last else []
        is_report = last.rpartition("\n")[2].startswith("page ")  # check.py, which has found errors
        found += ["several lines"] if "\n" in last and not is_report else []
        found += ["killed"] if code < 0 else []
    return found


def commands(folder: Path, draw: random.Random) -> Iterator[tuple[str, list[str]]]:
    """Yield commands of all scripts that read pairs, without end; train.py with -m as well."""
    data = [f"data.root={folder / 'pairs'}"]
    phantom = ("data=phantom", "data.phantom.num_patients=[2,1,1]", "data.phantom.image_size=32")
    drawn = [one for one in SMALL if one != "data=liver"]
    few = "data.phantom.slices_per_patient=2"
    code, said, _ = run(
        "train.py", [*drawn, *phantom, few, *data, f"hydra.run.dir={folder / 'run'}"], folder
    )
    assert code == 0, said
    checkpoint = f"ckpt_path={folder / 'run' / 'checkpoints' / 'best.ckpt'}"
    bases = {
        "train.py": [*SMALL, *data],
        "train.py -m": ["-m", *SMALL, *data],
        "train.py -m search": ["-m", "search=optuna", "search.num_trials=1", *SMALL, *data],
        "evaluate.py": [checkpoint, "split=val", "trainer.accelerator=cpu"],
        "predict.py": [checkpoint, f"source={folder / 'pairs' / 'val'}", "trainer.accelerator=cpu"],
        "check.py": data,
    }
    keys = {}
    for name in bases:
        with hydra.initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            config = hydra.compose(name.partition(".")[0], ["search=optuna"] * ("search" in name))
        found = all_keys(OmegaConf.to_container(config, resolve=False))
        keys[name] = [key for key in found if key.rpartition(".")[2] not in LEFT_OUT]
    keys["train.py -m"] += ["hydra.launcher", "hydra.sweep.dir", "sweep_name", "hydra.sweeper"]
    keys["train.py -m search"] = [key for key in keys["train.py -m search"] if "search" in key]
    number = 0
    while True:
        name = draw.choice([*bases, "train.py", "train.py"])
        number += 1
        kind = "output_dir"
        if name.startswith("train.py"):
            kind = "hydra.sweep.dir" if "-m" in name else "hydra.run.dir"
        where = f"{kind}={folder / 'runs' / str(number)}"
        yield name.partition(" ")[0], [*bases[name], where, *overrides(keys[name], draw)]


def main() -> None:
    """Count how random settings end; the status is 1 where one ends in a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    counts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        stream = commands(Path(name), random.Random(asked.seed))
        for _, (script, arguments) in zip(range(asked.count), stream, strict=False):
            code, said, seconds = run(script, arguments, Path(name))
            wrong = faults(code, said, seconds)
            ends = ["passed" if code == 0 else "refused", *wrong]
            ends += ["not foreseen"] if "HYDRA_FULL_ERROR" in said else []
            counts.update([*ends, *(["fault"] if wrong else [])])
            if len(ends) > 1:
                print(ends, script, *arguments[-4:], "->", said[-600:].strip(), flush=True)
    print(dict(counts))
    sys.exit(int(counts["fault"] > 0))


if __name__ == "__main__":
    main()
