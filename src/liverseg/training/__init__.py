"""From logits to weights.

Reading order: ``losses`` (what is made small), ``muon`` (an optimizer for convolutions), ``task``
(one step for all splits), ``earlier`` (what earlier releases wrote, and how it reads today),
``precision`` (the number format that is fast here), ``memory`` (of a step, kept for the next),
``replay`` (steps that a GPU has recorded), ``length`` (the epochs that fit into steps or minutes),
``profiling`` (where the time goes), ``continuing`` (settings that change when a run is resumed),
``starting`` (weights that training starts from), ``parts`` (what of a network is frozen, or learns
at a rate of its own).
"""

from liverseg.training.continuing import has_stopped
from liverseg.training.earlier import (
    FORMER,
    bring_up_to_date,
    with_key_of_today,
    with_names_of_today,
)
from liverseg.training.length import FittingLength, is_limited, without_limits
from liverseg.training.losses import BinaryCrossEntropy, CrossEntropy, SoftDiceLoss, SumLoss
from liverseg.training.memory import keep_freed_memory
from liverseg.training.muon import Muon
from liverseg.training.parts import Freezing, with_rates
from liverseg.training.precision import AUTOCAST_FORMATS, fast_memory_format, fast_precision
from liverseg.training.profiling import RunProfile
from liverseg.training.replay import compile_network
from liverseg.training.starting import start_from, weights_in
from liverseg.training.task import (
    Batch,
    NotFiniteError,
    Scored,
    SegmentationTask,
    Split,
    copy_begun,
)

__all__ = [
    "AUTOCAST_FORMATS",
    "FORMER",
    "Batch",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "FittingLength",
    "Freezing",
    "Muon",
    "NotFiniteError",
    "RunProfile",
    "Scored",
    "SegmentationTask",
    "SoftDiceLoss",
    "Split",
    "SumLoss",
    "bring_up_to_date",
    "compile_network",
    "copy_begun",
    "fast_memory_format",
    "fast_precision",
    "has_stopped",
    "is_limited",
    "keep_freed_memory",
    "start_from",
    "weights_in",
    "with_key_of_today",
    "with_names_of_today",
    "with_rates",
    "without_limits",
]
