"""Classification by the nearest clusters (Rippel et al. 2016, https://arxiv.org/abs/1511.05939)."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from fsljax.distances import squared_euclidean
from fsljax.errors import UserError
from fsljax.evaluation.arrays import checked_rows, in_blocks

NUM_NEAREST = 128
_SMALLEST_VARIANCE = float(np.finfo(np.float32).tiny)
_FLOATS_A_BLOCK = 2_000_000


class NearestClusterOutput(NamedTuple):
    """Result of `classify`.

    Attributes:
      posteriors: float32 `[n, classes]`; each row sums to 1.
      predictions: int32 `[n]`, the class with the highest posterior; ties go to the lower class.
    """

    posteriors: np.ndarray
    predictions: np.ndarray


def log_posteriors(
    embeddings: jax.Array,
    centroids: jax.Array,
    counts: jax.Array,
    variance: jax.Array | float,
    *,
    num_nearest: int = NUM_NEAREST,
) -> jax.Array:
    """Log-probability of each class, from the clusters nearest to an embedding.

    P(c | x) = Σ_{i ∈ L nearest, C(i) = c} exp(−‖x − μ_i‖² / 2σ²) / Σ_{i ∈ L nearest} exp(−‖x − μ_i‖² / 2σ²),
    computed in logs and relative to the nearest cluster, so that a point far from all clusters still gets a
    class. Ties for the last of the L nearest clusters go to the lower class, then to the lower index within
    it.

    Args:
      embeddings: `[n, dim]`.
      centroids: `[classes, k, dim]`, of the training set.
      counts: `[classes, k]`, number of examples of each cluster; a cluster without examples does not exist,
        and its centroid is not used.
      variance: `[]`, σ² of the training set; clamped to at least float32's smallest normal number (1.2e-38),
        at which all the weight is on the nearest cluster.
      num_nearest: L, 128 in the paper; all clusters if there are fewer.

    Returns:
      `[n, classes]`, float32; −inf for a class with none of the L nearest clusters. NaN if no cluster exists.

    Raises:
      AssertionError: if the shapes do not match, or `num_nearest` is below 1.
    """
    chex.assert_rank([embeddings, centroids, counts], [2, 3, 2])
    chex.assert_equal_shape_prefix([centroids, counts], 2)
    chex.assert_scalar_positive(num_nearest)
    classes, k, dim = centroids.shape
    distances = squared_euclidean(embeddings, centroids.reshape(classes * k, dim))
    distances = jnp.where(counts.reshape(-1) > 0, distances, jnp.inf)
    negated, nearest = jax.lax.top_k(-distances, min(num_nearest, classes * k))
    variance = jnp.maximum(jnp.asarray(variance, distances.dtype), _SMALLEST_VARIANCE)
    log_weights = (negated - negated[:, :1]) / variance / 2
    rows = jnp.arange(len(distances))[:, None]
    log_weights = jnp.full_like(distances, -jnp.inf).at[rows, nearest].set(log_weights)
    class_logs = jax.nn.logsumexp(log_weights.reshape(-1, classes, k), axis=-1)
    return jax.nn.log_softmax(class_logs, axis=-1)


def classify(
    embeddings: jax.Array | np.ndarray,
    centroids: jax.Array | np.ndarray,
    counts: jax.Array | np.ndarray,
    variance: jax.Array | np.ndarray | float,
    *,
    num_nearest: int = NUM_NEAREST,
) -> NearestClusterOutput:
    """Classifies any number of embeddings in compiled blocks; arguments as in `log_posteriors`.

    Raises:
      UserError: if the shapes do not match, a value is not finite, the variance is negative, no cluster
        exists, or `num_nearest` is below 1.
    """
    embeddings = checked_rows(embeddings, "embeddings")
    centroids, counts = np.asarray(centroids, np.float32), np.asarray(counts)
    if centroids.shape != (*counts.shape, embeddings.shape[1]) or counts.ndim != 2:
        raise UserError(
            f"The centroids are {list(centroids.shape)} and the counts {list(counts.shape)}; for embeddings "
            f"{list(embeddings.shape)} they must be [classes, k, {embeddings.shape[1]}] and [classes, k]."
        )
    if not (counts > 0).any():
        raise UserError(
            "No cluster has an example: cluster the training set before classifying with clusters."
        )
    checked_rows(centroids[counts > 0], "centroids")
    if not 0 <= float(variance) < np.inf:
        raise UserError(
            f"The variance of the clusters is {float(variance)}; it must be finite and 0 or more."
        )
    if num_nearest < 1:
        raise UserError(f"num_nearest is {num_nearest}; it must be 1 or more.")
    size = max(1, min(len(embeddings), _FLOATS_A_BLOCK // counts.size))
    given = (jnp.asarray(centroids), jnp.asarray(counts), jnp.float32(variance))
    posteriors = np.empty((len(embeddings), len(counts)), np.float32)
    predictions = np.empty(len(embeddings), np.int32)
    compiled = partial(_classify_block, clusters=given, num_nearest=num_nearest)
    for where, classified in in_blocks(compiled, embeddings, size=size):
        posteriors[where], predictions[where] = classified
    return NearestClusterOutput(posteriors, predictions)


@partial(jax.jit, static_argnames="num_nearest")
def _classify_block(
    embeddings: jax.Array, clusters: tuple[jax.Array, jax.Array, jax.Array], num_nearest: int
) -> tuple[jax.Array, jax.Array]:
    logs = log_posteriors(embeddings, *clusters, num_nearest=num_nearest)
    return jnp.exp(logs), jnp.argmax(logs, axis=-1)
