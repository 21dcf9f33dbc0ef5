"""How a run is stopped: by SIGTERM, by what Slurm sends, by several processes together."""

import os
import signal
import threading
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from liverseg.runs.processes import heard


def stops_like_sigterm(number: signal.Signals) -> AbstractContextManager[list[int]]:
    """Make a signal end the process as SIGTERM does; yield the list of those received."""
    return heard(number, then=lambda: os.kill(os.getpid(), signal.SIGTERM))


class StopTogether(Callback):
    """Stops several processes at the same step when one of them receives SIGTERM.

    Lightning asks the other processes from within the signal's handler, which can wait for ever
    for a process that is in the middle of a step. Here the handler takes a note, and before each
    step all processes agree.
    """

    def __init__(self) -> None:
        self._is_asked = False

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the place of Lightning's handler, as early as it lets one, until fitting ends."""
        if trainer.world_size > 1 and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._ask)

    on_train_start = on_sanity_check_start

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:  # the hook's own signature
        """Stop where any process was asked to."""
        agree = trainer.strategy.reduce_boolean_decision
        if trainer.world_size > 1 and agree(self._is_asked, all=False):
            progress = trainer.fit_loop.epoch_loop.batch_progress
            for count in (progress.current, progress.total):
                count.ready -= 1  # a step that does not begin, which curves would be off by
            raise SIGTERMException

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._is_asked = True
