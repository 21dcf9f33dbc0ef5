"""A network put to use.

Reading order: ``predictor`` (from an image to a prediction, the one way there), ``scoring`` (what
it finds against the truth), ``sources`` (what is predicted, and the names of its files),
``writing`` (masks and pictures).
"""

from liverseg.prediction.predictor import Prediction, Predictor, Voter
from liverseg.prediction.scoring import ScoringTask
from liverseg.prediction.sources import find_images
from liverseg.prediction.writing import ImageDataset, PredictionTask, PredictionWriter

__all__ = [
    "ImageDataset",
    "Prediction",
    "PredictionTask",
    "PredictionWriter",
    "Predictor",
    "ScoringTask",
    "Voter",
    "find_images",
]
