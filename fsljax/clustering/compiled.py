"""k-means as it is compiled: of points in float32 that are known to be finite, by products alone."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fsljax.clustering import lloyd
from fsljax.clustering.precision import Array, Found
from fsljax.clustering.spaces import Space, coordinate_space, product_space, squared_differences, together

_AS_GOOD = 1e-4  # share by which the inertia of the best restart may be above the least
_FLOATS_AT_ONCE = 2**25


@partial(jax.jit, static_argnames=("k", "restarts"))
def kmeans_of_all(
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
    """k-means of points `[n, dim]`, of which the mask `[n]` counts."""
    if len(points) <= points.shape[1]:
        space = product_space(points, jnp.ones(len(points), bool) if mask is None else mask.astype(bool))
    else:
        space = coordinate_space(points, mask)
    return kmeans_in(space, key, points, mask, initial, max_iterations, tolerance, k=k, restarts=restarts)


def kmeans_in(
    space: Space,
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
    """k-means in a space, of which the points and the mask are this device's."""

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


def _found(points: jax.Array, mask: jax.Array | None, space: Space, state: lloyd.LloydState) -> Found:
    assignments = space.own(state.sweep.assignments)
    centroids = space.coordinates(state.centroids)
    distances = squared_differences(points, mask, centroids, assignments)
    return Found(
        centroids=centroids,
        assignments=assignments if mask is None else jnp.where(mask, assignments, -1),
        counts=state.sweep.counts.astype(jnp.int32),
        inertia=space.total(_sum(distances)),
        iterations=state.iterations,
        from_products=jnp.sum(state.sweep.distances),
    )


def _sum(values: jax.Array) -> jax.Array:
    """A sum of sums: of a million numbers in float32 one after another, the last digits are lost."""
    side = max(1, math.isqrt(len(values)))
    return jnp.sum(jnp.sum(jnp.pad(values, (0, -len(values) % side)).reshape(-1, side), axis=1))


@partial(jax.jit, static_argnames=("classes", "k", "restarts", "size"))
def kmeans_of_classes(
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
    """k-means of the points of each class, of at most `size` points."""
    order = jnp.argsort(labels, stable=True)
    counts = jnp.bincount(labels, length=classes)
    some = SomeClasses(jax.random.split(key, classes), jnp.cumsum(counts) - counts, counts, initial)
    results = kmeans_of_some(
        points, order, some, max_iterations, tolerance, k=k, restarts=restarts, size=size
    )
    return results._replace(assignments=in_order(results.assignments, labels, order, some.starts))


class SomeClasses(NamedTuple):
    """Of classes, random keys `[classes]`, where their points start and how many there are, int `[classes]`.

    `initial` are centroids `[classes, k, dim]` to begin with, or None.
    """

    keys: jax.Array
    starts: jax.Array
    counts: jax.Array
    initial: jax.Array | None


def kmeans_of_some(
    points: jax.Array,
    order: jax.Array | None,
    classes: SomeClasses,
    max_iterations: jax.Array,
    tolerance: jax.Array,
    *,
    k: int,
    restarts: int,
    size: int,
) -> Found:
    """k-means of the points of some classes, several classes at once as far as memory allows.

    Args:
      points: `[n, dim]`.
      order: int `[n]`, their positions class by class; None: they lie so.
      classes: which.
      max_iterations, tolerance, k, restarts: as of `kmeans`.
      size: points of a class at most.

    Returns:
      Assignments are `[classes, size]`, in the order of each class's points.
    """
    padded = max(size, k)

    def of_class(of_one: SomeClasses) -> Found:
        places = jnp.arange(padded)
        rows = jnp.minimum(of_one.starts + places, len(points) - 1)
        # Copied as whole rows; fused into the arithmetic, the copying would be done number by number.
        members = together(points[rows if order is None else order[rows]])
        found: Found = kmeans_of_all(
            of_one.keys, members, places < of_one.counts, of_one.initial, max_iterations, tolerance,
            k=k, restarts=restarts,
        )  # fmt: skip
        return found

    count = len(classes.starts)
    classes_at_once = max(1, _FLOATS_AT_ONCE // (padded * points.shape[1]))
    results: Found
    if classes_at_once >= count:
        results = jax.vmap(of_class)(classes)
    else:
        results = jax.lax.map(of_class, classes, batch_size=classes_at_once)
    return results


def in_order(assignments: Array, labels: Array, order: Array, starts: Array) -> jax.Array:
    """Assignments `[n]` of points as they are given, from those `[classes, size]` class by class."""
    place = jnp.zeros(len(labels), jnp.int32).at[order].set(jnp.arange(len(labels), dtype=jnp.int32))
    return jnp.asarray(assignments)[labels, place - jnp.asarray(starts[labels])]
