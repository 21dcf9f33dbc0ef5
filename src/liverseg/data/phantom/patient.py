"""What differs between patients: tissues, sizes and scanner, from random numbers of their own."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

WALL = 0.1  # thickness of the muscles around the cavity

Phase = Literal["native", "arterial", "portal"]
Tissue = Literal["liver", "veins", "spleen", "kidney", "aorta", "cava", "muscle", "wall", "gland"]
PHASES: tuple[Phase, ...] = ("native", "arterial", "portal")
# Ranges overlap on purpose: no window of intensities holds the liver and nothing else.
TISSUES: dict[Phase, dict[Tissue, tuple[float, float]]] = {
    "native": {
        "liver": (42, 64), "veins": (34, 44), "spleen": (42, 58), "kidney": (28, 44),
        "aorta": (36, 48), "cava": (34, 46), "muscle": (44, 62), "wall": (32, 60),
        "gland": (30, 48),
    },
    "arterial": {
        "liver": (58, 96), "veins": (66, 100), "spleen": (85, 140), "kidney": (120, 180),
        "aorta": (220, 340), "cava": (70, 120), "muscle": (54, 74), "wall": (60, 110),
        "gland": (75, 120),
    },
    "portal": {
        "liver": (94, 144), "veins": (130, 185), "spleen": (98, 145), "kidney": (120, 190),
        "aorta": (130, 175), "cava": (110, 165), "muscle": (60, 90), "wall": (70, 120),
        "gland": (75, 120),
    },
}  # fmt: skip


class Chance:
    """Random numbers of one patient, from a generator of its own: the global one is not touched."""

    def __init__(self, *, seed: int, patient_number: int) -> None:
        # The stride keeps the patients of neighbouring seeds apart.
        self.generator = torch.Generator().manual_seed(seed * 1_000_003 + patient_number)

    def uniform(self, low: float, high: float) -> float:
        """Return one number between ``low`` and ``high``."""
        return low + (high - low) * torch.rand((), generator=self.generator).item()

    def uniforms(self, low: float, high: float, *shape: int) -> Tensor:
        """Return numbers between ``low`` and ``high``."""
        return low + (high - low) * torch.rand(shape, generator=self.generator)

    def normals(self, *shape: int) -> Tensor:
        """Return numbers of mean 0 and standard deviation 1."""
        return torch.randn(shape, generator=self.generator)

    def happens(self, chance: float) -> bool:
        """Return True with this chance."""
        return self.uniform(0, 1) < chance

    def band_noise(self, *shape: int, frequency: float, width: float) -> Tensor:
        """Return noise of unit strength around ``frequency``, in cycles per pixel."""
        rows = torch.fft.fftfreq(shape[-2])[:, None]
        columns = torch.fft.rfftfreq(shape[-1])[None, :]
        band = torch.exp(-(((rows**2 + columns**2).sqrt() - frequency) / width).square())
        noise = torch.fft.irfft2(torch.fft.rfft2(self.normals(*shape)) * band, s=shape[-2:])
        unit: Tensor = noise / noise.std().clamp(min=1e-6)
        return unit


@dataclass(frozen=True)
class Patient:
    """What stays the same in all slices of one patient. Lengths are in cavity half widths."""

    hu: dict[Tissue, float]
    half_width: float  # of the cavity, where the half width of the picture is 1
    aspect: float  # height against width, where 1 is the average
    centre: tuple[float, float]  # in picture coordinates, -1 to 1
    fat: float  # thickness under the skin
    first_level: float
    last_level: float
    phase: float  # of the first slice, within the first of as many parts as slices
    has_oral_contrast: bool
    window: tuple[float, float]  # level and width in HU
    noise: float  # standard deviation in HU
    kernel: float  # frequency where the noise is strongest, in cycles per pixel
    is_spine_on_top: bool


def meet_patient(chance: Chance, patient_number: int) -> Patient:
    """Return the patient of this number; ``chance`` is theirs alone."""
    # Counted rather than drawn, so that any six patients in a row hold every phase both ways up.
    phase = PHASES[patient_number % 3]
    is_spine_on_top = patient_number % 2 == 1
    hu = {tissue: chance.uniform(*bounds) for tissue, bounds in TISSUES[phase].items()}
    if chance.happens(0.45):  # a fatty liver
        hu["liver"] -= chance.uniform(20, 50)
    fat = chance.uniform(0.03, 0.2)
    # Hospitals set soft tissue each in its own way, from -200 ... 300 to 0 ... 200 HU.
    black, white = chance.uniform(-200, min(0, hu["liver"] - 40)), chance.uniform(200, 300)
    first, last = chance.uniform(-0.14, 0.03), chance.uniform(0.94, 1.15)
    if chance.happens(0.3):  # a scan of chest or pelvis as well
        first, last = chance.uniform(-0.5, 0.0), chance.uniform(1.3, 2.2)
    return Patient(
        hu=hu,
        half_width=chance.uniform(0.66, 1.02) / (1 + WALL + fat),
        aspect=chance.uniform(0.9, 1.1),
        centre=(chance.uniform(-0.06, 0.06), chance.uniform(-0.12, 0.05)),
        fat=fat,
        first_level=first,
        last_level=last,
        phase=chance.uniform(0.2, 0.8),
        has_oral_contrast=chance.happens(0.4),
        window=((black + white) / 2, white - black),
        noise=chance.uniform(5, 35),
        kernel=chance.uniform(0.16, 0.32),
        is_spine_on_top=is_spine_on_top,
    )
