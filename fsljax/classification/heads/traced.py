"""What heads compute, as functions that JAX can trace: of a model that is exported."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

Probabilities = Callable[[jax.Array], jax.Array]
"""Of embeddings float32 `[n, dim]` the probabilities of the classes, `[n, classes]`."""

_SHORTEST = 1e-12


def unit(rows: jax.Array) -> jax.Array:
    """Rows brought to length 1; zeros stay."""
    lengths = jnp.sqrt(jnp.sum(jnp.square(rows), axis=-1, keepdims=True))
    return rows / jnp.maximum(lengths, _SHORTEST)


def centred(rows: jax.Array, mean: np.ndarray) -> jax.Array:
    """Rows of length 1 less a mean, of length 1 again."""
    return unit(unit(rows) - jnp.asarray(mean, jnp.float32))


def product(rows: jax.Array, columns: np.ndarray) -> jax.Array:
    """Products of float32 at full precision, on every kind of device."""
    return jnp.matmul(rows, jnp.asarray(columns, jnp.float32), precision="highest")


def squared_distances(rows: jax.Array, others: np.ndarray) -> jax.Array:
    """Squared Euclidean distances `[n, m]`, of rows about of length 1."""
    squares = jnp.sum(jnp.square(rows), axis=1, keepdims=True) + np.sum(np.square(others), axis=1)
    return jnp.maximum(squares - 2 * product(rows, np.asarray(others).T), 0)


def log_sums_of_classes(values: jax.Array, owners: np.ndarray) -> jax.Array:
    """Logarithms of sums of exponentials, `[n, classes]`, of the columns that each class owns, `[n, r]`."""
    hidden = jnp.asarray(np.where(owners == np.arange(owners.max() + 1)[:, None], 0, -np.inf), jnp.float32)
    return jax.nn.logsumexp(values[:, None] + hidden, axis=2)
