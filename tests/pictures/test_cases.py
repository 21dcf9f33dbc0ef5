import itertools

import pytest
import torch
from torch import Tensor

from liverseg.labels import IGNORED
from liverseg.pictures.cases import (
    OUTCOME_COLOURS,
    Case,
    class_colour,
    draw_best_and_worst,
    draw_case,
)

LINE, GAP, FACTOR = 22, 4, 64  # 4 pixels enlarged to 256
WIDTH = 256 + GAP


def panels(picture: Tensor, count: int, top: int = LINE) -> list[Tensor]:
    """Cut a picture of a 4 x 4 image into its panels at the image's own resolution."""
    assert picture.shape[2] == count * WIDTH - GAP
    middle = FACTOR // 2
    return [
        picture[:, top + middle : top + 256 : FACTOR, start + middle : start + 256 : FACTOR]
        for start in range(0, count * WIDTH, WIDTH)
    ]


def classes(**pixels: int) -> Tensor:
    """Return 4 x 4 class indices, ``p12=3`` setting row 1, column 2 to 3."""
    mask = torch.zeros(4, 4, dtype=torch.uint8)
    for place, index in pixels.items():
        mask[int(place[1]), int(place[2])] = index
    return mask


def mixed(colour: tuple[int, int, int], share: float, grey: float) -> Tensor:
    return (share * torch.tensor(colour) + (1 - share) * grey).round()[:, None]


def is_near(colour: Tensor, expected: Tensor) -> bool:
    return bool((colour.float() - expected.reshape(3)).abs().max() <= 1)


def test_each_panel_shows_what_its_title_says() -> None:
    image = torch.full((1, 4, 4), 0.5)
    prediction, truth = classes(p00=1), classes(p33=1, p03=IGNORED)
    picture = draw_case(image, prediction, truth)
    assert picture.shape == (3, LINE + 256 + LINE, 4 * WIDTH - GAP)  # the last line is the legend
    shown_image, shown_truth, shown_prediction, _ = panels(picture, 4)
    colour = torch.tensor(class_colour(1), dtype=torch.uint8)
    assert (shown_image == 128).all()
    assert torch.equal(shown_truth[:, 3, 3], colour)
    assert shown_truth[:, 0, 3].tolist() == list(class_colour(IGNORED))
    assert shown_truth[:, 0, 0].tolist() == [0, 0, 0]
    assert torch.equal(shown_prediction[:, 0, 0], colour)
    assert shown_prediction[:, 3, 3].tolist() == [0, 0, 0]


def test_each_pixel_has_the_colour_of_its_outcome() -> None:
    truth = classes(p00=1, p01=1, p10=2, p11=IGNORED, p12=IGNORED, p20=2)
    prediction = classes(p00=1, p02=1, p10=1, p11=1)
    errors = panels(draw_case(torch.full((1, 4, 4), 0.5), prediction, truth), 4)[3]
    dimmed = 0.6 * 128
    for outcome, row, column in [
        ("right", 0, 0),
        ("missed", 0, 1),
        ("false", 0, 2),
        ("wrong class", 1, 0),
        ("missed", 2, 0),  # of the second class
    ]:
        expected = mixed(OUTCOME_COLOURS[outcome], 0.8, dimmed)
        assert is_near(errors[:, row, column], expected), outcome
    assert is_near(errors[:, 3, 3], torch.full((3,), dimmed))  # neither true nor predicted
    for column in (1, 2):  # ignored, whatever is predicted
        assert errors[:, 1, column].tolist() == list(class_colour(IGNORED))


def legend(picture: Tensor) -> set[str]:
    """Return the outcomes whose colours stand in the last line."""
    line = set(map(tuple, picture[:, -LINE:].flatten(1).T.tolist()))
    return {outcome for outcome, colour in OUTCOME_COLOURS.items() if colour in line}


def test_the_legend_names_a_wrong_class_only_where_there_are_several() -> None:
    image = torch.zeros(1, 4, 4)
    one = draw_case(image, classes(p00=1), classes(p11=1, p12=IGNORED))
    assert legend(one) == {"right", "missed", "false"}
    assert legend(draw_case(image, classes(p00=2), classes())) == set(OUTCOME_COLOURS)


def test_classes_are_named_in_their_colours_where_there_are_several() -> None:
    image, names = torch.zeros(1, 4, 4), ["liver", "spleen", "aorta"]
    plain = draw_case(image, classes(p00=1), classes(p11=3))
    named = draw_case(image, classes(p00=1), classes(p11=3), class_names=names)
    top = plain.shape[1] - LINE
    assert torch.equal(named[:, :top], plain[:, :top])
    assert torch.equal(named[:, -LINE:], plain[:, -LINE:])  # the outcomes come last
    line = set(map(tuple, named[:, top : top + LINE].flatten(1).T.tolist()))
    shown = [class_colour(index) in line for index in (1, 2, 3)]
    assert shown == [True, False, True]  # no spleen is predicted or true
    assert torch.equal(
        draw_case(image, classes(), classes(), class_names=names[:1])[:, top:],
        draw_case(image, classes(), classes())[:, top:],
    )


def test_many_classes_take_several_lines_within_the_picture() -> None:
    every = torch.arange(16, dtype=torch.uint8).reshape(4, 4)
    image, names = torch.zeros(1, 4, 4), [f"structure number {index}" for index in range(1, 16)]
    plain = draw_case(image, every, every)
    named = draw_case(image, every, every, class_names=names)
    added = named.shape[1] - plain.shape[1]
    assert added > LINE
    assert added % LINE == 0
    lines = named[:, plain.shape[1] - LINE : -LINE]
    found = set(map(tuple, lines.flatten(1).T.tolist()))
    assert all(class_colour(index) in found for index in range(1, 16))
    assert (lines[:, :, -GAP:] == 255).all()


def test_a_caption_takes_a_line_above_the_titles() -> None:
    image, prediction = torch.zeros(1, 4, 4), classes()
    plain = draw_case(image, prediction, prediction)
    captioned = draw_case(image, prediction, prediction, caption="patient007_slice01   Dice 0.500")
    assert torch.equal(captioned[:, LINE:], plain)
    assert (captioned[:, :LINE, 8:].amin(dim=0) < 128).any()  # ink


def test_a_caption_wider_than_the_picture_keeps_its_beginning_and_end() -> None:
    image, prediction = torch.zeros(1, 256, 60), torch.zeros(256, 60, dtype=torch.uint8)
    start, end, rest = "patient007_", "   Dice 0.500", "_which_has_a_very_long_name"
    pictures = [
        draw_case(image, prediction, prediction, caption=caption)[:, :LINE]
        for caption in (
            start + 4 * rest + end,
            start + 9 * rest + end,
            start + 4 * rest + "   Dice 0.700",
        )
    ]
    assert torch.equal(pictures[0], pictures[1])
    assert not torch.equal(pictures[0], pictures[2])
    assert (pictures[0][:, :, -GAP:] == 255).all()  # nothing is cut off at the right


def test_two_columns_make_a_square() -> None:
    image, prediction, truth = torch.full((1, 4, 4), 0.5), classes(p00=1), classes(p33=1)
    row = draw_case(image, prediction, truth)
    square = draw_case(image, prediction, truth, num_columns=2)
    assert square.shape == (3, 2 * (LINE + 256) + LINE, 2 * WIDTH - GAP)
    upper, lower = square[:, : LINE + 256], square[:, LINE + 256 :]
    assert torch.equal(upper, row[:, : LINE + 256, : 2 * WIDTH - GAP])
    assert torch.equal(lower[:, :-LINE], row[:, :-LINE, 2 * WIDTH :])


def test_without_truth_there_are_image_prediction_and_overlay() -> None:
    picture = draw_case(torch.full((3, 8, 8), 0.5), classes(p00=1))
    assert picture.shape == (3, LINE + 256, 3 * WIDTH - GAP)
    _, prediction, overlay = panels(picture, 3)
    assert prediction[:, 0, 0].tolist() == list(class_colour(1))
    assert is_near(overlay[:, 0, 0], mixed(class_colour(1), 0.45, 128))
    assert overlay[:, 2, 2].tolist() == [128, 128, 128]


def test_a_large_image_is_not_enlarged() -> None:
    picture = draw_case(torch.rand(1, 300, 280), torch.zeros(300, 280, dtype=torch.uint8))
    assert picture.shape == (3, LINE + 300, 3 * (280 + GAP) - GAP)


@pytest.mark.parametrize("index", range(1, 8))
def test_neighbouring_classes_have_colours_far_apart(index: int) -> None:
    one, other = class_colour(index), class_colour(index + 1)
    assert sum(abs(a - b) for a, b in zip(one, other, strict=True)) > 150


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


def as_seen(colour: tuple[int, int, int], eyes: str) -> Tensor:
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


@pytest.mark.parametrize("eyes", EYES)
def test_outcomes_differ_for_colour_blind_eyes(eyes: str) -> None:
    shown = {**OUTCOME_COLOURS, "nothing": (0, 0, 0), "dimmed": (60, 60, 60)}
    for (one, first), (other, second) in itertools.combinations(shown.items(), 2):
        if {one, other} != {"nothing", "dimmed"}:
            distance = (as_seen(first, eyes) - as_seen(second, eyes)).norm()
            assert distance > 30, (one, other)


def case(caption: str, prediction: Tensor, size: tuple[int, int] = (4, 4)) -> Case:
    truth = torch.zeros(size, dtype=torch.uint8)
    return Case(caption, torch.zeros(1, *size), prediction.expand(size), truth)


def test_the_best_and_the_worst_stand_in_two_columns() -> None:
    good = case("a   Dice 1.000", torch.zeros(1, 1, dtype=torch.uint8))
    bad = case("b   Dice 0.000", torch.ones(1, 1, dtype=torch.uint8))
    large = case("c   Dice 0.000", torch.ones(1, 1, dtype=torch.uint8), size=(512, 1024))
    column, gap = 2 * 256 + GAP, 24
    picture = draw_best_and_worst([good], [bad, large])
    rows = (LINE + 256, LINE + 128)  # a large image is shrunk, and its row is as high as it is
    assert picture.shape == (3, 2 * LINE + sum(rows) + 2 * GAP, 2 * column + gap)
    false = mixed(OUTCOME_COLOURS["false"], 0.8, 0)
    top = 2 * LINE
    assert is_near(picture[:, top + 100, WIDTH + 100], torch.zeros(3))  # errors of a
    assert is_near(picture[:, top + 100, column + gap + 100], torch.zeros(3))  # image of b
    assert is_near(picture[:, top + 100, column + gap + WIDTH + 100], false)  # errors of b
    second = top + 256 + GAP + LINE
    assert is_near(picture[:, second + 100, column + gap + WIDTH + 100], false)  # errors of c
    assert (picture[:, second : second + 128, :column] == 255).all()  # there is no second best
    assert legend(picture) == {"right", "missed", "false"}
