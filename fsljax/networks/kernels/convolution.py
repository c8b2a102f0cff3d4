"""Convolution kernels for the CPU backend, equal to XLA's own up to rounding and several times faster.

`benchmarks/train_step.py` times a step built from them against a step of plain XLA convolutions.
"""

from __future__ import annotations

import itertools
from functools import partial

import jax
import jax.numpy as jnp

Padding = tuple[tuple[int, int], tuple[int, int]]

_PLACES_A_CHUNK = 2048
_PLACES_A_CHUNK_OF_PIXELS, _FEW_CHANNELS = 4096, 4
_MOST_IMAGES_A_CHUNK = 90
# From so many channels, with up to so many places a side, a product of patches is faster than a convolution.
_CHANNELS_OF_PATCHES, _SIDE_OF_PATCHES = 256, 10
_MOST_CHUNKS = 48


def xla_conv(
    images: jax.Array, kernel: jax.Array, stride: int, padding: Padding, groups: int = 1
) -> jax.Array:
    """Convolution as XLA has it.

    Args:
      images: `[n, height, width, channel]`.
      kernel: `[rows, columns, channel // groups, filters]`.
      stride: in pixels, down and across.
      padding: rows of zeros above and below, columns left and right.
      groups: equal parts of the channels that are convolved by themselves.

    Returns:
      `[n, out_height, out_width, filters]`.
    """
    return jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups,
    )  # fmt: skip


def xla_conv3x3(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """3×3 convolution, stride 1, padded with zeros to keep the size.

    Args:
      images: `[n, height, width, channel]`.
      kernel: `[3, 3, channel, filters]`.

    Returns:
      `[n, height, width, filters]`.
    """
    return xla_conv(images, kernel, 1, ((1, 1), (1, 1)))


def _same_conv3x3(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """`xla_conv3x3`, or the same from patches."""
    if min(kernel.shape[2:]) >= _CHANNELS_OF_PATCHES and min(images.shape[1:3]) <= _SIDE_OF_PATCHES:
        return patch_conv(images, kernel, 1, ((1, 1), (1, 1)))
    return xla_conv3x3(images, kernel)


@jax.custom_vjp
def conv3x3(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """`xla_conv3x3` whose filter gradient is taken in chunks of a few images.

    XLA's CPU backend computes the filter gradient of a whole batch at a third of the speed that it reaches
    on some two thousand places at a time.
    """
    return _same_conv3x3(images, kernel)


def _mirrored(kernel: jax.Array) -> jax.Array:
    """The filter by which the gradient of responses is convolved for that of their images."""
    return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


_Saved = tuple[jax.Array, jax.Array]


def _conv3x3_forward(images: jax.Array, kernel: jax.Array) -> tuple[jax.Array, _Saved]:
    return _same_conv3x3(images, kernel), (images, kernel)


def _conv3x3_backward(saved: _Saved, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    images, kernel = saved
    kernel_gradient = _kernel_gradient(images, kernel, gradient, 1, ((1, 1), (1, 1)), _PLACES_A_CHUNK)
    return _same_conv3x3(gradient, _mirrored(kernel)), kernel_gradient


conv3x3.defvjp(_conv3x3_forward, _conv3x3_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(images: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """Convolution whose filter gradient is taken by itself, and of few channels in chunks of a few images.

    Args:
      images: `[n, height, width, channel]`.
      kernel: `[rows, columns, channel, filters]`.
      stride: in pixels, down and across.
      padding: rows of zeros above and below, columns left and right.

    Returns:
      `[n, out_height, out_width, filters]`.
    """
    return xla_conv(images, kernel, stride, padding)


def _conv_forward(
    images: jax.Array, kernel: jax.Array, stride: int, padding: Padding
) -> tuple[jax.Array, _Saved]:
    return xla_conv(images, kernel, stride, padding), (images, kernel)


def _conv_backward(
    stride: int, padding: Padding, saved: _Saved, gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    images, kernel = saved
    _, pullback = jax.vjp(lambda x: xla_conv(x, kernel, stride, padding), images)
    size = gradient.size // gradient.shape[-1]
    places = _PLACES_A_CHUNK_OF_PIXELS if images.shape[-1] <= _FEW_CHANNELS else size
    kernel_gradient = _kernel_gradient(images, kernel, gradient, stride, padding, places)
    return pullback(gradient)[0], kernel_gradient


conv.defvjp(_conv_forward, _conv_backward)


def _kernel_gradient(
    images: jax.Array, kernel: jax.Array, gradient: jax.Array, stride: int, padding: Padding, places: int
) -> jax.Array:
    """The filter gradient of `xla_conv`, of some images at a time.

    Args:
      images: `[n, height, width, channel]`.
      kernel: `[rows, columns, channel, filters]`.
      gradient: `[n, out_height, out_width, filters]`, of the responses.
      stride, padding: of the convolution.
      places: of the responses at a time, about.

    Returns:
      `[rows, columns, channel, filters]`.
    """
    # Not fused with what made them, which would be made again, in an order that is slow.
    images, gradient = jax.lax.optimization_barrier((images, gradient))
    most = min(max(1, places // (gradient.shape[1] * gradient.shape[2])), _MOST_IMAGES_A_CHUNK)
    chunks = min(-(-len(images) // most), _MOST_CHUNKS)
    chunk = -(-len(images) // chunks)
    total = jnp.zeros_like(kernel)
    for start in range(0, len(images), chunk):
        part = slice(start, start + chunk)
        total += _kernel_gradient_of(images[part], kernel, gradient[part], stride, padding)
    return total


@partial(jax.jit, static_argnums=(3, 4))  # traced once for all chunks of a size
def _kernel_gradient_of(
    images: jax.Array, kernel: jax.Array, gradient: jax.Array, stride: int, padding: Padding
) -> jax.Array:
    _, pullback = jax.vjp(lambda k: xla_conv(images, k, stride, padding), kernel)
    kernel_gradient: jax.Array = pullback(gradient)[0]
    return kernel_gradient


@jax.custom_vjp
def wide_conv3x3(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """`xla_conv3x3` whose filter gradient is nine matrix products, one for each of the filter's places.

    For many channels and places: of 256 channels at 80 × 80 places XLA's own takes four times as long.
    """
    return xla_conv3x3(images, kernel)


def _wide_conv3x3_backward(
    saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    images, kernel = saved
    height, width, channels = images.shape[1:]
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    of_places = gradient.reshape(-1, gradient.shape[-1])
    products = [
        padded[:, row : row + height, column : column + width].reshape(-1, channels).T @ of_places
        for row, column in itertools.product(range(3), range(3))
    ]
    return xla_conv3x3(gradient, _mirrored(kernel)), jnp.stack(products).reshape(kernel.shape)


def _wide_conv3x3_forward(images: jax.Array, kernel: jax.Array) -> tuple[jax.Array, _Saved]:
    return xla_conv3x3(images, kernel), (images, kernel)


wide_conv3x3.defvjp(_wide_conv3x3_forward, _wide_conv3x3_backward)


def pointwise_conv(images: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """1×1 convolution as a matrix product, whose gradients are faster than a convolution's.

    Args:
      images: `[n, height, width, channel]`.
      kernel: `[1, 1, channel, filters]`.
      stride: in pixels, down and across.

    Returns:
      `[n, ceil(height / stride), ceil(width / stride), filters]`.
    """
    images = images[:, ::stride, ::stride]
    rows = images.reshape(-1, images.shape[-1]) @ kernel[0, 0]
    return rows.reshape(*images.shape[:-1], -1)


def patch_conv(images: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """Convolution as one matrix product of patches: for images of a few pixels a side.

    There XLA's CPU backend is up to 70 times slower (2×2 pixels with 512 channels).

    Args:
      images: `[n, height, width, channel]`.
      kernel: `[rows, columns, channel, filters]`.
      stride, padding: as of `conv`.

    Returns:
      `[n, out_height, out_width, filters]`.
    """
    rows, columns = kernel.shape[:2]
    slices = window_slices(jnp.pad(images, ((0, 0), *padding, (0, 0))), rows, columns, stride, stride)
    patches = jnp.concatenate(slices, axis=-1)
    responses = patches.reshape(-1, patches.shape[-1]) @ kernel.reshape(-1, kernel.shape[-1])
    return responses.reshape(*patches.shape[:-1], -1)


def overlapping_max_pool(images: jax.Array, window: int, stride: int, padding: Padding) -> jax.Array:
    """Max pooling over windows that overlap, down first and then across.

    Its gradient is that of slices and maxima, where XLA's own searches every window. Equal maxima share
    the gradient, later ones the more of it.

    Args:
      images: `[n, height, width, channel]`.
      window, stride: in pixels, down and across.
      padding: as of `conv`; never chosen as the maximum.

    Returns:
      `[n, out_height, out_width, channel]`.
    """
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)), constant_values=-jnp.inf)
    down = _maximum(window_slices(padded, window, 1, stride, 1))
    return _maximum(window_slices(down, 1, window, 1, stride))


def _maximum(arrays: list[jax.Array]) -> jax.Array:
    total = arrays[0]
    for array in arrays[1:]:
        total = jnp.maximum(total, array)
    return total


def window_slices(padded: jax.Array, rows: int, columns: int, down: int, across: int) -> list[jax.Array]:
    """What each place of a window of `rows` × `columns` sees as it slides, row by row."""
    last_row, last_column = padded.shape[1] - rows, padded.shape[2] - columns
    return [
        padded[:, u : u + last_row + 1 : down, v : v + last_column + 1 : across]
        for u in range(rows)
        for v in range(columns)
    ]
