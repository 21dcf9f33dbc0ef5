"""A trained network put to use: what stands behind ``evaluate.py`` and ``predict.py``.

Reading order: ``loading`` (from checkpoints to what predicts), ``running`` (what every pass over
images needs), ``volumes``, ``masks`` (of another tool), ``evaluating``, ``predicting``.
"""

from liverseg.inference.evaluating import evaluate
from liverseg.inference.loading import Loaded, find_checkpoints, load, load_predictor, options_of
from liverseg.inference.predicting import predict
from liverseg.inference.running import (
    Scores,
    choose_scores,
    plain_values,
    progress_of,
    quieten,
    refuse_no_batch,
    score,
    warn_of_absent_classes,
)

__all__ = [
    "Loaded",
    "Scores",
    "choose_scores",
    "evaluate",
    "find_checkpoints",
    "load",
    "load_predictor",
    "options_of",
    "plain_values",
    "predict",
    "progress_of",
    "quieten",
    "refuse_no_batch",
    "score",
    "warn_of_absent_classes",
]
