import itertools
import math

import pytest
import torch
from torch import Tensor

from liverseg.labels import IGNORED
from liverseg.pictures.colours import CLASS_COLOURS, HATCHING, OUTCOME_COLOURS, class_colour

Colour = tuple[int, int, int]
# Severity 1.0 in Machado et al. 2009, for linear RGB:
# https://www.inf.ufrgs.br/~oliveira/pubs_files/CVD_Simulation/CVD_Simulation.html
EYES = {
    "all receptors": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no blue": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def as_seen(colour: Colour, eyes: str) -> Tensor:
    """Return a colour in CIELAB (D65)."""
    share = torch.tensor(colour, dtype=torch.float64) / 255
    linear = torch.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    linear = (torch.tensor(EYES[eyes], dtype=torch.float64) @ linear).clamp(0, 1)
    to_xyz = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
    white = torch.tensor([0.95047, 1.0, 1.08883], dtype=torch.float64)
    xyz = torch.tensor(to_xyz, dtype=torch.float64) @ linear / white
    f = torch.where(xyz > 216 / 24389, xyz ** (1 / 3), (24389 / 27 * xyz + 16) / 116)
    return torch.stack([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def ciede2000(one: Tensor, other: Tensor) -> float:
    """Return the difference of two colours in CIELAB, by the formulas of Sharma et al. 2005."""
    (l1, a1, b1), (l2, a2, b2) = one.tolist(), other.tolist()
    chroma = (math.hypot(a1, b1) + math.hypot(a2, b2)) / 2
    stretch = 1.5 - 0.5 * math.sqrt(chroma**7 / (chroma**7 + 25**7))
    c1, c2 = math.hypot(stretch * a1, b1), math.hypot(stretch * a2, b2)
    h1 = math.degrees(math.atan2(b1, stretch * a1)) % 360
    h2 = math.degrees(math.atan2(b2, stretch * a2)) % 360
    turn = (h2 - h1 + 180) % 360 - 180 if c1 * c2 else 0.0
    if turn == -180:
        turn = 180.0
    hue = h1 + h2
    if c1 * c2:
        far = abs(h1 - h2) > 180
        hue = (hue + (0 if not far else 360 if hue < 360 else -360)) / 2
    difference = 2 * math.sqrt(c1 * c2) * math.sin(math.radians(turn / 2))
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2

    def cosine(factor: int, shift: int) -> float:
        return math.cos(math.radians(factor * hue + shift))

    weight = (
        1 - 0.17 * cosine(1, -30) + 0.24 * cosine(2, 0) + 0.32 * cosine(3, 6) - 0.2 * cosine(4, -63)
    )
    by_l = (l2 - l1) / (1 + 0.015 * (lightness - 50) ** 2 / math.sqrt(20 + (lightness - 50) ** 2))
    by_c = (c2 - c1) / (1 + 0.045 * chroma)
    by_h = difference / (1 + 0.015 * chroma * weight)
    angle = math.radians(60 * math.exp(-(((hue - 275) / 25) ** 2)))
    turned = -2 * math.sqrt(chroma**7 / (chroma**7 + 25**7)) * math.sin(angle)
    return math.sqrt(by_l**2 + by_c**2 + by_h**2 + turned * by_c * by_h)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0),
        ((50, 0, 0), (50, -1, 2), 2.3669),
        ((50, 2.49, -0.001), (50, -2.49, 0.0009), 7.1792),
        ((50, 2.49, -0.001), (50, -2.49, 0.0011), 7.2195),
        ((50, 2.5, 0), (61, -5, 29), 22.8977),
        ((50, 2.5, 0), (56, -27, -3), 31.9030),
        ((63.0109, -31.0961, -5.8663), (62.8187, -29.7946, -4.0864), 1.2630),
        ((22.7233, 20.0904, -46.694), (23.0331, 14.973, -42.5619), 2.0373),
        ((90.8027, -2.0831, 1.441), (91.1528, -1.6435, 0.0447), 1.4441),
        ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_measure_is_that_of_the_published_pairs(
    one: tuple[float, ...], other: tuple[float, ...], expected: float
) -> None:
    """Of the table of Sharma, Wu and Dalal 2005, https://doi.org/10.1002/col.20070."""
    first, second = (torch.tensor(values, dtype=torch.float64) for values in (one, other))
    assert ciede2000(first, second) == pytest.approx(expected, abs=5e-5)
    assert ciede2000(second, first) == pytest.approx(expected, abs=5e-5)


def smallest(colours: list[Colour], eyes: str) -> float:
    seen = [as_seen(colour, eyes) for colour in colours]
    return min(ciede2000(one, other) for one, other in itertools.combinations(seen, 2))


@pytest.mark.parametrize("eyes", ["all receptors", "no red", "no green"])
def test_twenty_classes_and_background_are_told_apart(eyes: str) -> None:
    colours = [class_colour(index) for index in range(21)]
    assert colours[1:] == list(CLASS_COLOURS)
    assert smallest(colours, eyes) >= 15.4
    assert smallest(colours[:6], eyes) >= 24


def test_every_class_has_a_colour_of_its_own() -> None:
    assert len({class_colour(index) for index in range(100)}) == 100
    assert class_colour(IGNORED) in HATCHING


@pytest.mark.parametrize("eyes", EYES)
def test_outcomes_differ_for_colour_blind_eyes(eyes: str) -> None:
    shown = {**OUTCOME_COLOURS, "nothing": (0, 0, 0), "dimmed": (60, 60, 60)}
    for (one, first), (other, second) in itertools.combinations(shown.items(), 2):
        if {one, other} != {"nothing", "dimmed"}:
            distance = (as_seen(first, eyes) - as_seen(second, eyes)).norm()
            assert distance > 30, (one, other)
