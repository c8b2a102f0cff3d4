"""Convolution kernels for the CPU backend, equal to XLA's own up to rounding and several times faster.

`benchmarks/train_step.py` times a step built from them against a step of plain XLA convolutions.
"""

from __future__ import annotations

import itertools
from functools import partial

import jax
import jax.numpy as jnp

Padding = tuple[tuple[int, int], tuple[int, int]]

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_PLACES_A_CHUNK = 2048
_MOST_IMAGES_A_CHUNK = 90
_MOST_CHUNKS = 48
_DEPTHWISE_IMAGES_A_CHUNK = 4


def xla_conv3x3(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """3×3 convolution, stride 1, padded with zeros to keep the size.

    Args:
      images: `[n, height, width, channel]`.
      kernel: `[3, 3, channel, filters]`.

    Returns:
      `[n, height, width, filters]`.
    """
    return jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=_LAYOUT)


@jax.custom_vjp
def conv3x3(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """`xla_conv3x3` whose filter gradient is taken in chunks of a few images.

    XLA's CPU backend computes the filter gradient of a whole batch at a third of the speed that it reaches
    on some two thousand places at a time.
    """
    return xla_conv3x3(images, kernel)


def _conv3x3_forward(images: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return xla_conv3x3(images, kernel), (images, kernel)


def _conv3x3_backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    images, kernel = saved
    mirrored = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    image_gradient = xla_conv3x3(gradient, mirrored)
    chunk = _images_a_chunk(*images.shape[:3])
    kernel_gradient = jnp.zeros_like(kernel)
    for start in range(0, len(images), chunk):
        part = slice(start, start + chunk)
        _, pullback = jax.vjp(lambda k, x=images[part]: xla_conv3x3(x, k), kernel)
        kernel_gradient += pullback(gradient[part])[0]
    return image_gradient, kernel_gradient


conv3x3.defvjp(_conv3x3_forward, _conv3x3_backward)


def _images_a_chunk(count: int, height: int, width: int) -> int:
    most = min(max(1, _PLACES_A_CHUNK // (height * width)), _MOST_IMAGES_A_CHUNK)
    chunks = min(-(-count // most), _MOST_CHUNKS)
    return -(-count // chunks)


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
    mirrored = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    return xla_conv3x3(gradient, mirrored), jnp.stack(products).reshape(kernel.shape)


wide_conv3x3.defvjp(_conv3x3_forward, _wide_conv3x3_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise_conv(images: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """Convolution of each channel by a filter of its own, as shifted multiply-adds.

    XLA's CPU backend computes a grouped convolution, and above all its gradient, several times slower.

    Args:
      images: `[n, height, width, channel]`.
      kernel: `[rows, columns, 1, channel]`.
      stride: in pixels, down and across.
      padding: rows of zeros above and below, columns left and right.

    Returns:
      `[n, out_height, out_width, channel]`.
    """
    rows, columns = kernel.shape[:2]
    shifted = _shifted(jnp.pad(images, ((0, 0), *padding, (0, 0))), rows, columns, stride, stride)
    # Not fused with what uses it, which would sum the window again each time.
    return jax.lax.optimization_barrier(_weighted_sum(shifted, kernel.reshape(-1, kernel.shape[-1])))


def _weighted_sum(shifted: list[jax.Array], weights: jax.Array) -> jax.Array:
    total = shifted[0] * weights[0]
    for part, weight in zip(shifted[1:], weights[1:], strict=True):
        total += part * weight
    return total


def _depthwise_forward(
    images: jax.Array, kernel: jax.Array, stride: int, padding: Padding
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return depthwise_conv(images, kernel, stride, padding), (images, kernel)


def _depthwise_backward(
    stride: int, padding: Padding, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    images, kernel = saved
    # Not fused with what made it, which would be made again for each place of the window.
    gradient = jax.lax.optimization_barrier(gradient)
    rows, columns = kernel.shape[:2]

    def response(images: jax.Array) -> jax.Array:
        shifted = _shifted(jnp.pad(images, ((0, 0), *padding, (0, 0))), rows, columns, stride, stride)
        return _weighted_sum(shifted, kernel.reshape(-1, kernel.shape[-1]))

    image_gradient = jax.lax.optimization_barrier(jax.linear_transpose(response, images)(gradient)[0])
    return image_gradient, _depthwise_kernel_gradient(images, gradient, kernel, stride, padding)


def _depthwise_kernel_gradient(
    images: jax.Array, gradient: jax.Array, kernel: jax.Array, stride: int, padding: Padding
) -> jax.Array:
    """Sums over images first, a few at a time, then over places: a plain sum over both uses one core."""
    rows, columns = kernel.shape[:2]
    chunk = _DEPTHWISE_IMAGES_A_CHUNK
    missing = -len(images) % chunk
    padded = jnp.pad(images, ((0, missing), *padding, (0, 0)))
    gradient = jnp.pad(gradient, ((0, missing), (0, 0), (0, 0), (0, 0)))

    def add(totals: list[jax.Array], inputs: tuple[jax.Array, ...]) -> tuple[list[jax.Array], None]:
        images, gradient = inputs
        for image, upstream in zip(images, gradient, strict=True):
            shifted = _shifted(image[None], rows, columns, stride, stride)
            totals = [total + part[0] * upstream for total, part in zip(totals, shifted, strict=True)]
        return totals, None

    chunks = tuple(array.reshape(-1, chunk, *array.shape[1:]) for array in (padded, gradient))
    nothing = [jnp.zeros(gradient.shape[1:], gradient.dtype)] * (rows * columns)
    totals, _ = jax.lax.scan(add, nothing, chunks)
    return jnp.stack([jnp.sum(total, axis=(0, 1)) for total in totals]).reshape(kernel.shape)


depthwise_conv.defvjp(_depthwise_forward, _depthwise_backward)


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
      stride, padding: as of `depthwise_conv`.

    Returns:
      `[n, out_height, out_width, filters]`.
    """
    rows, columns = kernel.shape[:2]
    shifted = _shifted(jnp.pad(images, ((0, 0), *padding, (0, 0))), rows, columns, stride, stride)
    patches = jnp.concatenate(shifted, axis=-1)
    responses = patches.reshape(-1, patches.shape[-1]) @ kernel.reshape(-1, kernel.shape[-1])
    return responses.reshape(*patches.shape[:-1], -1)


def overlapping_max_pool(images: jax.Array, window: int, stride: int, padding: Padding) -> jax.Array:
    """Max pooling over windows that overlap, down first and then across.

    Its gradient is that of slices and maxima, where XLA's own searches every window. Equal maxima share
    the gradient, later ones the more of it.

    Args:
      images: `[n, height, width, channel]`.
      window, stride: in pixels, down and across.
      padding: as of `depthwise_conv`; never chosen as the maximum.

    Returns:
      `[n, out_height, out_width, channel]`.
    """
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)), constant_values=-jnp.inf)
    down = _maximum(_shifted(padded, window, 1, stride, 1))
    return _maximum(_shifted(down, 1, window, 1, stride))


def _maximum(arrays: list[jax.Array]) -> jax.Array:
    total = arrays[0]
    for array in arrays[1:]:
        total = jnp.maximum(total, array)
    return total


def _shifted(padded: jax.Array, rows: int, columns: int, down: int, across: int) -> list[jax.Array]:
    """What each place of a window of `rows` × `columns` sees as it slides, row by row."""
    last_row, last_column = padded.shape[1] - rows, padded.shape[2] - columns
    return [
        padded[:, u : u + last_row + 1 : down, v : v + last_column + 1 : across]
        for u in range(rows)
        for v in range(columns)
    ]
