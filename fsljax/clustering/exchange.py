"""What devices tell each other, over which points are divided along axes of a mesh; no axis: all are here."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def sum_of(values: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """The sum of what each device has."""
    summed: jax.Array = jax.lax.psum(values, axes) if axes else values  # type: ignore[no-untyped-call]
    return summed


def of_all(values: jax.Array, axes: tuple[str, ...], axis: int = 0) -> jax.Array:
    """Numbers of all points, from those of each device's points."""
    return jax.lax.all_gather(values, axes, axis=axis, tiled=True) if axes else values


def of_first(row: jax.Array, weights: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """The row of the first device that has a point that counts."""
    if not axes:
        return row
    first = jnp.argmax(jax.lax.all_gather(jnp.any(weights > 0), axes))
    return sum_of(jnp.where(jax.lax.axis_index(axes) == first, row, 0), axes)
