"""From an image to logits.

Reading order: ``unet`` (the network) with its ``gates``, ``winograd`` (its convolutions on
processors with AVX2 alone), ``fused`` and ``kernels`` (what lies between them, on GPUs), ``sizes``
(how image, logits and mask come to agree in size), ``tiles`` (large images piece by piece),
``libraries`` (networks of others), ``anatomy`` (map sizes and receptive field of any network,
measured).
"""

from liverseg.network.anatomy import LayerSizes, field_size, map_sizes, receptive_field
from liverseg.network.fused import fused_at_all_sizes
from liverseg.network.libraries import (
    LibraryNetwork,
    MonaiDynUNet,
    SmpUNet,
    TorchvisionDeepLabV3,
    inner_network,
)
from liverseg.network.sizes import (
    TILE_SIZE,
    Shrinking,
    faulty_logits,
    logits_one_by_one,
    rectangle_logits,
    strips_of_logits,
    tile_views,
    training_logits,
    trims,
    whole_image_logits,
)
from liverseg.network.unet import UNet, UpStep

__all__ = [
    "TILE_SIZE",
    "LayerSizes",
    "LibraryNetwork",
    "MonaiDynUNet",
    "Shrinking",
    "SmpUNet",
    "TorchvisionDeepLabV3",
    "UNet",
    "UpStep",
    "faulty_logits",
    "field_size",
    "fused_at_all_sizes",
    "inner_network",
    "logits_one_by_one",
    "map_sizes",
    "receptive_field",
    "rectangle_logits",
    "strips_of_logits",
    "tile_views",
    "training_logits",
    "trims",
    "whole_image_logits",
]
