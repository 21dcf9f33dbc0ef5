"""Sweeps and runs of several processes on a real Slurm: ``make slurm-up test-slurm``."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_for

ROOT = Path(__file__).parents[2]
SMALL = [
    *("data=liver", "data.min_steps=1", "model.depth=2", "model.width=4"),
    "trainer.max_epochs=2",
    *("++trainer.enable_progress_bar=false", "trainer.accelerator=cpu", "trainer=ddp_sim"),
]
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(shutil.which("sbatch") is None, reason="no Slurm here: make slurm-up"),
]


class Cluster:
    """Runs commands in a folder of their own."""

    def __init__(self, folder: Path, pair_root: Path) -> None:
        self.folder = folder
        self.train = [sys.executable, str(ROOT / "train.py")]
        self.small = [*SMALL, f"data.root={pair_root}"]
        paths = f"{ROOT / 'src'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        self.environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def scores(self, folder: str) -> dict[str, float]:
        return json.loads((self.folder / folder / "metrics.json").read_text())


@pytest.fixture
def cluster(tmp_path: Path, pair_root: Path) -> Cluster:
    return Cluster(tmp_path, pair_root)


@pytest.mark.parametrize("num_nodes", [1, 2])
def test_tasks_of_srun_train_one_run_in_one_folder(num_nodes: int, cluster: Cluster) -> None:
    per_node = 2 // num_nodes
    tasks = ["srun", f"--nodes={num_nodes}", "--ntasks=2", f"--ntasks-per-node={per_node}"]
    devices = [f"trainer.devices={per_node}", f"+trainer.num_nodes={num_nodes}"]
    text = cluster.run(*tasks, *cluster.train, *cluster.small, *devices)
    (run,) = (cluster.folder / "logs/train/runs").iterdir()
    assert run.name.startswith("slurm_")
    assert text.count("dashboard  tensorboard") == 1
    assert (run / "run.log").read_text().count("parameters, on") == 1
    cluster.run(*cluster.train, *cluster.small, "hydra.run.dir=alone")
    assert cluster.scores(str(run)) == cluster.scores("alone")


def test_a_sweep_runs_as_slurm_jobs_and_goes_on(cluster: Cluster) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="liverseg[slurm]")
    launcher = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=main"]
    launcher += ["hydra.launcher.timeout_min=10", "hydra.launcher.tasks_per_node=2"]
    command = [*cluster.train, "-m", *launcher, *cluster.small, "sweep_name=slurm", "seed=1,2"]
    text = cluster.run(*command)
    assert text.count("  done  ") == 2
    sweep = cluster.folder / "logs/train/sweeps/slurm"
    jobs = sorted(path.name for path in sweep.glob("[0-9]*"))
    assert jobs == ["0_seed=1", "1_seed=2"]
    assert (sweep / "sweep.csv").read_text().count(",done,") == 2
    cluster.run(*cluster.train, *cluster.small, "seed=2", "hydra.run.dir=alone")
    assert cluster.scores("logs/train/sweeps/slurm/1_seed=2") == cluster.scores("alone")
    assert "2 jobs: 2 done" in cluster.run(*command)


def test_a_job_that_runs_out_of_time_is_requeued_and_ends_as_if_it_had_not(
    cluster: Cluster,
) -> None:
    train = " ".join(f"'{word}'" for word in [*cluster.train, *cluster.small])
    script = cluster.folder / "job.sh"
    script.write_text(
        "#!/bin/bash\n#SBATCH --ntasks=2 --ntasks-per-node=2 --requeue --time=10\n"
        "#SBATCH --open-mode=append --output=job.out\n"
        f"srun {train} trainer.max_epochs=60\n"
    )
    job = cluster.run("sbatch", "--parsable", str(script)).strip()
    run = cluster.folder / f"logs/train/runs/slurm_{job}"
    wait_for(lambda: (run / "checkpoints/last.ckpt").exists())
    cluster.run("scancel", "--signal=USR1", job)
    wait_for(lambda: (run / "metrics.json").exists())
    starts = json.loads((run / "run.json").read_text())
    assert len(starts) == 2, (cluster.folder / "job.out").read_text()
    assert "continuing from" in (run / "run.log").read_text()
    overrides = ["trainer.max_epochs=60", "hydra.run.dir=alone"]
    cluster.run(*cluster.train, *cluster.small, *overrides)
    assert cluster.scores(str(run)) == cluster.scores("alone")
