"""Networks of other libraries: any size in, logits of that size out, and rebuilt without them."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from liverseg.checkpoints import build, load_checkpoint, load_task
from liverseg.experiment import train
from liverseg.network import MonaiDynUNet, SmpUNet, TorchvisionDeepLabV3, inner_network
from liverseg.training import Freezing, start_from, with_rates

HAS_SMP = importlib.util.find_spec("segmentation_models_pytorch") is not None
NEEDS_SMP = pytest.mark.skipif(not HAS_SMP, reason="needs segmentation-models-pytorch")
SMALL: list[Any] = [
    pytest.param(SmpUNet, {"encoder": "resnet18"}, marks=NEEDS_SMP, id="smp"),
    pytest.param(SmpUNet, {"encoder": "mobilenet_v2"}, marks=NEEDS_SMP, id="smp mobile"),
    pytest.param(MonaiDynUNet, {"depth": 3, "width": 4}, id="monai"),
    pytest.param(MonaiDynUNet, {"depth": 2, "width": 4, "residual": True}, id="monai residual"),
    pytest.param(TorchvisionDeepLabV3, {"backbone": "mobilenet_v3_large"}, id="torchvision"),
]
CHOICES = [
    pytest.param(
        ["model=smp_unet", "model.encoder=resnet18"], "encoder", marks=NEEDS_SMP, id="smp"
    ),
    pytest.param(
        ["model=monai_dynunet", "model.depth=2", "model.width=4"], "downsamples", id="monai"
    ),
    pytest.param(
        ["model=torchvision_deeplabv3", "model.backbone=mobilenet_v3_large"],
        "backbone",
        id="torchvision",
    ),
]


@pytest.mark.parametrize(("network", "settings"), SMALL)
@pytest.mark.parametrize(("channels", "num_classes"), [(1, 1), (3, 4), (2, 2)])
def test_logits_have_the_size_of_the_image(
    network: Any, settings: dict[str, Any], channels: int, num_classes: int
) -> None:
    net = network(in_channels=channels, num_classes=num_classes, **settings)
    for training in (True, False):
        net.train(training)
        for size in ((32, 32), (1, 1), (33, 47), (7, 80)):
            with torch.no_grad():
                logits = net(torch.rand(1, channels, *size))
            assert logits.shape == (1, num_classes, *size)
            assert logits.isfinite().all()
    with pytest.raises(ValueError, match=f"the network takes {channels} channels, the image has 5"):
        net(torch.rand(1, 5, 32, 32))


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "part"), CHOICES)
def test_a_run_trains_and_its_file_alone_rebuilds_the_network(
    settings: list[str], part: str, compose: Callable[..., DictConfig], tmp_path: Path
) -> None:
    config = compose([*settings, "data.batch_size=5", f"freeze=[{part}]"])  # and one is left over
    scores = train(config)
    file = tmp_path / "run" / "checkpoints" / "best.ckpt"
    task = load_task(load_checkpoint(file))
    assert task(torch.rand(1, 1, 33, 47)).shape == (1, 1, 33, 47)
    state = load_checkpoint(file)["state_dict"]
    assert all(
        torch.equal(state[f"net.{name}"], value) for name, value in task.net.state_dict().items()
    )
    assert 0 <= scores["val/dice"] <= 1


@pytest.mark.parametrize(("network", "settings"), SMALL)
def test_parts_and_weights_are_called_as_the_library_calls_them(
    network: Any, settings: dict[str, Any]
) -> None:
    net = network(in_channels=1, num_classes=1, **settings)
    state = {name: torch.zeros_like(one) for name, one in inner_network(net).state_dict().items()}
    assert start_from(net, state) == [f"{len(state)} of {len(state)} weights taken"]
    assert all(not value.any() for value in net.state_dict().values())
    part = next(name for name, _ in inner_network(net).named_children())
    assert "frozen" in str(Freezing(net, [part]))
    optimizer = with_rates(lambda groups: torch.optim.SGD(groups, lr=0.5), net, {part: 0.1})
    assert [group["lr"] for group in optimizer(net.parameters()).param_groups] == [0.5, 0.05]


def test_weights_are_not_fetched_when_a_checkpoint_is_rebuilt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fetched(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetched)
    node = {"in_channels": 1, "num_classes": 1, "pretrained": True}
    deeplab = {"_target_": "liverseg.network.TorchvisionDeepLabV3", **node}
    build({**deeplab, "backbone": "mobilenet_v3_large"})
    with pytest.raises(
        ValueError, match=r"^model\.backbone=resnet50 cannot be built \(no network\)"
    ):
        TorchvisionDeepLabV3(1, 1, pretrained=True)
    if HAS_SMP:
        build({"_target_": "liverseg.network.SmpUNet", **node, "encoder": "resnet18"})


@pytest.mark.skipif(HAS_SMP, reason="segmentation-models-pytorch is installed")
def test_a_missing_library_is_named_with_how_it_comes() -> None:
    with pytest.raises(ValueError, match=r"needs segmentation-models-pytorch, which is not insta"):
        SmpUNet(1, 1)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: MonaiDynUNet(1, 1, depth=1), r"^model\.depth=1 must lie in 2 \.\.\. 9$"),
        (lambda: MonaiDynUNet(1, 1, width=0), r"^model\.width=0 must lie in 1 \.\.\. 512$"),
        (
            lambda: TorchvisionDeepLabV3(1, 1, "vgg"),
            r"^model\.backbone=vgg must be one of resnet50",
        ),
        pytest.param(
            lambda: SmpUNet(1, 1, "resnet3"),
            r"^model\.encoder=resnet3 cannot be built \(.*\); choose another one$",
            marks=NEEDS_SMP,
        ),
        pytest.param(
            lambda: SmpUNet(1, 1, "tu-hf-hub:timm/resnet18"),
            r"^model\.encoder=tu-hf-hub:timm/resnet18 must be the name of an encoder",
            marks=NEEDS_SMP,
        ),
    ],
)
def test_an_argument_out_of_range_is_refused(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()


def test_the_first_convolution_keeps_what_it_gives_for_grey() -> None:
    torch.manual_seed(0)
    colour = TorchvisionDeepLabV3(3, 1, "mobilenet_v3_large")
    torch.manual_seed(0)
    grey = TorchvisionDeepLabV3(1, 1, "mobilenet_v3_large")
    one, three = (
        next(layer for layer in net.modules() if isinstance(layer, torch.nn.Conv2d))
        for net in (grey, colour)
    )
    image = torch.rand(1, 1, 8, 8)
    assert torch.allclose(one(image), three(image.expand(1, 3, 8, 8)), atol=1e-6)
