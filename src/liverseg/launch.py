"""One process per device, started by torch's elastic agent, the engine inside ``torchrun``.

The process that Hydra runs in never joins the process group: it writes the resolved config into
a folder for the moment and starts workers that read that one file. So no worker composes a config,
starts a sweep or leaves anything in the environment of the next job.
"""

import math
import os
import shlex
import signal
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from liverseg.checkpoints import load_checkpoint
from liverseg.checks import check_continuation, check_settings
from liverseg.experiment import Scores, train
from liverseg.files import remove_unfinished
from liverseg.inference import plain_values
from liverseg.runs import (
    JOB_FILE,
    LOCK,
    child_environment,
    found_launcher,
    is_first_process,
    last_checkpoint,
    load_config,
    locked,
    num_processes,
    read_scores,
    recorded,
    refuse_fixed,
    requeue,
    save_config,
    short_path,
    was_restarted,
)
from liverseg.runs.stopping import stops_like_sigterm
from liverseg.scores import summary
from liverseg.settings import told_in_one_sentence
from liverseg.training import with_names_of_today

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def train_and_tell(config: DictConfig) -> float:
    """Train, print the scores and where everything is, and return the score that is monitored.

    It is not a number where a search has given the run up.
    """
    with told_in_one_sentence():
        scores = train_on_all_devices(config)
    if is_first_process():
        folder = short_path(config.output_dir)
        told = [summary(scores, config.monitor), "", f"run        {folder}"]
        told.append(f"pictures   {folder}/pictures")
        if "TensorBoard" in str(config.logger):
            shown = "logs" if Path(folder).parts[0] == "logs" else folder  # with all other runs
            told.append(f"dashboard  tensorboard --logdir {shlex.quote(shown)}")
        sys.stdout.write("\n" + "\n".join(told) + "\n")
    return scores.get(config.monitor, math.nan)


def train_on_all_devices(config: DictConfig) -> Scores:
    """Train with as many processes as devices are asked for, and return the final scores.

    Where something else has started the processes (torchrun, Slurm), or one device is asked for,
    training happens in this process. A job of a sweep, or one that Slurm has started again, goes on
    from its last checkpoint.

    Raises:
        ValueError: If a setting is wrong, or the folder holds a run already or is in use.
    """
    try:
        if not is_first_process():
            return train(*_settled(config))
        folder = Path(config.output_dir)
        with locked(folder / LOCK, wait=False) as is_free:
            if not is_free:
                raise ValueError(f"{folder} is in use by another process; wait for it, or end it")
            for place in (folder, folder / "checkpoints", folder / "pictures"):
                remove_unfinished(place)
            with recorded(folder):
                config, begun = _settled(config)
                if config.resume is None:  # else once nothing has refused it, see ``train``
                    save_config(config, folder)
                count = num_processes(config.trainer, torch.cuda.device_count())
                if count == 1 or found_launcher():
                    return train(config, begun)
                return _launch(config, count)
    except SystemExit as stopped:
        if stopped.code == 128 + signal.SIGUSR1:  # what Slurm sends before the time is over
            requeue()
        raise


def _settled(config: DictConfig) -> tuple[DictConfig, Mapping[str, Any] | None]:
    """Return a config that is checked, and the record in the checkpoint that it goes on from."""
    if config.get("search") is not None:
        raise ValueError("a search is many runs; add -m: python train.py -m search=optuna")
    folder = Path(config.output_dir)
    is_job = (folder / JOB_FILE).is_file()
    if config.resume is None and is_job:
        # Composed again by the launcher of a cluster, perhaps from files edited meanwhile.
        config = load_config(folder)
        config.output_dir, config.resume = str(folder), None
    if config.resume is not None or is_job:  # perhaps written by an earlier release
        plain = OmegaConf.to_container(config, resolve=False)
        config = OmegaConf.create(with_names_of_today(plain))
    check_settings(config)
    if config.resume is None and (folder / "checkpoints").exists():
        if not is_job and not was_restarted():
            raise ValueError(
                f"{folder} holds a run already; resume={folder} continues it, another "
                "output_dir starts a new one"
            )
        last = last_checkpoint(folder / "checkpoints")
        config.resume = str(last) if last.is_file() else None
    if config.resume is None or not Path(config.resume).is_file():
        return config, None
    checkpoint = load_checkpoint(config.resume)
    check_continuation(checkpoint, config, plain_values(config), refuse_fixed)
    return config, checkpoint["liverseg"]


def _launch(config: DictConfig, count: int) -> Scores:
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    output_dir = Path(config.output_dir)
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    environment = dict(os.environ)
    os.environ.update(child_environment(count))
    try:
        # For the config, and what processes tell of their errors: torch would leave that behind.
        with stops_like_sigterm(signal.SIGUSR1) as received, TemporaryDirectory() as told_in:
            save_config(config, Path(told_in))
            launch = LaunchConfig(
                min_nodes=1,
                max_nodes=1,
                nproc_per_node=count,
                run_id=uuid.uuid4().hex,
                rdzv_backend="c10d",
                rdzv_endpoint="localhost:0",
                max_restarts=0,
                monitor_interval=0.5,
                logs_specs=DefaultLogsSpecs(told_in),
            )
            words = ["-u", "-m", "liverseg.worker", "device", told_in, str(os.getpid())]
            elastic_launch(launch, sys.executable)(*words)
    except SignalException as stopped:  # an Exception, which a sweep would take for a failed job
        raise SystemExit(128 + (received or [stopped.sigval])[0]) from None
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        message: Any = failure.message  # typed as text; a dictionary where Python raised
        told = message["message"] if isinstance(message, dict) else message
        if failure.exitcode == -signal.SIGKILL:
            told += ", as the system sends it where memory is short"
        if failure.exitcode < 0:  # a signal, so it could not say itself how to go on
            told += f"; python train.py resume={short_path(output_dir)} continues"
        raise ChildProcessError(f"process {rank} of {count} failed: {told}") from None
    finally:
        for number, handler in handlers.items():  # the agent leaves its own behind
            signal.signal(number, handler)
        os.environ.clear()
        os.environ.update(environment)
    return read_scores(output_dir)
