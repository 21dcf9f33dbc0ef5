import subprocess

import pytest

from liverseg.runs import ranks
from liverseg.runs.ranks import agreed_arguments, found_launcher, is_first_process, requeue

VARIABLES = (
    *("TORCHELASTIC_RUN_ID", "RANK", "GROUP_WORLD_SIZE", "SLURM_JOB_ID", "SLURM_PROCID"),
    *("LOCAL_RANK", "SLURM_STEP_NUM_TASKS", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"),
)
SILENT = ["hydra.output_subdir=null", "hydra.job_logging.root.handlers=[]"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch):
    """Makes the environment that of a process which something else has started."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def by(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return by


def test_a_process_of_its_own_keeps_its_command_line(started) -> None:
    assert found_launcher() is None
    assert is_first_process()
    assert agreed_arguments(["seed=1"]) == ["seed=1"]


def test_tasks_of_srun_share_a_folder_named_by_the_job(started) -> None:
    started(SLURM_JOB_ID="12", SLURM_STEP_NUM_TASKS="2", SLURM_PROCID="0")
    assert found_launcher() == "srun"
    folder = "hydra.run.dir=logs/train/runs/slurm_12"
    assert agreed_arguments(["seed=1"]) == ["seed=1", folder]
    started(SLURM_PROCID="1")
    assert agreed_arguments(["seed=1"]) == ["seed=1", folder, *SILENT]
    assert agreed_arguments(["hydra.run.dir=a"]) == ["hydra.run.dir=a", *SILENT]
    started(SLURM_ARRAY_JOB_ID="10", SLURM_ARRAY_TASK_ID="3", SLURM_PROCID="0")
    assert agreed_arguments([]) == ["hydra.run.dir=logs/train/runs/slurm_10_3"]


def test_a_resumed_run_is_told_no_more_than_which_it_is(started) -> None:
    started(TORCHELASTIC_RUN_ID="none", RANK="1", GROUP_WORLD_SIZE="1")
    assert agreed_arguments(["resume=a"]) == ["resume=a"]


def test_of_processes_that_lightning_starts_the_first_one_writes(started) -> None:
    started(LOCAL_RANK="1")
    assert not is_first_process()
    started(LOCAL_RANK="0")
    assert is_first_process()


def test_one_task_of_slurm_starts_its_processes_itself_and_may_sweep(started) -> None:
    started(SLURM_JOB_ID="12", SLURM_STEP_NUM_TASKS="1", SLURM_PROCID="0")
    assert found_launcher() is None
    assert agreed_arguments(["-m", "seed=1,2"]) == ["-m", "seed=1,2"]


def test_processes_of_torchrun_share_a_folder_named_by_their_agent(
    started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks.os, "getppid", lambda: 77)
    started(TORCHELASTIC_RUN_ID="none", RANK="1", GROUP_WORLD_SIZE="1")
    assert not is_first_process()
    folder = "hydra.run.dir=logs/train/runs/torchrun_77"
    assert agreed_arguments([]) == [folder, *SILENT]


def test_several_computers_under_torchrun_must_be_told_their_folder(started) -> None:
    started(TORCHELASTIC_RUN_ID="none", RANK="1", GROUP_WORLD_SIZE="2")
    with pytest.raises(ValueError, match=r"must be told its folder; add output_dir="):
        agreed_arguments(["seed=1"])


@pytest.mark.parametrize("option", ["-m", "--multirun"])
def test_a_sweep_in_every_process_is_refused(option: str, started) -> None:
    started(TORCHELASTIC_RUN_ID="none", RANK="0")
    with pytest.raises(ValueError, match="a sweep starts its processes itself; leave out"):
        agreed_arguments(["seed=1,2", option])


def test_the_first_process_alone_asks_slurm_to_start_the_job_again(
    started, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    def run(command: list[str], **options: bool) -> None:
        asked.append(command)
        if len(asked) == 2:
            raise subprocess.CalledProcessError(1, command, stderr="Requeue is disabled\n")

    monkeypatch.setattr(ranks.subprocess, "run", run)
    requeue()
    started(SLURM_JOB_ID="12", SLURM_STEP_NUM_TASKS="2", SLURM_PROCID="1")
    requeue()
    assert asked == []
    started(SLURM_PROCID="0")
    requeue()
    requeue()
    assert asked == [["scontrol", "requeue", "12"]] * 2
    assert "Slurm job 12 is requeued" in caplog.text
    assert "Slurm job 12 was not requeued: Requeue is disabled" in caplog.text
