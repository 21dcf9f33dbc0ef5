import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_for

from liverseg.runs import locked, processes
from liverseg.sweeps import pool
from liverseg.sweeps.pool import Pool, find_devices, is_elsewhere, share

GPUS = """GPU 0: A (UUID: GPU-x)
  MIG 1g.5gb Device 0: (UUID: MIG-z)
GPU 1: A (UUID: GPU-y)
"""


@pytest.mark.parametrize(
    ("devices", "num_slots", "shares"),
    [
        ("0123", 4, ["0", "1", "2", "3"]),
        ("0123", 2, ["01", "23"]),
        ("0123", 1, ["0123"]),
        ("012", 2, ["0", "12"]),
        ("01", 3, ["0", "1", "0"]),
        ("", 2, ["", ""]),
    ],
)
def test_slots_share_the_devices(devices: str, num_slots: int, shares: list[str]) -> None:
    assert ["".join(share(devices, slot, num_slots)) for slot in range(num_slots)] == shares


def test_devices_are_those_listed_or_visible_or_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-8ab")
    assert find_devices([0, 2]) == ["0", "2"]
    assert find_devices("auto") == ["3", "GPU-8ab"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(pool.shutil, "which", lambda name: None)
    assert find_devices("auto") == []
    listed = subprocess.CompletedProcess([], 0, stdout=GPUS)
    monkeypatch.setattr(pool.shutil, "which", lambda name: name)
    monkeypatch.setattr(pool.subprocess, "run", lambda *arguments, **options: listed)
    assert find_devices("auto") == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert find_devices("auto") == []


def test_cores_are_divided_among_jobs_and_their_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "num_cores", lambda: 16)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    started: list[dict[str, str]] = []
    monkeypatch.setattr(pool.subprocess, "Popen", lambda *a, env, **given: started.append(env))
    for devices, num_slots, num_gpus, threads in (
        ("1", 1, 0, "16"),
        ("2", 2, 0, "4"),
        ("'4'", 2, 0, "2"),
        ("auto", 4, 0, "4"),
        ("auto", 2, 4, "2"),  # a job has all GPUs of its slot, and a process for each
        ("-1", 2, 4, "2"),
        ("[0, 2]", 2, 0, "4"),
        ("4", 8, 0, "1"),
    ):
        (tmp_path / "config.yaml").write_text(f"output_dir: x\ntrainer: {{devices: {devices}}}\n")
        jobs = pool.Pool(["train"], num_slots=num_slots, devices="auto")
        jobs._start(pool.Job(tmp_path, ()), [str(gpu) for gpu in range(num_gpus)])
        assert started[-1]["OMP_NUM_THREADS"] == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # what is said otherwise counts
    assert processes.child_environment(2)["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"num_slots": 0}, "hydra.launcher.jobs=0 must be a number from 1 up"),
        ({"num_slots": "abc"}, "hydra.launcher.jobs=abc must be a number from 1 up"),
        ({"num_slots": True}, "hydra.launcher.jobs=True must be a number from 1 up"),
        *(
            (
                {"devices": devices},
                f"hydra.launcher.devices={devices} must be auto, or a list such as [0,1]",
            )
            for devices in (5, None, "all", [], [-1], [[0]], {"a": 1})
        ),
    ],
)
def test_slots_and_devices_that_no_job_can_start_with_are_refused(
    setting: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Pool(**{"command": [], "num_slots": 1, "devices": "auto", **setting})


def test_a_job_that_another_command_has_taken_is_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text('{"status": "running"}')
    job = pool.Job(tmp_path, ())
    assert not is_elsewhere(job)  # its process was killed
    for lock in (".claim", ".lock"):
        with locked(tmp_path / lock, wait=False):
            assert is_elsewhere(job)


@pytest.mark.slow
def test_running_jobs_save_where_no_next_job_can_be_made(tmp_path: Path) -> None:
    job = pool.Job(tmp_path, ())
    (tmp_path / "job.json").write_text('{"status": "waiting"}')
    (tmp_path / "config.yaml").write_text("output_dir: x\ntrainer: {devices: 1}\n")
    begun, saved = tmp_path / "begun", tmp_path / "saved"
    code = f"""
import pathlib, signal, sys, time
def save(number, frame):
    pathlib.Path({str(saved)!r}).touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
pathlib.Path({str(begun)!r}).touch()
time.sleep(100)
"""

    def jobs() -> Iterator[pool.Job]:
        yield job
        wait_for(begun.exists)
        raise ValueError("no next job")

    with pytest.raises(ValueError, match="no next job"):
        Pool([sys.executable, "-c", code], num_slots=2, devices=[0]).run(jobs())
    assert saved.exists()
