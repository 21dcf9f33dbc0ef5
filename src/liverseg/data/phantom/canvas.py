"""What organs are painted on: all slices of a patient in HU, in body coordinates."""

import math

import torch
from torch import Tensor

from liverseg.data.phantom.patient import Chance, Patient

AIR = -950.0  # HU


class Canvas:
    """All slices of a patient in HU, and how much of each pixel is liver; both (S, H, W).

    Shapes are signed depths of shape (S, H, W): the distance to the outline, positive inside.
    Painting turns a depth into a share of each pixel, so that edges carry partial volume.
    """

    def __init__(self, *, patient: Patient, num_slices: int, size: int, chance: Chance) -> None:
        self.chance = chance
        self.pixel = 2 / size / patient.half_width
        steps = (torch.arange(num_slices) + patient.phase) / num_slices
        self.level = torch.lerp(
            torch.tensor(patient.first_level), torch.tensor(patient.last_level), steps
        )
        axis = (torch.arange(size) + 0.5) / size * 2 - 1
        taper = 1 + chance.uniform(-0.06, 0.08) * (self.level - 0.5)
        scale = (patient.half_width * taper).reshape(-1, 1, 1)
        self.straight_u = (axis - patient.centre[0]) / scale + torch.zeros(size, 1)
        self.straight_v = (axis[:, None] - patient.centre[1]) / (scale * patient.aspect)
        self.straight_v = self.straight_v + torch.zeros(size)
        # No two bodies are alike: a smooth warp, which changes slowly from slice to slice.
        knots = chance.normals(2, 2, 5, 5) * 0.022
        fields = torch.nn.functional.interpolate(
            knots, size=(size, size), mode="bicubic", align_corners=True
        )
        warp = fields[:1] + fields[1:] * (self.level - 0.5).reshape(-1, 1, 1, 1)
        self.u, self.v = self.straight_u + warp[:, 0], self.straight_v + warp[:, 1]
        self.hu = torch.full_like(self.u, AIR)
        self.liver = torch.zeros_like(self.u)

    def along(self, *knots: tuple[float, float]) -> Tensor:
        """Return a value for each slice, interpolated between (level, value) knots."""
        at, value = torch.tensor(knots).T.contiguous()
        right = torch.searchsorted(at, self.level).clamp(1, len(knots) - 1)
        share = ((self.level - at[right - 1]) / (at[right] - at[right - 1])).clamp(0, 1)
        return torch.lerp(value[right - 1], value[right], share)

    def blob(
        self,
        u: Tensor | float,
        v: Tensor | float,
        radii: tuple[Tensor | float, Tensor | float],
        *,
        turn: float = 0.0,
        wobble: float = 0.08,
        bend: tuple[float, float] = (0.0, 0.0),
    ) -> Tensor:
        """Return the depth of an ellipse whose radius wobbles with the angle.

        Args:
            u: Centre, one number or one for each slice; so are ``v`` and the radii.
            v: Centre.
            radii: Along u and v before the turn. A slice with a radius of 0 holds no ellipse.
            turn: In radians, from u towards v.
            wobble: Strength of the random low frequencies in the outline.
            bend: Fixed strengths of sin 3t and cos 4t in the outline, t the angle.
        """
        swing = self.chance.normals(2, 3, 2) * wobble / torch.tensor([[2.0], [3.0], [4.0]])
        swing[0, 1, 1] -= bend[0]
        swing[0, 2, 0] += bend[1]
        # The outline drifts with the level. One complex number for each slice and frequency.
        swings = swing[0] + swing[1] * (self.level - 0.5).reshape(-1, 1, 1)
        at_u, at_v, wide, high = (
            torch.as_tensor(value, dtype=torch.float32).expand_as(self.level)
            for value in (u, v, *radii)
        )
        depth = torch.full_like(self.u, -9.0)
        here = (wide > 0) & (high > 0)
        du, dv = self.u[here] - column(at_u[here]), self.v[here] - column(at_v[here])
        cosine, sine = math.cos(turn), math.sin(turn)
        p = (du * cosine + dv * sine) / column(wide[here])
        q = (dv * cosine - du * sine) / column(high[here])
        radius = (p * p + q * q).sqrt_().add_(1e-6)
        turned = torch.complex(p / radius, q / radius)  # exp(i t) for the angle t
        second, third, fourth = torch.view_as_complex(swings[here])[..., None, None].unbind(1)
        reach = 1 + (((fourth * turned + third) * turned + second) * turned * turned).real
        depth[here] = (reach - radius) * (du * du + dv * dv).sqrt_().add_(1e-6) / radius
        return depth

    def paint(
        self,
        depth: Tensor,
        hu: Tensor | float,
        *,
        softness: Tensor | float = 1.0,
        is_liver: bool = False,
    ) -> None:
        """Cover what is deeper than 0 with ``hu``; ``softness`` is the edge width in pixels."""
        share = (depth / (self.pixel * softness) + 0.5).clamp(0, 1)
        self.hu += share * (hu - self.hu)
        self.liver += share * (float(is_liver) - self.liver)

    def noise(self, frequency: float, width: float) -> Tensor:
        """Return unit noise for all slices, its frequency counted per cavity half width."""
        return self.chance.band_noise(
            *self.u.shape, frequency=frequency * self.pixel, width=width * self.pixel
        )


def column(value: Tensor | float) -> Tensor:
    """Return one number for each slice, or for all, in a shape that meets (S, H, W)."""
    return torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1, 1)


def both(first: Tensor, second: Tensor) -> Tensor:
    """Return the depth of the union, with a rounded seam."""
    return torch.logaddexp(first * 25, second * 25) / 25
