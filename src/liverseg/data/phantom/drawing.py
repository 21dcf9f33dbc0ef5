"""A patient's slices as a scanner shows them, and their liver."""

import math

import torch
from torch import Tensor

from liverseg.data.phantom.canvas import Canvas
from liverseg.data.phantom.organs import (
    paint_back,
    paint_bowel,
    paint_chest,
    paint_liver,
    paint_pelvis,
    paint_spleen,
    paint_stomach,
    paint_trunk,
)
from liverseg.data.phantom.patient import Chance, Patient, meet_patient

RECIPE = 4  # raised whenever the same seed would draw other pictures


def _scan(canvas: Canvas, patient: Patient) -> Tensor:
    """Return the HU as a scanner sees them: slightly blurred, with the noise of its kernel."""
    chance, size = canvas.chance, canvas.hu.shape[-1]
    frequency = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None])
    blur = torch.exp(-2 * (math.pi * chance.uniform(0.4, 0.65) * frequency).square())
    sharp = torch.fft.rfft2(canvas.hu.clamp(-1000, 800))
    noise = chance.band_noise(*canvas.hu.shape, frequency=patient.kernel, width=0.14)
    # X-rays through the middle pass more tissue, so fewer photons arrive.
    noise *= patient.noise * (1.25 - 0.5 * torch.hypot(canvas.u, canvas.v).clamp(max=1.4))
    shading = 10 * canvas.noise(0.2, 0.25)  # scatter and beam hardening
    image: Tensor = torch.fft.irfft2(sharp * blur, s=(size, size)) + noise + shading
    return image


def draw_patient(
    *, patient_number: int, num_slices: int, image_size: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Draw the slices of one patient, from above the liver to below it.

    The same arguments draw the same patient, whatever other patients are drawn.

    Returns:
        Images and masks, both uint8 of shape (num_slices, image_size, image_size): grey values
        after the soft-tissue window, 0 to 255, and the liver with its vessels and lesions, 0 or 1.
    """
    chance = Chance(seed=seed, patient_number=patient_number)
    patient = meet_patient(chance, patient_number)
    canvas = Canvas(patient=patient, num_slices=num_slices, size=image_size, chance=chance)

    cavity = paint_trunk(canvas, patient)
    space = paint_chest(canvas, patient, cavity)
    paint_spleen(canvas, patient, space)
    liver = paint_liver(canvas, patient, space)
    paint_stomach(canvas, patient, space, liver)
    paint_bowel(canvas, patient, space, liver)
    paint_back(canvas, patient, cavity)
    paint_pelvis(canvas, patient, cavity)

    window_level, window_width = patient.window
    grey = (_scan(canvas, patient) - window_level) / window_width + 0.5
    images = (grey.clamp(0, 1) * 255).round().to(torch.uint8)
    masks = (canvas.liver > 0.5).to(torch.uint8)
    if patient.is_spine_on_top:
        images, masks = images.flip(1), masks.flip(1)
    return images, masks
