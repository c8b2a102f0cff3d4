"""k-means of all points, or of each class separately."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from fsljax.clustering.by_devices import (
    divided_axes,
    first_not_finite,
    kmeans_of_classes_by_devices,
    kmeans_of_divided,
)
from fsljax.clustering.checks import (
    check_labels,
    check_numbers,
    checked_mask,
    checked_points,
    warn_of_small_classes,
)
from fsljax.clustering.compiled import kmeans_of_all, kmeans_of_classes
from fsljax.clustering.precision import Found, precise, traced
from fsljax.parallel.devices import ONE, Devices

Array = jax.Array | np.ndarray


class KMeansResult(NamedTuple):
    """Result of `kmeans` and, where shapes begin with classes, of `kmeans_per_class`.

    Attributes:
      centroids: `[k, dim]` or `[classes, k, dim]`; float64 (NumPy) if the points are.
      assignments: int32 `[n]`, the nearest centroid of each point (of its own class), 0 … k − 1, the first
        of equally near ones; −1 for masked-out points.
      counts: int32 `[k]` or `[classes, k]`, points in each cluster; 0 marks a cluster that does not exist.
      inertia: `[]` or `[classes]`, the sum of squared differences of points from their centroids.
      iterations: int32 `[]` or `[classes]`, number of centroid updates.
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

    An empty cluster is moved to the point farthest from its centroid. The inertia never rises from
    one iteration to the next, and the same key gives the same result. Works under jit and vmap.

    Args:
      key: a JAX random key, for the seeds.
      points: `[n, dim]`; computed in float32. Where values are at hand, not traced: NumPy's float64, and
        whole numbers that float32 would round, lose their mean first, and clusters that are too tight against
        their distance for products in float32 are found in float64. A `jax.Array` whose rows a
        NamedSharding divides over devices, of one process or several, stays divided: no device gets another's
        points, the centroids are those of the same points undivided but for rounding, and assignments come
        back divided likewise. JAX divides rows evenly: if n is no multiple of the devices, pad and mask.
      num_clusters: k, at most the number of points.
      mask: `[n]`, True or 1 for points that count, else False or 0; None: all count.
      max_iterations: maximum number of Lloyd iterations, 1 or more.
      tolerance: iterations end when the inertia decreases by no more than this fraction of itself.
      initial_centroids: `[k, dim]` to start from, instead of seeding.
      num_restarts: the best of this many runs, each with its own seeds.

    Returns:
      A `KMeansResult`. Assignments refer to the returned centroids.

    Raises:
      AssertionError: if shapes don't agree.
      ValueError: if there are more clusters than points, a count is below 1 or not an integer, the tolerance
        is negative, or (for concrete, untraced values) a point is NaN or infinite, or the mask holds anything
        but True and False.
    """
    chex.assert_rank(points, 2)
    if mask is not None:
        chex.assert_shape(mask, (len(points),))
    if initial_centroids is not None:
        chex.assert_shape(initial_centroids, (num_clusters, points.shape[1]))
    check_numbers(num_clusters, max_iterations, tolerance, num_restarts)
    points, axes = checked_points(points), divided_axes(points)
    mask = checked_mask(mask)
    count = len(points) if mask is None or traced(mask) else int(mask.sum())
    if num_clusters > count:
        raise ValueError(
            f"kmeans is asked for {num_clusters} clusters of {count} points: ask for {count} at most."
        )

    if axes and not any(map(traced, (key, mask, initial_centroids))):
        found = kmeans_of_divided(
            key, points, mask, initial_centroids, max_iterations, tolerance,
            axes=axes, k=num_clusters, restarts=num_restarts,
        )  # fmt: skip
        return _result(points, found)

    def run(points: Array, initial: Array | None) -> Found:
        found: Found = kmeans_of_all(
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
    devices: Devices = ONE,
) -> KMeansResult:
    """`kmeans` within each class separately, all classes in one compiled call.

    A class with fewer points than `clusters_per_class` gets as many clusters as it has (distinct) points;
    the counts of the others are 0. With concrete labels, a warning names these classes.

    Args:
      key: a JAX random key, for the seeds.
      points: `[n, dim]`.
      labels: int `[n]`, 0 … num_classes − 1.
      num_classes: classes.
      clusters_per_class: k.
      max_points_per_class: upper bound on the points in a class. None: counted from concrete labels; for
        traced labels n, which costs more work.
      max_iterations, tolerance, num_restarts: as in `kmeans`.
      initial_centroids: `[classes, k, dim]` to start from, instead of seeding.
      devices: that share the classes, where nothing is traced: each is sent the points of its own. Results
        are those of one device but for rounding, and lie on one.

    Returns:
      A `KMeansResult` with a leading axis of classes; assignments are local to the class.

    Raises:
      AssertionError: if shapes don't agree.
      ValueError: as in `kmeans`, and (for concrete, untraced labels) if a label is out of range, or a class
        has no points or more than `max_points_per_class`.
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
        divided = len(devices) > 1 and not any(map(traced, (key, points, labels, initial)))
        compiled = partial(kmeans_of_classes_by_devices, devices) if divided else kmeans_of_classes
        found: Found = compiled(
            key, points, labels, initial, max_iterations, tolerance,
            classes=num_classes, k=clusters_per_class, restarts=num_restarts, size=size,
        )  # fmt: skip
        return found

    return _result(points, precise(run, points, initial_centroids, labels=labels))


def every_cluster(centroids: jax.Array, counts: jax.Array) -> jax.Array:
    """Centroids `[classes, k, dim]` in which clusters that do not exist lie at the first one of their class.

    Args:
      centroids: `[classes, k, dim]`.
      counts: `[classes, k]`, 0 where there is no cluster, as in a class of fewer points than k.
    """
    first = jnp.argmax(counts > 0, axis=1)[:, None, None]
    return jnp.where(counts[..., None] > 0, centroids, jnp.take_along_axis(centroids, first, axis=1))


def _result(points: Array, found: Found) -> KMeansResult:
    """What was found, unless a point is not finite: it makes the inertia so, and is looked for only then."""
    result = KMeansResult(*found[:-1])  # type: ignore[arg-type]
    if traced(result.inertia) or np.isfinite(result.inertia).all():
        return result
    if divided_axes(points):
        bad = first_not_finite(points)
    else:
        with np.errstate(over="ignore"):
            rows = np.flatnonzero(~np.isfinite(np.asarray(points, np.float32)).all(axis=1))
        bad = int(rows[0]) if len(rows) else None
    where = (
        f"Point {bad} is NaN or infinite"
        if bad is not None
        else "An initial centroid is NaN or infinite, or points are too far apart for float32"
    )
    raise ValueError(f"{where}: k-means needs finite numbers.")
