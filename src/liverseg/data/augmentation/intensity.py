"""How bright pixels are: transforms of images in [0, 1], the masks staying as they are.

All but sums over a sample are computed pixel by pixel, so that a sample's result depends on no
other one, to the last bit.
"""

import math
from collections.abc import Mapping
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from liverseg.data.augmentation.draws import Draws, normal_field
from liverseg.data.augmentation.geometry import Chance, Parameters, Range, _floats, _ordered

_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R 601
Share = Annotated[float, Field(ge=0, lt=1)]


class Intensity(nn.Module):
    """A transform that changes values of the image alone."""

    def __init__(self, chance: float) -> None:
        super().__init__()
        self.chance = chance
        self.slices = 1  # of an image, stacked as channels; set by BatchAugment

    def draw(self, draws: Draws) -> Parameters:
        """Return what is drawn for a batch: ``which`` samples (n,), and tensors of that length."""
        which = np.flatnonzero(draws.chosen(self.chance))
        return {"which": torch.from_numpy(which), **self.drawn(draws, which)}

    def drawn(self, draws: Draws, which: "np.typing.NDArray[np.int64]") -> Parameters:
        """Return what is drawn for some samples of a batch."""
        raise NotImplementedError

    def change(self, image: Tensor, drawn: Mapping[str, Tensor], sizes: Tensor) -> Tensor:
        """Return changed images.

        Args:
            image: The samples of ``which``, float32 (n, C, H, W) in [0, 1], upper left.
            drawn: What :meth:`drawn` returned, on their device.
            sizes: Their heights and widths, float32 (n, 2).
        """
        raise NotImplementedError


class Jitter(Intensity):
    """Brighter and darker, with more and less contrast and, in three channels, colour.

    Args:
        brightness: Values are multiplied by 1 - this ... 1 + this.
        contrast: Differences from the mean likewise.
        saturation: Differences of a colour from its grey likewise, where there are 3 channels.
        tint: Each channel is multiplied by a factor of its own likewise, in all slices the same.
        chance: How often.
    """

    def __init__(
        self,
        *,
        brightness: Share = 0.0,
        contrast: Share = 0.0,
        saturation: Share = 0.0,
        tint: Share = 0.0,
        chance: Chance = 1.0,
    ) -> None:
        super().__init__(chance)
        self.widths = (brightness, contrast, saturation)
        self.tint = tint

    def drawn(self, draws: Draws, which: "np.typing.NDArray[np.int64]") -> Parameters:
        """Draw the factors."""
        factors = [
            draws.between((1 - width, 1 + width), 1 + place)[which]
            for place, width in enumerate(self.widths)
        ]
        return {
            "factors": _floats(np.stack(factors, axis=1)),
            "tints": _floats(draws.uniform(8, 32)[which]),
        }

    def change(self, image: Tensor, drawn: Mapping[str, Tensor], sizes: Tensor) -> Tensor:
        """Multiply, then draw towards the mean, then towards grey."""
        bright, contrast, colour = (
            factor.view(-1, 1, 1, 1) for factor in drawn["factors"].unbind(dim=1)
        )
        channels = image.shape[1]
        if self.tint:
            its = torch.arange(channels, device=image.device) % (channels // self.slices)
            tints = drawn["tints"][:, its % 32]
            bright = bright * (1 + self.tint * (2 * tints - 1)).view(-1, channels, 1, 1)
        if self.widths[0] or self.tint:
            image = (image * bright).clamp(0, 1)
        if self.widths[1]:
            total = image.sum(dim=(1, 2, 3), dtype=_widest(image.device))  # no order matters
            mean = (total / (channels * sizes.prod(dim=1))).float().view(-1, 1, 1, 1)
            image = (mean + contrast * (image - mean)).clamp(0, 1)
        if self.widths[2] and channels == 3 * self.slices:
            image = image.unflatten(1, (self.slices, 3))
            red, green, blue = image.split(1, dim=2)
            grey = _LUMINANCE[0] * red + _LUMINANCE[1] * green + _LUMINANCE[2] * blue
            image = (grey + colour[:, None] * (image - grey)).clamp(0, 1).flatten(1, 2)
        return image


def _widest(device: torch.device) -> torch.dtype:
    """Return the widest format that a device adds up in; GPUs of Apple have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


class WindowJitter(Intensity):
    """Show an image as through another window: its level moved, its width changed.

    Args:
        level: The largest move of the level, either way, of the whole range.
        width: Widths are multiplied by 1 - this ... 1 + this.
        chance: How often.
    """

    def __init__(self, *, level: Share = 0.1, width: Share = 0.2, chance: Chance = 1.0) -> None:
        super().__init__(chance)
        self.level, self.width = level, width

    def drawn(self, draws: Draws, which: "np.typing.NDArray[np.int64]") -> Parameters:
        """Draw level and width."""
        level = draws.between((-self.level, self.level), 1)[which]
        width = draws.between((1 - self.width, 1 + self.width), 2)[which]
        return {"window": _floats(np.stack([level, width], axis=1))}

    def change(self, image: Tensor, drawn: Mapping[str, Tensor], sizes: Tensor) -> Tensor:
        """Map the new window to [0, 1]."""
        level, width = (one.view(-1, 1, 1, 1) for one in drawn["window"].unbind(dim=1))
        return ((image - 0.5 - level) / width + 0.5).clamp(0, 1)


class Gamma(Intensity):
    """Raise values to a power: the middle gets darker or brighter, black and white stay.

    Args:
        gamma: Smallest and largest power.
        inverted_chance: How often the power is taken of what is missing to white.
        chance: How often.
    """

    def __init__(
        self, *, gamma: Range | None = None, inverted_chance: Chance = 0.0, chance: Chance = 0.3
    ) -> None:
        super().__init__(chance)
        self.gamma = _ordered("gamma", gamma or [0.7, 1.5], low=0.01)
        self.inverted_chance = inverted_chance

    def drawn(self, draws: Draws, which: "np.typing.NDArray[np.int64]") -> Parameters:
        """Draw the power, below and above 1 equally often, and whether it is inverted."""
        low, high = (math.log(one) for one in self.gamma)
        power = np.exp(draws.between((low, high), 1))
        is_inverted = draws.uniform(2)[:, 0] < self.inverted_chance
        return {"power": _floats(np.stack([power, is_inverted], axis=1)[which])}

    def change(self, image: Tensor, drawn: Mapping[str, Tensor], sizes: Tensor) -> Tensor:
        """Take the power."""
        power, inverted = (one.view(-1, 1, 1, 1) for one in drawn["power"].unbind(dim=1))
        turned = inverted + (1 - 2 * inverted) * image  # 1 - image where inverted
        return inverted + (1 - 2 * inverted) * turned.clamp(0, 1) ** power


class Noise(Intensity):
    """Add normally distributed noise.

    Args:
        std: Smallest and largest standard deviation, of the whole range.
        chance: How often.
    """

    def __init__(self, *, std: Range | None = None, chance: Chance = 0.15) -> None:
        super().__init__(chance)
        self.std = _ordered("std", std or [0.0, 0.1], low=0)

    def drawn(self, draws: Draws, which: "np.typing.NDArray[np.int64]") -> Parameters:
        """Draw the deviation, and a key for each sample."""
        return {
            "std": _floats(draws.between(self.std, 1)[which]),
            "keys": draws.keys()[torch.from_numpy(which)],
        }

    def change(self, image: Tensor, drawn: Mapping[str, Tensor], sizes: Tensor) -> Tensor:
        """Add it."""
        rows, columns = image.shape[2:]
        # As if of the largest size that any batch may have: padding must not change the draws.
        place = torch.arange(rows, device=image.device)[:, None] * 2**15
        place = place + torch.arange(columns, device=image.device)
        channel = torch.arange(image.shape[1], device=image.device)[:, None, None] * 2**30
        noise = normal_field(drawn["keys"], channel + place)
        return (image + drawn["std"].view(-1, 1, 1, 1) * noise).clamp(0, 1)


class Blur(Intensity):
    """Blur by a Gaussian.

    Args:
        sigma: Smallest and largest standard deviation in pixels.
        chance: How often.
    """

    def __init__(self, *, sigma: Range | None = None, chance: Chance = 0.2) -> None:
        super().__init__(chance)
        self.sigma = _ordered("sigma", sigma or [0.5, 1.0], low=0.01, high=20)
        self.radius = math.ceil(3 * self.sigma[1])

    def drawn(self, draws: Draws, which: "np.typing.NDArray[np.int64]") -> Parameters:
        """Draw the deviations, and make weights of them."""
        sigma = draws.between(self.sigma, 1)[which][:, None]
        weights = np.exp(-0.5 * (np.arange(self.radius + 1) / sigma) ** 2)
        weights /= 2 * weights.sum(axis=1, keepdims=True) - weights[:, :1]
        return {"weights": _floats(weights)}

    def change(self, image: Tensor, drawn: Mapping[str, Tensor], sizes: Tensor) -> Tensor:
        """Add up shifted images, along one axis after the other."""
        for axis in (-2, -1):
            side = image.shape[axis]
            places = torch.arange(-self.radius, side + self.radius, device=image.device)
            # The last row and column of each sample go on.
            places = places.clamp(min=0)[None].minimum(sizes[:, axis : axis + 1 or None] - 1).long()
            shape = [len(image), *image.shape[1:]]
            shape[axis] = places.shape[1]
            line = (len(image), 1, -1, 1) if axis == -2 else (len(image), 1, 1, -1)
            wide = image.gather(axis, places.view(line).expand(shape))
            blurred = drawn["weights"][:, 0].view(-1, 1, 1, 1) * image
            for away in range(1, self.radius + 1):
                before = wide.narrow(axis, self.radius - away, side)
                after = wide.narrow(axis, self.radius + away, side)
                weight = drawn["weights"][:, away].view(-1, 1, 1, 1)
                blurred = blurred + weight * (before + after)
            image = blurred
        return image


class LowResolution(Intensity):
    """Show an image as if it had been taken with fewer pixels.

    Args:
        scale: Smallest and largest part of the pixels of a side that are left.
        chance: How often.
    """

    def __init__(self, *, scale: Range | None = None, chance: Chance = 0.25) -> None:
        super().__init__(chance)
        self.scale = _ordered("scale", scale or [0.5, 1.0], low=0.01, high=1)

    def drawn(self, draws: Draws, which: "np.typing.NDArray[np.int64]") -> Parameters:
        """Draw the part."""
        return {"part": _floats(draws.between(self.scale, 1)[which])}

    def change(self, image: Tensor, drawn: Mapping[str, Tensor], sizes: Tensor) -> Tensor:
        """Take the nearest of the pixels that are left, and interpolate between them."""
        # The middles of the pixels that are left, in pixels of the image.
        step = 1 / drawn["part"].view(-1, 1)
        for axis, side in ((-2, 0), (-1, 1)):
            places = torch.arange(image.shape[axis], device=image.device).float()
            number = ((places + 0.5) / step - 0.5).floor()  # of the one before, (n, side)
            weight = (places + 0.5) / step - 0.5 - number
            size = sizes[:, side : side + 1]
            last = (size / step).ceil() - 1
            before, after = (
                ((one.clamp(min=0).minimum(last) + 0.5) * step).floor().minimum(size - 1)
                for one in (number, number + 1)
            )
            shape = (len(image), 1, -1, 1) if axis == -2 else (len(image), 1, 1, -1)
            low, high = (
                image.gather(axis, one.long().view(shape).expand_as(image))
                for one in (before, after)
            )
            image = low + weight.view(shape) * (high - low)
        return image
