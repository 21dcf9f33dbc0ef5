"""TensorBoard's files: one run of its own for each split, since it tells runs apart by colour."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

_SPLITS = ("train", "val", "test")
FINAL = "final"  # the run of hyperparameters; those of the final scores lie below it


class TensorBoard(TensorBoardLogger):
    """A logger that writes ``SPLIT/QUANTITY`` as ``QUANTITY`` into a run named after the split.

    So train and val are two colours on one chart. What belongs to no split is written into the run
    of train, as it is. The arguments are those of Lightning's ``TensorBoardLogger``.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._writers: dict[str, SummaryWriter] = {}

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        """What writes into the run of train."""
        return self.writer("train")

    def writer(self, run: str) -> SummaryWriter:
        """Return what writes into a run below ``log_dir``; for the first process alone."""
        if run not in self._writers:
            self._writers[run] = SummaryWriter(str(Path(self.log_dir, run)))
        return self._writers[run]

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Write scalars, all but the epoch, which would be a chart of its own."""
        for name, value in metrics.items():
            if name != "epoch":
                writer, tag = place_of(self, name)
                number = value.item() if isinstance(value, Tensor) else value
                writer.add_scalar(tag, number, step)

    @rank_zero_only
    def save(self) -> None:
        """Write what is still in memory."""
        for writer in self._writers.values():
            writer.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the files; what is written later opens new ones."""
        for writer in self._writers.values():
            writer.close()


def boards_of(trainer: Trainer) -> list[TensorBoardLogger]:
    """Return the loggers that can show pictures."""
    return [board for board in trainer.loggers if isinstance(board, TensorBoardLogger)]


def place_of(board: TensorBoardLogger, name: str) -> tuple[SummaryWriter, str]:
    """Return what writes ``SPLIT/QUANTITY``, and the tag that it is shown by.

    Lightning's own logger, which runs of earlier versions are resumed with, has one writer.
    """
    *runs, tag = name.split("/", 2 if name.startswith(f"{FINAL}/") else 1)
    if isinstance(board, TensorBoard) and runs and runs[0] in (*_SPLITS, FINAL):
        return board.writer("/".join(runs)), tag
    return board.experiment, name
