"""A network put to use: ``writing`` (masks and pictures of images without a truth)."""

from liverseg.prediction.writing import ImageDataset, PredictionWriter, find_images

__all__ = ["ImageDataset", "PredictionWriter", "find_images"]
