import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from liverseg.data import MaskReader
from liverseg.network import UNet
from liverseg.prediction import Predictor, Voter


class Constant(nn.Module):
    """Gives the same logits everywhere."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = torch.tensor(logits).reshape(1, -1, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.logits.expand(len(image), -1, *image.shape[-2:])


class Brightness(nn.Module):
    """Gives the image as logits, brighter from the left to the right and downwards."""

    def forward(self, image: Tensor) -> Tensor:
        columns = torch.arange(image.shape[-1]).float()
        rows = torch.arange(image.shape[-2]).float()[:, None]
        return image + columns + 10 * rows


def predictor_of(*nets: nn.Module, **settings: Any) -> Predictor:
    given = {"num_classes": 1, "image_size": None, "channels": 1, **settings}
    names = [f"class_{index}" for index in range(1, max(given["num_classes"], 2))]
    return Predictor(
        [Voter(net, lambda image: image) for net in nets],
        white_value=None,
        class_names=names,
        mask_reader=MaskReader(num_classes=given["num_classes"]),
        **given,
    ).eval()


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_one_network_gives_its_own_logits_bit_for_bit() -> None:
    torch.manual_seed(0)
    net = UNet(1, 1, depth=2, width=4).eval()
    image = torch.rand(2, 1, 20, 30)
    with torch.inference_mode():
        image = image.contiguous(memory_format=torch.channels_last)
        expected = torch.cat([net(one) for one in image.split(1)])  # see test_tiles
        assert predictor_of(net)(image).equal(expected)


def test_probabilities_of_several_networks_are_averaged() -> None:
    predictor = predictor_of(Constant(logit(0.9)), Constant(logit(0.2)), Constant(logit(0.25)))
    found = predictor.predict(torch.zeros(1, 1, 2, 2))
    assert found.probabilities.flatten().tolist() == pytest.approx([0.45] * 4)
    assert (found.classes == 0).all()


def test_probabilities_of_several_classes_are_averaged() -> None:
    first, second = (0.7, 0.2, 0.1), (0.1, 0.2, 0.7)
    nets = [Constant(*(math.log(one) for one in each)) for each in (first, second, second)]
    found = predictor_of(*nets, num_classes=3).predict(torch.zeros(1, 1, 1, 1))
    assert found.probabilities.flatten().tolist() == pytest.approx([0.3, 0.2, 0.5])
    assert found.classes.tolist() == [[[2]]]


@pytest.mark.parametrize("logits", [(300.0, -300.0), (300.0, 300.0)])
def test_votes_that_are_certain_stay_finite(logits: tuple[float, float]) -> None:
    mean = predictor_of(*map(Constant, logits))(torch.zeros(1, 1, 1, 1)).item()
    assert mean == pytest.approx(0.0 if logits[1] < 0 else 300.0, abs=1e-4)


@pytest.mark.parametrize("flips", [["horizontal"], ["vertical"], ["horizontal", "vertical"]])
def test_flips_are_views_that_vote_and_are_turned_back(flips: list[Any]) -> None:
    net, image = Brightness(), torch.rand(1, 1, 2, 3)
    axes = {"horizontal": -1, "vertical": -2}
    views = [[], *([axes[flip]] for flip in flips), *([[-1, -2]] if len(flips) == 2 else [])]
    turned_back = [net(image.flip(view)).flip(view).sigmoid() for view in views]
    found = predictor_of(net, flips=flips).predict(image).probabilities
    assert found.allclose(torch.stack(turned_back).mean(dim=0))


def test_each_network_sees_the_image_in_its_own_way() -> None:
    voters = [
        Voter(nn.Identity(), lambda image: image * 2),
        Voter(nn.Identity(), lambda image: image - 1),
    ]
    predictor = Predictor(
        voters,
        channels=1,
        image_size=None,
        white_value=None,
        num_classes=1,
        class_names=["liver"],
        mask_reader=MaskReader(num_classes=1),
    )
    image = torch.full((1, 1, 1, 1), 255, dtype=torch.uint8)  # 1, of which 2 and 0 are made
    probability = predictor.predict(image).probabilities.item()
    assert probability == pytest.approx((torch.tensor([2.0, 0.0]).sigmoid().mean()).item())


def test_a_prediction_has_the_size_of_the_image_whatever_the_networks_see(tmp_path: Path) -> None:
    predictor = predictor_of(UNet(1, 3, depth=2, width=4), num_classes=3, image_size=(16, 16))
    found = predictor.predict(torch.randint(256, (2, 1, 13, 21)).to(torch.uint8))
    assert found.probabilities.shape == (2, 3, 13, 21)
    assert found.classes.shape == (2, 13, 21)
    assert found.probabilities.sum(dim=1).allclose(torch.ones(2, 13, 21))
