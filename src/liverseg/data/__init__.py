"""What a sample is and how it is served: from files on disk to batches of images and masks.

Reading order: ``arrays``, ``images`` and ``masks`` (what files mean), ``layouts`` (advice where
they lie otherwise), ``pairs`` (the two of one name), ``table`` and ``folders`` (which are in which
split), ``samples`` (as tensors), ``transforms`` and ``augmentation`` (of one sample, of whole
batches), ``patterns`` (of a patient's name), ``marks`` (what a prediction wrote), ``slices``
(neighbours, seen together), ``folds``, ``splitting`` (by patient), ``patients`` (who is in which
split), ``fingerprints`` (whether pairs are still the same), ``intensities`` (how bright they are),
``loaders`` (order and batches), ``datamodule`` (all of it), ``phantom`` (the embedded pairs),
``volumes``.
"""

from liverseg.data.datamodule import PairDataModule
from liverseg.data.fingerprints import hash_of_masks
from liverseg.data.folders import PairFolders
from liverseg.data.folds import divide
from liverseg.data.images import (
    FORMATS,
    IMAGE_SUFFIXES,
    TWELVE_BITS,
    WHITE,
    as_three,
    is_coloured,
    read_image,
    read_shown,
    resize_image,
    shown_channels,
    stored_size,
)
from liverseg.data.intensities import (
    PERCENTILES,
    Histogram,
    Intensities,
    far_apart,
    histogram,
    sample_statistics,
)
from liverseg.data.layouts import is_of_masks, likely_images, renamed_split
from liverseg.data.loaders import ResumableSampler, SameSizeBatches, of_one_format
from liverseg.data.marks import is_ours, mark
from liverseg.data.masks import MaskReader, colour_names
from liverseg.data.pairs import Pair, case_of, is_mask, masks_of, some_of
from liverseg.data.patterns import USUAL_PATTERN
from liverseg.data.phantom import SPLITS, Phantom, draw_patient, write_phantom
from liverseg.data.samples import PairDataset
from liverseg.data.slices import FolderStacks, read_stack, slice_number
from liverseg.data.splitting import write_splits
from liverseg.data.table import TABLE

__all__ = [
    "FORMATS",
    "IMAGE_SUFFIXES",
    "PERCENTILES",
    "SPLITS",
    "TABLE",
    "TWELVE_BITS",
    "USUAL_PATTERN",
    "WHITE",
    "FolderStacks",
    "Histogram",
    "Intensities",
    "MaskReader",
    "Pair",
    "PairDataModule",
    "PairDataset",
    "PairFolders",
    "Phantom",
    "ResumableSampler",
    "SameSizeBatches",
    "as_three",
    "case_of",
    "colour_names",
    "divide",
    "draw_patient",
    "far_apart",
    "hash_of_masks",
    "histogram",
    "is_coloured",
    "is_mask",
    "is_of_masks",
    "is_ours",
    "likely_images",
    "mark",
    "masks_of",
    "of_one_format",
    "read_image",
    "read_shown",
    "read_stack",
    "renamed_split",
    "resize_image",
    "sample_statistics",
    "shown_channels",
    "slice_number",
    "some_of",
    "stored_size",
    "write_phantom",
    "write_splits",
]
