"""3 x 3 convolutions by fewer products, for processors that compute these slowly.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016 (arXiv:1509.09308),
equation 8, F(2 x 2, 3 x 3): a tile of 4 x 4 pixels and the 3 x 3 weights both become 16 numbers,
whose products, summed over channels, become 2 x 2 pixels of the result. Those are 16 products where
there were 36, for sums before and after, which pay with many channels.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_FEWEST_CHANNELS = 128  # on either side, and
_FEWEST_TILES = 64  # with fewer, to transform the weights takes what the products save
# G of the paper. Its A and B hold 0, 1 and -1 alone, and are written as the sums that they mean.
_TO_WEIGHTS = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))


def trains_faster(convolution: nn.Conv2d, features: Tensor) -> bool:
    """Return whether :func:`convolved` is known to train faster than the convolution itself.

    So it is in 32 bits with AVX2 alone and with many channels. With AVX-512 or on a GPU a product
    takes little more time than a sum. A network that does not train is left as it is: rounding
    lets a result depend, by a trace, on pixels that its 3 x 3 do not hold.
    """
    if torch.compiler.is_compiling() or not convolution.training or convolution.dilation != (1, 1):
        return False
    if features.device.type != "cpu" or torch.backends.cpu.get_cpu_capability() != "AVX2":
        return False
    if features.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return False
    fewest = min(convolution.in_channels, convolution.out_channels)
    return fewest >= _FEWEST_CHANNELS and features[:, 0].numel() // 4 >= _FEWEST_TILES


def convolved(convolution: nn.Conv2d, features: Tensor) -> Tensor:
    """Return what a 3 x 3 convolution of stride 1 and rate 1 gives, but for rounding.

    Args:
        convolution: With a bias, and padded with the same number of zeros on all sides, at most 2.
        features: Shape (N, in_channels, H, W).
    """
    assert convolution.bias is not None
    product: Tensor = _Product.apply(features, convolution.weight, int(convolution.padding[0]))
    return product + convolution.bias[:, None, None]


class _Product(torch.autograd.Function):
    """A convolution without bias, and its gradients."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.padding = padding
        return _product(features, weight, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        of_features = of_weight = None
        if ctx.needs_input_grad[0]:  # what a convolution by the turned weights gives
            turned = weight.flip(2, 3).transpose(0, 1)
            of_features = _product(gradient, turned, 2 - ctx.padding)
        if ctx.needs_input_grad[1]:
            left = _of_results(gradient).view(16, -1, len(weight))  # (16, tiles, out)
            right = _of_tiles(features, ctx.padding).view(16, -1, features.shape[1])
            of_weight = _to_weight(torch.bmm(left.transpose(1, 2), right))
        return of_features, of_weight, None


def _product(features: Tensor, weight: Tensor, padding: int) -> Tensor:
    """Return the convolution of features (N, in, H, W) by weights (out, in, 3, 3)."""
    height, width = (side + 2 * padding - 2 for side in features.shape[2:])
    tiles = _of_tiles(features, padding)
    matrices = tiles.view(16, -1, tiles.shape[-1])  # (16, tiles, in)
    products = torch.bmm(matrices, _of_weight(weight).transpose(1, 2))
    pixels = _to_pixels(products.view(*tiles.shape[:5], len(weight)))
    return pixels[:, :height, :width].movedim(3, 1)


def _of_tiles(features: Tensor, padding: int) -> Tensor:
    """Return B' d B of each tile d, of shape (4, 4, N, rows, columns, channels)."""
    batch, channels, height, width = features.shape
    rows, columns = ((side + 2 * padding - 1) // 2 for side in (height, width))
    image = features.new_zeros(batch, 2 * rows + 2, 2 * columns + 2, channels)
    image[:, padding : padding + height, padding : padding + width] = features.movedim(1, 3)
    half = image.new_empty(4, batch, rows, 2 * columns + 2, channels)
    _sums_of_four([image[:, at : at + 2 * rows : 2] for at in range(4)], out=half)
    tiles = image.new_empty(4, 4, batch, rows, columns, channels)
    _sums_of_four([half[:, :, :, at : at + 2 * columns : 2] for at in range(4)], out=tiles)
    return tiles


def _of_results(gradient: Tensor) -> Tensor:
    """Return A g A' of each 2 x 2 pixels g, of shape (4, 4, N, rows, columns, channels)."""
    batch, channels, height, width = gradient.shape
    rows, columns = (height + 1) // 2, (width + 1) // 2
    image = gradient.new_zeros(batch, 2 * rows, 2 * columns, channels)
    image[:, :height, :width] = gradient.movedim(1, 3)
    half = image.new_empty(4, batch, rows, 2 * columns, channels)
    _sums_of_two(image[:, ::2], image[:, 1::2], out=half)
    results = image.new_empty(4, 4, batch, rows, columns, channels)
    _sums_of_two(half[:, :, :, ::2], half[:, :, :, 1::2], out=results)
    return results


def _to_pixels(products: Tensor) -> Tensor:
    """Return A' m A of each 4 x 4 products m, of shape (N, height, width, channels)."""
    batch, rows, columns, channels = products.shape[2:]
    half = products.new_empty(4, batch, rows, 2 * columns, channels)
    _sums_to_two(products, out=(half[:, :, :, ::2], half[:, :, :, 1::2]))
    pixels = products.new_empty(batch, 2 * rows, 2 * columns, channels)
    _sums_to_two(half, out=(pixels[:, ::2], pixels[:, 1::2]))
    return pixels


def _of_weight(weight: Tensor) -> Tensor:
    """Return G g G' of weights g, of shape (16, out, in)."""
    return (_weight_matrix(weight) @ weight.flatten(2).flatten(0, 1).T).view(16, *weight.shape[:2])


def _to_weight(gradient: Tensor) -> Tensor:
    """Return the gradient of weights, of shape (out, in, 3, 3), by that of G g G'."""
    of_weight = _weight_matrix(gradient).T @ gradient.flatten(1)
    return of_weight.T.reshape(*gradient.shape[1:], 3, 3)


def _weight_matrix(like: Tensor) -> Tensor:
    """Return what takes the 9 weights to the 16 numbers; columns of a tile come first there."""
    matrix = like.new_tensor(_TO_WEIGHTS)
    return torch.kron(matrix, matrix).view(4, 4, 9).transpose(0, 1).reshape(16, 9)


def _sums_of_four(values: list[Tensor], out: Tensor) -> None:
    """Compute B' of the paper times four values that follow one another."""
    torch.sub(values[0], values[2], out=out[0])
    torch.add(values[1], values[2], out=out[1])
    torch.sub(values[2], values[1], out=out[2])
    torch.sub(values[1], values[3], out=out[3])


def _sums_of_two(first: Tensor, second: Tensor, out: Tensor) -> None:
    """Compute A of the paper times two values."""
    out[0] = first
    torch.add(first, second, out=out[1])
    torch.sub(first, second, out=out[2])
    torch.neg(second, out=out[3])


def _sums_to_two(values: Tensor, out: tuple[Tensor, Tensor]) -> None:
    """Compute A' of the paper times four values."""
    torch.add(values[0], values[1], out=out[0]).add_(values[2])
    torch.sub(values[1], values[2], out=out[1]).sub_(values[3])
