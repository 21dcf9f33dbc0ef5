"""Training that is killed at a chosen point, in a process of its own."""

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from liverseg.checkpoints import files
from liverseg.experiment import train
from liverseg.runs.resume import resumed_config
from liverseg.training.task import SegmentationTask

Point = tuple[str, int]


def _settle() -> None:
    """Be an ordinary process: loaders fork from it, and end when it does."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # heard in the background, too
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)


def run(config: DictConfig) -> None:
    """Train undisturbed."""
    _settle()
    train(config)


def run_until(config: DictConfig, point: Point, number: int) -> None:
    """Train, and send this process a signal at a point: the n-th event of a kind."""
    kind, countdown = point
    events = iter(range(countdown + 1))

    def strike(event: str) -> None:
        if event == kind and next(events) == countdown:
            os.kill(os.getpid(), number)

    def announced(owner: Any, name: str, before: str, after: str) -> None:
        original = getattr(owner, name)

        def call(*arguments: Any, **named: Any) -> Any:
            strike(before)
            result = original(*arguments, **named)
            strike(after)
            return result

        setattr(owner, name, call)

    class HalfWritten:
        """Writes a file, and is struck in the middle of it."""

        def __init__(self, stream: Any) -> None:
            self.stream, self.written, self.is_struck = stream, 0, False

        def write(self, data: bytes) -> int:
            self.written += len(data)
            if self.written > 20_000 and not self.is_struck:
                self.is_struck = True
                self.stream.write(bytes(data[: len(data) // 2]))
                self.stream.flush()
                strike("half written")
                return self.stream.write(bytes(data[len(data) // 2 :])) + len(data) // 2
            return self.stream.write(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.stream, name)

    save = torch.save
    torch.save = lambda content, stream: save(content, HalfWritten(stream))
    announced(files.os, "replace", "before rename", "after rename")
    announced(SegmentationTask, "training_step", "before step", "in step")
    announced(SegmentationTask, "on_train_batch_start", "batch", "seeded")
    announced(SegmentationTask, "validation_step", "validation", "in validation")
    announced(SegmentationTask, "on_train_epoch_end", "epoch end", "logged")
    _settle()
    train(config)
    raise RuntimeError(f"the point {point} was never reached")


def resume(folder: Path, *arguments: str) -> None:
    """Continue a run as the command line does."""
    _settle()
    config = resumed_config([f"resume={folder}", *arguments])
    assert config is not None
    train(config)


def saved(config: DictConfig) -> DictConfig:
    """Write a config where resume finds it, and return it."""
    folder = Path(config.output_dir)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config))
    return config


KILL, STOP, SLURM = signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1
