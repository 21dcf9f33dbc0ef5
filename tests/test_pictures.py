import pytest
import torch
from torch import Tensor

from liverseg.pairs import IGNORED
from liverseg.pictures import class_colour, draw_case

TITLE, GAP, FACTOR = 22, 4, 64  # 4 pixels enlarged to 256


def panels(picture: Tensor, count: int) -> list[Tensor]:
    """Cut a picture of a 4 x 4 image into its panels at the image's own resolution."""
    assert picture.shape == (3, TITLE + 256, count * (256 + GAP) - GAP)
    starts = [place * (256 + GAP) for place in range(count)]
    middle = FACTOR // 2
    return [
        picture[:, TITLE + middle :: FACTOR, start + middle : start + 256 : FACTOR]
        for start in starts
    ]


def test_each_panel_shows_what_its_title_says() -> None:
    image = torch.full((1, 4, 4), 0.5)
    prediction = torch.zeros(4, 4, dtype=torch.uint8)
    prediction[0, 0] = 1
    truth = torch.zeros(4, 4, dtype=torch.uint8)
    truth[3, 3], truth[0, 3] = 1, IGNORED
    shown_image, shown_truth, shown_prediction, overlay = panels(
        draw_case(image, prediction, truth), 4
    )
    colour = torch.tensor(class_colour(1), dtype=torch.uint8)
    assert (shown_image == 128).all()
    assert torch.equal(shown_truth[:, 3, 3], colour)
    assert shown_truth[:, 0, 3].tolist() == list(class_colour(IGNORED))
    assert shown_truth[:, 0, 0].tolist() == [0, 0, 0]
    assert torch.equal(shown_prediction[:, 0, 0], colour)
    assert shown_prediction[:, 3, 3].tolist() == [0, 0, 0]
    tinted = (0.55 * 128 + 0.45 * colour).round().to(torch.uint8)
    assert (overlay[:, 0, 0].int() - tinted.int()).abs().max() <= 1
    assert (overlay[:, 2, 2] == 128).all()


def test_the_truth_is_outlined_in_white_in_the_overlay() -> None:
    truth = torch.zeros(4, 4, dtype=torch.uint8)
    truth[1:3, 1:3] = 1
    picture = draw_case(torch.zeros(1, 4, 4), torch.zeros(4, 4, dtype=torch.uint8), truth)
    overlay = picture[:, TITLE:, 3 * (256 + GAP) :]
    assert (overlay[:, FACTOR, FACTOR : 3 * FACTOR] == 255).all()  # the upper edge
    assert (overlay[:, FACTOR + 2, FACTOR + 2] == 0).all()  # inside
    assert (overlay[:, FACTOR - 1, FACTOR:] == 0).all()  # outside


def test_without_truth_there_are_three_panels_at_the_predictions_size() -> None:
    picture = draw_case(torch.rand(3, 8, 8), torch.zeros(4, 4, dtype=torch.uint8))
    assert len(panels(picture, 3)) == 3


def test_a_large_image_is_not_enlarged() -> None:
    picture = draw_case(torch.rand(1, 300, 280), torch.zeros(300, 280, dtype=torch.uint8))
    assert picture.shape == (3, TITLE + 300, 3 * (280 + GAP) - GAP)


@pytest.mark.parametrize("index", range(1, 8))
def test_neighbouring_classes_have_colours_far_apart(index: int) -> None:
    one, other = class_colour(index), class_colour(index + 1)
    assert sum(abs(a - b) for a, b in zip(one, other, strict=True)) > 150
