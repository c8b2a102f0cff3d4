"""The nearest rows of a gallery, ordered by distances in float64.

No array of all pairs is created. Queries are processed in compiled blocks: a matrix product of points centred
on the gallery's mean finds the candidates of each query, which are then ordered by their sums of squared
differences in float64. The rounding error of the product is bounded; if the bound cannot rule out that a
neighbour is missing among the candidates, as in clusters that are tight compared with their distance from the
mean, a float64 product finds them; if that is not conclusive either, differences from the whole gallery are
computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache, cached_property, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.data.batches import fill_rows
from fsljax.distances import float64
from fsljax.errors import UserError
from fsljax.parallel.devices import ONE, Devices

# Candidates beyond those asked for: rounding of the product may push a neighbour a few places back.
_SPARE = 16
_FLOATS_A_BLOCK = 16_000_000
_FLOATS_TO_WIDEN = 2**25  # 256 MB: differences are taken faster from what is float64 already
_UNDERFLOW = 1e-30  # of lengths 1 at most: what products may lose below float32's smallest number


def in_order(
    queries: np.ndarray, gallery: np.ndarray | None, count: int, devices: Devices = ONE
) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of queries with their nearest neighbours, nearest first; ties go to the lower index.

    Args:
      queries: float32 or float64 `[n, dim]`, finite.
      gallery: likewise `[m, dim]`; None: the neighbours of each query are the other queries.
      count: number of neighbours.
      devices: devices to distribute the queries of a block over, each with the whole gallery.

    Yields:
      The slice of the block within the queries, and indices int32 `[block, count]` into the gallery.

    Raises:
      UserError: if there are fewer than `count` neighbours.
    """
    alone = gallery is None
    gallery = queries if gallery is None else gallery
    others, dim = len(gallery) - alone, gallery.shape[1]
    if not 0 < count <= others:
        raise UserError(
            f"{count} nearest neighbours were requested, but each query has {others}: ask for 1 to "
            f"{others}, or give more examples."
        )
    candidates = min(count + _SPARE, others)
    most = _FLOATS_A_BLOCK // (2 * len(gallery) + candidates * (dim + 4))
    size = max(1, min(-(-len(queries) // len(devices)), most)) * len(devices)
    themselves = np.arange(len(queries), dtype=np.int32) if alone else np.full(len(queries), -1, np.int32)
    with float64():
        search = _Search(gallery, count, candidates, devices)
    for start in range(0, len(queries), size):
        where = slice(start, min(start + size, len(queries)))
        # Entered anew for each block: it holds for the thread, and so for who takes the block.
        with float64():
            yielded = search.nearest(queries[where], themselves[where], size)
        yield where, yielded


class _Points(NamedTuple):
    """A gallery as products take it: offsets from its mean, of length 1 at most, and half their squares."""

    offsets: jax.Array
    half_squares: jax.Array


class _Search:
    """A gallery on the devices, and the ways to look through it."""

    def __init__(self, gallery: np.ndarray, count: int, candidates: int, devices: Devices) -> None:
        small = gallery.size <= _FLOATS_TO_WIDEN
        self._gallery = jnp.asarray(gallery, jnp.float64 if small else gallery.dtype)
        self._centre, longest = _extent(self._gallery)
        # By a power of two nothing is rounded, and the squares of very short vectors stay in range.
        self._scale = math.ldexp(1.0, -math.frexp(float(longest))[1])
        self._count, self._devices = count, devices
        self._compiled = _nearest_by(devices, count, candidates)
        self._everywhere = devices.replicate((self._gallery, self._centre, self._scale))

    def nearest(self, queries: np.ndarray, themselves: np.ndarray, size: int) -> np.ndarray:
        """Indices int32 `[n, count]`; queries are padded to `size` rows."""
        by_single, open_still = self._by_product(self._single, queries, themselves, size)
        if not len(open_still):
            return by_single
        of_open = queries[open_still], themselves[open_still]
        by_single[open_still], left = self._by_product(self._double, *of_open, size)
        for row in np.array_split(open_still[left], max(1, len(left))) if len(left) else ():
            by_single[row] = _by_differences(
                jnp.asarray(queries[row]), jnp.asarray(themselves[row]), self._gallery, self._scale,
                count=self._count,
            )  # fmt: skip
        return by_single

    def _by_product(
        self, points: _Points, queries: np.ndarray, themselves: np.ndarray, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Indices int32 `[n, count]`, and which rows they may be wrong in."""
        own = self._devices.share(size)
        rows = (fill_rows(column, size)[own] for column in (queries, themselves))
        ordered, proven = self._compiled(
            (points, *self._everywhere), tuple(map(self._devices.put_rows, rows))
        )
        return np.array(ordered)[: len(queries)], np.flatnonzero(~np.asarray(proven)[: len(queries)])

    @cached_property
    def _single(self) -> _Points:
        points = _points(self._gallery, self._centre, self._scale, kind=jnp.float32)
        return self._devices.replicate(points)

    @cached_property
    def _double(self) -> _Points:
        points = _points(self._gallery, self._centre, self._scale, kind=jnp.float64)
        return self._devices.replicate(points)


@cache
def _nearest_by(devices: Devices, count: int, candidates: int) -> Callable[..., tuple[jax.Array, jax.Array]]:
    return devices.over_rows(partial(_nearest, count=count, candidates=candidates))


def _nearest(
    searched: tuple[_Points, jax.Array, jax.Array, jax.Array],
    rows: tuple[jax.Array, jax.Array],
    *,
    count: int,
    candidates: int,
) -> tuple[jax.Array, jax.Array]:
    """Indices int32 `[n, count]`, and bool `[n]`, whether no other row can be as near as the last of them."""
    (points, gallery, centre, scale), (queries, themselves) = searched, rows
    offsets = _offsets(queries, centre, scale)
    kind, places = points.offsets.dtype, jnp.arange(len(gallery), dtype=jnp.int32)
    scores = jnp.matmul(offsets.astype(kind), points.offsets.T, precision="highest") - points.half_squares
    scores = jnp.where(places == themselves[:, None], -jnp.inf, scores)
    greatest = jnp.max(scores, axis=1, keepdims=True)
    # The largest of float32 are found much faster; below the greatest score they lose few of its digits.
    best, nearest = jax.lax.top_k((scores - greatest).astype(jnp.float32), candidates)
    differences = queries[:, None].astype(jnp.float64) - gallery[nearest].astype(jnp.float64)
    distances = jnp.sum(jnp.square(differences * scale), axis=-1)
    distances, ordered = jax.lax.sort((distances, nearest.astype(jnp.int32)), num_keys=2)

    # A row that is no candidate scores no more than the last one does; a score and its row's distance are
    # bound by ‖x − c‖² − 2 score, and a sum of products errs by no more than so many roundings of it.
    squares = jnp.sum(jnp.square(offsets), axis=-1)
    below = best[:, -1].astype(jnp.float64)
    roundings, of_double = gallery.shape[1] + 8, jnp.finfo(jnp.float64).eps
    error = roundings * jnp.finfo(kind).eps * (jnp.sqrt(squares) + 1) + _UNDERFLOW
    last = greatest[:, 0] + below * (1 - 4 * jnp.finfo(jnp.float32).eps) + error
    least = squares * (1 - roundings * of_double) - 2 * last
    others = len(gallery) - (themselves >= 0)
    proven = (distances[:, count - 1] * (1 + roundings * of_double) < least) | (candidates == others)
    return ordered[:, :count], proven & jnp.isfinite(below)


@partial(jax.jit, static_argnames="count")
def _by_differences(
    queries: jax.Array, themselves: jax.Array, gallery: jax.Array, scale: jax.Array, *, count: int
) -> jax.Array:
    differences = queries[:, None].astype(jnp.float64) - gallery.astype(jnp.float64)
    distances = jnp.sum(jnp.square(differences * scale), axis=-1)
    rows = jnp.arange(len(gallery), dtype=jnp.int32)
    distances = jnp.where(rows == themselves[:, None], jnp.inf, distances)
    return jax.lax.top_k(-distances, count)[1].astype(jnp.int32)


@jax.jit
def _extent(gallery: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mean float64 `[dim]` of rows, and how far one lies from it at most."""
    centre = jnp.mean(gallery.astype(jnp.float64), axis=0)
    squares = jnp.sum(jnp.square(gallery.astype(jnp.float64) - centre), axis=-1)
    return centre, jnp.sqrt(jnp.max(squares))


@partial(jax.jit, static_argnames="kind")
def _points(gallery: jax.Array, centre: jax.Array, scale: jax.Array, *, kind: type) -> _Points:
    offsets = _offsets(gallery, centre, scale)
    half_squares = jnp.sum(jnp.square(offsets), axis=-1) / 2
    return _Points(offsets.astype(kind), half_squares.astype(kind))


@jax.jit
def _offsets(rows: jax.Array, centre: jax.Array, scale: jax.Array) -> jax.Array:
    return (rows.astype(jnp.float64) - centre) * scale
