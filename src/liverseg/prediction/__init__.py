"""A network put to use on images without a truth.

Reading order: ``sources`` (what is predicted, and the names of its files), ``writing`` (masks and
pictures).
"""

from liverseg.prediction.sources import find_images
from liverseg.prediction.writing import ImageDataset, PredictionWriter, Predictor

__all__ = ["ImageDataset", "PredictionWriter", "Predictor", "find_images"]
