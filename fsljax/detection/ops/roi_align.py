"""Features of regions: RoIAlign over the levels of a feature pyramid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from fsljax.detection.ops.boxes import widened

_BOXES_A_TURN = 4


def roi_align(
    levels: Sequence[jax.Array],
    boxes: jax.Array,
    *,
    strides: Sequence[int],
    output_size: int = 7,
    samples: int = 2,
    canonical_size: float,
    canonical_level: int,
    level_tolerance: float = 0.0,
    aligned: bool = True,
) -> jax.Array:
    """RoIAlign: features of boxes, each from the level that fits its size (He et al., 2017, section 3).

    A box is divided into `output_size`² bins; a bin's feature is the mean of `samples`² points on a regular
    grid within it, each interpolated bilinearly from the four nearest cell centres. The centre of cell i lies
    at pixel (i + ½) · stride: no coordinate is rounded. Points beyond the outermost centres take the value at
    the border, and those more than half a cell outside the map count as 0.

    A box with sides h, w is pooled from level ⌊canonical_level + log₂(√(h·w) / canonical_size)⌋, clamped to
    the levels (Lin et al., 2017, equation 1). Sources: https://arxiv.org/abs/1703.06870 and
    https://arxiv.org/abs/1612.03144.

    Args:
      levels: `[height_l, width_l, channels]` each, finest first; strides double from one to the next, or are
        all equal, in which case all boxes are pooled from the first.
      boxes: `[n, 4]` in pixels; without gradient, as proposals are.
      strides: pixels per cell for each level.
      output_size: bins along each side.
      samples: points along each side of a bin.
      canonical_size: √(h·w) in pixels from which boxes are pooled from `canonical_level`.
      canonical_level: index into `levels`, from 0.
      level_tolerance: added before levels are rounded down.
      aligned: False: the centre of cell i lies at pixel i · stride, and boxes are at least one cell wide and
        high, as before the introduction of `aligned` (torchvision's Faster R-CNN, the first Detectron).

    Returns:
      `[n, output_size, output_size, channels]`, float32 (float64 if an input is).

    Raises:
      ValueError: if there is not exactly one stride per level.
    """
    chex.assert_rank(list(levels), 3)
    chex.assert_shape(boxes, (None, 4))
    if len(levels) != len(strides):
        raise ValueError(f"{len(levels)} levels but {len(strides)} strides; each level needs one.")
    boxes = jax.lax.stop_gradient(widened(boxes))
    sides = jnp.maximum(boxes[:, 2:] - boxes[:, :2], 0.0)
    sizes = 1 + round(math.log2(strides[-1] / strides[0]))
    level = _level(sides[:, 0] * sides[:, 1], sizes, canonical_size, canonical_level + level_tolerance)
    heights, widths = (np.array([level.shape[axis] for level in levels]) for axis in (0, 1))
    first_cells = np.concatenate([[0], np.cumsum(heights * widths)[:-1]])
    width = jnp.asarray(widths)[level]
    cells = boxes / jnp.asarray(strides, boxes.dtype)[level, None]
    if aligned:
        cells = cells - 0.5
    else:
        starts, ends = cells[:, :2], cells[:, 2:]
        cells = jnp.concatenate([starts, starts + jnp.maximum(ends - starts, 1.0)], axis=1)
    row = _points(cells[:, 0], cells[:, 2], jnp.asarray(heights)[level], output_size, samples)
    column = _points(cells[:, 1], cells[:, 3], width, output_size, samples)
    rows = row.cells * width[:, None, None] + jnp.asarray(first_cells)[level, None, None]
    # Without the barrier all of the above is worked out anew for each of a bin's points.
    grid = jax.lax.optimization_barrier(  # type: ignore[no-untyped-call]
        (rows, row.weights, column.cells, column.weights)
    )
    return _weighted_mean(_table(levels), *grid)


class _Points(NamedTuple):
    """Where a box's points lie along one axis: between which cells, and how near to each.

    Attributes:
      cells: int `[n, bins, 2 · samples]`.
      weights: `[n, bins, 2 · samples]`, which sum to 1 a bin, less where points lie outside.
    """

    cells: jax.Array
    weights: jax.Array


def _level(areas: jax.Array, levels: int, canonical_size: float, canonical_level: float) -> jax.Array:
    """The level of each box: how many of the levels' least areas it reaches, the first one's aside."""
    least = [(canonical_size * 2.0 ** (level - canonical_level)) ** 2 for level in range(1, levels)]
    return jnp.sum(areas[:, None] >= jnp.asarray(least, areas.dtype), axis=1)


def _points(starts: jax.Array, ends: jax.Array, cells: jax.Array, bins: int, samples: int) -> _Points:
    steps = (ends - starts) / (bins * samples)
    at = starts[:, None] + (jnp.arange(bins * samples) + 0.5) * steps[:, None]
    last = cells[:, None] - 1
    inside = (at >= -1) & (at <= cells[:, None])
    at = jnp.clip(at, 0, last.astype(at.dtype))
    # Indices are clipped themselves, so that a box that is no number reads no memory of others.
    before = jnp.clip(jnp.floor(at).astype(jnp.int32), 0, last)
    after = jnp.minimum(before + 1, last)
    nearness = jnp.where(inside, at - before, 0.0) / samples
    weights = jnp.stack([jnp.where(inside, 1 / samples, 0.0) - nearness, nearness], axis=-1)
    shape = (len(starts), bins, 2 * samples)
    return _Points(jnp.stack([before, after], axis=-1).reshape(shape), weights.reshape(shape))


def _table(levels: Sequence[jax.Array]) -> jax.Array:
    return jnp.concatenate([level.reshape(-1, level.shape[-1]) for level in levels])


@jax.custom_vjp
def _weighted_mean(
    table: jax.Array, rows: jax.Array, row_weights: jax.Array, columns: jax.Array, column_weights: jax.Array
) -> jax.Array:
    """Sums `table[rows + columns]` by weight within each bin. Derived, it would add to the table 16 times."""
    total = jnp.zeros((), table.dtype)
    for i, j in itertools.product(range(rows.shape[-1]), range(columns.shape[-1])):
        cells = rows[:, :, None, i] + columns[:, None, :, j]
        weights = row_weights[:, :, None, i] * column_weights[:, None, :, j]
        total = total + weights[..., None] * table.at[cells].get(mode="promise_in_bounds")
    # Without the barrier it is written as the rows of a matrix, channel after channel, eight times as slowly.
    return jax.lax.optimization_barrier(total)  # type: ignore[no-untyped-call, no-any-return]


def _weighted_mean_forward(
    table: jax.Array, *grid: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, tuple[jax.Array, ...]]]:
    return _weighted_mean(table, *grid), (jnp.zeros_like(table), grid)


def _weighted_mean_backward(
    saved: tuple[jax.Array, tuple[jax.Array, ...]], outer: jax.Array
) -> tuple[jax.Array | None, ...]:
    zeros, grid = saved
    gradient = jax.lax.platform_dependent(
        jnp.zeros(zeros.shape, outer.dtype), outer, *grid, cpu=_added_by_turns, default=_added
    )
    return gradient.astype(zeros.dtype), None, None, None, None


def _added(
    table: jax.Array,
    outer: jax.Array,
    rows: jax.Array,
    row_weights: jax.Array,
    columns: jax.Array,
    column_weights: jax.Array,
) -> jax.Array:
    """The table `[cells, channels]` with the parts of `outer` `[n, bins, bins, channels]` at its cells."""
    cells = rows[:, :, None, :, None] + columns[:, None, :, None, :]
    weights = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
    parts = outer[:, :, :, None, None] * weights[..., None]
    return table.at[cells.reshape(-1)].add(parts.reshape(-1, parts.shape[-1]), mode="promise_in_bounds")


def _added_by_turns(table: jax.Array, *columns: jax.Array) -> jax.Array:
    """The same sums in the same order, a few boxes after the other, so that their parts stay in the cache."""
    turns = -(-len(columns[0]) // _BOXES_A_TURN)

    def filled(column: jax.Array) -> jax.Array:
        padding = [(0, turns * _BOXES_A_TURN - len(column)), *[(0, 0)] * (column.ndim - 1)]
        return jnp.pad(column, padding).reshape(turns, _BOXES_A_TURN, *column.shape[1:])

    by_turns = [filled(column) for column in columns]

    def add(turn: jax.Array, table: jax.Array) -> jax.Array:
        return _added(table, *(column[turn] for column in by_turns))

    summed: jax.Array = jax.lax.fori_loop(0, turns, add, table)
    return summed


_weighted_mean.defvjp(_weighted_mean_forward, _weighted_mean_backward)
