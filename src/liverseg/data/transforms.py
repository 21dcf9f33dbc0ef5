"""What happens to image and mask between the disk and the network.

Augmentation moves image and mask together and is for training alone; normalisation is for every
split. They are declared in ``configs/augment`` and
``configs/data``; any transform of ``torchvision.transforms.v2`` serves.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.tv_tensors import Image as ImageTensor
from torchvision.tv_tensors import Mask as MaskTensor

from liverseg.labels import IGNORED


class Normalize:
    """Map an image in [0, 1] to ``(image - mean) / std``.

    Args:
        mean: One number, or one per channel.
        std: One number, or one per channel, > 0.
        channels: Channels of the image.
        slices: Images that are stacked as channels of one, see :mod:`liverseg.data.slices`.

    Raises:
        ValueError: If there are too many or too few numbers, or a std is not positive.
    """

    def __init__(
        self,
        *,
        mean: float | Sequence[float],
        std: float | Sequence[float],
        channels: int,
        slices: int = 1,
    ) -> None:
        self._mean = _per_channel("mean", mean, channels, slices)
        self._std = _per_channel("std", std, channels, slices)
        self._copies: dict[torch.device, tuple[Tensor, Tensor]] = {}
        if bool((self._std <= 0).any()):
            raise ValueError(f"data.std={std} must be greater than 0")

    def __call__(self, image: Tensor) -> Tensor:
        """Return the normalised image of shape (C, H, W), or images of shape (N, C, H, W)."""
        mean, std = self._on(image.device)
        return (image - mean) / std

    def undo(self, image: Tensor) -> Tensor:
        """Return the image in [0, 1] again, of shape (C, H, W)."""
        mean, std = self._on(image.device)
        return image * std + mean

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what lies on a GPU, which a process that loads cannot be given everywhere."""
        return {**self.__dict__, "_copies": {}}

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return both on a device; a GPU, which would wait for the copy, gets them once."""
        if device not in self._copies:
            self._copies[device] = (self._mean.to(device), self._std.to(device))
        return self._copies[device]


class Augment:
    """Apply transforms one after another to an image and its mask.

    Args:
        transforms: Transforms of ``torchvision.transforms.v2`` by name, in the order of the
            mapping. Those that move pixels move both; those that change intensities change the
            image alone.
        num_classes: 1 for foreground against background, N for the classes 0 ... N - 1; None
            leaves the values of masks unseen.
    """

    def __init__(
        self, transforms: Mapping[str, nn.Module], *, num_classes: int | None = None
    ) -> None:
        self._transforms = dict(transforms)
        self._last_class = IGNORED if num_classes is None else max(num_classes, 2) - 1

    def __call__(self, image: ImageTensor, mask: MaskTensor) -> tuple[Tensor, Tensor]:
        """Return the changed image of shape (C, H, W), in [0, 1], and mask of shape (H, W).

        Raises:
            ValueError: If a transform cannot take the image, or returns something else than an
                image and its mask.
        """
        changed_image: Tensor = image
        changed_mask: Tensor = mask
        for name, transform in self._transforms.items():
            try:
                found = transform(changed_image, changed_mask)
                if fault := self._fault_of(found, image, mask):
                    raise ValueError(fault)
                changed_image, changed_mask = found
            except Exception as error:  # of a size that it cannot take, say
                height, width = changed_image.shape[-2:]
                raise ValueError(
                    f"data.augment.{name} fails on an image of {height} x {width} "
                    f"({' '.join(str(error).split()).rstrip('.')}); change it, or leave it out "
                    f"with ~data.augment.{name}"
                ) from error
        return changed_image.clamp(0, 1), changed_mask

    def _fault_of(self, found: Any, image: Tensor, mask: Tensor) -> str:
        """Say what of a transform's result is not as image and mask were; "" where all is."""
        if not isinstance(found, tuple | list) or len(found) != 2:
            return f"it returns a {type(found).__name__}, not image and mask"
        for name, one, given in (("image", found[0], image), ("mask", found[1], mask)):
            if not isinstance(one, Tensor):
                return f"it returns the {name} as {type(one).__name__}, not as a tensor"
            if one.shape[:-2] != given.shape[:-2] or one.dim() != given.dim():
                return f"it returns the {name} in shape {_shape(one)}, for one of {_shape(given)}"
            if one.dtype != given.dtype:
                return f"it returns the {name} as {one.dtype}, not as {given.dtype}"
        if found[0].shape[-2:] != found[1].shape:
            return f"it returns an image of {_shape(found[0])} with a mask of {_shape(found[1])}"
        if not found[0].sum().isfinite():
            return "it returns an image with values that are not finite"
        largest = int((found[1].as_subclass(Tensor) + 1).max()) - 1  # 255, IGNORED, has become 0
        if largest > self._last_class:
            return f"it returns a mask that holds {largest}, which is no class"
        return ""


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape))


def _per_channel(name: str, value: float | Sequence[float], channels: int, slices: int) -> Tensor:
    numbers = torch.tensor(value, dtype=torch.float32).reshape(-1, 1, 1)
    if len(numbers) not in (1, channels):
        raise ValueError(f"data.{name}={value} must be one number, or one per channel ({channels})")
    return numbers if len(numbers) == 1 else numbers.repeat(slices, 1, 1)
