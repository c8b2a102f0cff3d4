"""Moments of batch norm."""

from __future__ import annotations

import jax
import jax.numpy as jnp

_FAR = 8  # standard deviations from 0 at which a mean of squares begins to lose digits


def variance_about(values: jax.Array, mean: jax.Array) -> jax.Array:
    """Variance `[groups, channel]` of `[groups, n, channel]` about their mean `[groups, channel]`.

    From the mean of squares, which is one pass; that loses its digits where the mean is many standard
    deviations, and there alone a second pass takes differences. Gradients are those of the first.
    """
    quick = jnp.maximum(jnp.mean(jnp.square(values), axis=1) - jnp.square(mean), 0.0)
    values, mean, plain = jax.lax.stop_gradient((values, mean, quick))
    coarse = jnp.square(mean) > _FAR**2 * plain

    def missing() -> jax.Array:
        exact = jnp.mean(jnp.square(values - mean[:, None]), axis=1)
        return jnp.where(coarse, exact - plain, 0.0)

    return quick + jax.lax.cond(jnp.any(coarse), missing, lambda: jnp.zeros_like(plain))
