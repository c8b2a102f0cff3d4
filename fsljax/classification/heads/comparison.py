"""Compares embeddings with representatives of each class (Karlinsky et al., 2019, arXiv:1806.04728)."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from fsljax.clustering import kmeans
from fsljax.distances import squared_euclidean
from fsljax.errors import UserError
from fsljax.evaluation.arrays import checked_rows, in_blocks
from fsljax.losses.repmet import log_posteriors, repmet_loss

RULES = ("soft_posterior", "hard_posterior", "nearest_representative")
"""Classification rules for representatives."""
_FLOATS_A_BLOCK = 2_000_000


class RepresentativeOutput(NamedTuple):
    """Result of `compare` and `classify`.

    Attributes:
      soft_posteriors: `[n, classes]`, Σ_j p_ij / Σ_i Σ_j p_ij; each row sums to 1.
      hard_posteriors: `[n, classes]`, max_j p_ij, which need not sum to 1.
      background: `[n]`, 1 − max p_ij, the probability that it is of no class.
      predictions: classes int32 `[n]` for each of `RULES`; ties go to the lower class.
      nearest: int32 `[n]`, index of the nearest representative within its class, 0 … k − 1.
    """

    soft_posteriors: jax.Array
    hard_posteriors: jax.Array
    background: jax.Array
    predictions: dict[str, jax.Array]
    nearest: jax.Array


def compare(
    embeddings: jax.Array,
    representatives: jax.Array,
    *,
    sigma: jax.Array | float,
    exists: jax.Array | None = None,
) -> RepresentativeOutput:
    """Compares embeddings with representatives, p_ij = exp(−D_ij²/2σ²) where D_ij is their distance.

    Predictions are computed from logarithms and distances: they are correct even if every p underflows, and
    the hard posterior always agrees with the nearest representative, since one is monotonic in the other.

    Args:
      embeddings: `[n, dim]`.
      representatives: `[classes, k, dim]`.
      sigma: σ above 0.
      exists: bool `[classes, k]`, True for representatives that exist; None: all do. A class without
        representatives has posterior 0.

    Returns:
      A `RepresentativeOutput`, float32 (float64 if an input is).

    Raises:
      AssertionError: if the shapes do not match.
    """
    chex.assert_rank([embeddings, representatives], [2, 3])
    classes, k, dim = representatives.shape
    squares = squared_euclidean(embeddings, representatives.reshape(classes * k, dim)).reshape(-1, classes, k)
    if exists is not None:
        chex.assert_shape(exists, (classes, k))
        squares = jnp.where(exists, squares, jnp.inf)
    of_class = jnp.min(squares, axis=2)
    least = jnp.min(of_class, axis=1)
    soft = jax.nn.logsumexp(log_posteriors(squares, sigma, relative_to=least[:, None, None]), axis=2)
    place = jnp.argmin(squares.reshape(-1, classes * k), axis=1)
    return RepresentativeOutput(
        soft_posteriors=jax.nn.softmax(soft, axis=1),
        hard_posteriors=jnp.exp(log_posteriors(of_class, sigma)),
        background=-jnp.expm1(log_posteriors(least, sigma)),
        predictions={
            "soft_posterior": jnp.argmax(soft, axis=1).astype(jnp.int32),
            "hard_posterior": jnp.argmax(least[:, None] - of_class, axis=1).astype(jnp.int32),
            "nearest_representative": (place // k).astype(jnp.int32),
        },
        nearest=(place % k).astype(jnp.int32),
    )


def classify(
    embeddings: jax.Array | np.ndarray,
    representatives: jax.Array | np.ndarray,
    *,
    sigma: float,
    exists: jax.Array | np.ndarray | None = None,
) -> RepresentativeOutput:
    """`compare` for any number of embeddings, in compiled blocks and with validated arguments.

    Raises:
      UserError: if the shapes do not match, a value is not finite, σ is not above 0, or no representative
        exists.
    """
    rows = checked_rows(embeddings, "embeddings")
    centres = np.asarray(representatives, np.float32)
    if centres.ndim != 3 or 0 in centres.shape or centres.shape[2] != rows.shape[1]:
        raise UserError(
            f"The representatives are {list(centres.shape)}; for embeddings {list(rows.shape)} they must be "
            f"[classes, k, {rows.shape[1]}], with 1 or more of each."
        )
    there = np.ones(centres.shape[:2], bool) if exists is None else np.asarray(exists, bool)
    if there.shape != centres.shape[:2] or not there.any():
        raise UserError(
            f"exists is {list(there.shape)} with {int(there.sum())} representatives; it must be "
            f"{list(centres.shape[:2])} with at least one."
        )
    checked_rows(centres[there], "representatives")
    if not 0 < float(sigma) < np.inf:
        raise UserError(f"sigma is {sigma}; it must be finite and above 0.")
    size = max(1, min(len(rows), _FLOATS_A_BLOCK // there.size))
    given = jnp.asarray(centres), jnp.float32(sigma), jnp.asarray(there)
    outputs = [part for _, part in in_blocks(partial(_compare_block, given=given), rows, size=size)]
    return jax.tree.map(lambda *parts: np.concatenate(parts), *outputs)


@jax.jit
def _compare_block(
    embeddings: jax.Array, given: tuple[jax.Array, jax.Array, jax.Array]
) -> RepresentativeOutput:
    representatives, sigma, exists = given
    return compare(embeddings, representatives, sigma=sigma, exists=exists)


def of_support(support: jax.Array, representatives: int = 0) -> jax.Array:
    """Representatives of new classes: their support, or k-means centroids of it.

    Args:
      support: `[way, shot, dim]`.
      representatives: k per class; 0, or at least the number of shots: the support itself.

    Returns:
      `[way, k, dim]`.
    """
    shot = support.shape[1]
    if not 0 < representatives < shot:
        return support
    if representatives == 1:
        return jnp.mean(support, axis=1, keepdims=True)
    keys = jax.random.split(jax.random.key(0), len(support))
    return jax.vmap(lambda key, points: kmeans(key, points, representatives).centroids)(keys, support)


def fine_tuned(
    representatives: jax.Array,
    embeddings: jax.Array,
    labels: jax.Array,
    *,
    steps: int,
    rate: float,
    sigma: float | jax.Array,
    alpha: float = 1.0,
    version: str = "v2",
    squared: bool = False,
) -> jax.Array:
    """Fine-tunes representatives by gradient descent on the RepMet loss, with the network frozen.

    A step subtracts rate · σ² · ∂(Σ ℓ)/∂R, with the loss summed over examples: for "v1" and "v2" it moves a
    representative by about the fraction `rate` of its distance to an example, whatever the scale of the
    embeddings.

    Args:
      representatives: `[classes, k, dim]`, of two classes or more.
      embeddings: `[n, dim]`, embeddings of the training examples.
      labels: int `[n]`.
      steps: number of steps.
      rate: learning rate.
      sigma, alpha, version, squared: parameters of the loss.

    Returns:
      `[classes, k, dim]`.
    """

    def total(centres: jax.Array) -> jax.Array:
        output = repmet_loss(
            embeddings, labels, centres, sigma=sigma, alpha=alpha, version=version, squared=squared
        )
        return jnp.sum(output.example_losses)

    step_size = rate * jnp.square(jnp.asarray(sigma, jnp.float32))
    return jax.lax.fori_loop(
        0, steps, lambda _, centres: centres - step_size * jax.grad(total)(centres), representatives
    )
