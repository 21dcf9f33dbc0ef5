"""Batch norm, ReLU and pooling on a GPU, in as few passes over memory as their sums allow.

In 16 bits, a GPU computes the convolutions of a U-Net in less time than it takes to read and write
the maps between them layer by layer. A batch norm and its ReLU need eight passes over a map: three
forward (sums; then read, write) and five backward (sums over two maps; then read two, write one).
Pooling, its gradient and the gradient of the skip connection go along.

Ioffe and Szegedy, "Batch Normalization", ICML 2015 (arXiv:1502.03167), section 3, has the sums.
"""

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

_FEWEST = 2**26  # values of a map: four images of 512 x 512 at 64 channels
_ELEMENTS = 2048  # of a block, which four warps take
_PROGRAMS = 1024  # that sum at the same time
_WIDEST = 64  # channels of a block
# Attributes of a map, which a hook that returns another one in its place leaves behind.
_POOLED = "_pooled"  # what is pooled of it, and its version then
_ROOM = "_room"  # the map of twice the channels whose second half it is
_FEW = 16  # channels of a block that only adds up sums
_fewest = ContextVar("_fewest", default=_FEWEST)
logger = logging.getLogger(__name__)


def trains_faster(features: Tensor, channels: int) -> bool:
    """Return whether the functions here are known to train faster than layers one by one.

    So it is in mixed precision on a GPU for which Triton can compile, with large maps: small ones
    are computed in less time than Python takes to ask for the kernels.

    Args:
        features: A map on the device, of the height and width and in the batch that count.
        channels: Those of the map that is written.
    """
    if not features.is_cuda or not torch.is_autocast_enabled("cuda"):
        return False
    values = features.numel() // features.shape[1] * channels
    if torch.compiler.is_compiling() or values < _fewest.get():
        return False
    return _why_not(features.device) is None


@contextmanager
def fused_at_all_sizes() -> Iterator[None]:
    """Take the functions here for small maps, too, as where kernels are asked for once."""
    before = _fewest.set(0)
    try:
        yield
    finally:
        _fewest.reset(before)


@cache
def _why_not(device: torch.device) -> str | None:
    """Return why Triton cannot compile for a device, None where it can."""
    try:
        image = torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16, device=device)
        activated(image, nn.BatchNorm2d(1, device=device), image[0, 0, 0, :1].float())
    except Exception as error:  # whatever compilers and drivers raise
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        logger.info("a part of a step takes longer here, as Triton compiles nothing: %s", why)
        return why
    return None


def activated(
    features: Tensor,
    norm: nn.BatchNorm2d,
    bias: Tensor,
    *,
    is_pooled: bool = False,
    is_joined: bool = False,
) -> Tensor:
    """Return the ReLU of a batch norm in training, of shape (N, C, H, W).

    Args:
        features: What a convolution without its bias gives, shape (N, C, H, W).
        norm: Takes the mean and variance of the batch, and goes on with the running ones.
        bias: That of the convolution, shape (C,). The norm takes it off again, so that it is only
            added to the running mean; its gradient is 0.
        is_pooled: Whether :func:`pooled` takes it, which then has nothing left to do; H and W are
            even.
        is_joined: Whether :func:`joined` takes it, too, which then need not copy it.
    """
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    room = None
    if is_joined:
        batch, channels, height, width = features.shape
        room = _map(features, (batch, 2 * channels, height, width))
    found: Tensor
    found, halved = _Activated.apply(features, norm.weight, norm.bias, bias, norm, is_pooled, room)
    setattr(found, _ROOM, room)
    setattr(found, _POOLED, (halved, found._version) if is_pooled else None)
    return found


def pooled(features: Tensor) -> Tensor:
    """Return the largest of each 2 x 2 of a map (N, C, H, W): shape (N, C, H / 2, W / 2)."""
    halved, version = _taken(features, _POOLED) or (None, None)
    if halved is None or version != features._version:
        return functional.max_pool2d(features, kernel_size=2)
    found: Tensor = halved
    return found


def joined(four: Tensor, bias: Tensor, skip: Tensor) -> Tensor:
    """Return enlarged features and a skip connection as one map, shape (N, 2C, H, W).

    Args:
        four: The four pixels that each of the level below becomes, top left, top right, bottom
            left, bottom right: shape (N H / 2 W / 2, 4C).
        bias: Is added to each of them, shape (C,).
        skip: Shape (N, C, H, W). One of :func:`activated` may lie where it is needed, for the first
            that joins it.
    """
    found: Tensor = _Joined.apply(four, bias, skip, _taken(skip, _ROOM))
    return found


class _Activated(torch.autograd.Function):
    """Batch norm, ReLU and pooling."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        before: Tensor,
        norm: nn.BatchNorm2d,
        pools: bool,
        room: Tensor | None,
    ) -> Any:
        kernels = _kernels()
        x = x.contiguous(memory_format=torch.channels_last)
        batch, channels, height, width = x.shape
        count = batch * height * width
        block, wide, grid, parts = _plan(count, channels)
        partial = x.new_empty(parts, 2, channels, dtype=torch.float32)
        found = x.new_empty(2, channels, dtype=torch.float32)
        # No view of autograd, which watches over those.
        y, y_step = (torch.empty_like(x), channels) if room is None else (_half(room), 2 * channels)
        halved = _map(x, (batch, channels, height // 2, width // 2)) if pools else None
        with torch.cuda.device_of(x):  # backward, autograd sees to that
            kernels.add_up[parts, grid[1]](x, partial, count, channels, block, wide)
            kernels.find[(-(-channels // _FEW),)](
                *(x, partial, found, before, norm.running_mean, norm.running_var),
                *(parts, count, channels, norm.momentum, norm.eps, _FEW),
            )
            rows = count // 4 if pools else count
            block, wide, grid, _ = _plan(rows, channels, of_windows=pools)
            kernels.activate[grid](
                *(x, y, halved, found, weight, bias),
                *(rows, width, channels, y_step, pools, block, wide),
            )
        ctx.save_for_backward(x, weight, bias, found)
        ctx.pools = pools
        return y, halved

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dpooled: Tensor | None = None) -> Any:
        kernels, pools = _kernels(), ctx.pools
        x, weight, bias, found = ctx.saved_tensors
        batch, channels, height, width = x.shape
        dy, dy_step = _by_rows(dy)
        if dpooled is not None:
            dpooled = dpooled.contiguous(memory_format=torch.channels_last)
        count = batch * height * width
        rows = count // 4 if pools else count
        block, wide, grid, parts = _plan(rows, channels, of_windows=pools)
        partial = x.new_empty(parts, 2, channels, dtype=torch.float32)
        dweight, dbias, dbefore = x.new_zeros(3, channels, dtype=torch.float32)
        kernels.add_up_gradients[parts, grid[1]](
            *(x, dy, dpooled, partial, found, weight, bias),
            *(rows, width, channels, dy_step, pools, block, wide),
        )
        kernels.find_gradients[(-(-channels // _FEW),)](
            partial, found, dweight, dbias, parts, channels, _FEW
        )
        dx = torch.empty_like(x)
        kernels.give_back[grid](
            *(x, dy, dpooled, dx, dweight, dbias, found, weight, bias),
            *(rows, count, width, channels, dy_step, pools, block, wide),
        )
        return dx, dweight, dbias, dbefore, None, None, None


class _Joined(torch.autograd.Function):
    """Enlarged features and a skip connection in one map, and their gradients."""

    @staticmethod
    def forward(ctx: Any, four: Tensor, bias: Tensor, skip: Tensor, room: Tensor | None) -> Tensor:
        batch, channels, height, width = skip.shape
        if room is None:
            room = _map(skip, (batch, 2 * channels, height, width))
            room[:, channels:] = skip
        cells = batch * height * width // 4
        block, wide, grid, _ = _plan(cells, channels, of_windows=True)
        with torch.cuda.device_of(four):
            _kernels().join[grid](
                four.contiguous(), bias, room, cells, width, channels, block, wide
            )
        return room

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        batch, both, height, width = gradient.shape
        channels, cells = both // 2, batch * height * width // 4
        block, wide, grid, parts = _plan(cells, channels, of_windows=True)
        four = gradient.new_empty(cells, 4 * channels)
        partial = gradient.new_empty(parts, channels, dtype=torch.float32)
        _kernels().part[parts, grid[1]](
            gradient, four, partial, cells, width, channels, block, wide
        )
        return four, partial.sum(dim=0), gradient[:, channels:], None


@cache
def _kernels() -> Any:
    # Only where they are called: Triton takes its time to load, and is missing on some systems.
    return importlib.import_module("liverseg.network.kernels")


def _taken(features: Tensor, name: str) -> Any:
    """Return an attribute of a map, None if it has none, which it no longer has then."""
    found = getattr(features, name, None)
    if found is not None:
        delattr(features, name)
    return found


def _plan(
    rows: int, channels: int, *, of_windows: bool = False
) -> tuple[int, int, tuple[int, int], int]:
    """Return rows and channels of a block, powers of 2, the blocks, and how many of them add up.

    A row is a pixel, or a window of four.
    """
    wide = min(_WIDEST, 1 << (channels - 1).bit_length())
    block = _ELEMENTS // wide // (4 if of_windows else 1)
    grid = -(-rows // block), -(-channels // wide)
    return block, wide, grid, min(grid[0], -(-_PROGRAMS // grid[1]))


def _map(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a map that nothing is written to yet, channels last."""
    return torch.empty(
        shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last
    )


def _half(room: Tensor) -> Tensor:
    """Return the second half of the channels of a map, as a tensor of the same memory."""
    channels = room.shape[1] // 2
    shape = (len(room), channels, *room.shape[2:])
    return room.new_empty(0).set_(room.untyped_storage(), channels, shape, room.stride())


def _by_rows(features: Tensor) -> tuple[Tensor, int]:
    """Return a map whose pixels lie at one distance from each other, and that distance."""
    _, channels, height, width = features.shape
    of_image, of_channel, of_row, of_pixel = features.stride()
    if (of_channel, of_row, of_image) == (1, width * of_pixel, height * width * of_pixel):
        return features, of_pixel
    return features.contiguous(memory_format=torch.channels_last), channels
