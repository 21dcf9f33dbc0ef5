"""Where pixels go: each transform says, for every sample, where a pixel of its result comes from.

A place is (x, y) in pixels from the centre of a sample. Matrices of all transforms are multiplied,
fields of elastic ones added, and images resampled once, see :mod:`.batches`.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from liverseg.data.augmentation.draws import Draws
from liverseg.labels import IGNORED

Chance = Annotated[float, Field(ge=0, le=1)]
Range = Annotated[
    list[float], Field(min_length=2, max_length=2, description="two numbers, the smaller first")
]
Parameters = dict[str, Tensor]


class Geometry(nn.Module):
    """A transform that moves pixels of image and mask alike."""

    def __init__(self, chance: float) -> None:
        super().__init__()
        self.chance = chance

    def draw(self, draws: Draws) -> Parameters:
        """Return what is drawn for a batch, tensors with N in front; ``on`` says for which."""
        return {"on": torch.from_numpy(draws.chosen(self.chance))}

    def matrix(self, drawn: Mapping[str, Tensor], mask: Tensor, sizes: Tensor) -> Tensor | None:
        """Return float32 matrices (N, 2, 3) from places in the result to places in the sample.

        Args:
            drawn: What :meth:`draw` returned, on the device of the masks.
            mask: Class indices, uint8 (N, H, W), the samples in their upper left corners.
            sizes: Heights and widths of the samples, float32 (N, 2).
        """
        return None


class Flip(Geometry):
    """Mirror a sample.

    Args:
        axis: ``horizontal`` exchanges left and right, ``vertical`` above and below.
        chance: How often.
    """

    def __init__(self, *, axis: Literal["horizontal", "vertical"], chance: Chance = 0.5) -> None:
        super().__init__(chance)
        self.axis = axis

    def matrix(self, drawn: Mapping[str, Tensor], mask: Tensor, sizes: Tensor) -> Tensor:
        """Return -1 for one of the axes."""
        sign = 1 - 2 * drawn["on"].float()
        one, zero = torch.ones_like(sign), torch.zeros_like(sign)
        x, y = (sign, one) if self.axis == "horizontal" else (one, sign)
        return torch.stack([x, zero, zero, zero, y, zero], dim=1).view(-1, 2, 3)


class Affine(Geometry):
    """Turn, scale and move a sample about its centre.

    Args:
        degrees: The largest angle, either way; above 0 is clockwise.
        translate: The largest move to a side, horizontally and vertically, in parts of the sides.
        scale: Factors of size; above 1 enlarges.
        chance: How often.
    """

    def __init__(
        self,
        *,
        degrees: Annotated[float, Field(ge=0, le=180)] = 0.0,
        translate: Annotated[Range, Field(description="two numbers, 0 ... 1")] | None = None,
        scale: Range | None = None,
        chance: Chance = 1.0,
    ) -> None:
        super().__init__(chance)
        self.degrees = degrees
        self.translate = _ordered("translate", translate or [0, 0], low=0, is_range=False)
        self.scale = _ordered("scale", scale or [1, 1], low=0.01)

    def draw(self, draws: Draws) -> Parameters:
        """Draw angle, factor and moves."""
        on = draws.chosen(self.chance)
        angle = np.radians(draws.between((-self.degrees, self.degrees), 1))
        factor = draws.between(self.scale, 2)
        moves = [draws.between((-most, most), 3 + axis) for axis, most in enumerate(self.translate)]
        numbers = np.stack([np.where(on, angle, 0), np.where(on, factor, 1)], axis=1)
        moved = np.where(on[:, None], np.stack(moves, axis=1), 0)
        return {"on": torch.from_numpy(on), "numbers": _floats(np.hstack([numbers, moved]))}

    def matrix(self, drawn: Mapping[str, Tensor], mask: Tensor, sizes: Tensor) -> Tensor:
        """Return the inverse of turn, scale and move."""
        angle, factor, right, down = drawn["numbers"].unbind(dim=1)
        cosine, sine = angle.cos() / factor, angle.sin() / factor
        right, down = right * sizes[:, 1], down * sizes[:, 0]
        rows = [cosine, sine, -cosine * right - sine * down]
        rows += [-sine, cosine, sine * right - cosine * down]
        return torch.stack(rows, dim=1).view(-1, 2, 3)


class Elastic(Geometry):
    """Bend a sample by smooth random displacements.

    Args:
        strength: Standard deviation of the displacements, in parts of the sides.
        cells: Random numbers across a side; more of them bend in smaller waves.
        chance: How often.
    """

    def __init__(
        self,
        *,
        strength: Annotated[float, Field(gt=0, le=0.5)] = 0.02,
        cells: Annotated[int, Field(ge=2, le=64)] = 5,
        chance: Chance = 0.5,
    ) -> None:
        super().__init__(chance)
        self.strength, self.cells = strength, cells

    def draw(self, draws: Draws) -> Parameters:
        """Draw a coarse field."""
        on = draws.chosen(self.chance)
        uniform = torch.from_numpy(draws.uniform(1, 2 * self.cells**2)).clamp(1e-9, 1 - 1e-9)
        coarse = torch.erfinv(2 * uniform - 1) * (2**0.5 * self.strength)
        coarse = coarse * torch.from_numpy(on)[:, None]
        shape = (-1, 2, self.cells, self.cells)
        return {"on": torch.from_numpy(on), "coarse": coarse.float().view(shape)}

    def field(self, drawn: Mapping[str, Tensor], places: Tensor) -> Tensor:
        """Return displacements (N, 2, H, W) in parts of the sides, x first.

        Args:
            drawn: What :meth:`draw` returned.
            places: Pixels (N, H, W, 2) of the results in parts of the sides, -1 ... 1, x first.
        """
        return nn.functional.grid_sample(
            drawn["coarse"], places, mode="bicubic", padding_mode="border", align_corners=True
        )


class CropToForeground(Geometry):
    """Show a part of a sample, about a random pixel of its foreground, as large as the whole.

    Where there is no foreground, about any pixel. The part never leaves the sample.

    Args:
        part: Smallest and largest part of the sides that is shown.
        chance: How often.
    """

    def __init__(self, *, part: Range | None = None, chance: Chance = 0.3) -> None:
        super().__init__(chance)
        self.part = _ordered("part", part or [0.5, 1.0], low=0.01, high=1)

    def draw(self, draws: Draws) -> Parameters:
        """Draw the part, and which pixel is near its centre."""
        on = draws.chosen(self.chance)
        part = np.where(on, draws.between(self.part, 1), 1)
        numbers = np.hstack([part[:, None], draws.uniform(2, 3)])
        return {"on": torch.from_numpy(on), "numbers": _floats(numbers)}

    def matrix(self, drawn: Mapping[str, Tensor], mask: Tensor, sizes: Tensor) -> Tensor:
        """Return a scale and the place of the part."""
        part, which, *inside = drawn["numbers"].unbind(dim=1)
        foreground = ((mask > 0) & (mask != IGNORED)).flatten(1)
        is_empty = ~foreground.any(dim=1, keepdim=True)
        counted = (foreground | (is_empty & (mask != IGNORED).flatten(1))).cumsum(dim=1)
        wanted = (which[:, None] * counted[:, -1:]).floor() + 1
        place = torch.searchsorted(counted, wanted.to(counted.dtype)).squeeze(1)
        place = place.clamp(max=counted.shape[1] - 1)
        found = torch.stack([place // mask.shape[2], place % mask.shape[2]], dim=1)  # row, column
        # The pixel lies anywhere in the middle half of the part.
        away = (torch.stack(inside, dim=1) - 0.5) * 0.5 * part[:, None] * sizes
        centre = found + 0.5 + away - sizes / 2
        most = (1 - part[:, None]) * sizes / 2
        centre = torch.minimum(torch.maximum(centre, -most), most)
        zero = torch.zeros_like(part)
        rows = [part, zero, centre[:, 1], zero, part, centre[:, 0]]
        return torch.stack(rows, dim=1).view(-1, 2, 3)


def _floats(numbers: "np.typing.NDArray[np.float64]") -> Tensor:
    return torch.from_numpy(numbers.astype(np.float32))


def _ordered(
    name: str,
    given: list[float],
    *,
    low: float,
    high: float = float("inf"),
    is_range: bool = True,
) -> tuple[float, float]:
    """Return two numbers within bounds, the first being the smaller where they are a range."""
    if len(given) != 2 or (is_range and given[0] > given[1]) or min(given) < low:
        raise ValueError(f"{name}={given} must be two numbers from {low} up, the smaller first")
    if max(given) > high:
        raise ValueError(f"{name}={given} must be two numbers up to {high}")
    return float(given[0]), float(given[1])
