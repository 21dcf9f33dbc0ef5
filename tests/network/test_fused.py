"""Norm, ReLU and pooling in few passes: Triton's interpreter computes them here, without a GPU."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from liverseg.network import fused
from liverseg.network.unet import UNet

pytest.importorskip("triton", reason="torch brings no Triton here")
LAST = torch.channels_last


@pytest.fixture(autouse=True)
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compute where kernels are compiled, if there is a GPU; conftest has them interpreted else."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        yield


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every device, and only what is in 32 bits, for a GPU in mixed precision."""
    monkeypatch.setattr(fused, "trains_faster", lambda features, _: features.dtype == torch.float32)


def by_layers(norm: nn.BatchNorm2d, features: Tensor, bias: Tensor) -> Tensor:
    return functional.relu(norm(features + bias[:, None, None]))


@pytest.mark.parametrize(
    ("shape", "pools"),
    [
        ((2, 5, 6, 8), False),
        ((2, 5, 6, 8), True),
        ((1, 70, 4, 4), True),  # more channels than a block has
        ((3, 64, 7, 5), False),  # odd sides, and more pixels than a block has
        ((2, 1, 34, 38), True),  # more windows than a block has
    ],
)
@pytest.mark.parametrize("is_half", [False, True], ids=["whole map", "half of a map"])
def test_values_gradients_and_statistics_are_those_of_the_layers(
    shape: tuple[int, int, int, int], pools: bool, is_half: bool
) -> None:
    torch.manual_seed(0)
    batch, channels, height, width = shape
    norm = nn.BatchNorm2d(channels, momentum=0.3)
    for one in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(one)
    stock = copy.deepcopy(norm).double()
    bias = torch.randn(channels, requires_grad=True)
    # Far from 0, where sums of squares lose digits.
    features = (torch.randn(shape) * 2 + 100).to(memory_format=LAST).requires_grad_()
    due = torch.randn(batch, 2 * channels, height, width).to(memory_format=LAST)
    due = due[:, channels:] if is_half else due[:, :channels].contiguous()
    due_pooled = torch.randn(batch, channels, height // 2, width // 2)

    found = fused.activated(features, norm, bias, is_pooled=pools, is_joined=pools)
    exact = features.detach().double().requires_grad_()
    expected = by_layers(stock, exact, bias.detach().double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    assert found.stride(1) == 1  # channels last
    total, expected_total = (found * due).sum(), (expected * due.double()).sum()
    if pools:
        pooled = fused.pooled(found)
        torch.testing.assert_close(pooled, functional.max_pool2d(found, 2))
        assert "MaxPool" not in str(pooled.grad_fn)
        total = total + (pooled * due_pooled).sum()
        of_windows = functional.max_pool2d(expected, 2) * due_pooled.double()
        expected_total = expected_total + of_windows.sum()
    total.backward()
    expected_total.backward()
    for one, other in [
        (features.grad, exact.grad),
        (norm.weight.grad, stock.weight.grad),
        (norm.bias.grad, stock.bias.grad),
        (norm.running_mean, stock.running_mean),
        (norm.running_var, stock.running_var),
    ]:
        assert one is not None
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)
    assert bias.grad is not None  # processes that train together wait for one
    assert not bias.grad.count_nonzero()
    assert norm.num_batches_tracked == 1


def test_equal_pixels_of_a_window_share_no_gradient() -> None:
    norm = nn.BatchNorm2d(1)
    image = torch.tensor([[3.0, 3.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0]])[None, None].requires_grad_()
    due = torch.ones(1, 1, 1, 2)
    found = fused.activated(image, norm, torch.zeros(1), is_pooled=True)
    pooled = fused.pooled(found)
    ours = torch.autograd.grad([found, pooled], image, [torch.zeros_like(found), due])
    activated = functional.relu(nn.BatchNorm2d(1)(image))
    theirs = torch.autograd.grad(functional.max_pool2d(activated, 2), image, due)
    torch.testing.assert_close(ours, theirs)
    assert ours[0][0, 0, 0, 0] > ours[0][0, 0, 0, 1]  # the first of the three takes it


@pytest.mark.parametrize("is_cropped", [False, True])
def test_a_joined_map_is_the_enlarged_one_and_the_skip_connection(is_cropped: bool) -> None:
    torch.manual_seed(0)
    four = torch.randn(2 * 3 * 4, 4 * 5, requires_grad=True)
    bias = torch.randn(5, requires_grad=True)
    skip = torch.randn(2, 5, 10, 12).to(memory_format=LAST).requires_grad_()
    middle = skip[..., 2:8, 2:10] if is_cropped else skip[..., :6, :8].contiguous()
    enlarged = four.view(2, 3, 4, 2, 2, 5).transpose(2, 3).reshape(2, 6, 8, 5) + bias
    expected = torch.cat([enlarged.movedim(-1, 1), middle], dim=1)
    found = fused.joined(four, bias, middle)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    due = torch.randn_like(expected)
    gradients = (
        torch.autograd.grad((one * due).sum(), [four, bias, skip]) for one in (found, expected)
    )
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_map_lies_where_it_is_joined_first_and_is_copied_after_that() -> None:
    torch.manual_seed(0)
    norm, features = nn.BatchNorm2d(5), torch.randn(2, 5, 6, 8)
    skip = fused.activated(features, norm, torch.zeros(5), is_pooled=True, is_joined=True)
    before = skip.clone()
    first, second = (
        fused.joined(torch.randn(2 * 3 * 4, 4 * 5), torch.zeros(5), skip) for _ in range(2)
    )
    assert first[:, 5:].data_ptr() == skip.data_ptr()
    assert not torch.equal(first[:, :5], second[:, :5])
    for one in (skip, first[:, 5:], second[:, 5:]):
        torch.testing.assert_close(one, before, rtol=0, atol=0)
    alone = fused.activated(features, norm, torch.zeros(5), is_pooled=True)
    assert alone.untyped_storage().nbytes() == alone.nbytes  # no room that nobody takes


def test_a_map_that_was_changed_is_pooled_as_it_is() -> None:
    torch.manual_seed(0)
    norm, features = nn.BatchNorm2d(5), torch.randn(2, 5, 6, 8)
    found = fused.activated(features, norm, torch.zeros(5), is_pooled=True)
    with torch.no_grad():
        found.mul_(-1)
    torch.testing.assert_close(fused.pooled(found), functional.max_pool2d(found, 2))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # the interpreter's
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_stays_none(value: float) -> None:
    norm, features = nn.BatchNorm2d(2), torch.ones(1, 2, 4, 4)
    features[0, 1, 2, 3] = value
    found = fused.activated(features, norm, torch.zeros(2), is_pooled=True)
    for one in (found, fused.pooled(found)):
        assert one[:, 1].isnan().all()
        assert not one[:, 0].isnan().any()
    assert norm.running_var is not None
    assert norm.running_var.isnan().tolist() == [False, True]


@pytest.mark.usefixtures("everywhere")
def test_hooks_see_and_change_what_a_level_gives() -> None:
    torch.manual_seed(0)
    net = UNet(1, 1, depth=1, width=8).to(memory_format=LAST)
    stock = copy.deepcopy(net).double()
    image, seen = torch.randn(2, 1, 8, 8, requires_grad=True), []
    for one in (net, stock):
        one.encoder[0].register_forward_pre_hook(lambda _, given: (given[0] * 2,))
        one.encoder[0].register_forward_hook(lambda _, __, found: found * 0.5)
        one.encoder[0].register_full_backward_hook(lambda _, __, due: seen.append(due[0]))
    found, expected = net(image), stock(image.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    found.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(seen[0].double(), seen[1], rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"upsampling": "bilinear"},
        {"padding": "valid"},
        {"residual": True},
        {"attention": True},
        {"norm": "group"},
        {"dilations": 2},
    ],
    ids=str,
)
def test_a_network_trains_alike(choice: dict[str, object]) -> None:
    torch.manual_seed(0)
    net = UNet(1, 2, depth=1, width=4, **choice).to(memory_format=LAST)  # type: ignore[arg-type]
    stock = copy.deepcopy(net).double()  # whose layers are computed one by one
    image = torch.randn(2, 1, 20, 24)
    found, expected = net(image), stock(image.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    found.square().sum().backward()
    expected.square().sum().backward()
    gradients = [one.grad for one in stock.parameters() if one.grad is not None]
    largest = max(float(one.abs().max()) for one in gradients)
    for (name, one), other in zip(net.named_parameters(), gradients, strict=True):
        assert one.grad is not None
        assert (one.grad - other).abs().max() < 1e-4 * largest, name
    for one, other in zip(net.buffers(), stock.buffers(), strict=True):
        torch.testing.assert_close(one.double(), other.double(), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("everywhere")
def test_only_a_norm_that_takes_the_mean_of_its_batch_is_fused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[tuple[bool, bool]] = []
    real = fused.activated

    def noting(*given: Any, is_pooled: bool, is_joined: bool) -> Tensor:
        calls.append((is_pooled, is_joined))
        return real(*given, is_pooled=is_pooled, is_joined=is_joined)

    monkeypatch.setattr(fused, "activated", noting)
    net, image = UNet(1, 1, depth=1, width=4), torch.randn(1, 1, 8, 8)
    net(image)
    none = (False, False)
    assert calls == [none, (True, True), none, none, none, none]  # pooled after the first level
    UNet(1, 1, depth=1, width=4, upsampling="bilinear")(image)
    assert calls[7] == (True, False)  # enlarged by others, it is copied
    calls.clear()
    net.eval()(image)
    for one in net.train().modules():
        if isinstance(one, nn.BatchNorm2d):
            one.momentum = None  # the mean of all batches, as an average of weights sets it
    net(image)
    other = UNet(1, 1, depth=1, width=4)
    for block in (*other.encoder, other.decoder[0].fuse):  # of another activation, made by hand
        block.layers[2], block.layers[5] = nn.LeakyReLU(), nn.LeakyReLU()
    other(image)
    assert not calls


def test_layers_are_computed_one_by_one_where_triton_cannot_compile(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Failed to find C compiler.\nPlease specify")

    caplog.set_level("INFO")
    monkeypatch.setattr(fused, "activated", fail)
    device = torch.zeros(()).device
    why = fused._why_not.__wrapped__(device)  # not what an earlier call has found
    assert why == "RuntimeError: Failed to find C compiler."
    assert why in caplog.text
    monkeypatch.undo()
    assert fused._why_not.__wrapped__(device) is None


def test_large_maps_in_mixed_precision_on_a_gpu_are_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "_why_not", lambda _: None)
    with FakeTensorMode(), torch.device("cuda"):  # without a GPU, and without memory
        image, small = torch.empty(4, 1, 512, 512), torch.empty(4, 1, 512, 511)
        assert not fused.trains_faster(image, 64)  # in 32 bits
        torch.set_autocast_enabled("cuda", True)  # autocast() refuses without a GPU
        try:
            assert fused.trains_faster(image, 64)
            assert not fused.trains_faster(small, 64)
            assert not fused.trains_faster(image, 63)
            with fused.fused_at_all_sizes():
                assert fused.trains_faster(small, 1)
            assert not fused.trains_faster(small, 64)
            monkeypatch.setattr(fused, "_why_not", lambda _: "no compiler")
            assert not fused.trains_faster(image, 64)
        finally:
            torch.set_autocast_enabled("cuda", False)
    with torch.autocast("cpu", torch.bfloat16):
        assert not fused.trains_faster(torch.empty(4, 1, 512, 512, device="cpu"), 64)
