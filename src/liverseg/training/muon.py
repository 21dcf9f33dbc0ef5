"""Muon: steps of convolutions whose directions all count alike, and AdamW for everything else."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import AdamW

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
    AdamW changes norms, biases, and matrices whose shorter side is below 16, as that of first and
    last layers is, or above ``largest_side``: what it takes to make them orthogonal grows with its
    third power.

    Args:
        params: What is trained.
        lr: The learning rate.
        momentum: How much of the last steps' gradients a matrix keeps.
        largest_side: The longest shorter side, in rows or columns, of a matrix that is made
            orthogonal.
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
        weight_decay: Annotated[float, Field(ge=0)] = 0.01,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: Annotated[float, Field(gt=0)] = 1e-8,
        fused: bool = True,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, fused=fused)
        for group in self.param_groups:
            group.setdefault("momentum", momentum)
            group.setdefault("largest_side", largest_side)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change all parameters that have a gradient; return what the closure returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        gradients = {}
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None and is_matrix(weight, group["largest_side"]):
                    self._follow(weight, weight.grad, group)
                    gradients[weight], weight.grad = weight.grad, None  # none is left to AdamW
        super().step()
        for weight, gradient in gradients.items():
            weight.grad = gradient
        return loss

    def _follow(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, momentum = self.state[weight], group["momentum"]
        if not state:
            state["step"] = torch.zeros(())  # AdamW looks for one in each state that is loaded
            state["momentum"] = torch.zeros_like(weight)
        state["step"] += 1
        state["momentum"].mul_(momentum).add_(gradient)
        ahead = torch.add(gradient, state["momentum"], alpha=momentum)  # as Nesterov's
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        if ahead.is_contiguous(memory_format=torch.channels_last):  # the order of columns is free
            weight, ahead = weight.movedim(1, -1), ahead.movedim(1, -1)
        matrix = ahead.flatten(1)
        length = _LENGTH * max(matrix.shape) ** 0.5  # an orthogonal one's is 1 / sqrt of that side
        weight.add_(orthogonal(matrix).view(ahead.shape), alpha=-group["lr"] * length)


def is_matrix(weight: Tensor, largest_side: int) -> bool:
    """Tell whether a weight takes orthogonal steps."""
    if weight.ndim < 2:
        return False
    return _SMALLEST <= min(len(weight), weight[0].numel()) <= largest_side


def orthogonal(matrix: Tensor) -> Tensor:
    """Return about ``U V^T`` of a matrix ``U S V^T``, float32 of its shape.

    The polynomial is applied to the product of the matrix with itself, whose side is the shorter
    one, and to the matrix once, at the end: the same numbers, and for the long matrices of
    convolutions from fewer operations. It takes float32: a square in bfloat16 has lost the
    directions whose singular values are small.
    """
    if len(matrix) > matrix.shape[1]:
        return orthogonal(matrix.T).T
    matrix = matrix.float()
    matrix = matrix / matrix.norm().clamp(min=1e-7)
    square = matrix @ matrix.T
    whole: Tensor | None = None
    a, b, c = _POLYNOMIAL
    for time in range(_TIMES):
        factor = torch.addmm(b * square, square, square, alpha=c)
        factor.diagonal().add_(a)
        whole = factor if whole is None else factor @ whole
        if time < _TIMES - 1:
            square = factor @ square @ factor
    assert whole is not None
    return whole @ matrix
