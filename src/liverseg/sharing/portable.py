"""Operations that a runtime gets wrong, written as others that each of them gets right."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class Portable(TorchFunctionMode):
    """What is called within this context is traced as plain operations, with the same result.

    - Averages over planes (instance norm, group norm, pooling to one value, ``mean``). ONNX Runtime
      adds up all pixels of a plane one after another, which loses three of the seven digits of
      float32 at 256 x 256; a mean of the means of rows keeps them.
    - Resizing with antialias. Not every runtime knows the antialias of ONNX's Resize, and some
      leave it out without a word.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        portable = _PORTABLE.get(func)
        given = None if portable is None else portable(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {})) if given is None else given


def mean(values: Tensor, axes: Iterable[int], *, keepdim: bool = True) -> Tensor:
    """Return the mean over some axes, the last one first."""
    for axis in sorted((one % values.ndim for one in axes), reverse=True):
        values = values.mean(axis, keepdim=keepdim)
    return values


def by_products(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize as ``interpolate(mode="bilinear", antialias=True)`` does, by two matrix products."""
    rows, columns = (
        _triangles(side, wanted, image.device)
        for side, wanted in zip(image.shape[-2:], size, strict=True)
    )
    return rows @ image @ columns.T


def _triangles(side: int, wanted: int, device: torch.device) -> Tensor:
    """Return how much each of ``side`` pixels gives to each of ``wanted``, (wanted, side).

    A triangle around the middle of a new pixel, as wide as it, or as an old one where that is
    larger: https://pillow.readthedocs.io/en/stable/handbook/concepts.html#filters
    """
    ratio = torch.full((), side, dtype=torch.float32, device=device) / wanted
    middles = (torch.arange(wanted, device=device) + 0.5) * ratio
    places = torch.arange(side, device=device) + 0.5
    distances = (places - middles[:, None]).abs() / ratio.clamp(min=1)
    weights = (1 - distances).clamp(min=0)
    return weights / weights.sum(dim=1, keepdim=True)


# Each takes what its namesake takes, and returns None where that may stay.


def _mean(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor | None:
    if dim is None or isinstance(dim, int) or dtype is not None:
        return None
    return mean(input, dim, keepdim=keepdim)


def _adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor | None:
    return mean(input, (-2, -1)) if output_size in (1, (1, 1), [1, 1]) else None


def _instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    if not use_input_stats:
        return None
    return _scaled(_normalized(input, range(2, input.ndim), eps), weight, bias)


def _group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    groups = input.unflatten(1, (num_groups, -1))
    return _scaled(_normalized(groups, range(2, groups.ndim), eps).flatten(1, 2), weight, bias)


def _interpolate(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor | None:
    if size is None or mode != "bilinear" or align_corners or not antialias:
        return None
    return by_products(input, tuple(size))


def _normalized(values: Tensor, axes: Iterable[int], eps: float) -> Tensor:
    axes = tuple(axes)
    apart = values - mean(values, axes)
    return apart / (mean(apart * apart, axes) + eps).sqrt()


def _scaled(image: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    shape = (1, -1, *[1] * (image.ndim - 2))
    if weight is not None:
        image = image * weight.view(shape)
    return image if bias is None else image + bias.view(shape)


_PORTABLE: dict[Callable[..., Any], Callable[..., Tensor | None]] = {
    functional.instance_norm: _instance_norm,
    functional.group_norm: _group_norm,
    functional.adaptive_avg_pool2d: _adaptive_avg_pool2d,
    functional.interpolate: _interpolate,
    Tensor.mean: _mean,
    torch.mean: _mean,
}
