"""Distances between rows of arrays, shared by all losses and evaluations, and their precision."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import chex
import jax
import jax.numpy as jnp


def squared_euclidean(x: jax.Array, y: jax.Array) -> jax.Array:
    """Squared Euclidean distance from every row of `x` to every row of `y`, ‖x_i − y_j‖².

    Computed as the sum of squared differences: it is never negative, is exactly 0 where rows coincide
    (and so is its gradient), and stays accurate when all rows share a large offset, where
    ‖x‖² + ‖y‖² − 2x·y loses every significant digit.

    Args:
      x: `[n, dim]`.
      y: `[m, dim]`.

    Returns:
      `[n, m]`, float32 (float64 if an input is): bfloat16 would leave too few digits for a softmax.

    Raises:
      AssertionError: if either is not of rank 2, or their `dim` differs.
    """
    _check_rows(x, y)
    x, y = _inexact(x, y)
    difference = x[:, None, :] - y[None, :, :]
    return jnp.sum(jnp.square(difference), axis=-1)


def cosine_distance(x: jax.Array, y: jax.Array) -> jax.Array:
    """Cosine distance from every row of `x` to every row of `y`, 1 − cos(x_i, y_j).

    A row of zeros has no direction: its distance to every row is 1, with finite gradients.

    Args:
      x: `[n, dim]`.
      y: `[m, dim]`.

    Returns:
      `[n, m]`, in [0, 2].

    Raises:
      AssertionError: if either is not of rank 2, or their `dim` differs.
    """
    _check_rows(x, y)
    x, y = _inexact(x, y)
    # What accelerators take for a float32 product otherwise has 8 or 11 bits.
    cosine = jnp.matmul(normalize(x), normalize(y).T, precision="highest")
    return 1.0 - jnp.clip(cosine, -1.0, 1.0)


def normalize(x: jax.Array) -> jax.Array:
    """Scales vectors `[..., dim]` to length 1; a zero vector stays zero, with finite gradients."""
    # Dividing by the largest component first keeps the squares of very long and very short vectors in range.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True))
    x = x / jnp.where(largest > 0, largest, 1)
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.where(square > 0, square, 1))


def float64() -> AbstractContextManager[Any]:
    """Lets JAX compute in float64 where it is told to, in this thread."""
    # JAX before 0.8 has it elsewhere.
    where: Any = jax if hasattr(jax, "enable_x64") else jax.experimental
    context: AbstractContextManager[Any] = where.enable_x64(True)
    return context


def _check_rows(x: jax.Array, y: jax.Array) -> None:
    chex.assert_rank([x, y], 2)
    chex.assert_equal_shape_suffix([x, y], 1)


def _inexact(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    kind = jnp.promote_types(jnp.result_type(x, y), jnp.float32)
    return jnp.asarray(x, kind), jnp.asarray(y, kind)
