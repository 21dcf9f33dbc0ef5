import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from liverseg.training import Muon
from liverseg.training.continuing import lay_out
from liverseg.training.muon import is_matrix, orthogonal


def by_singular_values(matrix: torch.Tensor) -> torch.Tensor:
    """Apply the polynomial of Jordan et al. to singular values, one by one, in float64."""
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    values = values / values.square().sum().sqrt()
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return left @ values.diag() @ right


@pytest.mark.parametrize("shape", [(16, 144), (64, 16), (24, 24)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape) @ torch.logspace(0, -2, shape[1]).diag()
    (found,) = orthogonal([matrix], block=24)
    assert torch.allclose(found.double(), by_singular_values(matrix), atol=1e-3)
    values = torch.linalg.svdvals(orthogonal([torch.randn(16, 144)], block=24)[0])
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_matrices_of_several_sides_at_once_are_each_what_they_are_alone() -> None:
    torch.manual_seed(0)
    shapes = [(16, 144), (64, 16), (24, 24), (16, 40), (24, 90)]
    matrices = [torch.randn(shape) for shape in shapes]
    for matrix, found in zip(matrices, orthogonal(matrices, block=24), strict=True):
        assert torch.allclose(found.double(), by_singular_values(matrix), atol=1e-3)


@pytest.mark.parametrize(
    ("side", "block", "rows"), [(32, 16, [16, 16]), (40, 16, [14, 14, 12]), (33, 32, [17, 16])]
)
def test_a_long_matrix_is_made_orthogonal_block_by_block(
    side: int, block: int, rows: list[int]
) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(side, 90)
    expected = torch.cat([by_singular_values(one) for one in matrix.split(rows)])
    wide, high = orthogonal([matrix, matrix.T], block)
    assert torch.allclose(wide.double(), expected, atol=1e-3)
    assert torch.allclose(high.T.double(), expected, atol=1e-3)


def test_a_state_of_a_release_without_blocks_goes_on_with_whole_matrices() -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(32, 40))
    optimizer = Muon([weight], block=16)
    state = optimizer.state_dict()
    del state["param_groups"][0]["block"]
    optimizer.load_state_dict(state)
    before, weight.grad = weight.detach().clone(), torch.randn(32, 40)
    optimizer.step()
    whole = by_singular_values(1.95 * weight.grad)
    step = before * (1 - 3e-5) - 3e-3 * 0.2 * 40**0.5 * whole
    assert torch.allclose(weight.double(), step, atol=1e-5)


def test_a_matrix_without_gradient_stays_finite() -> None:
    assert torch.equal(orthogonal([torch.zeros(16, 16)], 64)[0], torch.zeros(16, 16))


def test_a_step_of_a_convolution_is_as_long_as_one_of_adamw() -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(16, 4, 3, 3))
    before, gradient = weight.detach().clone(), torch.randn(16, 4, 3, 3)
    weight.grad = gradient
    Muon([weight], lr=0.1, momentum=0.9, weight_decay=0.5).step()
    ahead = (1.9 * gradient).reshape(16, 36)  # the gradient and 0.9 of a momentum that is equal
    step = 0.2 * 36**0.5 * by_singular_values(ahead).reshape(16, 4, 3, 3)
    assert torch.allclose(weight.double(), before * 0.95 - 0.1 * step, atol=1e-4)
    assert 0.1 < step.square().mean().sqrt() < 0.3  # AdamW's is 0.2 in the mean of a training


def test_a_step_is_the_same_however_a_weight_lies_in_memory() -> None:
    torch.manual_seed(0)
    value, gradients = torch.randn(16, 8, 3, 2), torch.randn(3, 16, 8, 3, 2)
    weights = []
    for layout in (torch.contiguous_format, torch.channels_last):
        weight = nn.Parameter(value.clone(memory_format=layout))
        optimizer = Muon([weight], lr=0.1)
        for gradient in gradients:
            weight.grad = gradient.clone(memory_format=layout)
            optimizer.step()
        weights.append(weight.detach())
    assert weights[1].is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(*weights, atol=1e-5)
    assert not torch.allclose(weights[0], value, atol=1e-2)


def test_what_is_no_matrix_is_left_to_adamw() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 1, 1), nn.Conv2d(257, 257, 1))
    )
    assert not any(is_matrix(one, 256) for one in net.parameters())
    other = copy.deepcopy(net)
    ours = Muon(net.parameters(), lr=1e-2, weight_decay=0.1)
    theirs = torch.optim.AdamW(other.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        for one, another in zip(net.parameters(), other.parameters(), strict=True):
            one.grad = another.grad = torch.randn_like(one)
        ours.step(), theirs.step()
    for one, another in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.allclose(one, another, atol=1e-6)


def test_it_goes_on_from_its_state() -> None:
    torch.manual_seed(0)
    net = nn.Conv2d(16, 16, 3)
    for one in net.parameters():
        one.grad = torch.randn_like(one)
    optimizer = Muon(net.parameters())
    optimizer.step()
    other = copy.deepcopy(net)
    for one, another in zip(net.parameters(), other.parameters(), strict=True):
        another.grad = one.grad
    again = Muon(other.parameters())
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    optimizer.step(), again.step()
    assert torch.equal(net.weight, other.weight)
    assert torch.equal(net.bias, other.bias)


def test_gradients_are_left_as_they_were() -> None:
    net = nn.Conv2d(16, 16, 3)
    kept = {}
    for one in net.parameters():
        one.grad = kept[one] = torch.ones_like(one)
    Muon(net.parameters()).step()
    assert all(one.grad is kept[one] for one in net.parameters())


def test_parameters_without_gradient_stay() -> None:
    weight = nn.Parameter(torch.ones(16, 16))
    assert Muon([weight]).step(lambda: 3) == 3
    assert torch.equal(weight, torch.ones(16, 16))


def test_a_gradient_scaler_changes_no_step() -> None:
    torch.manual_seed(0)
    net, image = nn.Conv2d(16, 16, 3), torch.randn(2, 16, 5, 5)
    other = copy.deepcopy(net)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = Muon(net.parameters(), eps=1e-3)  # so that AdamW's steps depend on the scale
    scaler.scale(net(image).square().mean()).backward()
    scaler.step(optimizer)
    other(image).square().mean().backward()
    Muon(other.parameters(), eps=1e-3).step()
    for one, another in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.allclose(one, another, atol=1e-6)


@pytest.mark.parametrize(
    "optimizer", [Muon, partial(Muon, largest_side=1), partial(AdamW, fused=True)]
)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_what_was_kept_on_another_kind_of_processor_counts_alike(
    optimizer: Callable[..., Optimizer], order: tuple[int, int]
) -> None:
    """Weights and momenta lie in one order in memory there and in another one here."""
    layouts = (torch.contiguous_format, torch.channels_last)
    there, here = (layouts[one] for one in order)
    first, *gradients = torch.randn(4, 8, 4, 3, 3, generator=torch.Generator().manual_seed(0))

    def step(weight: nn.Parameter, by: Optimizer, gradient: Tensor, layout: Any) -> None:
        weight.grad = gradient.contiguous(memory_format=layout)
        by.step()

    whole = nn.Parameter(first.contiguous(memory_format=there))
    by = optimizer([whole])
    for gradient in gradients[:2]:
        step(whole, by, gradient, there)
    saved = {"optimizer_states": [copy.deepcopy(by.state_dict())]}
    lay_out(saved, here)
    resumed = nn.Parameter(whole.detach().contiguous(memory_format=here))
    again = optimizer([resumed])
    again.load_state_dict(saved["optimizer_states"][0])
    step(whole, by, gradients[2], there)
    step(resumed, again, gradients[2], here)
    assert resumed.is_contiguous(memory_format=here)
    torch.testing.assert_close(resumed, whole, rtol=1e-5, atol=1e-6)
