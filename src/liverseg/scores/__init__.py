"""From masks to numbers: ``metrics`` (which Dice and IoU, over what, in which words)."""

from liverseg.scores.metrics import (
    METRIC_CONVENTION,
    SCORES,
    SegmentationScores,
    count_by_probability,
    count_pixels,
    dice,
    iou,
    precision_recall,
    predict_classes,
    write_cases,
)

__all__ = [
    "METRIC_CONVENTION",
    "SCORES",
    "SegmentationScores",
    "count_by_probability",
    "count_pixels",
    "dice",
    "iou",
    "precision_recall",
    "predict_classes",
    "write_cases",
]
