"""Points that float32 holds badly: wide numbers lose their mean first, tiny ones are enlarged, and where
products in float32 turn out too coarse, float64 decides."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.distances import float64

Array = jax.Array | np.ndarray
_SMALLEST_EXTENT = 1e-12  # the squares of less, and shares of them, leave float32's range
_COARSE = 1e-3  # share of the inertia by which the sum from products may be wrong
_ROWS_A_BLOCK = 5000


class Found(NamedTuple):
    """What compiled k-means finds; shapes may begin with classes.

    Attributes:
      centroids, assignments, counts, inertia, iterations: as of `KMeansResult`.
      from_products: the inertia as the last iteration's products have it.
    """

    centroids: Array
    assignments: Array
    counts: Array
    inertia: Array
    iterations: Array
    from_products: Array


Run = Callable[[Array, Array | None], Found]
"""k-means of points, from seeds or from the initial centroids given."""


def traced(array: object) -> bool:
    return isinstance(array, jax.core.Tracer)


def precise(
    run: Run, points: Array, initial: Array | None, *, mask: Array | None = None, labels: Array | None = None
) -> Found:
    """What `run` finds of points in float32, which may be wide, tiny, or tight clusters far apart.

    Args:
      run: k-means.
      points: `[n, dim]`.
      initial: `[k, dim]` or `[classes, k, dim]`, or None.
      mask: bool `[n]`, points that count; None: all.
      labels: int `[n]`, of points that are clustered class by class.
    """
    if any(map(traced, (points, initial, mask, labels))):
        return run(points, initial)
    moved = _moved(points, initial, mask, labels)
    found = run(moved.points, moved.initial)
    if traced(found.inertia):  # by the key
        return found
    if not too_coarse(found, np.size(moved.points), moved.rounding):
        return _moved_back(found, moved)
    with float64():
        start = None if moved.initial is None else np.asarray(moved.initial, np.float64)
        exact = Found(*map(np.asarray, run(np.asarray(moved.points, np.float64), start)))
    back = _moved_back(exact, moved)
    inertia = _inertia(np.asarray(points), back, labels)
    return back._replace(
        inertia=inertia if moved.wide else jnp.asarray(inertia, jnp.float32),
        assignments=jnp.asarray(back.assignments, jnp.int32),
    )


class _Moved(NamedTuple):
    """Points near the origin, of a length near 1 if they were tiny.

    Attributes:
      points, initial: to be clustered instead.
      centre: float64 `[dim]`, or `[classes, 1, dim]`, that was taken off; 0 where nothing was.
      scale: what they were multiplied by.
      wide: whether the points given have more digits than float32.
      rounding: of the points' own coordinates.
    """

    points: Array
    initial: Array | None
    centre: np.ndarray
    scale: float
    wide: bool
    rounding: float


def _moved(points: Array, initial: Array | None, mask: Array | None, labels: Array | None) -> _Moved:
    wide = _is_wide(points)
    counted = slice(None) if mask is None else np.asarray(mask)
    if not wide:
        # On an accelerator the extremes are found where the points are.
        rows = points if mask is None else np.asarray(points)[counted]
        low, high = (float(extreme) for extreme in (rows.min(), rows.max()))
        centre, largest = np.zeros(()), max(-low, high)
        extent = high - low
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            rows = np.asarray(points, np.float64)
            if labels is None:
                centre = of_row = rows[counted].mean(axis=0)
            else:
                numbers = np.asarray(labels)
                order = np.argsort(numbers, kind="stable")
                counts = np.bincount(numbers)
                sums = np.add.reduceat(rows[order], np.cumsum(counts) - counts)
                centre = (sums / counts[:, None])[:, None]
                of_row = centre[numbers, 0]
            points = rows - of_row
            if mask is not None:
                points = np.where(np.asarray(mask)[:, None], points, 0)
            initial = None if initial is None else np.asarray(initial, np.float64) - centre
            extent = largest = float(np.abs(points).max())
    scale = scale_of(extent)
    if scale != 1:
        points = np.asarray(points, np.float64) * scale
        initial = None if initial is None else np.asarray(initial, np.float64) * scale
    rounding = largest * scale * float(np.finfo(np.float32).eps)
    return _Moved(points, initial, centre, scale, wide, rounding)


def scale_of(extent: float) -> float:
    """What points of an extent are multiplied by, a power of two: nothing is rounded."""
    return math.ldexp(1.0, -math.frexp(extent)[1]) if 0 < extent < _SMALLEST_EXTENT else 1.0


def _is_wide(points: Array) -> bool:
    kind, size = np.dtype(points.dtype).kind, np.dtype(points.dtype).itemsize
    # With 64 bits allowed, compiled code takes float64 as it is.
    return (kind == "f" and size > 4 and not _allows_64_bits()) or (kind in "iu" and size > 2)


def _allows_64_bits() -> bool:
    return np.dtype(jax.dtypes.canonicalize_dtype(np.float64)) == np.float64


def too_coarse(found: Found, size: int, rounding: float) -> bool:
    """Whether products in float32 missed the inertia by so much that they cannot have told clusters apart.

    Args:
      found: of points.
      size: numbers of all points.
      rounding: of each of them.
    """
    inertia, roughly = np.asarray(found.inertia), np.asarray(found.from_products)
    if found.centroids.dtype == np.float64 or not np.isfinite(inertia).all():
        return False
    least = size * rounding**2
    return bool(((np.abs(roughly - inertia) > _COARSE * inertia) & (inertia > least)).any())


def _moved_back(found: Found, moved: _Moved) -> Found:
    if not moved.wide and moved.scale == 1 and found.centroids.dtype != np.float64:
        return found
    centroids = np.asarray(found.centroids, np.float64) / moved.scale + moved.centre
    inertia = found.inertia
    if moved.scale != 1:  # in float64, for it may lie below all that float32 has
        inertia = np.asarray(inertia, np.float64) / moved.scale**2
    return found._replace(
        centroids=centroids if moved.wide else jnp.asarray(centroids, jnp.float32), inertia=inertia
    )


def _inertia(points: np.ndarray, found: Found, labels: Array | None) -> np.ndarray:
    """The sum of squared differences, in float64, of points from the centroids that are returned."""
    assignments, centroids = np.asarray(found.assignments), np.asarray(found.centroids, np.float64)
    distances = np.zeros(len(points))
    for start in range(0, len(points), _ROWS_A_BLOCK):
        where = slice(start, start + _ROWS_A_BLOCK)
        nearest = centroids[assignments[where]] if labels is None else (
            centroids[np.asarray(labels)[where], assignments[where]]
        )  # fmt: skip
        distances[where] = np.square(points[where].astype(np.float64) - nearest).sum(axis=1)
    distances[assignments < 0] = 0
    if labels is None:
        return np.asarray(distances.sum())
    return np.bincount(np.asarray(labels), weights=distances, minlength=len(centroids))
