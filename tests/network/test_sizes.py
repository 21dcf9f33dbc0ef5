"""What a network that trims its borders is shown, and which pixels its logits are held against."""

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from liverseg.network.sizes import faulty_logits, training_logits, whole_image_logits
from liverseg.network.unet import UNet


class Trimming(nn.Module):
    """Returns the middle of its image, so that logits must equal the image where they belong."""

    def __init__(self, trim: int) -> None:
        super().__init__()
        self.trim = trim
        self.seen: list[Tensor] = []

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append(image)
        height, width = image.shape[-2:]
        return image[..., self.trim : height - self.trim, self.trim : width - self.trim]

    def output_size(self, input_size: int) -> int:
        if input_size % 2 or input_size <= 2 * self.trim:
            raise ValueError(input_size)
        return input_size - 2 * self.trim

    def input_size(self, output_size: int) -> int:
        return output_size + output_size % 2 + 2 * self.trim


def numbered(height: int, width: int) -> tuple[Tensor, Tensor]:
    """An image whose values are its mask."""
    mask = torch.arange(2 * height * width).reshape(2, height, width)
    return mask[:, None].float(), mask


def valid_unet(depth: int, **options) -> UNet:
    torch.manual_seed(0)
    return UNet(1, 2, depth, 1, padding="valid", norm="none", **options).eval()


@pytest.mark.parametrize(
    ("side", "trim", "seen"),
    [
        (4, 2, [2, 1, 0, 1, 2, 3, 2, 1]),
        (2, 3, [1, 0, 1, 0, 1, 0, 1, 0]),
        (3, 5, [1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1, 0]),  # pads longer than the side
        (1, 2, [0, 0, 0, 0, 0, 0]),
    ],
)
@pytest.mark.parametrize("axis", [-2, -1])
def test_an_image_is_continued_by_mirroring_without_its_border_twice(
    axis: int, side: int, trim: int, seen: list[int]
) -> None:
    net = Trimming(trim)
    line = torch.arange(float(side))
    image = line.reshape(1, 1, -1, 1) if axis == -2 else line.reshape(1, 1, 1, -1)
    logits = whole_image_logits(net, image, tuple(image.shape[-2:]))
    assert net.seen[0].movedim(axis, -1)[0, 0, 0].tolist() == seen
    assert torch.equal(logits, image)


def test_views_are_cut_on_the_device_of_the_image() -> None:
    image, _ = numbered(5, 7)
    with torch.device("meta"):  # where tensors would land that name no device
        logits = whole_image_logits(Trimming(2), image, (5, 7))
    assert torch.equal(logits, image)


@pytest.mark.parametrize("size", [(8, 8), (1, 388), (389, 5), (400, 800), (777, 390)])
def test_tiles_put_every_logit_on_its_pixel(size: tuple[int, int]) -> None:
    image, _ = numbered(*size)
    assert torch.equal(whole_image_logits(Trimming(6), image, size), image)


def test_no_tile_is_larger_than_the_one_of_the_paper() -> None:
    net = Trimming(92)
    whole_image_logits(net, torch.zeros(1, 1, 800, 389), (800, 389))
    assert len(net.seen) == 6
    assert max(max(tile.shape) for tile in net.seen) <= 572


@pytest.mark.parametrize(
    ("depth", "size"),
    [
        (1, (20, 33)),
        (1, (401, 70)),
        (2, (50, 400)),
        (4, (30, 388)),
        (4, (30, 400)),
    ],
)
@torch.no_grad()
def test_overlap_tiles_equal_one_pass_over_the_mirrored_image(
    depth: int, size: tuple[int, int]
) -> None:
    net, image = valid_unet(depth), torch.randn(2, 1, *size)
    margin = {1: 8, 2: 20, 4: 92}[depth]
    largest = [net.input_size(side + 2**depth) for side in size]
    pads = [(margin, whole - margin - side) for whole, side in zip(largest, size, strict=True)]
    mirrored = np.pad(image.numpy(), ((0, 0), (0, 0), *pads), mode="reflect")
    one_pass = net(torch.from_numpy(mirrored))[..., : size[0], : size[1]]
    assert one_pass.std() > 1e-3
    torch.testing.assert_close(whole_image_logits(net, image, size), one_pass, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "seen", "rows", "columns"),
    [
        ((8, 10), (8, 10), slice(2, 6), slice(2, 8)),  # as it is: 8 gives 4, 10 gives 6
        ((7, 9), (12, 14), slice(0, 7), slice(0, 9)),  # odd sides cannot be taken
        ((6, 4), (10, 8), slice(0, 6), slice(0, 4)),  # 6 would give 2, 4 nothing
        ((8, 7), (8, 12), slice(2, 6), slice(0, 7)),  # each side for itself
        ((7, 8), (12, 8), slice(0, 7), slice(2, 6)),
        ((500, 501), (500, 506), slice(2, 498), slice(0, 501)),  # training has no tiles
    ],
)
def test_training_logits_stand_on_the_mask_pixels_they_predict(
    size: tuple[int, int], seen: tuple[int, int], rows: slice, columns: slice
) -> None:
    net = Trimming(2)
    image, mask = numbered(*size)
    logits, cut = training_logits(net, image, mask)
    assert net.seen[0].shape[-2:] == seen
    assert torch.equal(cut, mask[:, rows, columns])
    assert torch.equal(logits[:, 0].long(), cut)


@torch.no_grad()
def test_training_sees_572_pixels_as_they_are_and_cuts_the_mask_to_the_middle_388() -> None:
    net, image = valid_unet(4), torch.randn(1, 1, 572, 300)
    mask = torch.arange(572 * 300).reshape(1, 572, 300)
    logits, cut = training_logits(net, image, mask)
    assert logits.shape == (1, 2, 388, 300)
    assert torch.equal(cut, mask[:, 92:480])


@pytest.mark.parametrize("net", [nn.Conv2d(1, 1, 3, padding=1), UNet(1, 1, 2, 2).eval()])
@torch.no_grad()
def test_a_network_that_pads_is_given_the_image_itself(net: nn.Module) -> None:
    image, mask = torch.randn(1, 1, 401, 19), torch.zeros(1, 401, 19)
    seen = []
    net.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    logits, same_mask = training_logits(net, image, mask)
    whole = whole_image_logits(net, image, (401, 19))
    assert all(one is image for one in seen)
    assert len(seen) == 2
    assert same_mask is mask
    assert torch.equal(logits, net(image))
    assert torch.equal(whole, logits)


@pytest.mark.parametrize(
    ("size", "worked"),
    [((1, 2), [[0, 4]]), ((1, 4), [[0, 1, 3, 4]]), ((2, 1), [[2], [2]]), ((1, 1), [[2]])],
)
@pytest.mark.parametrize("net", [nn.Identity(), Trimming(3)])
def test_logits_are_resized_linearly_to_the_size_wanted(
    net: nn.Module, size: tuple[int, int], worked: list[list[float]]
) -> None:
    image = torch.tensor([[[[0.0, 4.0]]]])
    assert whole_image_logits(net, image, size)[0, 0].tolist() == worked


@pytest.mark.parametrize("net", [nn.Identity(), Trimming(3)])
def test_half_precision_logits_are_resized_in_float32(net: nn.Module) -> None:
    image = torch.tensor([[[[256.0, 258.0]]]], dtype=torch.bfloat16)  # which has no 257
    same = whole_image_logits(net, image, (1, 2))
    wider = whole_image_logits(net, image, (1, 4))
    assert same.dtype == wider.dtype == torch.float32
    assert wider.flatten().tolist() == [256, 256.5, 257.5, 258]


class Returning(nn.Module):
    """Returns what is made of its image."""

    def __init__(self, make: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.forward = make


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda image: image, ""),
        (lambda image: image[:, :1], "returns (1, 1, 64, 64)"),
        (lambda image: image[..., ::2, ::2], "returns (1, 2, 32, 32)"),
        (lambda image: image[:, 0], "returns (1, 64, 64)"),
        (lambda image: (image, image), "returns a tuple"),
        (lambda image: {"aux": image[0], "out": image}, "returns a dict"),
    ],
)
def test_what_is_no_logits_of_an_image_is_told(
    make: Callable[[Tensor], object], sentence: str
) -> None:
    if sentence:
        sentence += " for an image (1, 2, 64, 64), not logits (1, 2, 64, 64)"
    if "dict" in sentence:
        sentence += ", which its ['out'] are"
    assert faulty_logits(Returning(make), channels=2, num_classes=2) == sentence


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (lambda image: [image, image[..., ::2, ::2]], "a list"),
        (lambda image: {"out": image}, "a dict"),
        (lambda image: image[:, 0], "(3, 8, 6)"),
        (lambda image: image[..., ::2, ::2], "(3, 1, 4, 3)"),
    ],
)
def test_what_is_no_logits_in_training_is_refused(
    make: Callable[[Tensor], object], shown: str
) -> None:
    image, mask = torch.zeros(3, 1, 8, 6), torch.zeros(3, 8, 6)
    sentence = (
        f"Returning returns {shown} for images (3, 1, 8, 6) while it trains, not logits (N, "
        "num_classes, 8, 6); its forward is to return logits alone, in training too"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        training_logits(Returning(make), image, mask)


@pytest.mark.parametrize("net", [Trimming(3), valid_unet(2), UNet(1, 2, 2, 1)])
def test_logits_of_the_middle_of_an_image_are_as_many_as_the_network_says(net: nn.Module) -> None:
    num_classes = 1 if isinstance(net, Trimming) else 2
    assert faulty_logits(net, channels=1, num_classes=num_classes) == ""
    assert "not logits (1, 3, " in faulty_logits(net, channels=1, num_classes=3)


def test_a_network_whose_logits_are_looked_at_is_left_as_it_was() -> None:
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), Returning(torch.rand_like)).train()
    net[1].eval()
    before = torch.get_rng_state()
    assert faulty_logits(net, channels=1, num_classes=1) == ""
    assert [one.training for one in net] == [True, False, True]
    assert int(net[0].num_batches_tracked) == 0
    assert torch.equal(torch.get_rng_state(), before)
