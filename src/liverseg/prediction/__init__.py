"""A network put to use.

Reading order: ``predictor`` (from an image to a prediction, the one way there), ``exported`` (an
exported file in the place of a network), ``scoring`` (what it finds against the truth), ``sources``
(what is predicted, and the names of its files), ``writing`` (masks and pictures), ``volumes``
(label volumes).
"""

from liverseg.prediction.exported import (
    OUTPUTS,
    RECORD,
    ExportedNetwork,
    Input,
    imported,
    is_exported,
    read_record,
)
from liverseg.prediction.predictor import Prediction, Predictor, Voter
from liverseg.prediction.scoring import ScoringTask
from liverseg.prediction.sources import find_images
from liverseg.prediction.volumes import (
    VolumeWriter,
    classes_of,
    predict_volumes,
    score_volumes,
    view_of,
)
from liverseg.prediction.writing import ImageDataset, PredictionTask, PredictionWriter

__all__ = [
    "OUTPUTS",
    "RECORD",
    "ExportedNetwork",
    "ImageDataset",
    "Input",
    "Prediction",
    "PredictionTask",
    "PredictionWriter",
    "Predictor",
    "ScoringTask",
    "VolumeWriter",
    "Voter",
    "classes_of",
    "find_images",
    "imported",
    "is_exported",
    "predict_volumes",
    "read_record",
    "score_volumes",
    "view_of",
]
