"""Measure what pictures and scalars cost: the share of training time that the callbacks take.

With: the callbacks dashboard and pictures, as configs/callbacks/default.yaml has them. Without:
neither of them; loss and scores are logged all the same. Two runs of the default config live side
by side and train one epoch each in turn, validation included, so that a change in the load of the
machine meets both. Processor time is given beside the time on the clock, because other programs
disturb it less. The first epoch of each warms up. Besides, the time that passes within the hooks of
the two callbacks is given as a share of the epochs in which it passed: the thread that writes files
is not in it, and neither is the noise of comparing two runs.

    python benchmarks/dashboard.py [--rounds 9]
"""

import argparse
import logging
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning import Callback, LightningModule, Trainer

from liverseg.training import SegmentationTask

CONFIGS = Path(__file__).parents[1] / "configs"


class Turns(Callback):
    """Lets a run train one epoch each time it is told to, and takes the time."""

    def __init__(self) -> None:
        self.may_start, self.has_ended = threading.Event(), threading.Event()
        self.seconds: list[tuple[float, float]] = []  # on the clock, of the processor
        self.within: list[float] = []  # of the clock, in hooks
        self.watched = 0.0
        self._start = (0.0, 0.0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait for the first turn."""
        self._wait()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End a turn, and wait for the next one."""
        now = (time.perf_counter(), time.process_time())
        self.seconds.append((now[0] - self._start[0], now[1] - self._start[1]))
        self.within.append(self.watched)
        self.has_ended.set()
        self._wait()

    def take_a_turn(self) -> None:
        """Let the run train one epoch."""
        self.has_ended.clear()
        self.may_start.set()
        self.has_ended.wait()

    def _wait(self) -> None:
        self.may_start.wait()
        self.may_start.clear()
        self.watched = 0.0
        self._start = (time.perf_counter(), time.process_time())

    def watch(self, callback: Callback) -> Callback:
        """Add up the time that passes in a callback's hooks."""
        for name in [one for one in vars(type(callback)) if one.startswith("on_")]:
            setattr(callback, name, self._timed(getattr(callback, name)))
        return callback

    def _timed(self, hook: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any, **named: Any) -> None:
            begun = time.perf_counter()
            hook(*arguments, **named)
            self.watched += time.perf_counter() - begun

        return call


def start_run(folder: Path, *, is_with: bool, num_epochs: int) -> Turns:
    """Start a run of the default config that waits for its turns."""
    overrides = [f"output_dir={folder}", "sweep_name=unused", f"trainer.max_epochs={num_epochs}"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", overrides)
    parts = instantiate(config, _convert_="all")
    data: Any = parts["data"]
    task = SegmentationTask(
        net=parts["model"],
        loss=parts["loss"],
        optimizer=parts["optimizer"],
        scheduler=parts["scheduler"],
        num_classes=data.num_classes,
        class_names=data.class_names,
    )
    turns = Turns()
    names = ("dashboard", "pictures") if is_with else ()
    trainer = parts["trainer"](
        callbacks=[*(turns.watch(parts["callbacks"][name]) for name in names), turns],
        logger=parts["logger"],
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    data.prepare_data()
    threading.Thread(target=trainer.fit, args=(task, data), daemon=True).start()
    return turns


def main() -> None:
    """Print both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        runs = {
            is_with: start_run(
                Path(folder, str(is_with)), is_with=is_with, num_epochs=rounds + 2
            )  # the last epoch is never begun
            for is_with in (True, False)
        }
        for number in range(rounds + 1):
            for is_with in (True, False) if number % 2 else (False, True):
                runs[is_with].take_a_turn()
        spent = {is_with: turns.seconds[1:] for is_with, turns in runs.items()}
    for kind, title in enumerate(("clock", "processor")):
        with_, without = ([pair[kind] for pair in spent[is_with]] for is_with in (True, False))
        costs = [one / other - 1 for one, other in zip(with_, without, strict=True)]
        low, middle, high = statistics.quantiles(costs, n=4)
        print(
            f"{title:10} {statistics.median(with_):7.3f} s with, "
            f"{statistics.median(without):7.3f} s without: {middle:6.2%} "
            f"(median of {rounds} epochs; half lie in {low:.2%} ... {high:.2%})"
        )
    turns = runs[True]
    shares = [one / pair[0] for one, pair in zip(turns.within[1:], turns.seconds[1:], strict=True)]
    print(
        f"in hooks   {statistics.median(turns.within[1:]):7.3f} s of an epoch: "
        f"{statistics.median(shares):6.2%} (largest {max(shares):.2%})"
    )


if __name__ == "__main__":
    main()
