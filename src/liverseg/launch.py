"""One process per device, started by torch's elastic agent, the engine inside ``torchrun``.

The process that Hydra runs in never joins the process group: it writes the resolved config into
the run folder and starts workers that read that one file. So no worker composes a config, starts a
sweep or leaves anything in the environment of the next job.
"""

import json
import os
import signal
import sys
import uuid
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from liverseg.experiment import Scores, stops_like_sigterm, train
from liverseg.resume import CONFIG_FILE, save_config
from liverseg.settings import check_settings

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def train_on_all_devices(config: DictConfig) -> Scores:
    """Train with as many processes as devices are asked for, and return the final scores.

    Where something else has started the processes (torchrun, Slurm), or one device is asked for,
    training happens in this process.

    Args:
        config: What ``configs/train.yaml`` composes.
    """
    check_settings(config)
    if _has_launcher():
        return train(config)
    if config.resume is None and (Path(config.output_dir) / "checkpoints").exists():
        raise ValueError(
            f"{config.output_dir} holds a run already; resume={config.output_dir} continues it, "
            "another hydra.run.dir starts a new one"
        )
    save_config(config)
    count = num_local_processes(config)
    return train(config) if count == 1 else _launch(config, count)


def num_local_processes(config: DictConfig) -> int:
    """Return how many processes a config asks for on this computer."""
    devices = config.trainer.get("devices", 1)
    if OmegaConf.is_list(devices):
        return len(devices)
    if devices in ("auto", -1, "-1"):
        on_gpu = config.trainer.get("accelerator", "auto") in ("auto", "gpu", "cuda")
        return max(torch.cuda.device_count(), 1) if on_gpu else 1
    return int(devices)


def _has_launcher() -> bool:
    return bool({"TORCHELASTIC_RUN_ID", "SLURM_PROCID"} & os.environ.keys())


def _launch(config: DictConfig, count: int) -> Scores:
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    output_dir = Path(config.output_dir)
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.5,
    )
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    try:
        with stops_like_sigterm(signal.SIGUSR1) as received:
            elastic_launch(launch, sys.executable)(
                "-u", "-m", "liverseg.worker", str(output_dir / CONFIG_FILE), str(os.getpid())
            )
    except SignalException as stopped:  # an Exception, which a sweep would take for a failed job
        raise SystemExit(128 + (received or [stopped.sigval])[0]) from None
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        raise RuntimeError(f"process {rank} of {count} failed: {failure.message}") from None
    finally:
        for number, handler in handlers.items():  # the agent leaves its own behind
            signal.signal(number, handler)
        if threads is None:
            del os.environ["OMP_NUM_THREADS"]
    scores: Scores = json.loads((output_dir / "metrics.json").read_text())
    return scores
