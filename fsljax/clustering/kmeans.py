"""k-means of all points, and of every class by itself."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from fsljax.clustering import lloyd
from fsljax.clustering.checks import (
    check_labels,
    check_numbers,
    checked_mask,
    checked_points,
    warn_of_small_classes,
)
from fsljax.clustering.precision import Found, precise, traced
from fsljax.clustering.spaces import Space, coordinate_space, product_space, squared_differences, together

Array = jax.Array | np.ndarray
_AS_GOOD = 1e-4  # share by which the inertia of the best restart may be above the least
_FLOATS_AT_ONCE = 2**25


class KMeansResult(NamedTuple):
    """Result of `kmeans` and, where shapes begin with classes, of `kmeans_per_class`.

    Attributes:
      centroids: `[k, dim]` or `[classes, k, dim]`; NumPy's float64 where the points are.
      assignments: int32 `[n]`, the nearest centroid of each point (of its own class), 0 … k − 1, the first
        of equally near ones; −1 for points that the mask leaves out.
      counts: int32 `[k]` or `[classes, k]`, points of each cluster; 0 marks one that does not exist.
      inertia: `[]` or `[classes]`, the sum of squared differences of points from their centroids.
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
      points: `[n, dim]`; computed in float32. Where values are at hand, not traced: NumPy's float64, and
        whole numbers that float32 would round, lose their mean first, and clusters that are too tight against
        their distance for products in float32 are found in float64.
      num_clusters: k, at most the number of points.
      mask: `[n]`, True or 1 for points that count, else False or 0; None: all count.
      max_iterations: Lloyd's iterations at most, 1 or more.
      tolerance: iterations end when the inertia falls by no more than this share of itself.
      initial_centroids: `[k, dim]` to begin with, instead of seeds.
      num_restarts: the best of that many runs from seeds of their own.

    Returns:
      A `KMeansResult`. Assignments are those to the centroids returned.

    Raises:
      AssertionError: if shapes don't agree.
      ValueError: if there are more clusters than points, a number is below 1 or not whole, a tolerance below
        0, or (where the values are at hand, not traced) a point is no number, NaN or infinite, or the mask
        holds other than True and False.
    """
    chex.assert_rank(points, 2)
    if mask is not None:
        chex.assert_shape(mask, (len(points),))
    if initial_centroids is not None:
        chex.assert_shape(initial_centroids, (num_clusters, points.shape[1]))
    check_numbers(num_clusters, max_iterations, tolerance, num_restarts)
    points, mask = checked_points(points), checked_mask(mask)
    count = len(points) if mask is None or traced(mask) else int(np.sum(np.asarray(mask)))
    if num_clusters > count:
        raise ValueError(
            f"kmeans is asked for {num_clusters} clusters of {count} points: ask for {count} at most."
        )

    def run(points: Array, initial: Array | None) -> Found:
        found: Found = _kmeans(
            key, points, mask, initial, max_iterations, tolerance, k=num_clusters, restarts=num_restarts
        )
        return found

    return _result(points, precise(run, points, initial_centroids, mask=mask))


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
    check_numbers(clusters_per_class, max_iterations, tolerance, num_restarts)
    points = checked_points(points)
    if not traced(labels):
        counts = check_labels(np.asarray(labels), num_classes)
        warn_of_small_classes(counts, clusters_per_class)
        most = int(counts.max())
        if max_points_per_class is not None and most > max_points_per_class:
            raise ValueError(
                f"A class has {most} points, more than max_points_per_class = {max_points_per_class}."
            )
        max_points_per_class = max_points_per_class or most
    size = min(max_points_per_class or len(points), len(points))

    def run(points: Array, initial: Array | None) -> Found:
        found: Found = _kmeans_per_class(
            key, points, labels, initial, max_iterations, tolerance,
            classes=num_classes, k=clusters_per_class, restarts=num_restarts, size=size,
        )  # fmt: skip
        return found

    return _result(points, precise(run, points, initial_centroids, labels=labels))


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
) -> Found:
    if len(points) <= points.shape[1]:
        space = product_space(points, jnp.ones(len(points), bool) if mask is None else mask.astype(bool))
    else:
        space = coordinate_space(points, mask)

    def once(key: jax.Array) -> Found:
        if initial is not None:
            first = space.sweep_from(initial)
        else:
            first = space.sweep(space.at(lloyd.seed(key, space, k)))
        return _found(points, mask, space, lloyd.iterate(space, first, max_iterations, tolerance))

    if restarts == 1 or initial is not None:
        return once(key)
    results = jax.lax.map(once, jax.random.split(key, restarts))
    # The least by products, as iterations compare them, unless these were too coarse for it.
    least = jnp.argmin(results.from_products)
    close = results.inertia[least] <= (1 + _AS_GOOD) * jnp.min(results.inertia)
    chosen = jnp.where(close, least, jnp.argmin(results.inertia))
    best: Found = jax.tree.map(lambda values: values[chosen], results)
    return best


def every_cluster(centroids: jax.Array, counts: jax.Array) -> jax.Array:
    """Centroids `[classes, k, dim]` in which clusters that do not exist lie at the first one of their class.

    Args:
      centroids: `[classes, k, dim]`.
      counts: `[classes, k]`, 0 where there is no cluster, as in a class of fewer points than k.
    """
    first = jnp.argmax(counts > 0, axis=1)[:, None, None]
    return jnp.where(counts[..., None] > 0, centroids, jnp.take_along_axis(centroids, first, axis=1))


def _found(points: jax.Array, mask: jax.Array | None, space: Space, state: lloyd.LloydState) -> Found:
    assignments = state.sweep.assignments
    centroids = space.coordinates(state.centroids)
    distances = squared_differences(points, mask, centroids, assignments)
    return Found(
        centroids=centroids,
        assignments=assignments if mask is None else jnp.where(mask, assignments, -1),
        counts=state.sweep.counts.astype(jnp.int32),
        inertia=_sum(distances),
        iterations=state.iterations,
        from_products=jnp.sum(state.sweep.distances),
    )


def _sum(values: jax.Array) -> jax.Array:
    """A sum of sums: of a million numbers in float32 one after another, the last digits are lost."""
    side = max(1, math.isqrt(len(values)))
    return jnp.sum(jnp.sum(jnp.pad(values, (0, -len(values) % side)).reshape(-1, side), axis=1))


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
) -> Found:
    order = jnp.argsort(labels, stable=True)
    counts = jnp.bincount(labels, length=classes)
    starts = jnp.cumsum(counts) - counts
    padded = max(size, k)

    def of_class(
        of_one: tuple[jax.Array, jax.Array, jax.Array, jax.Array | None],
    ) -> Found:
        key, start, count, initial = of_one
        places = jnp.arange(padded)
        rows = order[jnp.minimum(start + places, len(points) - 1)]
        # Copied as whole rows; fused into the arithmetic, the copying would be done number by number.
        members = together(points[rows])
        clusters: Found = _kmeans(
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


def _result(points: Array, found: Found) -> KMeansResult:
    """What was found, unless a point is not finite: it makes the inertia so, and is looked for only then."""
    result = KMeansResult(*found[:-1])  # type: ignore[arg-type]
    if traced(result.inertia) or np.isfinite(result.inertia).all():
        return result
    with np.errstate(over="ignore"):
        bad = np.flatnonzero(~np.isfinite(np.asarray(points, np.float32)).all(axis=1))
    where = (
        f"Point {bad[0]} is NaN or infinite"
        if len(bad)
        else "An initial centroid is NaN or infinite, or points are too far apart for float32"
    )
    raise ValueError(f"{where}: k-means needs finite numbers.")
