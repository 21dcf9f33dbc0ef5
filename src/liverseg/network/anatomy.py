"""What a network does to sizes, and how far it sees: measured on the network itself, not derived.

Works for any network of convolutions that maps an image to logits. The pictures of what is measured
here are in :mod:`liverseg.pictures.diagrams`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

_RESIZING = (nn.Conv2d, nn.ConvTranspose2d, nn.Upsample)


class LayerSizes(NamedTuple):
    """What one layer takes and gives, each as (channels, height, width)."""

    name: str  # in the network, such as encoder.0.layers.0
    kind: str  # Conv2d, ConvTranspose2d or Upsample
    taken: tuple[int, int, int]
    given: tuple[int, int, int]


def map_sizes(net: nn.Module, image_size: int) -> list[LayerSizes]:
    """Return the sizes at every convolution and upsampling, in the order they are computed.

    Whatever lies between two layers (pooling, cropping, joining) shows as a difference between what
    one gives and the next takes.

    Args:
        net: The network; takes as many channels as its first convolution. Left as it was.
        image_size: Height and width of the image, in pixels.

    Raises:
        ValueError: If the network has no convolution, or cannot take that size.
    """
    image = torch.zeros(1, *_image_shape(net, image_size), device=_device(net))
    sizes: list[LayerSizes] = []

    def note(name: str, layer: nn.Module, taken: Tensor, given: Tensor) -> None:
        sizes.append(LayerSizes(name, type(layer).__name__, _size(taken), _size(given)))

    hooks = [
        layer.register_forward_hook(
            lambda layer, taken, given, name=name: note(name, layer, taken[0], given)
        )
        for name, layer in net.named_modules()
        if isinstance(layer, _RESIZING)
    ]
    try:
        with scoring(net), torch.inference_mode():
            net(image)
    finally:
        for hook in hooks:
            hook.remove()
    return sizes


def receptive_field(net: nn.Module, image_size: int, num_images: int = 8, seed: int = 0) -> Tensor:
    """Return how strongly the logits of the middle pixel depend on each pixel of the image.

    The absolute gradient of their sum with respect to the image, averaged over random images (Luo
    et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks",
    NeurIPS 2016, arXiv:1701.04128). Where it is not 0, the pixel reaches the logits: that is the
    receptive field.

    Args:
        net: Maps images to logits of shape (1, K, h, w); takes as many channels as its first
            convolution. Left as it was.
        image_size: Height and width of the images; larger than the field, or the field is cut.
        num_images: Random images (normal, standard deviation 1). A ReLU or a pooling hides in one
            image what it lets through in another.
        seed: Seed of the images.

    Returns:
        float32 of shape (image_size, image_size), >= 0; row and column ``image_size // 2`` are
        those of the middle pixel.

    Raises:
        ValueError: If the network has no convolution.
    """
    shape = _image_shape(net, image_size)
    generator = torch.Generator().manual_seed(seed)
    field = torch.zeros(image_size, image_size)
    with scoring(net), torch.enable_grad():
        for _ in range(num_images):
            image = torch.randn(1, *shape, generator=generator).to(_device(net)).requires_grad_()
            logits: Tensor = net(image)
            # Without padding the logits cover the middle of the image.
            row, column = (image_size // 2 - (image_size - side) // 2 for side in logits.shape[-2:])
            gradient = torch.autograd.grad(logits[0, :, row, column].sum(), image)[0]
            field += gradient[0].abs().sum(dim=0).cpu() / num_images
    return field


def field_size(field: Tensor) -> int:
    """Return the side in pixels of the square around everything that is not 0 in a field."""
    seen = (field > 0).nonzero()
    if len(seen) == 0:
        return 0
    return int((seen.amax(dim=0) - seen.amin(dim=0)).max()) + 1


def _image_shape(net: nn.Module, image_size: int) -> tuple[int, int, int]:
    first = next((layer for layer in net.modules() if isinstance(layer, nn.Conv2d)), None)
    if first is None:
        raise ValueError(f"{type(net).__name__} has no nn.Conv2d: there is nothing to measure")
    return first.in_channels, image_size, image_size


def _device(net: nn.Module) -> torch.device:
    return next(net.parameters()).device


def _size(features: Tensor) -> tuple[int, int, int]:
    channels, height, width = features.shape[1:]
    return channels, height, width


@contextmanager
def scoring(net: nn.Module) -> Iterator[None]:
    """Let a network score rather than train, and put each part of it back."""
    was_training = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for module, state in was_training.items():
            module.training = state
