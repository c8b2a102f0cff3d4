"""The Magnet loss (Rippel, Paluri, Dollár and Bourdev, 2016, https://arxiv.org/abs/1511.05939)."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from fsljax.distances import squared_euclidean

VARIANCE_FLOOR = 1e-15  # the square of its inverse is a float32 still


class MagnetOutput(NamedTuple):
    """Result of `magnet_loss`.

    Attributes:
      loss: `[]`, mean over all examples.
      example_losses: `[m, d]`, the loss of each example, 0 where the hinge is inactive.
      variance: `[]`, σ², of the examples about their cluster means.
    """

    loss: jax.Array
    example_losses: jax.Array
    variance: jax.Array


def magnet_loss(embeddings: jax.Array, cluster_classes: jax.Array, *, alpha: float = 1.0) -> MagnetOutput:
    """Magnet loss of a batch of m clusters with d examples each (equation 5).

    With μ_i the mean of cluster i's examples and σ² = 1/(m·d − 1) Σ ‖r − μ(r)‖², the loss of an example
    r of class C(r) is

        [ ‖r − μ(r)‖²/2σ² + α + log Σ_{i: C(i) ≠ C(r)} exp(−‖r − μ_i‖²/2σ²) ]₊ ,

    the published −log of a ratio, computed in log space: a distant example has a large, finite loss.
    Gradients flow through the means and the variance.

    Args:
      embeddings: `[m, d, dim]`; row i holds examples of cluster i.
      cluster_classes: int `[m]`, the class of each cluster. If all belong to one class there is nothing
        to keep apart, and the loss is 0.
      alpha: α, the margin by which other classes must be farther away than an example's own cluster, in
        units of 2σ².

    Returns:
      A `MagnetOutput`, float32 (float64 if the embeddings are). σ² is floored at 1e-15: where it
      vanishes (d = 1, or clusters of equal examples) loss and gradients are finite.

    Raises:
      AssertionError: if shapes don't agree, classes are not integers, or m · d is less than 2.
    """
    chex.assert_rank([embeddings, cluster_classes], [3, 1])
    chex.assert_equal_shape_prefix([embeddings, cluster_classes], 1)
    chex.assert_type(cluster_classes, int)
    clusters, examples, dim = embeddings.shape
    if clusters * examples < 2:
        raise AssertionError(f"A batch of {clusters} × {examples} examples has no variance; it takes two.")
    embeddings = jnp.asarray(embeddings, jnp.promote_types(jnp.result_type(embeddings), jnp.float32))
    # Distances don't change when all points move. Taken from one of the points, and within a cluster from its
    # first, a large common offset costs no digits and equal points have differences of exactly 0.
    embeddings = embeddings - jax.lax.stop_gradient(embeddings[0, 0])
    from_first = embeddings - embeddings[:, :1]
    mean_from_first = jnp.mean(from_first, axis=1, keepdims=True)
    means = embeddings[:, 0] + mean_from_first[:, 0]
    to_own_mean = jnp.sum(jnp.square(from_first - mean_from_first), axis=-1)
    variance = jnp.sum(to_own_mean) / (clusters * examples - 1)
    scale = 0.5 / jnp.maximum(variance, VARIANCE_FLOOR)

    to_means = squared_euclidean(embeddings.reshape(-1, dim), means).reshape(clusters, examples, clusters)
    other_class = cluster_classes[:, None] != cluster_classes[None, :]
    any_other = jnp.any(other_class, axis=1)
    counted = other_class | ~any_other[:, None]  # a sum over nothing has no gradient
    exponents = jnp.where(counted[:, None, :], -to_means * scale, -jnp.inf)
    impostors = jax.nn.logsumexp(exponents, axis=-1)
    losses = jax.nn.relu(to_own_mean * scale + alpha + impostors)
    losses = jnp.where(any_other[:, None], losses, 0.0)
    return MagnetOutput(loss=jnp.mean(losses), example_losses=losses, variance=variance)
