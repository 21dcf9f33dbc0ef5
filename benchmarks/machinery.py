"""Measure what exact resume and safe checkpoints cost: images per second with and without them.

With: randomness seeded per step and per sample, every loss checked, checkpoints flushed, renamed.
Without: none of it, and Lightning's own checkpoint. One epoch of each in turn, several times over.

    python benchmarks/machinery.py [--rounds 9]
"""

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.optim.lr_scheduler import ConstantLR

from liverseg.checkpoints import AtomicCheckpointIO, LastCheckpoint
from liverseg.data import pairs
from liverseg.training import SegmentationTask

CONFIGS = Path(__file__).parents[1] / "configs"


class PlainTask(SegmentationTask):
    """The task without what makes runs exact."""

    def on_train_batch_start(self, batch: Any, batch_index: int) -> None:
        """Leave the generator alone."""

    def _refuse_not_finite(self, *arguments: Any) -> None:
        """Look at no loss."""


def seconds_of_an_epoch(config: Any, folder: Path, is_safe: bool) -> float:
    """Train for one epoch, checkpoint included, and return the time it took."""
    parts = {name: instantiate(config[name], _convert_="all") for name in ("data", "model", "loss")}
    task = (SegmentationTask if is_safe else PlainTask)(
        net=parts["model"],
        loss=parts["loss"],
        optimizer=partial(torch.optim.AdamW, lr=1e-3),
        scheduler=partial(ConstantLR, factor=1.0),
        num_classes=1,
        class_names=["liver"],
    )
    last = LastCheckpoint(dirpath=str(folder)) if is_safe else ModelCheckpoint(folder, "plain")
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=[last],
        plugins=[AtomicCheckpointIO()] if is_safe else [],
        logger=False,
        limit_val_batches=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    parts["data"].prepare_data()
    parts["data"].dataset("train"), parts["data"].dataset("val")  # decoded before the clock starts
    seeded = pairs._seeded
    if not is_safe:
        pairs._seeded = lambda *numbers: torch.random.fork_rng(devices=[], enabled=False)
    try:
        start = time.perf_counter()
        trainer.fit(task, datamodule=parts["data"])
        return time.perf_counter() - start
    finally:
        pairs._seeded = seeded


def main() -> None:
    """Print both speeds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", ["output_dir=unused", "sweep_name=unused"])
    seconds: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        for round_number in range(rounds + 1):  # the first warms up
            for is_safe in (True, False) if round_number % 2 else (False, True):
                taken = seconds_of_an_epoch(config, Path(folder), is_safe)
                if round_number:
                    seconds[is_safe].append(taken)
    images = sum(1 for _ in Path(config.data.root, "train").glob("*_mask.png"))
    for is_safe, name in ((True, "with"), (False, "without")):
        print(f"{name:8} {images / statistics.median(seconds[is_safe]):6.1f} images/s")
    ratios = [without / taken for taken, without in zip(seconds[True], seconds[False], strict=True)]
    print(f"ratio    {statistics.median(ratios):6.3f} (median of {rounds} pairs of epochs)")


if __name__ == "__main__":
    main()
