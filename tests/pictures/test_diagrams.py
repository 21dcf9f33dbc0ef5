"""What the diagrams write: sizes as measured, numbers as given."""

import pytest
import torch
from matplotlib.figure import Figure

from liverseg.network.unet import UNet
from liverseg.pictures.diagrams import draw_numbers, draw_u


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def test_the_u_of_the_paper_shows_every_size_and_every_crop() -> None:
    figure = draw_u(UNet(1, 2, depth=4, width=1, padding="valid", norm="none"), 572)
    found = labels(figure)
    for side in (
        *(572, 570, 568, 284, 282, 280, 140, 138, 136, 68, 66, 64, 32, 30, 28),
        *(56, 54, 52, 104, 102, 100, 200, 198, 196, 392, 390, 388),
    ):
        assert str(side) in found
    assert [label for label in found if "→" in label] == [
        *("64 → 56", "136 → 104", "280 → 200", "568 → 392")
    ]


def test_with_padding_nothing_is_cropped_and_channels_stand_above() -> None:
    figure = draw_u(UNet(3, 5, depth=1, width=8, upsampling="bilinear"), 16)
    assert labels(figure) == [
        *("3", "16", "8", "16", "8", "16"),  # encoder: channels, side
        *("8", "8", "16", "8", "16", "8"),  # below it
        *("16", "16", "8", "16", "8", "16", "5", "16"),  # decoder and logits
        "16",  # on the arrow between them
    ]
    (legend,) = figure.legends
    assert "copy" in [text.get_text() for text in legend.get_texts()]


def test_the_boxes_of_a_u_do_not_overlap() -> None:
    figure = draw_u(UNet(1, 2, depth=4, width=1, padding="valid", norm="none"), 572)
    boxes = [patch.get_bbox() for patch in figure.axes[0].patches if patch.get_width() > 0.3]
    assert len(boxes) == 15 + 12 + 1
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])


@pytest.mark.parametrize(("number", "label"), [(3.0, "3"), (0.25, "0.25"), (1 / 3, "0.3333")])
def test_a_matrix_is_drawn_with_its_numbers(number: float, label: str) -> None:
    axes = Figure().add_subplot()
    draw_numbers(axes, torch.tensor([[number, 0.0]]), title="a matrix")
    assert [text.get_text() for text in axes.texts] == [label, "0"]
    assert axes.get_title() == "a matrix"


def test_marked_cells_are_framed() -> None:
    axes = Figure().add_subplot()
    marked = torch.tensor([[False, True], [False, False]])
    draw_numbers(axes, torch.zeros(2, 2), marked=marked)
    (frame,) = axes.patches
    assert frame.get_center() == pytest.approx((1, 0))  # column 1, row 0
