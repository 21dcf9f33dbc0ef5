"""The network against hand-written ones of stock layers, and against sizes worked by hand."""

import copy
import itertools
import re
from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from liverseg.network.unet import UNet, UpStep, _convolved_without_bias

UPSAMPLINGS = ["transposed", "nearest", "bilinear"]
NORMS = ["batch", "group", "instance", "none"]
TINY = {"in_channels": 1, "num_classes": 1, "depth": 1, "width": 2}
VALID = {"padding": "valid", "norm": "none"}


def seeded(**arguments) -> UNet:
    torch.manual_seed(0)
    return UNet(**{**TINY, **arguments})


def convolutions(net: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]


def count_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


class StockUNet(nn.Module):
    """The padded U-Net as it is commonly written down, four levels of stock layers."""

    def __init__(self) -> None:
        super().__init__()

        def double(before: int, after: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.Conv2d(after, after, 3, padding=1),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            )

        self.down0, self.down1, self.down2 = double(3, 64), double(64, 128), double(128, 256)
        self.down3, self.bottom = double(256, 512), double(512, 1024)
        self.up3, self.join3 = nn.ConvTranspose2d(1024, 512, 2, 2), double(1024, 512)
        self.up2, self.join2 = nn.ConvTranspose2d(512, 256, 2, 2), double(512, 256)
        self.up1, self.join1 = nn.ConvTranspose2d(256, 128, 2, 2), double(256, 128)
        self.up0, self.join0 = nn.ConvTranspose2d(128, 64, 2, 2), double(128, 64)
        self.head = nn.Conv2d(64, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        pool = nn.MaxPool2d(2)
        skip0 = self.down0(image)
        skip1 = self.down1(pool(skip0))
        skip2 = self.down2(pool(skip1))
        skip3 = self.down3(pool(skip2))
        deep = self.bottom(pool(skip3))
        deep = self.join3(torch.cat([self.up3(deep), skip3], 1))
        deep = self.join2(torch.cat([self.up2(deep), skip2], 1))
        deep = self.join1(torch.cat([self.up1(deep), skip1], 1))
        deep = self.join0(torch.cat([self.up0(deep), skip0], 1))
        return self.head(deep)


@torch.no_grad()
def test_the_full_network_is_the_one_of_stock_layers() -> None:
    with torch.device("meta"):
        net, stock = UNet(3, 1, 4, 64), StockUNet()
    assert count_parameters(net) == 31_043_521
    net, stock = net.to_empty(device="cpu"), stock.to_empty(device="cpu")
    torch.manual_seed(0)
    for (name, ours), theirs in zip(
        net.state_dict().items(), stock.state_dict().values(), strict=True
    ):
        assert ours.shape == theirs.shape, name
        if "running_var" in name:
            theirs.fill_(0.5)
        elif theirs.dim() == 4:
            theirs.normal_(std=(2 / theirs[0].numel()) ** 0.5)
        else:
            theirs.zero_() if theirs.dim() == 0 else theirs.uniform_(0.5, 1)
        ours.copy_(theirs)
    image = torch.randn(1, 3, 32, 48)
    for is_training in (False, True):
        logits, expected = net.train(is_training)(image), stock.train(is_training)(image)
        assert expected.std() > 1e-3
        torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(net.buffers(), stock.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)  # training moved the running statistics alike


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_training_enlarges_as_a_transposed_convolution(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    net = UNet(1, 1, depth=1, width=3).double().to(memory_format=layout)
    step, stock = net.decoder[0], nn.ConvTranspose2d(6, 3, 2, stride=2).double()
    assert isinstance(step, UpStep)
    stock.load_state_dict(step.enlarge.state_dict())
    given = torch.randn(2, 6, 5, 4, dtype=torch.double).contiguous(memory_format=layout)
    seen: list[Tensor] = []
    calls: list[Tensor] = []
    step.enlarge.register_forward_hook(lambda *_: calls.append(given))
    step.fuse.register_forward_pre_hook(lambda _, joined: seen.append(joined[0][:, :3]))
    step(given, torch.zeros(2, 3, 10, 8, dtype=torch.double))
    assert not calls  # it is a product
    expected = stock(given)
    torch.testing.assert_close(seen[0], expected)
    weigh = torch.randn_like(expected)
    gradients = [
        torch.autograd.grad((one * weigh).sum(), layer.parameters())
        for one, layer in ((seen[0], step.enlarge), (expected, stock))
    ]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_bias_before_batch_norm_is_left_out_and_changes_nothing() -> None:
    torch.manual_seed(0)
    convolution, norm = nn.Conv2d(3, 4, 3, dilation=2, padding=1), nn.BatchNorm2d(4)
    stock = nn.Sequential(convolution, norm).double()
    ours = copy.deepcopy(stock)
    for step in range(3):
        image = torch.randn(2, 3, 9, 8, dtype=torch.double) + step
        outputs = stock(image), _convolved_without_bias(*ours, image)
        torch.testing.assert_close(outputs[1], outputs[0])
        for output in outputs:
            output.square().mul(torch.arange(1.0, 5)[:, None, None]).mean().backward()
        for (name, one), other in zip(ours.named_parameters(), stock.parameters(), strict=True):
            if name == "0.bias":
                assert one.grad is not None
                assert not one.grad.count_nonzero()
                assert other.grad.abs().max() < 1e-12  # rounding alone
            else:
                torch.testing.assert_close(one.grad, other.grad)
    torch.testing.assert_close(list(ours.buffers()), list(stock.buffers()))
    assert norm.num_batches_tracked == 3


def test_biases_before_batch_norm_are_left_out_in_mixed_precision_on_a_gpu_in_training() -> None:
    class Biases(TorchDispatchMode):
        """Counts convolutions that are given a bias; a GPU is played by tensors without data."""

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten.convolution.default:
                counts[args[2] is not None] += 1
            return function(*args, **(kwargs or {}))

    with FakeTensorMode(), torch.device("cuda"):
        net, image = UNet(1, 1, 2, 4), torch.zeros(2, 1, 16, 16)
        found = {}
        flags = (False, True)
        for is_training, is_mixed, momentum in itertools.product(flags, flags, (0.1, 1.0)):
            for layer in net.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.momentum = momentum
            counts = Counter()
            torch.set_autocast_enabled("cuda", is_mixed)  # autocast() refuses without a GPU
            try:
                with Biases():
                    net.train(is_training)(image)
            finally:
                torch.set_autocast_enabled("cuda", False)
            found[is_training, is_mixed, momentum] = counts[True], counts[False]
    # 10 of 3 x 3, 2 transposed and the last one, which no norm follows
    assert found.pop((True, True, 0.1)) == (3, 10)
    assert set(found.values()) == {(13, 0)}


@torch.no_grad()
def test_valid_padding_is_the_copy_and_crop_written_by_hand() -> None:
    net, image = seeded(num_classes=2, **VALID), torch.randn(2, 1, 26, 36)
    a, b, c, d, e, f, head = convolutions(net)  # two of each level down, then two up and the head
    up = net.decoder[0].enlarge
    conv = functional.conv2d
    skip = conv(conv(image, a.weight, a.bias).relu(), b.weight, b.bias).relu()
    deep = functional.max_pool2d(skip, 2)
    deep = conv(conv(deep, c.weight, c.bias).relu(), d.weight, d.bias).relu()
    raised = functional.conv_transpose2d(deep, up.weight, up.bias, stride=2)
    both = torch.cat([raised, skip[..., 4:-4, 4:-4]], 1)
    fused = conv(conv(both, e.weight, e.bias).relu(), f.weight, f.bias).relu()
    logits = conv(fused, head.weight, head.bias)
    assert torch.equal(net.eval()(image), logits)
    torch.testing.assert_close(net.train()(image), logits)


@pytest.mark.parametrize("rate", [1, 2])
@pytest.mark.parametrize("upsampling", ["transposed", "nearest"])
@torch.no_grad()
def test_valid_logits_are_the_padded_ones_far_from_the_border(upsampling: str, rate: int) -> None:
    options = {"depth": 2, "upsampling": upsampling, "dilations": rate, "norm": "none"}
    padded, valid = seeded(**options), seeded(padding="valid", **options)
    image = torch.randn(1, 1, 120, 136)
    first = 2 * rate  # from here on both halve the same pixels, at every level
    height, width = valid.input_size(20), valid.input_size(32)
    logits = valid(image[..., first : first + height, first : first + width])
    top = first + 20 * rate
    middle = padded(image)[..., top : top + logits.shape[-2], top : top + logits.shape[-1]]
    torch.testing.assert_close(logits, middle, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
@pytest.mark.parametrize("dilations", [1, 2, [3], [2, 4]])
@pytest.mark.parametrize("width", [1, 6])
@pytest.mark.parametrize("depth", [1, 2, 4])
@torch.no_grad()
def test_logits_have_the_height_and_width_of_the_image(
    depth: int, width: int, dilations: int | list[int], upsampling: str
) -> None:
    net = UNet(2, 3, depth, width, upsampling, dilations).eval()
    for height, width in [(32, 16), (17, 33), (1, 2)]:
        assert net(torch.zeros(2, 2, height, width)).shape == (2, 3, height, width)
        assert net.output_size(height) == net.input_size(height) == height


@pytest.mark.slow  # many seconds
def test_a_compiled_network_takes_images_of_several_sizes() -> None:
    plain = UNet(in_channels=1, num_classes=1, depth=1, width=2)
    compiled = copy.deepcopy(plain)
    compiled.compile(backend="aot_eager_decomp_partition")  # inductor's steps, but for its kernels
    for shape in ((2, 1, 44, 44), (2, 1, 61, 52), (3, 1, 76, 44)):
        image = torch.randn(shape)
        logits, expected = compiled(image), plain(image)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
        for one in (logits, expected):
            one.square().mean().backward()
    for one, other in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_an_image_of_another_size_is_continued_at_its_bottom_and_right_edges() -> None:
    net, image = seeded(depth=3).eval(), torch.randn(1, 1, 13, 17)
    continued = np.pad(image.numpy(), ((0, 0), (0, 0), (0, 3), (0, 7)), mode="edge")
    seen = []
    net.encoder[0].register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[-2:]))
    whole = net(torch.from_numpy(continued))
    assert torch.equal(net(image), whole[..., :13, :17])
    assert seen == [(16, 24), (16, 24)]  # a size that halves evenly gets no padding


@pytest.mark.parametrize(
    ("upsampling", "worked"), [("nearest", [0, 0, 4, 4]), ("bilinear", [0, 1, 3, 4])]
)
@torch.no_grad()
def test_resizing_doubles_a_map_as_worked_by_hand(upsampling: str, worked: list[float]) -> None:
    enlarge = seeded(width=1, upsampling=upsampling).decoder[0].enlarge
    enlarge[1].weight.fill_(0.5)  # the mean of the two deep channels
    enlarge[1].bias.zero_()
    deep = torch.tensor([0.0, 4.0]).expand(1, 2, 1, 2)
    assert enlarge(deep)[0, 0].tolist() == [worked, worked]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_every_parameter_gets_a_gradient(upsampling: str, norm: str) -> None:
    net = seeded(depth=2, width=4, upsampling=upsampling, norm=norm)
    net(torch.randn(2, 1, 16, 16)).square().mean().backward()
    still = [name for name, one in net.named_parameters() if not one.grad.count_nonzero()]
    assert still == []


@pytest.mark.parametrize(
    ("dilations", "rates"),
    [
        (1, [1, 1, 1, 1]),
        (3, [3, 3, 3, 3]),
        ([], [1, 1, 1, 1]),
        ([2, 4], [1, 1, 2, 4]),
        ([4, 3, 2, 1], [4, 3, 2, 1]),
    ],
)
def test_rates_are_named_from_the_deepest_level_up(dilations, rates: list[int]) -> None:
    net = UNet(1, 1, 3, 2, dilations=dilations)
    found = [layer.dilation for layer in convolutions(net) if layer.kernel_size == (3, 3)]
    down_and_up = rates + rates[:-1][::-1]
    assert found == [(rate, rate) for rate in down_and_up for _ in range(2)]
    assert count_parameters(net) == count_parameters(UNet(1, 1, 3, 2))


def test_rates_change_no_map_size() -> None:
    sizes = []
    for net in (UNet(1, 1, 3, 2), UNet(1, 1, 3, 2, dilations=[3, 2, 4])):
        for block in [*net.encoder, *net.decoder]:
            block.register_forward_hook(lambda _, __, features: sizes.append(features.shape))
        net(torch.zeros(2, 1, 24, 16))
    assert sizes[:7] == sizes[7:]
    assert [size[-2] for size in sizes[:7]] == [24, 12, 6, 3, 6, 12, 24]


@pytest.mark.parametrize(
    ("dilations", "reach"),
    # Two convolutions up and two down at rate a, two deep ones at rate b: from an even pixel the
    # first pair sees 1 + 4a pixels, which are 1 + 2a deep ones, the deep pair adds 4b to these,
    # each of which is 2 pixels, and the last pair adds 4a: 2 + 8a + 8b.
    [(1, 18), ([2], 26), ([4], 42), (2, 34), ([2, 1], 26)],
)
def test_a_dilated_network_reaches_as_far_as_worked_by_hand(dilations, reach: int) -> None:
    net = seeded(dilations=dilations, norm="none")
    for parameter in net.parameters():
        parameter.data.abs_()  # so that no gradient cancels
    image = torch.rand(16, 1, 64, 64, requires_grad=True)
    (gradient,) = torch.autograd.grad(net(image)[..., 32, 32].sum(), image)
    reached = gradient.count_nonzero(dim=(0, 1))
    assert [int((reached.sum(dim=axis) > 0).sum()) for axis in (0, 1)] == [reach, reach]
    assert count_parameters(net) == count_parameters(UNet(**TINY, norm="none"))


@torch.no_grad()
def test_the_network_of_the_paper_has_23_convolutions_and_gives_388_for_572() -> None:
    net = seeded(depth=4, num_classes=2, width=1, **VALID)
    layers = [one for one in net.modules() if isinstance(one, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(layers) == 23
    assert all(layer.bias is not None for layer in layers)
    assert net(torch.zeros(1, 1, 572, 572)).shape == (1, 2, 388, 388)


def test_valid_padding_at_depth_4_takes_every_16th_side_from_188_on_and_trims_184() -> None:
    net = seeded(depth=4, **VALID)
    taken = {}
    for side in range(1, 700):
        try:
            taken[side] = net.output_size(side)
        except ValueError:
            continue
    assert taken == {side: side - 184 for side in range(188, 700, 16)}
    assert taken[572] == 388
    for output in range(1, 500):
        assert net.input_size(output) == min(s for s in taken if taken[s] >= output)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("dilations", [1, 2, [4], [3, 1]])
@torch.no_grad()
def test_logits_have_the_size_that_was_told(depth: int, dilations: int | list[int]) -> None:
    net = seeded(depth=depth, width=1, dilations=dilations, **VALID)
    rates = [dilations] * (depth + 1) if isinstance(dilations, int) else dilations
    rates = [1] * (depth + 1 - len(rates)) + rates
    # A level trims 4 of its pixels per rate on the way down, and again on the way up.
    trim = sum(8 * rate * 2**level for level, rate in enumerate(rates)) - 4 * rates[-1] * 2**depth
    sides = [net.input_size(output) for output in (1, 30)]
    for side, output in zip(sides, (1, 30), strict=True):
        assert output <= side - trim < output + 2**depth  # the next smaller side is too small
    assert [net.output_size(side) for side in sides] == [side - trim for side in sides]
    assert net(torch.zeros(1, 1, *sides)).shape[-2:] == (sides[0] - trim, sides[1] - trim)


@pytest.mark.parametrize("size", [(500, 572), (572, 500)])
def test_a_side_that_valid_padding_cannot_take_is_named_with_those_it_can(size) -> None:
    sentence = (
        "valid padding cannot take an image side of 500 pixels at depth 4; it takes 188, 204, "
        "220, ..."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        seeded(depth=4, **VALID)(torch.zeros(1, 1, *size))


@pytest.mark.parametrize(
    ("norm", "kind"),
    [
        ("batch", nn.BatchNorm2d),
        ("group", nn.GroupNorm),
        ("instance", nn.InstanceNorm2d),
        ("none", nn.Identity),
    ],
)
def test_each_3_by_3_convolution_is_followed_by_the_norm_and_relu(norm: str, kind: type) -> None:
    net = UNet(1, 1, 2, 12, norm=norm)
    for block in (*net.encoder, *(step.fuse for step in net.decoder)):
        assert [type(layer) for layer in block.layers] == [nn.Conv2d, kind, nn.ReLU] * 2
        assert all(layer.bias is not None for layer in convolutions(block))
        assert all(layer.affine for layer in block.layers[1::3] if norm == "instance")


def test_group_norm_takes_8_groups_or_the_most_that_divide_the_channels() -> None:
    def groups(width: int) -> list[int]:
        net = UNet(1, 1, 2, width, norm="group")
        return [layer.num_groups for layer in net.encoder.modules() if hasattr(layer, "num_groups")]

    assert groups(12) == [4, 4, 8, 8, 8, 8]  # 12, 24 and 48 channels
    assert groups(3) == [1, 1, 2, 2, 4, 4]


def test_without_norm_weights_are_drawn_as_in_the_paper() -> None:
    net = seeded(depth=2, width=64, norm="none", upsampling="nearest")
    wide = [layer for layer in convolutions(net) if layer.weight.numel() > 30_000]
    assert len(wide) == 10  # all 3 x 3 but the first, and the deeper enlargement
    for layer in wide:
        std = (2 / layer.weight[0].numel()) ** 0.5
        assert layer.weight.std().item() == pytest.approx(std, rel=0.03)
        assert abs(layer.weight.mean().item()) < 0.03 * std
        assert layer.weight.abs().max() > 3 * std  # normal, as a uniform draw ends at 1.73
    assert all(not layer.bias.count_nonzero() for layer in convolutions(net))


def test_with_a_norm_the_layers_keep_the_initialisation_of_torch() -> None:
    net = seeded(depth=1, width=32)
    layer = convolutions(net)[1]
    assert layer.weight.abs().max() <= 1 / (9 * 32) ** 0.5


@torch.no_grad()
def test_dropout_zeroes_the_end_of_the_encoder_in_training_and_nothing_else() -> None:
    options = {"depth": 2, "width": 8, "norm": "none"}
    net, plain = seeded(dropout=0.25, **options), seeded(**options)
    encoded, taken = [], []
    for block in net.encoder:
        block.register_forward_hook(lambda _, __, features: encoded.append(features))
    for step in net.decoder:
        step.register_forward_pre_hook(lambda _, args: taken.append(args))
    image = torch.randn(2, 1, 32, 32)
    assert torch.equal(net.eval()(image), plain(image))

    encoded.clear()
    taken.clear()
    net.train()(image)
    (deep, skip1), (_, skip0) = taken
    assert torch.equal(skip0, encoded[0])
    assert torch.equal(skip1, encoded[1])
    kept = deep > 0
    torch.testing.assert_close(deep[kept], encoded[2][kept] / 0.75)
    assert kept.sum() / (encoded[2] > 0).sum() == pytest.approx(0.75, abs=0.05)
    assert sum(isinstance(layer, nn.Dropout) for layer in net.modules()) == 1


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_norm_that_sees_a_single_value_is_refused_in_training(norm: str) -> None:
    net, image = seeded(depth=4, width=1, norm=norm), torch.randn(1, 1, 16, 16)
    sentence = (
        "a norm sees one value only at the deepest level; use larger images, a smaller "
        "model.depth or, with model.norm=batch, a larger data.batch_size and as many images"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        net(image)
    assert net(torch.randn(1, 1, 32, 16)).isfinite().all()
    assert net(torch.randn(1, 1, 16, 32)).isfinite().all()


def test_instance_norm_needs_two_values_in_evaluation_too_and_batch_norm_does_not() -> None:
    image = torch.randn(1, 1, 16, 16)
    assert seeded(depth=4, norm="batch").eval()(image).isfinite().all()
    with pytest.raises(ValueError, match="a norm sees one value only"):
        seeded(depth=4, norm="instance").eval()(image)


def test_group_norm_needs_two_values_in_its_group() -> None:
    with pytest.raises(ValueError, match="a norm sees one value only"):
        seeded(depth=3, width=1, norm="group")(torch.randn(1, 1, 8, 8))
    assert seeded(depth=3, width=2, norm="group")(torch.randn(1, 1, 8, 8)).isfinite().all()


def test_two_images_are_enough_for_batch_norm_but_not_for_instance_norm() -> None:
    images = torch.randn(2, 1, 16, 16)
    assert seeded(depth=4, norm="batch")(images).isfinite().all()
    with pytest.raises(ValueError, match="a norm sees one value only"):
        seeded(depth=4, norm="instance")(images)


@pytest.mark.parametrize(
    "net",
    [
        seeded(depth=4, norm="batch").eval(),
        seeded(depth=4, norm="group"),
        seeded(depth=4, norm="none"),
    ],
)
def test_a_single_value_is_fine_where_nothing_is_estimated_from_it(net: UNet) -> None:
    assert net(torch.randn(1, 1, 16, 16)).isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"in_channels": 0}, "model.in_channels=0 must be at least 1"),
        ({"num_classes": 0}, "model.num_classes=0 must be at least 1"),
        ({"depth": 0}, "model.depth=0 must be at least 1"),
        ({"width": -3}, "model.width=-3 must be at least 1"),
        (
            {"width": 3, "depth": 11},
            "model.width=3 doubled model.depth=11 times makes more than 4096 channels; lower "
            "one of them",
        ),
        (
            {"upsampling": "cubic"},
            "model.upsampling=cubic must be one of transposed, nearest, bilinear",
        ),
        ({"padding": "full"}, "model.padding=full must be one of same, valid"),
        ({"norm": "layer"}, "model.norm=layer must be one of batch, group, instance, none"),
        ({"dropout": 1}, "model.dropout=1 must lie in [0, 1)"),
        ({"dropout": -0.1}, "model.dropout=-0.1 must lie in [0, 1)"),
        (
            {"dilations": 0},
            "model.dilations=0 must be a rate or at most 2 rates (model.depth + 1), each at "
            "least 1",
        ),
        (
            {"dilations": [2, 0]},
            "model.dilations=[2, 0] must be a rate or at most 2 rates (model.depth + 1), each at "
            "least 1",
        ),
        (
            {"dilations": [1, 1, 2]},
            "model.dilations=[1, 1, 2] must be a rate or at most 2 rates (model.depth + 1), each "
            "at least 1",
        ),
    ],
)
def test_a_wrong_setting_is_refused_in_one_sentence(arguments: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        UNet(**{**TINY, **arguments})


def test_an_image_with_another_number_of_channels_is_refused() -> None:
    sentence = (
        "the network takes 1 channels, the image has 3; set model.in_channels or data.channels"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        UNet(**TINY)(torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("option", [{"residual": True}, {"attention": True}])
def test_residual_blocks_and_gates_keep_sizes_and_learn_everywhere(
    option: dict[str, bool], norm: str, padding: str
) -> None:
    plain = seeded(depth=2, norm=norm, padding=padding)
    net = seeded(depth=2, norm=norm, padding=padding, **option)
    side = net.input_size(40)
    logits = net(torch.randn(2, 1, side, side))
    assert logits.shape == plain(torch.randn(2, 1, side, side)).shape
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert plain.state_dict().keys() < net.state_dict().keys()


@torch.no_grad()
def test_a_residual_block_adds_what_it_was_given_before_its_last_relu() -> None:
    net = seeded(residual=True, norm="none", padding="valid", width=3).eval()
    first, deep = net.encoder[0], torch.randn(1, 3, 12, 12)
    a, b, shortcut = convolutions(first)
    image, conv = torch.randn(1, 1, 12, 12), functional.conv2d
    inner = conv(conv(image, a.weight, a.bias).relu(), b.weight, b.bias)
    kept = conv(image, shortcut.weight, shortcut.bias)[..., 2:-2, 2:-2]
    torch.testing.assert_close(first(image), (inner + kept).relu())
    same = UNet(1, 1, depth=1, width=3, residual=True, padding="same").encoder[0]
    assert isinstance(same.shortcut, nn.Sequential)  # from one channel to three
    block = type(same)(
        in_channels=3, out_channels=3, dilation=1, padding="same", norm="none", residual=True
    )
    assert isinstance(block.shortcut, nn.Identity)
    for layer in convolutions(block):
        layer.weight.zero_()
        layer.bias.zero_()
    assert torch.equal(block(deep), deep.relu())


@torch.no_grad()
def test_an_open_gate_lets_all_through_and_a_shut_one_nothing() -> None:
    plain, net = seeded().eval(), seeded(attention=True).eval()
    net.load_state_dict(plain.state_dict(), strict=False)
    gate, image = net.decoder[0].gate, torch.randn(1, 1, 16, 16)
    gate.psi.weight.zero_()
    gate.psi.bias.fill_(50)
    torch.testing.assert_close(net(image), plain(image))
    gate.psi.bias.fill_(-200)
    skip, deep = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 4, 4)
    assert not gate(skip, deep).any()
    gate.psi.weight.fill_(1.0)
    gate.psi.bias.zero_()
    hidden = functional.conv2d(skip, gate.theta.weight) + gate.phi(deep)
    torch.testing.assert_close(gate(skip, deep), skip * hidden.relu().sigmoid())
