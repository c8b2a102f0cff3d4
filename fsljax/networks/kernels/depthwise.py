"""Depthwise convolution for the CPU backend."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from fsljax.networks.kernels.convolution import Padding, window_slices

_IMAGES_A_CHUNK = 4


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
    shifted = window_slices(jnp.pad(images, ((0, 0), *padding, (0, 0))), rows, columns, stride, stride)
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
        shifted = window_slices(jnp.pad(images, ((0, 0), *padding, (0, 0))), rows, columns, stride, stride)
        return _weighted_sum(shifted, kernel.reshape(-1, kernel.shape[-1]))

    image_gradient = jax.lax.optimization_barrier(jax.linear_transpose(response, images)(gradient)[0])
    return image_gradient, _depthwise_kernel_gradient(images, gradient, kernel, stride, padding)


def _depthwise_kernel_gradient(
    images: jax.Array, gradient: jax.Array, kernel: jax.Array, stride: int, padding: Padding
) -> jax.Array:
    """Sums over images first, a few at a time, then over places: a plain sum over both uses one core."""
    rows, columns = kernel.shape[:2]
    chunk = _IMAGES_A_CHUNK
    missing = -len(images) % chunk
    padded = jnp.pad(images, ((0, missing), *padding, (0, 0)))
    gradient = jnp.pad(gradient, ((0, missing), (0, 0), (0, 0), (0, 0)))

    def add(totals: list[jax.Array], inputs: tuple[jax.Array, ...]) -> tuple[list[jax.Array], None]:
        images, gradient = inputs
        for image, upstream in zip(images, gradient, strict=True):
            shifted = window_slices(image[None], rows, columns, stride, stride)
            totals = [total + part[0] * upstream for total, part in zip(totals, shifted, strict=True)]
        return totals, None

    chunks = tuple(array.reshape(-1, chunk, *array.shape[1:]) for array in (padded, gradient))
    nothing = [jnp.zeros(gradient.shape[1:], gradient.dtype)] * (rows * columns)
    totals, _ = jax.lax.scan(add, nothing, chunks)
    return jnp.stack([jnp.sum(total, axis=(0, 1)) for total in totals]).reshape(kernel.shape)


depthwise_conv.defvjp(_depthwise_forward, _depthwise_backward)
