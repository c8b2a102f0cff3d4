"""Magnet's batches: a seed cluster, its nearest impostor clusters, and examples of each.

Rippel et al. (2016), https://arxiv.org/abs/1511.05939, section 3.2.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fsljax.clustering import KMeansResult
from fsljax.distances import squared_euclidean
from fsljax.parallel import shares


class ClusterIndex(NamedTuple):
    """Clusters of the training set, over all classes, and the last loss of each example.

    Attributes:
      centroids: `[clusters, dim]`, or this device's share of them; those of a class are adjacent.
      classes: int32 `[clusters]`, the class of each cluster.
      counts: int32 `[clusters]`, members of each cluster; a cluster without members does not exist.
      assignments: int32 `[n]`, cluster of each example.
      order: int32 `[n]`, examples sorted by cluster.
      losses: float32 `[n]`, the last loss of each example.
      seen: bool `[n]`, whether the example has a loss.
      variance: `[]`, σ² of the training set around its centroids.
    """

    centroids: jax.Array
    classes: jax.Array
    counts: jax.Array
    assignments: jax.Array
    order: jax.Array
    losses: jax.Array
    seen: jax.Array
    variance: jax.Array


class Neighbourhood(NamedTuple):
    """A batch of clusters and their examples.

    Attributes:
      clusters: int32 `[m]`, the seed cluster first, then its impostor clusters by distance.
      classes: int32 `[m]`.
      rows: int32 `[m, d]`, positions in the training set.
    """

    clusters: jax.Array
    classes: jax.Array
    rows: jax.Array


def empty_index(num_classes: int, clusters_per_class: int, examples: int, dim: int) -> ClusterIndex:
    """The index before the first refresh: there are no clusters, and no example has a loss."""
    clusters = num_classes * clusters_per_class
    return ClusterIndex(
        centroids=jnp.zeros((clusters, dim)),
        classes=jnp.repeat(jnp.arange(num_classes, dtype=jnp.int32), clusters_per_class),
        counts=jnp.zeros(clusters, jnp.int32),
        assignments=jnp.zeros(examples, jnp.int32),
        order=jnp.arange(examples, dtype=jnp.int32),
        losses=jnp.zeros(examples),
        seen=jnp.zeros(examples, bool),
        variance=jnp.zeros(()),
    )


def refreshed(index: ClusterIndex, labels: jax.Array, clusters: KMeansResult) -> ClusterIndex:
    """The index with new clusters; examples keep their losses.

    Args:
      index: the previous index.
      labels: int `[n]`, classes.
      clusters: result of `kmeans_per_class` on the embeddings.
    """
    classes, k, dim = clusters.centroids.shape
    assignments = labels.astype(jnp.int32) * k + clusters.assignments
    return index._replace(
        centroids=clusters.centroids.reshape(classes * k, dim).astype(index.centroids.dtype),
        counts=clusters.counts.reshape(-1).astype(jnp.int32),
        assignments=assignments,
        order=jnp.argsort(assignments, stable=True).astype(jnp.int32),
        variance=(jnp.sum(clusters.inertia) / max(len(labels) - 1, 1)).astype(index.variance.dtype),
    )


def with_losses(index: ClusterIndex, rows: jax.Array, losses: jax.Array) -> ClusterIndex:
    """The index with new losses `[m, d]` of the examples `rows [m, d]`."""
    return index._replace(
        losses=index.losses.at[rows].set(losses.astype(index.losses.dtype)),
        seen=index.seen.at[rows].set(True),
    )


def cluster_losses(index: ClusterIndex) -> jax.Array:
    """Mean loss of each cluster's current members, `[clusters]`; 0 for a cluster that does not exist.

    An example that has not been in a batch counts with the mean loss of those that have; before the first
    batch all examples count equally.
    """
    mean_seen = jnp.sum(index.losses * index.seen) / jnp.maximum(jnp.sum(index.seen), 1)
    losses = jnp.where(index.seen, index.losses, jnp.where(jnp.any(index.seen), mean_seen, 1.0))
    sums = jax.ops.segment_sum(losses, index.assignments, len(index.counts))
    return jnp.where(index.counts > 0, sums / jnp.maximum(index.counts, 1), 0.0)


def draw_neighbourhood(
    key: jax.Array, index: ClusterIndex, *, clusters: int, examples: int, largest_cluster: int
) -> Neighbourhood:
    """Draws a batch of m = `clusters` clusters with d = `examples` examples each.

    The seed cluster is drawn with probability proportional to its loss (uniformly if all losses are 0); it is
    joined by its m − 1 impostor clusters, those of other classes with the nearest centroids. The d examples
    of each are drawn without replacement, or with replacement if the cluster has fewer.

    Args:
      key: a JAX random key.
      index: the clusters.
      clusters: m; every seed cluster must have m − 1 clusters of other classes.
      examples: d.
      largest_cluster: upper bound on the members of a cluster.
    """
    seed_key, key = jax.random.split(key)
    exists = index.counts > 0
    losses = cluster_losses(index)
    shares = jnp.where(jnp.any(losses > 0), losses, exists)
    seed = jax.random.categorical(seed_key, jnp.log(shares))
    eligible = exists & (index.classes != index.classes[seed])
    nearest = _nearest(index.centroids, seed, eligible, clusters - 1)
    # Equal points may leave fewer clusters than were asked for: the nearest then stands in for them.
    nearest = jnp.where(eligible[nearest], nearest, nearest[0])
    chosen = jnp.concatenate([seed[None], nearest]).astype(jnp.int32)

    starts = jnp.cumsum(index.counts) - index.counts
    counts = index.counts[chosen]
    distinct_key, any_key = jax.random.split(key)
    size = max(largest_cluster, examples)
    ranks = jax.random.uniform(distinct_key, (clusters, size))
    _, distinct = jax.lax.top_k(jnp.where(jnp.arange(size) < counts[:, None], ranks, -1.0), examples)
    any_member = jax.random.randint(any_key, (clusters, examples), 0, jnp.maximum(counts, 1)[:, None])
    places = jnp.where(counts[:, None] >= examples, distinct, any_member)
    rows = index.order[starts[chosen][:, None] + places]
    return Neighbourhood(chosen, index.classes[chosen], rows)


def _nearest(centroids: jax.Array, seed: jax.Array, eligible: jax.Array, count: int) -> jax.Array:
    """The eligible clusters that lie nearest to a seed, int `[count]`, nearest first.

    Args:
      centroids: `[clusters, dim]`, or this device's part of them: from cluster number · part on.
      seed: int `[]`.
      eligible: bool `[clusters]`.
      count: how many.
    """
    clusters, part = len(eligible), len(centroids)
    if shares.count() == 1 or part == clusters:
        distances = squared_euclidean(centroids[seed][None], centroids[:clusters])[0]
        return jax.lax.top_k(jnp.where(eligible, -distances, -jnp.inf), count)[1]
    distances = squared_euclidean(shares.wherever_they_lie(centroids, seed[None]), centroids)[0]
    numbers = shares.number() * part + jnp.arange(part)
    may = (numbers < clusters) & eligible[jnp.minimum(numbers, clusters - 1)]
    nearness, places = jax.lax.top_k(jnp.where(may, -distances, -jnp.inf), min(count, part))
    of_all, numbers_of_all = shares.gathered((nearness, jnp.minimum(numbers[places], clusters - 1)))
    return numbers_of_all[jax.lax.top_k(of_all, count)[1]]
