"""Muon: steps of convolutions whose directions all count alike, and AdamW for everything else."""

from collections.abc import Callable, Iterable, Sequence
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
        gradients: dict[Tensor, Tensor] = {}
        for group in self.param_groups:
            followed = {
                weight: weight.grad
                for weight in group["params"]
                if weight.grad is not None and is_matrix(weight, group["largest_side"])
            }
            if followed:
                self._follow(followed, group)
            gradients |= followed
        for weight in gradients:
            weight.grad = None  # none is left to AdamW
        super().step()
        for weight, gradient in gradients.items():
            weight.grad = gradient
        return loss

    def _follow(self, followed: dict[Tensor, Tensor], group: dict[str, Any]) -> None:
        """Change the weights of a group, given with their gradients, all at once."""
        momentum = group["momentum"]
        weights, gradients = [*followed], [*followed.values()]
        momenta = []
        for weight in weights:
            state = self.state[weight]
            if not state:
                state["step"] = torch.zeros(())  # AdamW looks for one in each state that is loaded
                state["momentum"] = torch.zeros_like(weight)
            state["step"] += 1
            momenta.append(state["momentum"])
        torch._foreach_mul_(momenta, momentum)
        torch._foreach_add_(momenta, gradients)
        ahead = list(torch._foreach_add(gradients, momenta, alpha=momentum))  # as Nesterov's
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        for place, one in enumerate(ahead):
            if one.is_contiguous(memory_format=torch.channels_last):  # the order of columns is free
                weights[place], ahead[place] = weights[place].movedim(1, -1), one.movedim(1, -1)
        steps = orthogonal([one.flatten(1) for one in ahead])
        for weight, step in zip(weights, steps, strict=True):
            # Entries of an orthogonal matrix are 1 / sqrt of its longer side, in the mean.
            length = _LENGTH * max(step.shape) ** 0.5
            weight.add_(step.view(weight.shape), alpha=-group["lr"] * length)


def is_matrix(weight: Tensor, largest_side: int) -> bool:
    """Tell whether a weight takes orthogonal steps."""
    if weight.ndim < 2:
        return False
    return _SMALLEST <= min(len(weight), weight[0].numel()) <= largest_side


def orthogonal(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Return about ``U V^T`` of each matrix ``U S V^T``, float32 of its shape.

    The polynomial is applied to the product of a matrix with itself, whose side is the shorter one,
    and to the matrix once, at the end: the same numbers, and for the long matrices of convolutions
    from fewer operations. Products of one side are computed together, in fewer kernels of a GPU. It
    takes float32: a square in bfloat16 has lost the directions whose singular values are small.
    """
    wide = [one.float() if len(one) <= one.shape[1] else one.float().T for one in matrices]
    sizes = torch._foreach_norm(wide)
    wide = list(torch._foreach_div(wide, [size.clamp(min=1e-7) for size in sizes]))
    found = list(wide)
    for side in {len(one) for one in wide}:
        places = [place for place, one in enumerate(wide) if len(one) == side]
        factors = _factors(torch.stack([wide[place] @ wide[place].T for place in places]))
        for place, factor in zip(places, factors, strict=True):
            found[place] = factor @ wide[place]
    return [
        one if one.shape == matrix.shape else one.T
        for one, matrix in zip(found, matrices, strict=True)
    ]


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
