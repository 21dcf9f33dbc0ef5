"""Large images in tiles: the same logits as in one piece."""

import logging

import pytest
import torch
from torch import Tensor, nn

from liverseg.network.sizes import rectangle_logits, strips_of_logits, whole_image_logits
from liverseg.network.tiles import GRID, Tiling, _spans, _weights, measure_reach, plan_tiles
from liverseg.network.unet import UNet


def in_tiles(net: nn.Module, image: Tensor, tile_size: int) -> Tensor:
    def compute(image: Tensor, rows: slice, columns: slice) -> Tensor:
        return rectangle_logits(net, image, rows, columns)

    size = (image.shape[-2], image.shape[-1])
    strips = strips_of_logits(net, compute, image, size, pads=True, tile_size=tile_size)
    return torch.cat(list(strips), dim=2)


@pytest.mark.parametrize(
    ("layers", "reach"),
    [
        ([nn.Conv2d(1, 1, 1)], 0),
        ([nn.Conv2d(1, 1, 3, padding=1)], 1),
        ([nn.Conv2d(1, 1, 3, padding=4, dilation=4), nn.ReLU(), nn.Conv2d(1, 1, 3, padding=1)], 5),
        ([nn.MaxPool2d(4), nn.Upsample(scale_factor=4)], 0),  # cuts are on the grid
        ([nn.MaxPool2d(2), nn.Conv2d(1, 1, 3, padding=1), nn.Upsample(scale_factor=2)], 2),
        ([nn.Conv2d(1, 1, 3, padding=1), nn.InstanceNorm2d(1)], None),
        ([nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4)], None),
    ],
)
def test_the_reach_of_a_network_is_measured(layers: list[nn.Module], reach: int | None) -> None:
    net = nn.Sequential(*layers).eval()
    with torch.no_grad():
        assert measure_reach(net, torch.zeros(1, 1, 8, 8)) == reach


def test_a_weight_of_zero_and_a_dead_channel_hide_no_reach() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 7, padding=3), nn.ReLU(), nn.Conv2d(1, 1, 1))
    nn.init.zeros_(net[0].weight)
    nn.init.constant_(net[0].bias, -5)
    with torch.no_grad():
        assert measure_reach(net, torch.zeros(1, 1, 8, 8)) == 3


def test_measuring_leaves_a_network_as_it_was() -> None:
    net = UNet(1, 1, depth=2, width=2).train()
    plan_tiles(net, net, torch.zeros(1, 1, 3000, 3000))
    assert net.training
    assert all(one.isfinite().all() for one in net.state_dict().values())


@pytest.mark.parametrize(
    ("side", "tiling"),
    [
        (1300, Tiling(512, 128, 100)),
        (513, Tiling(512, 128, 128)),
        (1025, Tiling(512, 128, 0)),
        (2000, Tiling(384, 0, 0)),
    ],
)
def test_each_pixel_has_weights_that_add_up_to_one_and_only_where_tiles_are_right(
    side: int, tiling: Tiling
) -> None:
    total = torch.zeros(side)
    for span in _spans(side, tiling):
        weight = _weights(span, side, tiling, torch.device("cpu"))
        total[span] += weight
        assert span.start % GRID == 0
        inner = slice(tiling.exact if span.start else 0, None)
        assert (weight[: inner.start] == 0).all()
        assert span.stop == side or (weight[len(weight) - tiling.exact :] == 0).all()
    assert total.allclose(torch.ones(side))


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"depth": 2}, (300, 700)),
        ({"depth": 3, "upsampling": "bilinear"}, (601, 333)),
        ({"depth": 4, "norm": "none"}, (530, 770)),
        ({"depth": 2, "dilations": [1, 2, 8]}, (257, 641)),
    ],
)
@torch.no_grad()
def test_tiles_equal_the_whole_image_everywhere(options: dict, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = UNet(1, 2, **{"width": 2, **options}).eval()
    image = torch.randn(1, 1, *size)
    tiled = in_tiles(net, image, 256)
    assert tiled.shape == (1, 2, *size)
    assert not net(image).allclose(torch.zeros(1))
    torch.testing.assert_close(tiled, net(image), rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_network_that_sees_everything_is_blended_with_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    torch.manual_seed(0)
    net = UNet(1, 1, depth=1, width=4, norm="group").eval()
    image = torch.randn(1, 1, 300, 1100)
    with caplog.at_level(logging.WARNING):
        tiled = in_tiles(net, image, 512)
    assert "the network sees an image as a whole" in caplog.text
    steps = (tiled - net(image)).diff(dim=-1).abs().mean(dim=(0, 1, 2))  # at each column
    assert steps.max() < 3 * steps.median()  # no seam stands out


@torch.no_grad()
def test_a_large_image_is_tiled_without_asking() -> None:
    seen: list[tuple[int, ...]] = []
    net = nn.Conv2d(1, 1, 3, padding=1)
    image = torch.randn(1, 1, 2049, 2048)
    whole = net(image)
    net.register_forward_hook(lambda _, taken, given: seen.append(tuple(taken[0].shape[-2:])))
    assert whole_image_logits(net, image[..., 1:, :], (2048, 2048)).shape == (1, 1, 2048, 2048)
    assert seen == [(2048, 2048)]
    torch.testing.assert_close(
        whole_image_logits(net, image, (2049, 2048)), whole, rtol=0, atol=1e-5
    )
    assert max(max(one) for one in seen[1:]) == 1024


@torch.no_grad()
def test_a_network_that_resizes_its_images_sees_a_large_one_whole() -> None:
    net = nn.Conv2d(1, 1, 3, padding=1)
    net.resizes = True  # type: ignore[assignment]  # as an exported file may
    seen: list[tuple[int, ...]] = []
    net.register_forward_hook(lambda _, taken, given: seen.append(tuple(taken[0].shape[-2:])))
    whole_image_logits(nn.Sequential(net), torch.randn(1, 1, 2049, 2048), (2049, 2048))
    assert seen == [(2049, 2048)]


@torch.no_grad()
def test_a_large_image_is_resized_in_strips_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.randn(2, 3, 37, 21)
    for size in ((100, 55), (20, 30), (37, 64)):
        at_once = whole_image_logits(nn.Identity(), image, size)
        monkeypatch.setattr("liverseg.network.sizes._MOST_AT_ONCE", 2000)
        in_strips = whole_image_logits(nn.Identity(), image, size)
        monkeypatch.undo()
        torch.testing.assert_close(in_strips, at_once, rtol=0, atol=1e-5)


@torch.no_grad()
def test_an_images_logits_do_not_depend_on_its_batch() -> None:
    torch.manual_seed(0)
    net = UNet(1, 1, depth=2, width=4, norm="group").eval()
    image = torch.randn(5, 1, 40, 40)
    together = whole_image_logits(net, image, (40, 40))
    alone = [whole_image_logits(net, one, (40, 40)) for one in image.split(1)]
    assert together.equal(torch.cat(alone))
