"""From logits to weights: ``losses`` (what is made small), ``task`` (one step for all splits)."""

from liverseg.training.losses import BinaryCrossEntropy, CrossEntropy, SoftDiceLoss, SumLoss
from liverseg.training.task import NotFiniteError, Scored, SegmentationTask, Split

__all__ = [
    "BinaryCrossEntropy",
    "CrossEntropy",
    "NotFiniteError",
    "Scored",
    "SegmentationTask",
    "SoftDiceLoss",
    "Split",
    "SumLoss",
]
