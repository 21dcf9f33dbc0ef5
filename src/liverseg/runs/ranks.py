"""Processes that something else has started, torchrun or srun: which one is this, which folder?

Each of them reads the same command line, so what depends on the moment must be agreed upon.
"""

import logging
import os
import subprocess
from collections.abc import Sequence
from typing import Literal

_FOLDERS = ("hydra.run.dir=", "output_dir=", "resume=")
_SILENT = ("hydra.output_subdir=null", "hydra.job_logging.root.handlers=[]")
logger = logging.getLogger(__name__)


def found_launcher() -> Literal["torchrun", "srun"] | None:
    """Tell what has started several processes that train together; None where nothing has."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "torchrun"
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return "srun"
    return None


def is_first_process() -> bool:
    """Tell whether this is the process that writes."""
    # Lightning numbers those that it has started itself, for evaluate.py trainer.devices=2.
    name = {"torchrun": "RANK", "srun": "SLURM_PROCID", None: "LOCAL_RANK"}[found_launcher()]
    return os.environ.get(name, "0") == "0"


def agreed_arguments(arguments: Sequence[str]) -> list[str]:
    """Return a command line with the folder that all processes of a run share.

    Under Slurm it is named by the job, so that a job that is started again goes on there. Only the
    first process writes the config and the log.

    Raises:
        ValueError: If the processes cannot agree, or each of them would start a sweep.
    """
    agreed, launcher, job = list(arguments), found_launcher(), slurm_job()
    is_sweep = bool({"-m", "--multirun"} & set(arguments))
    if is_sweep and launcher is not None:
        raise ValueError(
            f"a sweep starts its processes itself; leave out {launcher}, and say how many each job "
            "gets: trainer=ddp trainer.devices=2"
        )
    has_folder = is_sweep or any(one.startswith(_FOLDERS) for one in arguments)
    if not has_folder and (launcher or job):
        if launcher == "torchrun" and os.environ.get("GROUP_WORLD_SIZE", "1") != "1":
            raise ValueError(
                "the computers of one run must be told its folder; add "
                "output_dir=logs/train/runs/NAME"
            )
        name = f"slurm_{job}" if job is not None else f"torchrun_{os.getppid()}"
        agreed.append(f"hydra.run.dir=logs/train/runs/{name}")
    is_resumed = any(one.startswith("resume=") for one in arguments)  # no Hydra to be silenced
    return agreed if is_resumed or is_first_process() else [*agreed, *_SILENT]


def slurm_job() -> str | None:
    """Return the name of the Slurm job that this process belongs to, or None."""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


def was_restarted() -> bool:
    """Tell whether Slurm has started this job before."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0


def requeue() -> None:
    """Ask Slurm to start this job again, where it is one; the first process asks."""
    job = slurm_job()
    if job is None or not is_first_process():
        return
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        logger.warning("Slurm job %s was not requeued: %s", job, str(reason).strip())
    else:
        logger.warning("Slurm job %s is requeued, and goes on in its folder", job)
