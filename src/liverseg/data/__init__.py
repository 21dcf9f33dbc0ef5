"""What a sample is and how it is served: from files on disk to batches of images and masks.

Reading order: ``images`` and ``masks`` (what their files mean), ``pairs`` (the two of one name, as
tensors), ``transforms``, ``patterns`` (of a patient's name), ``folds``, ``patients`` (who is in
which split), ``loaders`` (order and batches), ``datamodule`` (splits), ``phantom`` (the embedded
pairs).
"""

from liverseg.data.datamodule import PairDataModule
from liverseg.data.folds import divide
from liverseg.data.images import read_image, resize_image, stored_size
from liverseg.data.loaders import ResumableSampler, SameSizeBatches
from liverseg.data.masks import MaskReader
from liverseg.data.pairs import PairDataset, case_of, is_mask, list_images
from liverseg.data.phantom import SPLITS, Phantom, draw_patient, write_phantom

__all__ = [
    "SPLITS",
    "MaskReader",
    "PairDataModule",
    "PairDataset",
    "Phantom",
    "ResumableSampler",
    "SameSizeBatches",
    "case_of",
    "divide",
    "draw_patient",
    "is_mask",
    "list_images",
    "read_image",
    "resize_image",
    "stored_size",
    "write_phantom",
]
