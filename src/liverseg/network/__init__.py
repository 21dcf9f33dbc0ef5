"""From an image to logits.

Reading order: ``unet`` (the network), ``sizes`` (how image, logits and mask come to agree in size),
``anatomy`` (map sizes and receptive field of any network, measured).
"""

from liverseg.network.anatomy import LayerSizes, field_size, map_sizes, receptive_field
from liverseg.network.sizes import (
    TILE_SIZE,
    Shrinking,
    tile_views,
    training_logits,
    whole_image_logits,
)
from liverseg.network.unet import UNet, UpStep

__all__ = [
    "TILE_SIZE",
    "LayerSizes",
    "Shrinking",
    "UNet",
    "UpStep",
    "field_size",
    "map_sizes",
    "receptive_field",
    "tile_views",
    "training_logits",
    "whole_image_logits",
]
