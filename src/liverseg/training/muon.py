"""Muon: steps of convolutions whose directions all count alike, and AdamW for everything else."""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW
from torch.optim.adamw import adamw

# The odd polynomial of Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/: applied so
# often it brings every singular value near 1, from about 0.7 to 1.2.
_POLYNOMIAL = (3.4445, -4.7750, 2.0315)
_TIMES = 5
_SMALLEST = 16  # shorter side of a matrix; that of most first and last layers is less
_LENGTH = 0.2  # root mean square of a step in units of the rate, about that of AdamW's


class Muon(AdamW):
    """Momentum, made orthogonal for weights that are matrices; AdamW for the others.

    A convolution of O times I kernels is taken for a matrix of O rows. Its step is ``U V^T`` of the
    momentum's singular value decomposition ``U S V^T``: directions that gradients show seldom are
    followed as far as the others (Jordan et al., 2024). It is scaled to be as long as a step of
    AdamW, so that both share one rate (Liu et al., "Muon is scalable for LLM training", 2025).
    A matrix of more rows than ``block`` is made orthogonal block by block: the products that it
    takes grow with the square of the rows, and more. AdamW changes norms, biases, and matrices
    whose shorter side is below 16, as that of first and last layers is, or above ``largest_side``.

    Args:
        params: What is trained.
        lr: The learning rate.
        momentum: How much of the last steps' gradients a matrix keeps.
        largest_side: The longest shorter side, in rows or columns, of a matrix that is made
            orthogonal.
        block: The most rows, or columns of a matrix that is higher than wide, that are made
            orthogonal together.
        weight_decay: What is taken off each weight in a step, in units of ``lr``.
        betas: The two averages of AdamW.
        eps: Added to its divisor.
        fused: Whether AdamW changes all its weights in one pass.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: Annotated[float, Field(ge=0)] = 3e-3,
        momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95,
        largest_side: Annotated[int, Field(ge=0)] = 256,
        block: Annotated[int, Field(ge=1)] = 64,
        weight_decay: Annotated[float, Field(ge=0)] = 0.01,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: Annotated[float, Field(gt=0)] = 1e-8,
        fused: bool = True,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, fused=fused)
        self._step_supports_amp_scaling = False  # a scaler unscales them first
        for group in self.param_groups:
            group.setdefault("momentum", momentum)
            group.setdefault("largest_side", largest_side)
            group.setdefault("block", block)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what a state holds; those of earlier releases had no blocks."""
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("block", max(1, group["largest_side"]))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change all parameters that have a gradient; return what the closure returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            matrices: list[Tensor] = []
            others: list[Tensor] = []
            for weight in group["params"]:
                if weight.grad is not None:
                    kind = matrices if is_matrix(weight, group["largest_side"]) else others
                    kind.append(weight)
            if matrices:
                self._follow(matrices, group)
            if others:
                self._adapt(others, group)
        return loss

    def _follow(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        """Take orthogonal steps of matrices of a group, all at once."""
        momentum = group["momentum"]
        momenta = []
        for weight in weights:
            state = self.state[weight]
            if not state:
                state["step"] = torch.zeros(())  # AdamW looks for one in each state that is loaded
                state["momentum"] = torch.zeros_like(weight)
            state["step"] += 1
            momenta.append(state["momentum"])
        gradients = _gradients(weights)
        torch._foreach_mul_(momenta, momentum)
        torch._foreach_add_(momenta, gradients)
        ahead = torch._foreach_add(gradients, momenta, alpha=momentum)  # as Nesterov's
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        steps = orthogonal([one.flatten(1) for one in _in_order(ahead)], group["block"])
        for weight, step in zip(_in_order(weights), steps, strict=True):
            # Entries of an orthogonal matrix are 1 / sqrt of its longer side, in the mean.
            length = _LENGTH * max(step.shape) ** 0.5
            weight.add_(step.view(weight.shape), alpha=-group["lr"] * length)

    def _adapt(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        """Take AdamW's steps of weights of a group."""
        states = [self.state[weight] for weight in weights]
        for weight, state in zip(weights, states, strict=True):
            if not state:
                state["step"] = torch.zeros((), device=weight.device if group["fused"] else "cpu")
                state["exp_avg"] = torch.zeros_like(weight)
                state["exp_avg_sq"] = torch.zeros_like(weight)
        beta1, beta2 = group["betas"]
        adamw(
            _in_order(weights),
            _in_order(_gradients(weights)),
            _in_order([state["exp_avg"] for state in states]),
            _in_order([state["exp_avg_sq"] for state in states]),
            max_exp_avg_sqs=[],
            state_steps=[state["step"] for state in states],
            fused=group["fused"],
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def _gradients(weights: Sequence[Tensor]) -> list[Tensor]:
    return [weight.grad for weight in weights if weight.grad is not None]


def _in_order(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return tensors as they lie in memory: those of channels last in (out, h, w, in).

    Columns of a matrix may come in any order. AdamW on a CPU would copy what it takes for out of
    order.
    """
    return [
        one.movedim(1, -1) if one.is_contiguous(memory_format=torch.channels_last) else one
        for one in tensors
    ]


def is_matrix(weight: Tensor, largest_side: int) -> bool:
    """Tell whether a weight takes orthogonal steps."""
    if weight.ndim < 2:
        return False
    return _SMALLEST <= min(len(weight), weight[0].numel()) <= largest_side


def orthogonal(matrices: Sequence[Tensor], block: int) -> list[Tensor]:
    """Return about ``U V^T`` of each block ``U S V^T`` of each matrix, float32 of its shape.

    A block has ``block`` rows at most, or columns of a matrix that is higher than wide. The
    polynomial is applied to the product of a block with itself, whose side is the shorter one, and
    to the block once, at the end: the same numbers, and for the long matrices of convolutions from
    fewer operations. Products of one side are computed together, in fewer kernels of a GPU. It
    takes float32: a square in bfloat16 has lost the directions whose singular values are small.
    """
    blocks = [_in_blocks(_wide(one.float()), block) for one in matrices]
    squares = [one @ one.mT for one in blocks]
    for side in {one.shape[1] for one in blocks}:
        places = [place for place, one in enumerate(blocks) if one.shape[1] == side]
        square = torch.cat([squares[place] for place in places])
        # The trace is the sum of all squared singular values: divided by it, none is above 1.
        size = square.diagonal(dim1=1, dim2=2).sum(dim=1).clamp(min=1e-14)[:, None, None]
        factors = (_factors(square / size) / size.sqrt()).split([len(blocks[i]) for i in places])
        for place, factor in zip(places, factors, strict=True):
            blocks[place] = factor @ blocks[place]
    found = [
        one.flatten(0, 1)[: min(matrix.shape)] for one, matrix in zip(blocks, matrices, strict=True)
    ]
    return [
        one if one.shape == matrix.shape else one.T
        for one, matrix in zip(found, matrices, strict=True)
    ]


def _wide(matrix: Tensor) -> Tensor:
    return matrix if len(matrix) <= matrix.shape[1] else matrix.T


def _in_blocks(matrix: Tensor, most: int) -> Tensor:
    """Return a matrix in blocks of as many rows, (N, rows, columns), the last filled with 0."""
    count = -(-len(matrix) // most)
    rows = -(-len(matrix) // count)
    if missing := count * rows - len(matrix):
        matrix = functional.pad(matrix, (0, 0, 0, missing))
    return matrix.reshape(count, rows, -1)


def _factors(square: Tensor) -> Tensor:
    """Return what makes matrices orthogonal, (N, side, side), from their squares."""
    a, b, c = _POLYNOMIAL
    whole: Tensor | None = None
    for time in range(_TIMES):
        factor = torch.baddbmm(square, square, square, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        whole = factor if whole is None else factor @ whole
        if time < _TIMES - 1:
            square = factor @ square @ factor
    assert whole is not None
    return whole
