"""Augmentation of whole batches on their device, each sample by draws of its own.

Reading order: ``draws`` (random numbers without a state), ``geometry`` (where pixels go),
``intensity`` (how bright they are), ``batches`` (all of it, in one resampling).
"""

from liverseg.data.augmentation.batches import BatchAugment, is_for_batches
from liverseg.data.augmentation.geometry import Affine, CropToForeground, Elastic, Flip
from liverseg.data.augmentation.intensity import (
    Blur,
    Gamma,
    Jitter,
    LowResolution,
    Noise,
    WindowJitter,
)

__all__ = [
    "Affine",
    "BatchAugment",
    "Blur",
    "CropToForeground",
    "Elastic",
    "Flip",
    "Gamma",
    "Jitter",
    "LowResolution",
    "Noise",
    "WindowJitter",
    "is_for_batches",
]
