"""Whether probabilities mean what they say: of pixels given 0.8, are 8 in 10 of the class?

Everything is counted in whole numbers, so batch size, order and number of devices change no digit.
"""

import torch
from torch import Tensor

from liverseg.labels import IGNORED
from liverseg.scores.metrics import class_probabilities

NUM_BINS = 15  # as Guo et al. (2017), On Calibration of Modern Neural Networks
_PARTS = 2**20  # of a probability


def count_calibration(logits: Tensor, mask: Tensor, *, first: int = 1) -> Tensor:
    """Count pixels by the probability of each foreground class; ignored pixels count nowhere.

    Args:
        logits: Logits of shape (N, K, H, W).
        mask: True class indices of shape (N, H, W), ignored pixels as IGNORED.
        first: The first class that is counted; 0, with two logits or more, counts background too.

    Returns:
        int64 of shape (counted classes, 15, 3): pixels in each of 15 equal steps of probability,
        those of the class among them, and the sum of their probabilities in parts of 2**-20.
    """
    probability = class_probabilities(logits.float(), first=first)
    valid = mask != IGNORED
    counts = []
    for place in range(probability.shape[1]):
        parts = (probability[:, place][valid] * _PARTS).round().long()
        is_true = mask[valid] == place + first
        steps = (parts * NUM_BINS // _PARTS).clamp(max=NUM_BINS - 1)
        counted = parts.new_zeros(NUM_BINS, 3)
        counted.index_add_(0, steps, torch.stack([torch.ones_like(parts), is_true, parts], dim=1))
        counts.append(counted)
    return torch.stack(counts)


def reliability(counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the share of pixels, their mean probability and how many are of the class.

    Args:
        counts: What :func:`count_calibration` returned, summed over batches.

    Returns:
        Each float64 of shape (classes, 15); NaN where a step has no pixel.
    """
    pixels, true, parts = counts.cpu().double().unbind(dim=-1)
    total = pixels.sum(dim=1, keepdim=True).clamp(min=1)
    return pixels / total, parts / _PARTS / pixels, true / pixels


def calibration_error(counts: Tensor) -> Tensor:
    """Return the expected calibration error of each class, float64 in [0, 1].

    It is the mean over pixels of the distance between probability and truth, both averaged within
    steps (Guo et al. 2017, arXiv 1706.04599), of the probability of each class on its own: the
    classwise error of Kull et al. (2019, arXiv 1910.12656).

    Args:
        counts: What :func:`count_calibration` returned, summed over batches.
    """
    share, probability, truth = reliability(counts)
    return (share * (probability - truth).abs()).nan_to_num(0.0).sum(dim=1)
