"""Checkpoint files: written whole or not at all, and told from damaged ones."""

import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint, StochasticWeightAveraging

from liverseg.checkpoints.limits import is_stored
from liverseg.files import written_whole
from liverseg.training import NotFiniteError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, flushes it to the disk, then renames it.

    A write that fails or is killed leaves the file that stood there before as it was.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            OSError: If it cannot be written.
        """
        target = Path(path)
        try:
            with written_whole(target) as draft, draft.open("wb") as stream:
                torch.save(checkpoint, stream)
                stream.flush()
                os.fsync(stream.fileno())
        except (OSError, RuntimeError) as error:  # torch hides a full disk in a RuntimeError
            good = newest_good(target.parent)
            raise OSError(
                f"{target} could not be written ({str(error).splitlines()[0]}); is the disk full? "
                + (f"{good} is still good" if good else "no earlier checkpoint exists")
            ) from error


class LastCheckpoint(ModelCheckpoint):
    """Keeps ``last.ckpt``: the end of the latest epoch, or where a run was interrupted.

    A run that ended because its loss was not finite leaves the file of the epoch before.

    Args:
        dirpath: The folder of the file.
    """

    def __init__(self, *, dirpath: str) -> None:
        super().__init__(
            dirpath=dirpath,
            filename="last",
            enable_version_counter=False,
            save_on_train_epoch_end=True,
            save_on_exception=True,
        )
        self._has_begun = False

    def on_train_batch_start(self, *_: Any) -> None:
        """Note that there is something to save: what is refused before leaves the file alone."""
        self._has_begun = True

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Save what there is, if it can be gone on from exactly."""
        # Else the file of the epoch before is better. Lightning goes on without a check on val that
        # was under way or due, or counts steps amiss after it; what a step has changed so far, or
        # added up of gradients for a later one, is not undone or kept. A stochastic average takes
        # its schedule up again where an epoch starts.
        progress = trainer.fit_loop.epoch_loop.batch_progress
        current: Any = progress.current  # typed as one that does not count what is started
        is_within_step = (
            current.started != current.completed
            or current.completed % trainer.accumulate_grad_batches != 0
        )
        is_checked = progress.is_last_batch or (
            trainer.val_check_batch is not None and current.completed % trainer.val_check_batch == 0
        )
        callbacks = trainer.callbacks  # type: ignore[attr-defined]  # set by its connector
        averages = any(isinstance(one, StochasticWeightAveraging) for one in callbacks)
        is_in_the_way = is_within_step or is_checked or averages or not self._has_begun
        if not (is_in_the_way or isinstance(exception, NotFiniteError)):
            super().on_exception(trainer, pl_module, exception)


def newest_good(folder: Path, apart_from: Path | None = None) -> Path | None:
    """Return the newest checkpoint of a folder that is whole, or None."""
    files = sorted(folder.glob("*.ckpt"), key=lambda file: file.stat().st_mtime, reverse=True)
    return next((file for file in files if file != apart_from and is_whole(file)), None)


def is_whole(file: Path) -> bool:
    """Tell whether every part of a checkpoint has the checksum that was written with it."""
    try:
        with zipfile.ZipFile(file) as archive:
            return is_stored(archive, file) and archive.testzip() is None
    except Exception:  # a flipped bit of a header raises one of a dozen kinds
        return False
