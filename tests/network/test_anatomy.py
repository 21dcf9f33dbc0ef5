"""The sizes of a network's maps and its receptive field, against values worked by hand."""

import pytest
import torch
from torch import nn

from liverseg.network.anatomy import field_size, map_sizes, receptive_field
from liverseg.network.unet import UNet

DOWN = [572, 570, 568, 284, 282, 280, 140, 138, 136, 68, 66, 64, 32, 30, 28]
UP = [56, 54, 52, 104, 102, 100, 200, 198, 196, 392, 390, 388]


def walk(sizes: list) -> list[int]:
    sides = [side for layer in sizes for side in (layer.taken[1], layer.given[1])]
    return [side for place, side in enumerate(sides) if place == 0 or side != sides[place - 1]]


def test_the_walk_through_the_papers_network_is_that_of_its_figure_1() -> None:
    net = UNet(1, 2, depth=4, width=1, padding="valid", norm="none")
    assert walk(map_sizes(net, 572)) == DOWN + UP


def test_each_layer_is_named_with_what_it_takes_and_gives() -> None:
    net = UNet(3, 2, depth=1, width=4)
    found = map_sizes(net, 8)
    assert [layer.name for layer in found] == [
        *("encoder.0.layers.0", "encoder.0.layers.3"),
        *("encoder.1.layers.0", "encoder.1.layers.3"),
        *("decoder.0.enlarge", "decoder.0.fuse.layers.0", "decoder.0.fuse.layers.3"),
        "classify",
    ]
    assert found[0] == ("encoder.0.layers.0", "Conv2d", (3, 8, 8), (4, 8, 8))
    assert found[4] == ("decoder.0.enlarge", "ConvTranspose2d", (8, 4, 4), (4, 8, 8))
    assert found[-1] == ("classify", "Conv2d", (4, 8, 8), (2, 8, 8))


def test_a_layer_without_channels_to_learn_is_listed_too() -> None:
    net = UNet(1, 1, depth=1, width=2, upsampling="bilinear")
    kinds = [layer.kind for layer in map_sizes(net, 8)]
    assert kinds == ["Conv2d"] * 4 + ["Upsample"] + ["Conv2d"] * 4


def test_measuring_leaves_the_network_as_it_was() -> None:
    net = UNet(1, 1, depth=1, width=2).train()
    net.encoder.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    generator = torch.random.get_rng_state()
    map_sizes(net, 8)
    receptive_field(net, 8, num_images=1)
    assert net.decoder.training
    assert not net.encoder.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(not module._forward_hooks for module in net.modules())
    assert torch.equal(torch.random.get_rng_state(), generator)


def test_the_hooks_are_gone_after_a_size_that_is_refused() -> None:
    net = UNet(1, 1, depth=1, width=2, padding="valid")
    with pytest.raises(ValueError, match="valid padding cannot take an image side of 5 pixels"):
        map_sizes(net, 5)
    assert all(not module._forward_hooks for module in net.modules())


def ones(kernel_size: int, dilation: int = 1, padding: int = 0) -> nn.Conv2d:
    convolution = nn.Conv2d(1, 1, kernel_size, dilation=dilation, padding=padding)
    nn.init.ones_(convolution.weight)
    return convolution


@pytest.mark.parametrize("padding", [0, 1])
def test_one_convolution_sees_its_kernel_around_the_middle(padding: int) -> None:
    field = receptive_field(ones(3, padding=padding), 9)
    expected = torch.zeros(9, 9)
    expected[3:6, 3:6] = 1
    assert torch.equal(field, expected)


def test_two_convolutions_see_5_pixels_the_middle_one_most() -> None:
    field = receptive_field(nn.Sequential(ones(3), ones(3)), 9)
    row = torch.tensor([0.0, 0, 1, 2, 3, 2, 1, 0, 0])  # ones(3) * ones(3)
    assert torch.equal(field, row[:, None] * row)
    assert field_size(field) == 5


def test_a_dilated_convolution_sees_9_pixels_spread_over_5() -> None:
    field = receptive_field(ones(3, dilation=2, padding=2), 9)
    assert field_size(field) == 5
    assert int((field > 0).sum()) == 9


def test_colours_are_summed_over() -> None:
    convolution = nn.Conv2d(3, 1, 1)
    convolution.weight.data = torch.tensor([1.0, -2.0, 4.0]).reshape(1, 3, 1, 1)
    assert receptive_field(convolution, 3)[1, 1] == 7


@pytest.mark.parametrize(
    ("dilations", "size"),
    # Depth 1, logit 48. The decoder's two convolutions see 46 ... 50, which were enlarged from 23
    # ... 25; those below see 2 * rate more on either side, pooled from 46 - 4 * rate ... 51 + 4 *
    # rate; those before see 2 more: 10 + 8 * rate pixels.
    [(1, 18), ([2], 26), ([4], 42)],
)
def test_dilation_in_the_deep_level_widens_the_field_as_worked_by_hand(
    dilations: int | list[int], size: int
) -> None:
    torch.manual_seed(0)
    net = UNet(1, 1, depth=1, width=4, dilations=dilations)
    assert field_size(receptive_field(net, 96, num_images=16)) == size


def test_the_same_seed_measures_the_same_field() -> None:
    torch.manual_seed(0)
    net = UNet(1, 1, depth=1, width=2)
    assert torch.equal(receptive_field(net, 16), receptive_field(net, 16))
    assert not torch.equal(receptive_field(net, 16), receptive_field(net, 16, seed=1))


def test_a_field_that_sees_nothing_has_size_0() -> None:
    assert field_size(torch.zeros(4, 4)) == 0


def test_a_network_without_convolutions_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Linear has no nn\.Conv2d: there is nothing to measure"):
        receptive_field(nn.Linear(2, 2), 4)
