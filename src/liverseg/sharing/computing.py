"""Where and in which precision the page computes."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from liverseg.prediction import Predictor
from liverseg.training import AUTOCAST_FORMATS


def device_of(predictor: Predictor) -> torch.device:
    """Return where the networks of a predictor are."""
    return next((one.device for one in predictor.parameters()), torch.device("cpu"))


def computing_as(predictor: Predictor, precision: str) -> AbstractContextManager[Any]:
    """Compute as the run did, so that the page finds what ``predict.py`` finds.

    Args:
        predictor: Finds the classes.
        precision: What the run computed in, as Lightning names it.
    """
    if precision not in AUTOCAST_FORMATS:
        return nullcontext()
    return torch.autocast(device_of(predictor).type, dtype=AUTOCAST_FORMATS[precision])
