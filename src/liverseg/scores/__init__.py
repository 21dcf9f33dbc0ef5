"""From masks to numbers.

Reading order: ``metrics`` (which Dice and IoU, over what, in which words), ``absence`` (classes
that no mask holds), ``tables`` (the tables at the end of a run).
"""

from liverseg.scores.absence import classes_without_truth, sentence_of_absence
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
from liverseg.scores.tables import images_that_hold, summary

__all__ = [
    "METRIC_CONVENTION",
    "SCORES",
    "SegmentationScores",
    "classes_without_truth",
    "count_by_probability",
    "count_pixels",
    "dice",
    "images_that_hold",
    "iou",
    "precision_recall",
    "predict_classes",
    "sentence_of_absence",
    "summary",
    "write_cases",
]
