from pathlib import Path

import pytest
import torch

from liverseg.pictures.calibration import draw_reliability
from liverseg.scores import count_calibration


@pytest.mark.usefixtures("rendered")
@pytest.mark.parametrize("num_classes", [1, 40])
def test_the_legend_covers_no_curve_and_names_every_class(tmp_path: Path, num_classes: int) -> None:
    names = [f"structure number {place} of the left" for place in range(num_classes)]
    logits = torch.linspace(-4, 4, 16).reshape(1, 1, 4, 4).expand(1, num_classes + 1, 4, 4)
    counts = count_calibration(logits, torch.zeros(1, 4, 4, dtype=torch.uint8), first=1)
    figure = draw_reliability(tmp_path / "reliability.png", counts, names)
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 1 + num_classes
    assert legend.get_texts()[1].get_text().startswith("structure ...he left, error 0.")
    box = legend.get_window_extent()
    assert all(box.x0 > panel.get_window_extent().x1 for panel in figure.axes)
    assert box.x1 <= figure.bbox.x1
    assert box.y0 >= 0
    assert figure.axes[0].get_window_extent().width > 400


def test_dots_at_the_ends_are_whole_and_no_share_is_above_one(tmp_path: Path) -> None:
    logits = torch.full((1, 1, 4, 4), -20.0)
    counts = count_calibration(logits, torch.zeros(1, 4, 4, dtype=torch.uint8), first=1)
    above, below = draw_reliability(tmp_path / "reliability.png", counts, ["liver"]).axes
    assert above.get_xlim() == above.get_ylim() == (-0.02, 1.02)
    low, high = below.get_ylim()
    assert low < 1 < high < 2
