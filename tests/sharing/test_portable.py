"""Operations as plain ones: what they give is what torch gives, in torch and in a runtime."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from liverseg.sharing.portable import Portable, by_products, mean


def _with_statistics() -> nn.Module:
    """An instance norm that has seen other images, whose moments it uses."""
    norm = nn.InstanceNorm2d(6, affine=True, track_running_stats=True)
    norm(3 + 2 * torch.rand(4, 6, 5, 7))
    return norm.eval()


OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "instance norm": nn.InstanceNorm2d(6),
    "affine instance norm": nn.InstanceNorm2d(6, eps=0.1, affine=True),
    "instance norm of statistics": _with_statistics(),
    "group norm": nn.GroupNorm(3, 6),
    "group norm, not affine": nn.GroupNorm(2, 6, eps=0.1, affine=False),
    "pooling to one": nn.AdaptiveAvgPool2d(1),
    "pooling to a row": nn.AdaptiveAvgPool2d((1, 3)),
    "mean over two axes": lambda image: image.mean((2, 3)),
    "mean over two axes, kept": lambda image: torch.mean(image, dim=(-1, 1), keepdim=True),
    "mean over one": lambda image: image.mean(1),
    "mean over all": lambda image: image.mean(),
    "enlarged": lambda image: functional.interpolate(image, scale_factor=2.0, mode="bilinear"),
    "resized": lambda image: functional.interpolate(image, (4, 9), mode="bilinear", antialias=True),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_gives_what_it_gives_without(name: str) -> None:
    torch.manual_seed(0)
    operation = OPERATIONS[name]
    if isinstance(operation, nn.Module):
        for value in operation.parameters():
            nn.init.normal_(value)
    image = 5 + torch.randn(2, 6, 8, 11)
    with torch.no_grad():
        expected = operation(image)
        with Portable():
            given = operation(image)
    assert given.shape == expected.shape
    assert torch.allclose(given, expected, atol=3e-6)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (17, 130), (256, 40)])
@pytest.mark.parametrize("wanted", [(128, 128), (24, 40), (5, 7)])
def test_resizing_by_products_is_that_of_torch(
    size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    image = torch.rand(2, 3, *size)
    torchs = functional.interpolate(image, wanted, mode="bilinear", antialias=True)
    assert torch.allclose(by_products(image, wanted), torchs, atol=2e-6)


def test_a_mean_of_axes_in_any_order_is_that_over_them() -> None:
    values = torch.arange(24.0).view(2, 3, 4)
    assert mean(values, (-1, 0)).flatten().tolist() == [7.5, 11.5, 15.5]
    assert mean(values, [1, 2], keepdim=False).tolist() == [5.5, 17.5]


class _Averages(nn.Module):
    """Each kind of average, and a resize, after two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.Sequential(nn.InstanceNorm2d(2), nn.GroupNorm(1, 2))
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, image: Tensor) -> Tensor:
        image = self.norms(image)
        small = functional.interpolate(image, (9, 8), mode="bilinear", antialias=True)
        averages = image.abs().mean((2, 3), keepdim=True) + torch.mean(small, (2, 3), keepdim=True)
        whole: Tensor = image + self.pool(image) + averages
        return whole


@pytest.mark.slow
def test_a_runtime_keeps_the_digits_of_a_norm_over_many_pixels() -> None:
    """In ONNX's own operation the runtime is wrong by 1e-4 and more here."""
    torch.manual_seed(0)
    net = _Averages().eval()
    image = 10 + torch.randn(1, 2, 512, 512)
    options: dict[str, Any] = {"dynamo": True, "verbose": False, "opset_version": 20}
    with Portable():
        program = torch.onnx.export(net, (image,), **options)
    assert program is not None
    used = Counter(node.op_type for node in program.model_proto.graph.node)
    assert not {"InstanceNormalization", "GroupNormalization", "Resize"} & set(used)
    assert not {"GlobalAveragePool", "AveragePool"} & set(used)
    nodes = [node for node in program.model_proto.graph.node if node.op_type == "ReduceMean"]
    assert len(nodes) == 2 * 2 + 2 * 3 + 3 * 2  # of one axis each: two norms, three averages
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    (given,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    exact = net.double()(image.double()).detach()
    assert float((torch.from_numpy(given) - exact).abs().max()) < 1e-5
