import pytest
import torch
from torch import Tensor, tensor
from torchmetrics.classification import BinaryCalibrationError

from liverseg.labels import IGNORED
from liverseg.scores import calibration_error, count_calibration, reliability


def of_probability(probability: Tensor) -> Tensor:
    """Return the logits (N, 1, H, W) of probabilities (N, H, W)."""
    return torch.logit(probability)[:, None]


def test_the_error_by_hand() -> None:
    probability = tensor([[[0.9, 0.9, 0.9, 0.9, 0.1, 0.1]]])
    mask = tensor([[[1, 1, 1, 0, 0, 0]]])
    counts = count_calibration(of_probability(probability), mask)
    # 4 pixels of 0.9, 3 of them true; 2 of 0.1, none of them true.
    expected = (4 * abs(0.9 - 0.75) + 2 * 0.1) / 6
    assert calibration_error(counts).tolist() == pytest.approx([expected], abs=1e-6)
    share, said, true = (values[0] for values in reliability(counts))
    assert share[[1, 13]].tolist() == pytest.approx([2 / 6, 4 / 6])
    assert said[[1, 13]].tolist() == pytest.approx([0.1, 0.9], abs=1e-6)
    assert true[[1, 13]].tolist() == [0, 0.75]


def test_torchmetrics_finds_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    probability = torch.rand(3, 20, 20, generator=generator)
    mask = (torch.rand(3, 20, 20, generator=generator) < probability**2).long()
    mask[:, 0] = IGNORED
    found = calibration_error(count_calibration(of_probability(probability), mask))
    valid = mask != IGNORED
    # Theirs is of the decision; of the probability of foreground, so is ours of both its halves.
    theirs = BinaryCalibrationError(n_bins=15, norm="l1")(probability[valid], mask[valid])
    assert found.item() == pytest.approx(theirs.item(), abs=1e-5)


def test_of_several_classes_each_has_an_error_and_batches_add_up() -> None:
    generator = torch.Generator().manual_seed(1)
    logits, mask = torch.randn(4, 3, 8, 8, generator=generator), torch.randint(3, (4, 8, 8))
    whole = count_calibration(logits, mask)
    parts = sum(count_calibration(logits[[n]], mask[[n]]) for n in (3, 0, 2, 1))
    assert torch.equal(whole, parts)
    assert whole.shape == (2, 15, 3)
    assert count_calibration(logits, mask, first=0).shape == (3, 15, 3)
    assert int(whole[0, :, 0].sum()) == 4 * 64


def test_certain_and_right_has_no_error() -> None:
    mask = tensor([[[0, 1]]])
    counts = count_calibration(of_probability(tensor([[[0.0, 1.0]]])), mask)
    assert calibration_error(counts).tolist() == [0]
    nothing = count_calibration(torch.zeros(1, 1, 1, 2), torch.full((1, 1, 2), IGNORED))
    assert calibration_error(nothing).tolist() == [0]
