"""A network put to use.

Reading order: ``options`` (what may be chosen), ``cleaning`` (components, specks and holes),
``predictor`` (from an image to a prediction, the one way there), ``exported`` (an exported file in
the place of a network), ``scoring`` (what it finds against the truth), ``tuning`` (which options
help), ``sources`` (what is predicted, and the names of its files), ``finding`` (image by image),
``writing`` (masks, pictures and probabilities), ``volumes`` (label volumes), ``volume_scores``
(these against the truth).
"""

from liverseg.prediction.cleaning import Cleaning
from liverseg.prediction.exported import (
    OUTPUTS,
    RECORD,
    Engine,
    ExportedNetwork,
    Input,
    imported,
    is_exported,
    read_record,
)
from liverseg.prediction.finding import Found, ImageDataset, PredictionTask
from liverseg.prediction.options import Flip, Options, Threshold
from liverseg.prediction.predictor import Prediction, Predictor, Voter
from liverseg.prediction.scoring import ScoringTask
from liverseg.prediction.sources import find_images
from liverseg.prediction.tuning import CandidateTask, tune
from liverseg.prediction.volume_scores import ScoredVolumes, score_label_maps, score_volumes
from liverseg.prediction.volumes import (
    SLICES_AT_ONCE,
    SliceDataset,
    VolumeWriter,
    classes_of,
    predict_volumes,
    view_of,
)
from liverseg.prediction.writing import PredictionWriter

__all__ = [
    "OUTPUTS",
    "RECORD",
    "SLICES_AT_ONCE",
    "CandidateTask",
    "Cleaning",
    "Engine",
    "ExportedNetwork",
    "Flip",
    "Found",
    "ImageDataset",
    "Input",
    "Options",
    "Prediction",
    "PredictionTask",
    "PredictionWriter",
    "Predictor",
    "ScoredVolumes",
    "ScoringTask",
    "SliceDataset",
    "Threshold",
    "VolumeWriter",
    "Voter",
    "classes_of",
    "find_images",
    "imported",
    "is_exported",
    "predict_volumes",
    "read_record",
    "score_label_maps",
    "score_volumes",
    "tune",
    "view_of",
]
