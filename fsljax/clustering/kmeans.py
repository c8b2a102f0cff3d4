"""k-means of all points, and of every class by itself."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from fsljax.clustering import lloyd
from fsljax.clustering.spaces import Space, coordinate_space, product_space

_FLOATS_AT_ONCE = 2**25

_together: Callable[[jax.Array], jax.Array] = jax.lax.optimization_barrier


class KMeansResult(NamedTuple):
    """Result of `kmeans` and, where shapes begin with classes, of `kmeans_per_class`.

    Attributes:
      centroids: `[k, dim]` or `[classes, k, dim]`.
      assignments: int32 `[n]`, the nearest centroid of each point (of its own class), 0 … k − 1, the first
        of equally near ones; −1 for points that the mask leaves out.
      counts: int32 `[k]` or `[classes, k]`, points of each cluster; 0 marks one that does not exist.
      inertia: `[]` or `[classes]`, the sum of squared distances of points to their centroids.
      iterations: int32 `[]` or `[classes]`, how often the centroids moved.
    """

    centroids: jax.Array
    assignments: jax.Array
    counts: jax.Array
    inertia: jax.Array
    iterations: jax.Array


def kmeans(
    key: jax.Array,
    points: jax.Array | np.ndarray,
    num_clusters: int,
    *,
    mask: jax.Array | np.ndarray | None = None,
    max_iterations: int = 100,
    tolerance: float = 1e-4,
    initial_centroids: jax.Array | np.ndarray | None = None,
    num_restarts: int = 1,
) -> KMeansResult:
    """k-means: Lloyd's iterations (1982) from greedy k-means++ seeds (Arthur and Vassilvitskii, 2007).

    An empty cluster is put at the point that is farthest from its centroid. The inertia never rises from
    one iteration to the next, and the same key gives the same result. Works under jit and vmap.

    Args:
      key: a JAX random key, for the seeds.
      points: `[n, dim]`; computed in float32 (float64 if they are).
      num_clusters: k, at most the number of points.
      mask: bool `[n]`, the points that count; None: all.
      max_iterations: Lloyd's iterations at most, 1 or more.
      tolerance: iterations end when the inertia falls by no more than this share of itself.
      initial_centroids: `[k, dim]` to begin with, instead of seeds.
      num_restarts: the best of that many runs from seeds of their own.

    Returns:
      A `KMeansResult`. Assignments are those to the centroids returned.

    Raises:
      AssertionError: if shapes don't agree.
      ValueError: if there are more clusters than points, a number is below 1, a tolerance below 0, or
        (where the values are at hand, not traced) a point is NaN or infinite.
    """
    chex.assert_rank(points, 2)
    if mask is not None:
        chex.assert_shape(mask, (len(points),))
    if initial_centroids is not None:
        chex.assert_shape(initial_centroids, (num_clusters, points.shape[1]))
    _check_numbers(num_clusters, max_iterations, tolerance, num_restarts)
    count = len(points) if mask is None or _traced(mask) else int(np.sum(np.asarray(mask, bool)))
    if num_clusters > count:
        raise ValueError(
            f"kmeans is asked for {num_clusters} clusters of {count} points: ask for {count} at most."
        )
    result: KMeansResult = _kmeans(
        key, points, mask, initial_centroids, max_iterations, tolerance, k=num_clusters, restarts=num_restarts
    )
    _check_finite(points, result)
    return result


def kmeans_per_class(
    key: jax.Array,
    points: jax.Array | np.ndarray,
    labels: jax.Array | np.ndarray,
    *,
    num_classes: int,
    clusters_per_class: int,
    max_points_per_class: int | None = None,
    max_iterations: int = 100,
    tolerance: float = 1e-4,
    initial_centroids: jax.Array | np.ndarray | None = None,
    num_restarts: int = 1,
) -> KMeansResult:
    """`kmeans` of the points of each class by themselves, all classes in one compiled call.

    A class with fewer points than `clusters_per_class` gets as many clusters as it has (distinct) points;
    the counts of the others are 0. Where the labels are not traced, a warning names such classes.

    Args:
      key: a JAX random key, for the seeds.
      points: `[n, dim]`.
      labels: int `[n]`, 0 … num_classes − 1.
      num_classes: classes.
      clusters_per_class: k.
      max_points_per_class: what no class has more points than. None: counted where the labels are at hand;
        where they are traced, n, which makes more work.
      max_iterations, tolerance, num_restarts: as in `kmeans`.
      initial_centroids: `[classes, k, dim]` to begin with, instead of seeds.

    Returns:
      A `KMeansResult` with a leading axis of classes; assignments are local to the class.

    Raises:
      AssertionError: if shapes don't agree.
      ValueError: as in `kmeans`, and (where the labels are at hand, not traced) if a label is outside the
        classes, a class has no point, or more than `max_points_per_class`.
    """
    chex.assert_rank([points, labels], [2, 1])
    chex.assert_equal_shape_prefix([points, labels], 1)
    if initial_centroids is not None:
        chex.assert_shape(initial_centroids, (num_classes, clusters_per_class, points.shape[1]))
    _check_numbers(clusters_per_class, max_iterations, tolerance, num_restarts)
    if not _traced(labels):
        counts = _check_labels(np.asarray(labels), num_classes)
        _warn_of_small_classes(counts, clusters_per_class)
        most = int(counts.max())
        if max_points_per_class is not None and most > max_points_per_class:
            raise ValueError(
                f"A class has {most} points, more than max_points_per_class = {max_points_per_class}."
            )
        max_points_per_class = max_points_per_class or most
    result: KMeansResult = _kmeans_per_class(
        key, points, labels, initial_centroids, max_iterations, tolerance,
        classes=num_classes, k=clusters_per_class, restarts=num_restarts,
        size=min(max_points_per_class or len(points), len(points)),
    )  # fmt: skip
    _check_finite(points, result)
    return result


@partial(jax.jit, static_argnames=("k", "restarts"))
def _kmeans(
    key: jax.Array,
    points: jax.Array,
    mask: jax.Array | None,
    initial: jax.Array | None,
    max_iterations: jax.Array,
    tolerance: jax.Array,
    *,
    k: int,
    restarts: int,
) -> KMeansResult:
    if len(points) <= points.shape[1]:
        space = product_space(points, jnp.ones(len(points), bool) if mask is None else mask.astype(bool))
    else:
        space = coordinate_space(points, mask)

    def once(key: jax.Array) -> KMeansResult:
        if initial is not None:
            first = space.sweep_from(initial)
        else:
            first = space.sweep(space.at(lloyd.seed(key, space, k)))
        return _result(mask, space, lloyd.iterate(space, first, max_iterations, tolerance))

    if restarts == 1 or initial is not None:
        return once(key)
    results = jax.lax.map(once, jax.random.split(key, restarts))
    best: KMeansResult = jax.tree.map(lambda values: values[jnp.argmin(results.inertia)], results)
    return best


def every_cluster(centroids: jax.Array, counts: jax.Array) -> jax.Array:
    """Centroids `[classes, k, dim]` in which clusters that do not exist lie at the first one of their class.

    Args:
      centroids: `[classes, k, dim]`.
      counts: `[classes, k]`, 0 where there is no cluster, as in a class of fewer points than k.
    """
    first = jnp.argmax(counts > 0, axis=1)[:, None, None]
    return jnp.where(counts[..., None] > 0, centroids, jnp.take_along_axis(centroids, first, axis=1))


def _result(mask: jax.Array | None, space: Space, state: lloyd.LloydState) -> KMeansResult:
    assignments = state.sweep.assignments
    return KMeansResult(
        centroids=space.coordinates(state.centroids),
        assignments=assignments if mask is None else jnp.where(mask, assignments, -1),
        counts=state.sweep.counts.astype(jnp.int32),
        inertia=jnp.sum(state.sweep.distances),
        iterations=state.iterations,
    )


@partial(jax.jit, static_argnames=("classes", "k", "restarts", "size"))
def _kmeans_per_class(
    key: jax.Array,
    points: jax.Array,
    labels: jax.Array,
    initial: jax.Array | None,
    max_iterations: jax.Array,
    tolerance: jax.Array,
    *,
    classes: int,
    k: int,
    restarts: int,
    size: int,
) -> KMeansResult:
    order = jnp.argsort(labels, stable=True)
    counts = jnp.bincount(labels, length=classes)
    starts = jnp.cumsum(counts) - counts
    padded = max(size, k)

    def of_class(
        of_one: tuple[jax.Array, jax.Array, jax.Array, jax.Array | None],
    ) -> KMeansResult:
        key, start, count, initial = of_one
        places = jnp.arange(padded)
        rows = order[jnp.minimum(start + places, len(points) - 1)]
        # Copied as whole rows; fused into the arithmetic, the copying would be done number by number.
        members = _together(points[rows])
        clusters: KMeansResult = _kmeans(
            key, members, places < count, initial, max_iterations, tolerance, k=k, restarts=restarts
        )
        return clusters

    classes_at_once = max(1, _FLOATS_AT_ONCE // (padded * points.shape[1]))
    inputs = (jax.random.split(key, classes), starts, counts, initial)
    if classes_at_once >= classes:
        results = jax.vmap(of_class)(inputs)
    else:
        results = jax.lax.map(of_class, inputs, batch_size=classes_at_once)
    place = jnp.zeros(len(points), jnp.int32).at[order].set(jnp.arange(len(points), dtype=jnp.int32))
    assignments = results.assignments[labels, place - starts[labels]]
    return results._replace(assignments=assignments)


def _traced(array: object) -> bool:
    return isinstance(array, jax.core.Tracer)


def _check_numbers(k: int, max_iterations: int, tolerance: float, restarts: int) -> None:
    for name, number in (("clusters", k), ("max_iterations", max_iterations), ("num_restarts", restarts)):
        if not _traced(number) and number < 1:
            raise ValueError(f"k-means is asked for {name} = {number}; it takes 1 or more.")
    if not _traced(tolerance) and not tolerance >= 0:
        raise ValueError(f"k-means has tolerance {tolerance}; it must be 0 or more.")


def _check_labels(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Raises for impossible labels; returns the points of each class."""
    if len(labels) and (labels.min() < 0 or labels.max() >= num_classes):
        raise ValueError(
            f"Labels go from {labels.min()} to {labels.max()}; of {num_classes} classes they must be "
            f"0 … {num_classes - 1}."
        )
    counts: np.ndarray = np.bincount(labels, minlength=num_classes)
    if not counts.all():
        raise ValueError(f"Class {int(np.argmin(counts))} has no point: every class needs one at least.")
    return counts


def _warn_of_small_classes(counts: np.ndarray, clusters: int) -> None:
    small = np.flatnonzero(counts < clusters)
    if len(small):
        named = ", ".join(map(str, small[:5])) + (" …" if len(small) > 5 else "")
        warnings.warn(
            f"{len(small)} of {len(counts)} classes have fewer points than clusters_per_class = {clusters}, "
            f"and get as many clusters as they have points: {named}.",
            stacklevel=3,
        )


def _check_finite(points: jax.Array | np.ndarray, result: KMeansResult) -> None:
    """Raises for points that are not finite, which make the inertia so: they are looked for only then."""
    if _traced(result.inertia) or np.isfinite(result.inertia).all():
        return
    bad = np.flatnonzero(~np.isfinite(np.asarray(points, np.float32)).all(axis=1))
    where = (
        f"Point {bad[0]} is NaN or infinite"
        if len(bad)
        else "An initial centroid is NaN or infinite, or points are too far apart for float32"
    )
    raise ValueError(f"{where}: k-means needs finite numbers.")
