"""From a checkpoint file back to objects, without trusting the file.

A checkpoint is tensors and plain values. Under ``"liverseg"`` it carries the config of its run,
which suffices to rebuild network and preprocessing. Classes are named there by text, so a name is
looked up only if it stands on an allowlist.

Reading order: ``files`` (written whole or not at all), ``limits`` (how much memory and time a file
may ask for), ``building`` (from a name to an object), ``reading`` (the checkpoint, its task and its
data).
"""

from liverseg.checkpoints.building import ALLOWED, build
from liverseg.checkpoints.files import AtomicCheckpointIO, LastCheckpoint, is_whole, newest_good
from liverseg.checkpoints.reading import (
    load_checkpoint,
    load_data,
    load_task,
    load_weights,
)

__all__ = [
    "ALLOWED",
    "AtomicCheckpointIO",
    "LastCheckpoint",
    "build",
    "is_whole",
    "load_checkpoint",
    "load_data",
    "load_task",
    "load_weights",
    "newest_good",
]
