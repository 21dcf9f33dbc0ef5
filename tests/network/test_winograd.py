"""Convolutions by fewer products against those of torch, and where they are taken."""

import copy

import pytest
import torch
from torch import Tensor, nn

from liverseg.network import winograd
from liverseg.network.unet import UNet

SHAPES = [(8, 6), (7, 9), (5, 4), (3, 3)]
REAL = winograd.convolved


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stand on a processor with AVX2 alone, and note how many channels each convolution gave."""
    channels: list[int] = []

    def noting(convolution: nn.Conv2d, features: Tensor) -> Tensor:
        channels.append(convolution.out_channels)
        return REAL(convolution, features)

    monkeypatch.setattr(winograd, "convolved", noting)
    monkeypatch.setattr(winograd, "_FEWEST_CHANNELS", 4)
    monkeypatch.setattr(winograd, "_FEWEST_TILES", 1)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    return channels


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_results_and_gradients_are_those_of_the_convolution(
    shape: tuple[int, int], padding: int, order: torch.memory_format
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(5, 7, 3, padding=padding).double().to(memory_format=order)
    image = torch.randn(2, 5, *shape, dtype=torch.float64).to(memory_format=order)
    found, expected = [], []
    for values, convolution in ((found, lambda one: REAL(plain, one)), (expected, plain)):
        leaf = image.clone().requires_grad_()
        plain.zero_grad()
        result = convolution(leaf)
        (result * torch.arange(result.numel()).view(result.shape)).sum().backward()
        values += [result, leaf.grad, plain.weight.grad.clone(), plain.bias.grad.clone()]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-9)


def test_nine_ones_add_up_a_neighbourhood() -> None:
    convolution = nn.Conv2d(1, 1, 3, padding=1)
    nn.init.ones_(convolution.weight)
    nn.init.constant_(convolution.bias, 0.5)
    image = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]])
    worked = torch.tensor([[12.0, 21.0, 16.0], [27.0, 45.0, 33.0], [24.0, 39.0, 28.0]]) + 0.5
    torch.testing.assert_close(REAL(convolution, image)[0, 0], worked)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_network_trains_to_the_same_weights(
    padding: str, norm: str, taken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    ours = UNet(in_channels=2, num_classes=3, depth=1, width=4, padding=padding, norm=norm)
    plain = copy.deepcopy(ours)
    image = torch.randn(2, 2, 26, 30)
    ours(image).square().mean().backward()
    assert taken == [4, 8, 8, 4, 4]  # all but the first, which is given 2 channels
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    plain(image).square().mean().backward()
    assert len(taken) == 5
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_frozen_weights_get_no_gradient(taken: list[int]) -> None:
    convolution = nn.Conv2d(4, 4, 3, padding=1).requires_grad_(False)
    image = torch.randn(1, 4, 6, 6, requires_grad=True)
    winograd.convolved(convolution, image).sum().backward()
    assert image.grad is not None
    assert convolution.weight.grad is None


def test_only_training_in_32_bits_takes_it(taken: list[int]) -> None:
    image = torch.randn(1, 4, 8, 8)
    convolution = nn.Conv2d(4, 4, 3, padding=1)
    assert winograd.trains_faster(convolution, image)
    assert not winograd.trains_faster(copy.deepcopy(convolution).eval(), image)
    assert not winograd.trains_faster(nn.Conv2d(4, 4, 3, padding=2, dilation=2), image)
    assert not winograd.trains_faster(nn.Conv2d(4, 3, 3, padding=1), image)
    assert not winograd.trains_faster(convolution, image.double())
    assert not winograd.trains_faster(convolution, image.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not winograd.trains_faster(convolution, image)


def test_few_pixels_do_not_take_it(taken: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "_FEWEST_TILES", 16)
    convolution = nn.Conv2d(4, 4, 3, padding=1)
    assert winograd.trains_faster(convolution, torch.zeros(1, 4, 8, 8))
    assert winograd.trains_faster(convolution, torch.zeros(4, 4, 4, 4))
    assert not winograd.trains_faster(convolution, torch.zeros(1, 4, 6, 8))
