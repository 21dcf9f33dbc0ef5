"""Kernels in Triton for :mod:`liverseg.network.fused`: one pass over memory each.

Maps lie channels last, a row of memory for each pixel. A program takes a block of rows and of
channels (``block``, ``wide``). With ``pools``, its rows ``r`` are windows of 2 x 2 pixels, else
pixels. Triton comes with torch where there is CUDA.
"""

import triton
from triton import language as tl


@triton.jit
def _largest(one, other):
    """Return the larger one of each pair, and NaN where one is: an overflow must be noticed."""
    return tl.maximum(one, other, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _columns(wide: tl.constexpr):
    """Return the channels of this program."""
    return tl.program_id(1) * wide + tl.arange(0, wide)


@triton.jit
def _pixel(r, width, k, pools: tl.constexpr):
    """Return where the k-th pixel of each window lies, in rows of memory, or the pixel itself."""
    r = r.to(tl.int64)
    if pools:
        half = width // 2
        r = 2 * (r // half) * width + 2 * (r % half) + (k // 2) * width + k % 2
    return r[:, None]


@triton.jit
def _affine(found, weight, bias, c, known, channels):
    """Return mean, scale and shift of channels: the norm of x is scale * x + shift."""
    mean = tl.load(found + c, mask=known, other=0)
    scale = tl.load(found + channels + c, mask=known, other=0)
    scale *= tl.load(weight + c, mask=known, other=0)
    return mean, scale, tl.load(bias + c, mask=known, other=0) - mean * scale


@triton.jit
def _store_sums(partial, c, known, channels, first, second):
    """Write the two sums of this program."""
    place = partial + 2 * tl.program_id(0) * channels + c
    tl.store(place, tl.sum(first, axis=0), mask=known)
    tl.store(place + channels, tl.sum(second, axis=0), mask=known)


@triton.jit
def _load_sums(partial, parts, c, known, channels, wide: tl.constexpr):
    """Return the two sums of all programs."""
    first = tl.zeros((64, wide), tl.float32)
    second = tl.zeros((64, wide), tl.float32)
    for start in range(0, parts, 64):
        part = start + tl.arange(0, 64)[:, None]
        place = partial + 2 * part * channels + c[None, :]
        first += tl.load(place, mask=(part < parts) & known[None, :], other=0)
        second += tl.load(place + channels, mask=(part < parts) & known[None, :], other=0)
    return tl.sum(first, axis=0), tl.sum(second, axis=0)


@triton.jit
def add_up(x, partial, rows, channels, block: tl.constexpr, wide: tl.constexpr):
    """Sum each channel and its squares, less its first pixel, lest digits be lost far from 0."""
    c = _columns(wide)
    origin = tl.load(x + c, mask=c < channels, other=0).to(tl.float32)
    total = tl.zeros((block, wide), tl.float32)
    squares = tl.zeros((block, wide), tl.float32)
    for number in range(tl.program_id(0), tl.cdiv(rows, block), tl.num_programs(0)):
        r = number * block + tl.arange(0, block)
        known = (r < rows)[:, None] & (c < channels)[None, :]
        place = x + _pixel(r, 0, 0, False) * channels + c[None, :]
        value = tl.load(place, mask=known, other=0).to(tl.float32)
        value = tl.where(known, value - origin[None, :], 0.0)
        total += value
        squares += value * value
    _store_sums(partial, c, c < channels, channels, total, squares)


@triton.jit
def find(
    x, partial, found, before, running_mean, running_var,
    parts, rows, channels, momentum, eps, wide: tl.constexpr,
):  # fmt: skip
    """Write mean and 1 / standard deviation of channels, and go on with the running ones."""
    c = tl.program_id(0) * wide + tl.arange(0, wide)
    known = c < channels
    total, squares = _load_sums(partial, parts, c, known, channels, wide)
    mean = total / rows
    variance = _largest(squares / rows - mean * mean, 0.0)
    mean += tl.load(x + c, mask=known, other=0).to(tl.float32)
    tl.store(found + c, mean, mask=known)
    tl.store(found + channels + c, 1 / tl.sqrt(variance + eps), mask=known)
    mean += tl.load(before + c, mask=known, other=0)
    old = tl.load(running_mean + c, mask=known, other=0)
    tl.store(running_mean + c, old + momentum * (mean - old), mask=known)
    old = tl.load(running_var + c, mask=known, other=0)
    unbiased = variance * (rows / (rows - 1.0))
    tl.store(running_var + c, old + momentum * (unbiased - old), mask=known)


@triton.jit
def activate(
    x, y, pooled, found, weight, bias, rows, width, channels, y_step,
    pools: tl.constexpr, block: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    """Write the norm of pixels where it is above 0, else 0, and the largest of each window."""
    c = _columns(wide)
    _, scale, shift = _affine(found, weight, bias, c, c < channels, channels)
    r = tl.program_id(0) * block + tl.arange(0, block)
    known = (r < rows)[:, None] & (c < channels)[None, :]
    largest = tl.zeros((block, wide), tl.float32)
    for k in tl.static_range(4 if pools else 1):
        pixel = _pixel(r, width, k, pools)
        value = tl.load(x + pixel * channels + c[None, :], mask=known, other=0).to(tl.float32)
        value = _largest(value * scale[None, :] + shift[None, :], 0.0)
        tl.store(y + pixel * y_step + c[None, :], value, mask=known)
        largest = _largest(largest, value)
    if pools:
        tl.store(pooled + _pixel(r, 0, 0, False) * channels + c[None, :], largest, mask=known)


@triton.jit
def _of_windows(
    x, dpooled, r, c, known, width, channels, scale, shift, pools: tl.constexpr
):  # fmt: skip
    """Return the largest norm of each window, and the gradient that its pixel is due."""
    place = x + _pixel(r, width, 0, pools) * channels + c[None, :]
    largest = tl.load(place, mask=known, other=0).to(tl.float32) * scale[None, :] + shift[None, :]
    given = tl.zeros_like(largest)
    if pools:
        for k in tl.static_range(1, 4):
            place = x + _pixel(r, width, k, pools) * channels + c[None, :]
            value = tl.load(place, mask=known, other=0).to(tl.float32)
            largest = tl.maximum(largest, value * scale[None, :] + shift[None, :])
        place = dpooled + _pixel(r, 0, 0, False) * channels + c[None, :]
        given = tl.load(place, mask=known, other=0).to(tl.float32)
    return largest, given


@triton.jit
def _before_relu(
    x, dy, pixel, c, known, channels, dy_step, scale, shift, largest, given, pools: tl.constexpr
):  # fmt: skip
    """Return pixels, their gradients before the ReLU, and what later pixels of windows are due."""
    value = tl.load(x + pixel * channels + c[None, :], mask=known, other=0).to(tl.float32)
    gradient = tl.load(dy + pixel * dy_step + c[None, :], mask=known, other=0).to(tl.float32)
    normed = value * scale[None, :] + shift[None, :]
    if pools:
        is_first = normed == largest
        gradient += tl.where(is_first, given, 0.0)
        given = tl.where(is_first, 0.0, given)
    return value, tl.where((normed > 0) & known, gradient, 0.0), given


@triton.jit
def add_up_gradients(
    x, dy, dpooled, partial, found, weight, bias, rows, width, channels, dy_step,
    pools: tl.constexpr, block: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    """Sum each channel's gradient before the ReLU, and its product with x less the mean."""
    c = _columns(wide)
    mean, scale, shift = _affine(found, weight, bias, c, c < channels, channels)
    total = tl.zeros((block, wide), tl.float32)
    products = tl.zeros((block, wide), tl.float32)
    for number in range(tl.program_id(0), tl.cdiv(rows, block), tl.num_programs(0)):
        r = number * block + tl.arange(0, block)
        known = (r < rows)[:, None] & (c < channels)[None, :]
        largest, given = _of_windows(
            x, dpooled, r, c, known, width, channels, scale, shift, pools
        )  # fmt: skip
        for k in tl.static_range(4 if pools else 1):
            value, gradient, given = _before_relu(
                x, dy, _pixel(r, width, k, pools), c, known, channels, dy_step,
                scale, shift, largest, given, pools,
            )  # fmt: skip
            total += gradient
            products += gradient * (value - mean[None, :])
    _store_sums(partial, c, c < channels, channels, total, products)


@triton.jit
def find_gradients(partial, found, dweight, dbias, parts, channels, wide: tl.constexpr):
    """Write the gradients of weight and bias."""
    c = tl.program_id(0) * wide + tl.arange(0, wide)
    known = c < channels
    total, products = _load_sums(partial, parts, c, known, channels, wide)
    tl.store(dbias + c, total, mask=known)
    inverse = tl.load(found + channels + c, mask=known, other=0)
    tl.store(dweight + c, products * inverse, mask=known)


@triton.jit
def give_back(
    x, dy, dpooled, dx, dweight, dbias, found, weight, bias,
    rows, count, width, channels, dy_step,
    pools: tl.constexpr, block: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    """Write the gradient of x; count is that of all pixels."""
    c = _columns(wide)
    mean, scale, shift = _affine(found, weight, bias, c, c < channels, channels)
    middle = tl.load(dbias + c, mask=c < channels, other=0) / count
    slope = tl.load(dweight + c, mask=c < channels, other=0) / count
    slope *= tl.load(found + channels + c, mask=c < channels, other=0)
    r = tl.program_id(0) * block + tl.arange(0, block)
    known = (r < rows)[:, None] & (c < channels)[None, :]
    largest, given = _of_windows(x, dpooled, r, c, known, width, channels, scale, shift, pools)
    for k in tl.static_range(4 if pools else 1):
        pixel = _pixel(r, width, k, pools)
        value, gradient, given = _before_relu(
            x, dy, pixel, c, known, channels, dy_step, scale, shift, largest, given, pools
        )  # fmt: skip
        gradient -= middle[None, :] + (value - mean[None, :]) * slope[None, :]
        tl.store(dx + pixel * channels + c[None, :], gradient * scale[None, :], mask=known)


@triton.jit
def join(four, bias, both, cells, width, channels, block: tl.constexpr, wide: tl.constexpr):
    """Write the four pixels that each cell becomes, and a bias, to the first half of channels."""
    c = _columns(wide)
    r = tl.program_id(0) * block + tl.arange(0, block)
    known = (r < cells)[:, None] & (c < channels)[None, :]
    added = tl.load(bias + c, mask=c < channels, other=0)
    for k in tl.static_range(4):
        own = four + (4 * _pixel(r, 0, 0, False) + k) * channels + c[None, :]
        value = tl.load(own, mask=known, other=0).to(tl.float32) + added[None, :]
        place = both + _pixel(r, width, k, True) * 2 * channels + c[None, :]
        tl.store(place, value, mask=known)


@triton.jit
def part(both, four, partial, cells, width, channels, block: tl.constexpr, wide: tl.constexpr):
    """Write the first half of channels, the four pixels of each cell side by side; sum them."""
    c = _columns(wide)
    total = tl.zeros((block, wide), tl.float32)
    for number in range(tl.program_id(0), tl.cdiv(cells, block), tl.num_programs(0)):
        r = number * block + tl.arange(0, block)
        known = (r < cells)[:, None] & (c < channels)[None, :]
        for k in tl.static_range(4):
            place = both + _pixel(r, width, k, True) * 2 * channels + c[None, :]
            value = tl.load(place, mask=known, other=0)
            own = four + (4 * _pixel(r, 0, 0, False) + k) * channels + c[None, :]
            tl.store(own, value, mask=known)
            total += value.to(tl.float32)
    place = partial + tl.program_id(0) * channels + c
    tl.store(place, tl.sum(total, axis=0), mask=c < channels)
