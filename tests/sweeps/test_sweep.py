"""Sweeps as people start them, with failures and kills that are real.

One of them is started as a shell starts it; the others, and their jobs, are forks that need not
import torch.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import torch
from forks import Command
from waiting import wait_for

from liverseg.runs import LOCK, locked

ROOT = Path(__file__).parents[2]
SMALL = [
    *("data=liver", "data.min_steps=1", "model.depth=2", "model.width=4"),
    "trainer.max_epochs=2",
    *(
        "++trainer.enable_progress_bar=false",
        "trainer.accelerator=cpu",
        *("callbacks.pictures.num_pictures=0", "callbacks.pictures.num_worst=0"),
    ),
]
FAULTS = '''
"""Callbacks that break a run on purpose."""
import os, signal, time
from lightning import Callback

class Breaks(Callback):
    def __init__(self, how, rank=0):
        self.how, self.rank = how, rank

    def on_train_epoch_end(self, trainer, pl_module):
        if self.how == "late" and trainer.global_rank != self.rank and trainer.current_epoch == 1:
            raise RuntimeError("[.../gloo/transport/tcp/pair.cc:553] Connection closed by peer")
        if trainer.global_rank == self.rank and trainer.current_epoch == 1:
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "late":  # the others tell of a lost connection before
                time.sleep(3)
                raise RuntimeError("broken on purpose")
            name = os.path.basename(trainer.default_root_dir)
            if self.how == "raise" or (self.how == "second" and name.startswith("1_")):
                raise RuntimeError("broken on purpose")
'''
pytestmark = pytest.mark.slow


class Sweeps:
    """Starts train.py on a folder of pairs; knows every process that came of it."""

    def __init__(self, pair_root: Path, folder: Path) -> None:
        (folder / "breaking.py").write_text(FAULTS)
        self.fixed = [*SMALL, f"data.root={pair_root}"]
        paths = [str(ROOT / "src"), str(folder), os.environ.get("PYTHONPATH", "")]
        temporary = folder / "temporary"
        temporary.mkdir()
        self.environment = {
            "PYTHONPATH": os.pathsep.join(paths),
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(temporary),
        }
        self.folder = folder

    def command(self, *arguments: str) -> list[str | Path]:
        options = [one for one in arguments if one == "-m"]
        overrides = [*self.fixed, *(one for one in arguments if one != "-m")]
        return [ROOT / "train.py", *options, *overrides]

    def fork(self, *words: str | Path) -> Command:
        return Command(*words, folder=self.folder, environment=self.environment)

    def start(self, *arguments: str) -> Command:
        """Start train.py."""
        return self.fork(*self.command(*arguments))

    def run(self, *arguments: str, code: int = 0) -> str:
        return self.ended(*self.start(*arguments).end(seconds=400), code)

    def run_from_shell(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, *self.command(*arguments)],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=400,
        )
        return self.ended(done.returncode, done.stdout, code)

    def ended(self, code: int, text: str, wanted: int) -> str:
        assert code == wanted, text
        assert self.left() == [], text
        return text

    def left(self) -> list[int]:
        """Return the processes that are still there: all stand in the folder of the test."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                found += [int(entry.name)] if (entry / "cwd").readlink() == self.folder else []
            except OSError:
                continue  # ended, or not ours
        return found

    def sweep(self, name: str) -> Path:
        return self.folder / "logs" / "train" / "sweeps" / name


@pytest.fixture
def sweeps(pair_root: Path, tmp_path: Path) -> Iterator[Sweeps]:
    started = Sweeps(pair_root, tmp_path)
    yield started
    for process in started.left():
        os.kill(process, signal.SIGKILL)


def scores(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())


def table(text: str) -> list[list[str]]:
    """Return the lines of the table, cut into words, without its header."""
    lines = text[text.index("\njob ") :].strip().partition("\n\n")[0].splitlines()
    return [line.split() for line in lines[1:]]


def test_a_sweep_of_two_processes_each_scores_as_its_jobs_do_alone(sweeps: Sweeps) -> None:
    two = ["trainer=ddp_sim", "trainer.devices=2", "trainer.max_epochs=2"]
    text = sweeps.run("-m", *two, "optimizer.lr=1e-3,1e-2", "sweep_name=two")
    folders = sorted(path for path in sweeps.sweep("two").iterdir() if path.is_dir())
    assert [path.name for path in folders] == ["0_optimizer.lr=0.001", "1_optimizer.lr=0.01"]
    assert [line[-3] for line in table(text)] == ["done", "done"]
    for rate, folder in zip(("1e-3", "1e-2"), folders, strict=True):
        alone = sweeps.folder / f"alone{rate}"
        sweeps.run(*two, f"optimizer.lr={rate}", f"hydra.run.dir={alone}")
        assert scores(folder) == scores(alone)
        log = (folder / "run.log").read_text()
        assert log.count("parameters, on") == 1  # the first process alone writes it
    assert scores(folders[0]) != scores(folders[1])


def test_an_experiment_trains_networks_and_ends_in_their_comparison(sweeps: Sweeps) -> None:
    listed = ["model=unet,unet_attention", "seed=1,2", "trainer.max_epochs=1"]
    text = sweeps.run(
        *("-m", "experiment=compare_networks", *listed, "hydra.launcher.jobs=2", "sweep_name=nets")
    )
    assert [line[-3] for line in table(text)] == ["done"] * 4
    assert "model=unet_attention less that of model=unet is " in text
    assert (sweeps.sweep("nets") / "comparison" / "report.html").is_file()


def test_two_computers_train_one_run_in_one_folder(sweeps: Sweeps) -> None:
    # Two launchers that meet at an address, as on two computers; each starts one process.
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    torchrun = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    torchrun += ["--rdzv-backend=c10d", f"--rdzv-endpoint={address}"]
    two = ["trainer=ddp_sim", "trainer.devices=1", "+trainer.num_nodes=2", "hydra.run.dir=shared"]
    computers = [sweeps.fork(*torchrun, *sweeps.command(*two)) for _ in range(2)]
    codes, texts = zip(*(one.end(seconds=400) for one in computers), strict=True)
    assert codes == (0, 0), texts
    assert sweeps.left() == []
    assert sum(text.count("dashboard  tensorboard") for text in texts) == 1
    assert (sweeps.folder / "shared" / "run.log").read_text().count("parameters, on") == 1
    sweeps.run("trainer=ddp_sim", "hydra.run.dir=alone")
    assert scores(sweeps.folder / "shared") == scores(sweeps.folder / "alone")

    longer = ["resume=shared", "resume_overrides=[trainer.max_epochs=3]"]
    computers = [sweeps.fork(*torchrun, ROOT / "train.py", *longer) for _ in range(2)]
    codes, texts = zip(*(one.end(seconds=400) for one in computers), strict=True)
    assert codes == (0, 0), texts
    told = (sweeps.folder / "shared" / "run.log").read_text()
    assert told.count("parameters, on") == 2
    assert told.count("epoch 3 of 3") == 1


def test_a_job_that_fails_fails_alone(sweeps: Sweeps) -> None:
    broken = [
        "+callbacks.broken._target_=breaking.Breaks",
        "+callbacks.broken.how=raise,kill,nothing",
    ]
    jobs = ["-m", *broken, "hydra.launcher.jobs=2", "sweep_name=fails"]
    text = sweeps.run_from_shell(*jobs, code=1)
    raised, killed, well = table(text)
    assert "failed" in raised
    assert " ".join(raised).endswith("RuntimeError: broken on purpose")
    assert "failed" in killed
    assert " ".join(killed).endswith("killed by SIGKILL")
    record = json.loads(next(sweeps.sweep("fails").glob("1_*/job.json")).read_text())
    assert record["seconds"] > 0
    assert "done" in well
    assert "2 of 3 jobs have not succeeded" in text
    assert "Traceback" not in text
    output = next(sweeps.sweep("fails").glob("0_*/output.txt")).read_text()
    assert "broken on purpose (RuntimeError in breaking.py, line 21)" in output
    csv = (sweeps.sweep("fails") / "sweep.csv").read_text().splitlines()
    assert len(csv) == 4
    assert "RuntimeError: broken on purpose" in csv[1]


def test_a_second_process_that_fails_or_is_killed_ends_its_job_alone(sweeps: Sweeps) -> None:
    broken = ["+callbacks.broken._target_=breaking.Breaks", "+callbacks.broken.rank=1"]
    how = "+callbacks.broken.how=late,kill,nothing"
    text = sweeps.run("-m", "trainer=ddp_sim", *broken, how, "sweep_name=ranks", code=1)
    raised, killed, well = table(text)
    assert "failed" in raised
    assert " ".join(raised).endswith("process 1 of 2 failed: RuntimeError: broken on purpose")
    assert "failed" in killed
    assert "Signal 9 (SIGKILL)" in " ".join(killed)
    csv = (sweeps.sweep("ranks") / "sweep.csv").read_text()
    assert re.search(r"memory is short; python train\.py resume=\S+ continues", csv)
    assert "done" in well
    assert list((sweeps.folder / "temporary").glob("torchelastic_*")) == []


@pytest.mark.parametrize("moment", ["before the first", "in the first", "after the third"])
def test_a_killed_sweep_goes_on_where_it_stood(moment: str, sweeps: Sweeps) -> None:
    command = ["-m", "seed=range(6)", "hydra.launcher.jobs=2", "sweep_name=killed"]
    process = sweeps.start(*command)
    folder = sweeps.sweep("killed")
    wanted = {
        "before the first": lambda: any(folder.glob("*/output.txt")),
        "in the first": lambda: any(folder.glob("0_*/checkpoints/last.ckpt")),
        "after the third": lambda: len(list(folder.glob("*/metrics.json"))) >= 3,
    }[moment]
    wait_for(wanted)
    os.kill(process.pid, signal.SIGKILL)
    process.end()
    wait_for(lambda: not sweeps.left())
    finished = {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/metrics.json")}
    assert len(finished) >= (3 if moment == "after the third" else 0)
    assert len(finished) < 6

    text = sweeps.run(*command)
    assert [line[0] for line in table(text)] == list("012345")
    jobs = sorted(path for path in folder.iterdir() if path.is_dir())
    assert len(jobs) == 6
    for job in jobs:
        starts = json.loads((job / "run.json").read_text())
        if job.name in finished:
            assert len(starts) == 1
            assert (job / "metrics.json").stat().st_mtime_ns == finished[job.name]
        assert len(starts) <= 2
        assert torch.load(job / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 1
    alone = sweeps.folder / "alone"
    sweeps.run("seed=1", f"hydra.run.dir={alone}")
    assert scores(folder / "1_seed=1") == scores(alone)
    assert "6 jobs: 6 done" in sweeps.run(*command)


def test_a_stopped_sweep_saves_and_goes_on(sweeps: Sweeps) -> None:
    command = ["-m", "seed=1,2", "trainer.max_epochs=40", "sweep_name=stopped"]
    process = sweeps.start(*command)
    folder = sweeps.sweep("stopped")
    wait_for((folder / "0_seed=1/checkpoints/last.ckpt").exists)
    os.kill(process.pid, signal.SIGINT)
    code, text = process.end()
    assert code == 128 + signal.SIGINT, text
    assert sweeps.left() == []
    assert [line[2] for line in table(text)] == ["interrupted", "waiting"]
    assert "Traceback" not in text
    config = folder / "0_seed=1" / "config.yaml"
    config.write_text(config.read_text().replace("width: 4", "width: 6"))
    text = sweeps.run(*command, code=1)
    assert "model.width (was 6, is 4)" in text
    config.write_text(config.read_text().replace("width: 6", "width: 4"))
    text = sweeps.run(*command)
    assert "1 interrupted, 1 waiting" in text
    assert "continuing from" in (folder / "0_seed=1" / "run.log").read_text()


def test_a_search_of_two_workers_records_a_failure_and_goes_on_after_a_kill(
    sweeps: Sweeps,
) -> None:
    # The second job of the study fails, whichever worker draws it.
    space = ["optimizer.lr=tag(log,interval(1e-3,1e-2))", "model.width=4", "model.depth=2"]
    space += ["model.dilations=1", "loss=dice_ce", "search.pruner.n_startup_trials=100"]
    broken = ["+callbacks.broken._target_=breaking.Breaks", "+callbacks.broken.how=second"]
    command = ["-m", "search=optuna", "search.num_trials=5", *space, *broken, "sweep_name=search"]
    folder = sweeps.sweep("search")
    workers = [sweeps.start(*command), sweeps.start(*command)]
    wait_for(lambda: any(folder.glob("*/metrics.json")))  # neither worker has come to its end
    with locked(folder / LOCK, wait=True):  # a trial that is half drawn would be given up
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
            worker.end()
    wait_for(lambda: not sweeps.left())
    text = sweeps.run(*command, "hydra.launcher.jobs=2", code=1)
    assert "1 of 5 jobs have not succeeded" in text
    outcomes = table(text)
    assert sorted("failed" if "failed" in line else "done" for line in outcomes) == [
        *("done", "done", "done", "done", "failed")
    ]
    trials = optuna.load_study(study_name="search", storage=f"sqlite:///{folder}/study.db").trials
    assert sorted(trial.state.name for trial in trials) == ["COMPLETE"] * 4 + ["FAIL"]
    assert len({trial.params["optimizer.lr"] for trial in trials}) == 5
    for trial in trials:
        if trial.state.name == "COMPLETE":
            (job,) = folder.glob(f"{trial.number}_*")
            assert trial.value == scores(job)["val/dice"]
            assert len(json.loads((job / "run.json").read_text())) <= 2
    best = ["--config-dir", str(folder), "experiment=best", "hydra.run.dir=best"]
    sweeps.ended(*sweeps.fork(ROOT / "train.py", *best).end(), 0)
    best_dice = max(trial.value for trial in trials if trial.value is not None)
    assert scores(sweeps.folder / "best")["val/dice"] == best_dice
