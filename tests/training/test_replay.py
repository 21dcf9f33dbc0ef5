"""What is recorded on a GPU and when; with a GPU, whether a replayed step is a computed one."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from liverseg.network import UNet, fused, fused_at_all_sizes
from liverseg.training import compile_network, replay
from liverseg.training.replay import Replayed, Step, Unhooked, computed

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


class Recorder:
    """Stands for what a GPU records: notes it, and computes."""

    def __init__(self) -> None:
        self.recorded: list[tuple[int, ...]] = []
        self.replayed = 0

    def __call__(self, net: nn.Module, image: Tensor) -> Callable[[Tensor], Tensor]:
        self.recorded.append(tuple(image.shape))

        def replay(image: Tensor) -> Tensor:
            self.replayed += 1
            return computed(net, image)

        return replay


def replayed_net(**choice: object) -> tuple[UNet, Recorder]:
    net, recorder = UNet(1, 1, depth=1, width=4, **choice), Recorder()  # type: ignore[arg-type]
    net.forward = Replayed(net, recorder)  # type: ignore[method-assign, arg-type]
    return net, recorder


def test_the_first_size_that_comes_twice_is_recorded_and_others_are_computed() -> None:
    net, recorder = replayed_net()
    small, large = torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 16, 8)
    for image in (large, small, small, small):
        net(image)
    assert recorder.recorded == [(2, 1, 8, 8)]
    assert recorder.replayed == 2
    for image in (large, large, small[:1]):  # a last batch, too, is smaller
        assert net(image).shape == image.shape
    assert recorder.replayed == 2
    net(small)
    assert recorder.recorded == [(2, 1, 8, 8)]
    assert recorder.replayed == 3


def test_steps_are_computed_by_the_kernels_of_those_that_are_replayed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, recorder = replayed_net()
    fewest: list[int] = []

    def noted(net: nn.Module, image: Tensor) -> Tensor:
        fewest.append(fused._fewest.get())
        return computed(net, image)

    monkeypatch.setattr(replay, "computed", noted)
    image = torch.zeros(2, 1, 8, 8)
    net(image)  # as the first step of a resumed run
    net(image[:1])
    assert fewest == [0, 0]
    net.eval()(image)
    assert fewest[2:] == [fused._FEWEST]
    assert not recorder.recorded


def test_what_is_scored_is_computed() -> None:
    net, recorder = replayed_net()
    image = torch.zeros(2, 1, 8, 8)
    for _ in range(3):
        with torch.no_grad():
            net(image)
        net.eval()(image)
        net.train()
    assert not recorder.recorded


def test_another_part_that_trains_is_recorded_anew() -> None:
    net, recorder = replayed_net()
    image = torch.zeros(2, 1, 8, 8)
    for _ in range(3):
        net(image)
    net.encoder.requires_grad_(False)
    net(image)
    net(image)
    assert len(recorder.recorded) == 2
    net.encoder.eval()  # its norms go on with their running means
    net(image)
    assert len(recorder.recorded) == 3


def moved_weight(net: UNet) -> None:
    net.classify.weight.data = net.classify.weight.data.clone()


def moved_mean(net: UNet) -> None:
    norm = net.encoder[0].layers[1]
    norm.running_mean = torch.zeros_like(norm.running_mean)  # as Lightning's SWA does


def other_momentum(net: UNet) -> None:
    net.encoder[0].layers[1].momentum = 0.3


@pytest.mark.parametrize("change", [moved_weight, moved_mean, other_momentum])
def test_what_lies_elsewhere_or_goes_on_otherwise_is_recorded_anew(
    change: Callable[[UNet], None],
) -> None:
    net, recorder = replayed_net()
    image = torch.zeros(2, 1, 8, 8)
    for _ in range(3):
        net(image)
    change(net)
    net(image)
    net(image)
    assert (len(recorder.recorded), recorder.replayed) == (2, 4)


def test_hooks_within_a_network_are_called_in_each_step() -> None:
    net, recorder = replayed_net()
    image, calls = torch.zeros(2, 1, 8, 8), []
    net.register_forward_hook(lambda *_: calls.append("net"))
    hook = net.encoder[0].register_forward_hook(lambda *_: calls.append("level"))
    for _ in range(3):
        net(image)
    assert calls == ["level", "net"] * 3
    assert not recorder.recorded
    hook.remove()
    net(image)
    assert calls[6:] == ["net"]
    assert recorder.replayed == 1
    hook = net.encoder[1].register_full_backward_hook(lambda *_: None)
    net(image)
    hook.remove()
    net.encoder[1].layers[1].momentum = None  # a norm that counts batches, in Python
    net(image)
    assert recorder.replayed == 1


def test_what_is_recorded_is_computed_with_the_weights_given_and_without_hooks() -> None:
    torch.manual_seed(0)
    net, image = UNet(1, 1, depth=1, width=4), torch.randn(2, 1, 8, 8)
    expected = net(image)
    compile_network(net, torch.device("cuda"))
    net.register_forward_hook(lambda *_: pytest.fail("a hook was recorded"))
    unhooked = Unhooked(net)
    weights = {name: one.detach().clone() for name, one in unhooked.named_parameters()}
    nn.init.zeros_(net.classify.weight)  # others are given
    torch.testing.assert_close(functional_call(unhooked, weights, (image,)), expected)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_nothing_is_recorded_where_gradients_are_looked_at_for_anomalies() -> None:
    net, recorder = replayed_net()
    with torch.autograd.detect_anomaly(check_nan=True):
        for _ in range(3):
            net(torch.zeros(2, 1, 8, 8))
    assert not recorder.recorded


def test_a_copy_of_a_network_computes_with_weights_of_its_own() -> None:
    net, _ = replayed_net()
    image = torch.ones(2, 1, 8, 8)
    averaged = copy.deepcopy(net).eval()  # as a moving average of weights is made
    before = averaged(image)
    nn.init.zeros_(net.classify.weight)
    assert net.eval()(image).std() < 1e-6
    torch.testing.assert_close(averaged(image), before)


def test_a_u_net_on_a_gpu_is_replayed_and_all_else_is_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    kinds = [
        (UNet(1, 1, 1, 4), "cuda", True),
        (UNet(1, 1, 1, 4), "cpu", False),
        (UNet(1, 1, 1, 4, norm="group"), "cuda", False),
        (type("Own", (UNet,), {})(1, 1, 1, 4), "cuda", False),  # may choose as it goes
        (nn.Sequential(nn.BatchNorm2d(1)), "cuda", False),
    ]
    for net, device, is_replayed in kinds:
        compile_network(net, torch.device(device))
        assert isinstance(net.forward, Replayed) == is_replayed
        assert (net in compiled) != is_replayed


@needs_gpu
@pytest.mark.slow
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16, None], ids=str)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_replayed_steps_are_those_that_are_computed(
    precision: torch.dtype | None, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    torch.manual_seed(0)
    net = UNet(1, 1, depth=2, width=16, dropout=dropout).cuda()
    net.to(memory_format=torch.channels_last)
    other = copy.deepcopy(net)
    compile_network(other, torch.device("cuda"))
    images = torch.randn(9, 4, 1, 64, 64, device="cuda")
    with fused_at_all_sizes():
        found = [_trained(net, images, precision)]
    found.append(_trained(other, images, precision))
    assert isinstance(other.forward, Replayed)
    assert isinstance(other.forward._step, Step)
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)


@needs_gpu
@pytest.mark.slow
def test_a_recorded_step_goes_back_once_and_only_the_latest() -> None:
    net = UNet(1, 1, depth=1, width=4).cuda()
    compile_network(net, torch.device("cuda"))
    image = torch.randn(2, 1, 8, 8, device="cuda")
    for _ in range(2):
        net(image)
    first, second = net(image).sum(), net(image).sum()
    second.backward(retain_graph=True)
    for one in (first, second):
        with pytest.raises(RuntimeError, match="goes back once"):
            one.backward()


def _trained(net: UNet, images: Tensor, precision: torch.dtype | None) -> list[Tensor]:
    """Return losses, weights and running means after steps of all kinds."""
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, fused=True)
    losses = []
    for number, image in enumerate(images):
        torch.cuda.manual_seed(number)
        if number == 4:  # a small last batch, and images that are scored
            image = image[:3]
            with torch.no_grad():
                losses.append(net.eval()(image).float().mean())
            net.train()
        if number == 6:
            net.encoder[0].requires_grad_(False)
        for part in (image, image.flip(3)) if number == 7 else (image,):  # gradients added up
            with torch.autocast("cuda", precision, enabled=precision is not None):
                loss = (net(part).float() - part).square().mean()
            loss.backward()
            losses.append(loss.detach())
        optimizer.step()
        optimizer.zero_grad()
    return [*losses, *(one.detach().clone() for one in [*net.parameters(), *net.buffers()])]
