"""Muon: steps of convolutions whose directions all count alike, and AdamW for everything else."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer

# The odd polynomial of Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/: applied so
# often it brings every singular value near 1, from about 0.7 to 1.2.
_POLYNOMIAL = (3.4445, -4.7750, 2.0315)
_TIMES = 5
_FEWEST = 16  # rows and columns of a matrix; most first and last layers have fewer
_SHARE = 0.2  # root mean square of a step of AdamW, in units of its rate, which Muon's is made like


class Muon(Optimizer):
    """Momentum, made orthogonal for weights that are matrices; AdamW for the others.

    A convolution of O times I kernels is taken for a matrix of O rows. Its step is ``U V^T`` of the
    momentum's singular value decomposition ``U S V^T``: directions that gradients show seldom are
    followed as far as the others (Jordan et al., 2024). It is scaled to be as long as a step of
    AdamW, so that both share one rate (Liu et al., "Muon is scalable for LLM training", 2025).
    Norms, biases, and weights of fewer than 16 rows or columns, as first and last layers are, take
    the step of AdamW (Loshchilov & Hutter, 2019).

    Args:
        params: What is trained.
        lr: The learning rate.
        momentum: How much of the last steps' gradients a matrix keeps.
        weight_decay: What is taken off each weight in a step, in units of ``lr``.
        betas: The two averages of AdamW.
        eps: Added to its divisor.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: Annotated[float, Field(ge=0)] = 3e-3,
        momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95,
        weight_decay: Annotated[float, Field(ge=0)] = 0.01,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: Annotated[float, Field(gt=0)] = 1e-8,
    ) -> None:
        settings = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, {**settings, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change all parameters that have a gradient; return what the closure returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    follow = self._follow_matrix if is_matrix(weight) else self._follow_adam
                    follow(weight, weight.grad, group)
        return loss

    def _follow_matrix(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, momentum = self.state[weight], group["momentum"]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].mul_(momentum).add_(gradient)
        ahead = torch.add(gradient, state["momentum"], alpha=momentum)  # as Nesterov's
        matrix = ahead.flatten(1)
        length = _SHARE * max(matrix.shape) ** 0.5
        weight.add_(orthogonal(matrix).view(ahead.shape), alpha=-group["lr"] * length)

    def _follow_adam(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, (first, second) = self.state[weight], group["betas"]
        if not state:
            state["step"] = 0
            state["mean"], state["square"] = torch.zeros_like(weight), torch.zeros_like(weight)
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].lerp_(gradient.square(), 1 - second)
        mean = state["mean"] / (1 - first ** state["step"])
        square = state["square"] / (1 - second ** state["step"])
        weight.addcdiv_(mean, square.sqrt().add_(group["eps"]), value=-group["lr"])


def is_matrix(weight: Tensor) -> bool:
    """Tell whether a weight takes orthogonal steps."""
    return weight.ndim > 1 and min(len(weight), weight[0].numel()) >= _FEWEST


def orthogonal(matrix: Tensor) -> Tensor:
    """Return about ``U V^T`` of a matrix ``U S V^T``, float32 of its shape.

    The polynomial is applied to the product of the matrix with itself, whose side is the shorter
    one, and to the matrix once, at the end: the same numbers from a third of the operations.
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
