"""What follows the convolution in a block of Conv-4: pooling, moments, normalisation.

The values are those of plain XLA; the gradients pass over the responses as few times as they can.
"""

from __future__ import annotations

from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp

from fsljax.networks.kernels.moments import variance_about

_Of = TypeVar("_Of", bound=tuple[jax.Array, ...])


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool_and_moments(response: jax.Array, groups: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """2×2 max pooling, and the moments of all that is pooled; an odd last row or column is not pooled.

    The gradient of equal maxima is shared among them.

    Args:
      response: `[groups · n, height, width, filters]`.
      groups: how many equal parts of the batch get moments of their own.

    Returns:
      maxima `[groups · n, height // 2, width // 2, filters]`; mean and variance, `[groups, filters]` each.
    """
    return xla_max_pool_and_moments(response, groups)


def xla_max_pool_and_moments(response: jax.Array, groups: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`max_pool_and_moments` with the gradient that XLA finds."""
    values = response.reshape(groups, -1, response.shape[-1])
    mean = jnp.mean(values, axis=1)
    return max_pool(response), mean, variance_about(values, mean)


def max_pool(x: jax.Array) -> jax.Array:
    """2×2 max pooling; an odd last row or column is dropped.

    The gradient of equal maxima is shared among them, where `flax.linen.max_pool` gives it to the first.

    Args:
      x: `[n, height, width, channel]`.

    Returns:
      `[n, height // 2, width // 2, channel]`.
    """
    return jnp.max(_windows(x), axis=(2, 4))


def _windows(response: jax.Array) -> jax.Array:
    """`[n, height // 2, 2, width // 2, 2, filters]`."""
    count, height, width, filters = response.shape
    rows, columns = height // 2, width // 2
    return response[:, : 2 * rows, : 2 * columns].reshape(count, rows, 2, columns, 2, filters)


_Saved = tuple[jax.Array, jax.Array, jax.Array]


def _pool_forward(response: jax.Array, groups: int) -> tuple[_Saved, _Saved]:
    pooled, mean, variance = max_pool_and_moments(response, groups)
    return (pooled, mean, variance), (response, pooled, mean)


def _pool_backward(groups: int, saved: _Saved, gradients: _Saved) -> tuple[jax.Array]:
    response, pooled, mean = saved
    of_pooled, of_mean, of_variance = gradients
    windows = _windows(response)
    maxima = pooled[:, :, None, :, None]
    places = [windows[:, :, u, :, v] == pooled for u in range(2) for v in range(2)]
    shared = of_pooled / sum(place.astype(response.dtype) for place in places)
    won = jnp.where(windows == maxima, shared[:, :, None, :, None], 0)
    count, height, width, filters = response.shape
    rows, columns = pooled.shape[1:3]
    won = won.reshape(count, 2 * rows, 2 * columns, filters)
    won = jnp.pad(won, ((0, 0), (0, height - 2 * rows), (0, width - 2 * columns), (0, 0)))
    size = count // groups * height * width
    slope = 2 * of_variance / size
    slope, offset = _computed_once((slope, of_mean / size - slope * mean))
    spread = response.reshape(groups, -1, filters) * slope[:, None] + offset[:, None]
    return (won + spread.reshape(response.shape),)


max_pool_and_moments.defvjp(_pool_forward, _pool_backward)


def _computed_once(of_filters: _Of) -> _Of:
    """Values of each filter, not fused with what uses them: it would compute them again for each place."""
    return jax.lax.optimization_barrier(of_filters)


@jax.custom_vjp
def normalised_relu(values: jax.Array, mean: jax.Array, slope: jax.Array, shift: jax.Array) -> jax.Array:
    """max(0, (values − mean) · slope + shift).

    Args:
      values: `[groups, n, filters]`.
      mean, slope: `[groups, filters]`.
      shift: `[filters]`.

    Returns:
      `[groups, n, filters]`.
    """
    mean, slope, shift = _computed_once((mean, slope, shift))
    return jnp.maximum((values - mean[:, None]) * slope[:, None] + shift, 0)


_Inputs = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


def _relu_forward(*inputs: jax.Array) -> tuple[jax.Array, _Inputs]:
    values, mean, slope, shift = inputs
    mean, slope, shift = _computed_once((mean, slope, shift))
    normalised = normalised_relu(values, mean, slope, shift)
    return normalised, (values, mean, slope, normalised)


def _relu_backward(saved: _Inputs, gradient: jax.Array) -> _Inputs:
    values, mean, slope, normalised = saved
    let_through = jnp.where(normalised > 0, gradient, 0)
    summed = jnp.sum(let_through, axis=1)
    of_slope = jnp.sum(let_through * (values - mean[:, None]), axis=1)
    return let_through * slope[:, None], -slope * summed, of_slope, jnp.sum(summed, axis=0)


normalised_relu.defvjp(_relu_forward, _relu_backward)
