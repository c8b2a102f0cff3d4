"""Two ways to measure points against centroids: by coordinates, and by scalar products alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.clustering.exchange import of_all, of_first, sum_of

_ROWS_A_BLOCK = 5000  # at most
_FLOATS_TO_COPY = 2**23  # 32 MB
_ZERO = np.int32(0)  # of the starts' own type, where 64 bits are allowed, too

Carry = TypeVar("Carry")
together: Callable[[jax.Array], jax.Array] = jax.lax.optimization_barrier


class Sweep(NamedTuple):
    """What one pass over all points finds.

    Attributes:
      assignments: int32 `[n]`, the nearest centroid of each point, the first of equally near ones.
      distances: `[n]`, squared, to that centroid; 0 for points that don't count.
      sums: of the points of each centroid, in the space's own form `[k, …]`.
      counts: `[k]`, points of each centroid.
    """

    assignments: jax.Array
    distances: jax.Array
    sums: jax.Array
    counts: jax.Array


class Space(NamedTuple):
    """Points, and the operations that k-means needs of them; centroids are arrays `[k, …]` of its own form.

    Attributes:
      weights: `[n]`, 1 for points that count, else 0.
      sweep: centroids to a `Sweep`.
      sweep_from: coordinates `[k, dim]` of centroids that may lie anywhere to a `Sweep`.
      at: indices `[c]` of points to centroids that lie there.
      distances_to: indices `[c]` of points to squared distances `[c, n]`.
      coordinates: centroids to `[k, dim]`.
      own: numbers `[n]` of all points to those of this device's points.
      total: a number of each device to their sum.
    """

    weights: jax.Array
    sweep: Callable[[jax.Array], Sweep]
    sweep_from: Callable[[jax.Array], Sweep]
    at: Callable[[jax.Array], jax.Array]
    distances_to: Callable[[jax.Array], jax.Array]
    coordinates: Callable[[jax.Array], jax.Array]
    own: Callable[[jax.Array], jax.Array] = lambda values: values
    total: Callable[[jax.Array], jax.Array] = lambda value: value


def coordinate_space(points: jax.Array, mask: jax.Array | None, axes: tuple[str, ...] = ()) -> Space:
    """Distances from matrix products of points with centroids, a block of points at a time.

    Products are those of differences from the points' mean, so that a large common offset costs no digits.
    The differences of many points are taken block by block in every pass, from where the points lie:
    nothing of their size is made.

    Args:
      points: `[n, dim]`.
      mask: bool `[n]`, points that count; None: all.
      axes: of the mesh of devices over which points and mask are divided, each of which has `[n / devices]`:
        they learn the sums of all, and numbers of each point, but not each other's points. (): all are here.
    """
    count, dim = points.shape
    kind = jnp.promote_types(points.dtype, jnp.float32)
    rows = -(-count // -(-count // _ROWS_A_BLOCK))  # of equal blocks, as far as that goes
    weights = jnp.ones(count, kind) if mask is None else mask.astype(kind)

    def block(start: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Points from row `start`, and their weights."""
        part = jax.lax.dynamic_slice(points, (start, _ZERO), (rows, dim)).astype(kind)
        weight = jax.lax.dynamic_slice(weights, (start,), (rows,))
        return (part if mask is None else jnp.where(weight[:, None] > 0, part, 0)), weight

    # From one of them: where all points are equal, so is their centre.
    first = of_first(points[jnp.argmax(weights)].astype(kind), weights, axes)

    def add_to_sum(total: jax.Array, start: jax.Array, fresh: jax.Array) -> jax.Array:
        part, weight = block(start)
        return total + jnp.sum((part - first) * (weight * fresh)[:, None], axis=0)

    total = _over_blocks(count, rows, add_to_sum, jnp.zeros(dim, kind))
    centre = first + sum_of(total, axes) / jnp.maximum(sum_of(jnp.sum(weights), axes), 1)

    small = count * dim <= _FLOATS_TO_COPY
    centred = jnp.where(weights[:, None] > 0, points.astype(kind) - centre, 0) if small else points

    def centred_block(start: jax.Array) -> tuple[jax.Array, jax.Array]:
        if small:
            part = jax.lax.dynamic_slice(centred, (start, _ZERO), (rows, dim))
            return part, jax.lax.dynamic_slice(weights, (start,), (rows,))
        part, weight = block(start)
        return (part - centre) * (weight[:, None] if mask is not None else 1), weight

    def put_squares(squares: jax.Array, start: jax.Array, fresh: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice(
            squares, jnp.sum(jnp.square(centred_block(start)[0]), 1), (start,)
        )

    squares = _over_blocks(count, rows, put_squares, jnp.zeros(count, kind))

    def sweep(centroids: jax.Array) -> Sweep:
        half_squares = 0.5 * jnp.sum(jnp.square(centroids), axis=1)

        def add_block(so_far: Sweep, start: jax.Array, fresh: jax.Array) -> Sweep:
            part, weight = centred_block(start)
            scores = half_squares - _product(part, centroids)
            lowest = jnp.min(scores, axis=1)
            # Two plain minima are several times as fast on CPUs as argmin is.
            index = jax.lax.broadcasted_iota(jnp.int32, scores.shape, 1)
            nearest = jnp.min(jnp.where(scores == lowest[:, None], index, len(centroids)), axis=1)
            nearest = jnp.minimum(nearest, len(centroids) - 1)  # where a point is not a number
            sums, counts = _sums(part, nearest, weight * fresh, len(centroids))
            return Sweep(
                jax.lax.dynamic_update_slice(so_far.assignments, nearest, (start,)),
                jax.lax.dynamic_update_slice(so_far.distances, lowest, (start,)),
                so_far.sums + sums,
                so_far.counts + counts,
            )

        nothing = Sweep(
            jnp.zeros(count, jnp.int32),
            jnp.zeros(count, kind),
            jnp.zeros_like(centroids),
            jnp.zeros(len(centroids), kind),
        )
        swept = _over_blocks(count, rows, add_block, nothing)
        return Sweep(
            of_all(swept.assignments, axes),
            of_all(jnp.maximum(squares + 2 * swept.distances, 0) * weights, axes),
            sum_of(swept.sums, axes),
            sum_of(swept.counts, axes),
        )

    def at(indices: jax.Array) -> jax.Array:
        if not axes:
            return points[indices].astype(kind) - centre
        places = indices - jax.lax.axis_index(axes) * count
        here = (places >= 0) & (places < count)
        own = points[jnp.clip(places, 0, count - 1)].astype(kind) - centre
        return sum_of(jnp.where(here[:, None], own, 0), axes)

    def distances_to(indices: jax.Array) -> jax.Array:
        chosen = at(indices)
        chosen_squares = jnp.sum(jnp.square(chosen), axis=1)

        def put_block(so_far: jax.Array, start: jax.Array, fresh: jax.Array) -> jax.Array:
            return jax.lax.dynamic_update_slice(
                so_far, _product(chosen, centred_block(start)[0]), (_ZERO, start)
            )

        products = _over_blocks(count, rows, put_block, jnp.zeros((len(indices), count), kind))
        distances = jnp.maximum(squares + chosen_squares[:, None] - 2 * products, 0) * weights
        return of_all(distances, axes, axis=1)

    def sweep_from(coordinates: jax.Array) -> Sweep:
        return sweep(coordinates.astype(kind) - centre)

    def own(values: jax.Array) -> jax.Array:
        if not axes:
            return values
        return jax.lax.dynamic_slice(values, (jax.lax.axis_index(axes) * count,), (count,))

    return Space(
        of_all(weights, axes),
        sweep,
        sweep_from,
        at,
        distances_to,
        lambda centroids: centroids + centre,
        own,
        partial(sum_of, axes=axes),
    )


def product_space(points: jax.Array, mask: jax.Array) -> Space:
    """Distances from the scalar products of all pairs of points: for fewer points than dimensions.

    A centroid is the share `[n]` that each point has in it. Once the products are there, no iteration
    touches the coordinates again. Products are those of differences from one of the points.

    Args:
      points: `[n, dim]`.
      mask: bool `[n]`, points that count.
    """
    kind = jnp.promote_types(points.dtype, jnp.float32)
    weights = mask.astype(kind)
    first = points[jnp.argmax(weights)].astype(kind)
    offsets = jnp.where(mask[:, None], points.astype(kind) - first, 0)
    products = _product(offsets, offsets)
    squares = jnp.diagonal(products)

    def sweep_of(products_with: jax.Array, centroid_squares: jax.Array) -> Sweep:
        """A sweep from scalar products `[k, n]` of centroids with points."""
        distances = squares + centroid_squares[:, None] - 2 * products_with
        lowest = jnp.min(distances, axis=0)
        nearest = jnp.argmin(distances, axis=0).astype(jnp.int32)
        sums = (nearest == jnp.arange(len(products_with))[:, None]) * weights
        return Sweep(nearest, jnp.maximum(lowest, 0) * weights, sums, jnp.sum(sums, axis=1))

    def sweep(shares: jax.Array) -> Sweep:
        products_with = _product(shares, products)  # these are symmetric
        return sweep_of(products_with, jnp.sum(products_with * shares, axis=1))

    def sweep_from(coordinates: jax.Array) -> Sweep:
        centroids = coordinates.astype(kind) - first
        return sweep_of(_product(offsets, centroids).T, jnp.sum(jnp.square(centroids), axis=1))

    def at(indices: jax.Array) -> jax.Array:
        return jax.nn.one_hot(indices, len(points), dtype=kind)

    def distances_to(indices: jax.Array) -> jax.Array:
        return jnp.maximum(squares + squares[indices][:, None] - 2 * products[indices], 0) * weights

    def coordinates(shares: jax.Array) -> jax.Array:
        return _product(shares, offsets.T) + first

    return Space(weights, sweep, sweep_from, at, distances_to, coordinates)


def squared_differences(
    points: jax.Array, mask: jax.Array | None, centroids: jax.Array, assignments: jax.Array
) -> jax.Array:
    """Squared distances `[n]` of points to their own centroids, which keep the digits that products lose.

    Args:
      points: `[n, dim]`.
      mask: bool `[n]`, points that count, the others have 0; None: all.
      centroids: `[k, dim]`.
      assignments: int `[n]`.
    """
    count, dim = points.shape
    rows = -(-count // -(-count // _ROWS_A_BLOCK))

    def put_block(so_far: jax.Array, start: jax.Array, fresh: jax.Array) -> jax.Array:
        part = jax.lax.dynamic_slice(points, (start, _ZERO), (rows, dim)).astype(centroids.dtype)
        # Copied as whole rows, not number by number.
        own: jax.Array = together(centroids[jax.lax.dynamic_slice(assignments, (start,), (rows,))])
        distances = jnp.sum(jnp.square(part - own), axis=1)
        return jax.lax.dynamic_update_slice(so_far, distances, (start,))

    distances = _over_blocks(count, rows, put_block, jnp.zeros(count, centroids.dtype))
    return distances if mask is None else jnp.where(mask, distances, 0)


def _over_blocks(
    count: int, rows: int, visit: Callable[[Carry, jax.Array, jax.Array], Carry], so_far: Carry
) -> Carry:
    """`visit(so_far, start, fresh)` for every block; the last may overlap, its fresh rows are marked 1."""
    if rows == count:
        return visit(so_far, jnp.int32(0), jnp.ones(rows, jnp.float32))

    def body(index: jax.Array, so_far: Carry) -> Carry:
        start = jnp.minimum(index * rows, count - rows).astype(jnp.int32)
        fresh = start + jnp.arange(rows) >= index * rows
        return visit(so_far, start, fresh.astype(jnp.float32))

    carry: Carry = jax.lax.fori_loop(0, -(-count // rows), body, so_far)
    return carry


def _product(x: jax.Array, y: jax.Array) -> jax.Array:
    """`x @ y.T` in full float32, also where accelerators would take fewer digits."""
    return jax.lax.dot_general(x, y, (((1,), (1,)), ((), ())), precision="highest")


def _sums(
    points: jax.Array, assignments: jax.Array, weights: jax.Array, k: int
) -> tuple[jax.Array, jax.Array]:
    """Sums of points `[n, dim]` and of weights by cluster; points of weight 0 don't count."""
    if jax.default_backend() == "cpu":
        clusters = jnp.where(weights > 0, assignments, k)
        sums = jax.ops.segment_sum(points, clusters, k + 1)[:k]
        return sums, jax.ops.segment_sum(weights, clusters, k + 1)[:k]
    # Accelerators add scattered values in no fixed order.
    chosen = (assignments[:, None] == jnp.arange(k)) * weights[:, None]
    return _product(chosen.T, points.T), jnp.sum(chosen, axis=0)
