"""Validates the arrays given to evaluations, and processes them in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.data.batches import fill_rows
from fsljax.errors import UserError

Array = jax.Array | np.ndarray
LARGEST = 1e17  # the square of a difference, summed over thousands of dimensions, stays in float32's range


def checked_rows(rows: Array, name: str, *, keep_float64: bool = False) -> np.ndarray:
    """Embeddings as float32 `[n, dim]`.

    Args:
      rows: `[n, dim]`, numbers of any precision.
      name: name used in error messages.
      keep_float64: whether to return numbers that float32 may round (float64, and integers of 32 bits or
        more) as float64.

    Raises:
      UserError: if they are not numeric, not of rank 2, or empty, or a value is not finite or exceeds 1e17 in
        absolute value.
    """
    rows = np.asarray(rows)
    if rows.ndim != 2 or 0 in rows.shape:
        raise UserError(f"The {name} are {list(rows.shape)}; they must be [n, dim], with 1 or more of each.")
    if not is_real(rows):
        raise UserError(f"The {name} are {rows.dtype} {list(rows.shape)}; they must be numbers.")
    wide = rows.dtype.kind in "iuf" and rows.dtype.itemsize > (4 if rows.dtype.kind == "f" else 2)
    if rows.dtype.kind == "f" and rows.dtype.itemsize > 4:
        _check_size(rows, name)  # before a cast that would make infinities of them, with a warning
    rows = np.asarray(rows, np.float64 if wide and keep_float64 else np.float32)
    _check_size(rows, name)
    return rows


def is_real(values: np.ndarray) -> bool:
    """Whether an array holds real numbers, including bfloat16 and booleans."""
    return values.dtype.kind in "biuf" or bool(jnp.issubdtype(values.dtype, jnp.floating))


def _check_size(rows: np.ndarray, name: str) -> None:
    # Extremes show a NaN or infinity anywhere, without a copy of a large array.
    low, high = float(rows.min()), float(rows.max())
    if not max(-low, high) <= LARGEST:
        wrong = np.flatnonzero(~(np.abs(rows) <= LARGEST).all(axis=1))
        raise UserError(
            f"{len(wrong):,} of the {len(rows):,} {name} have values that are not finite or beyond 1e17, "
            f"the first in row {wrong[0]}: training has diverged, so lower its learning rate."
        )


def checked_labels(labels: Array, count: int, name: str, *, num_classes: int | None = None) -> np.ndarray:
    """Labels `[count]` as int32; unchanged if one does not fit.

    Args:
      labels: `[count]`, integers from 0.
      count: the required number of labels.
      name: name used in error messages.
      num_classes: exclusive upper bound of the labels; None: no bound.

    Raises:
      UserError: if their shape or type is wrong, or a label is out of range.
    """
    labels = np.asarray(labels)
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"The {name} are {labels.dtype} {list(labels.shape)}; there must be a whole number for each of "
            f"{count:,} rows."
        )
    if count and (labels.min() < 0 or (num_classes is not None and labels.max() >= num_classes)):
        end = "or more" if num_classes is None else f"to {num_classes - 1}"
        raise UserError(f"The {name} range from {labels.min()} to {labels.max()}; they must be 0 {end}.")
    # Ids of 64 bits would become those of other classes.
    return labels if count and labels.max() > np.iinfo(np.int32).max else labels.astype(np.int32)


def in_blocks(function: Callable[..., Any], *rows: np.ndarray, size: int) -> Iterator[tuple[slice, Any]]:
    """Applies a compiled function to blocks of rows of equal shape, so that it is compiled once.

    Args:
      function: function of arrays `[size, …]` that returns arrays or trees of arrays `[size, …]`.
      rows: arrays `[n, …]`.
      size: rows per block; the last block is padded by repeating its rows.

    Yields:
      The slice of the block within the rows, and the function's results for it as NumPy arrays.
    """
    for start in range(0, len(rows[0]), size):
        block = [array[start : start + size] for array in rows]
        count = len(block[0])
        results = function(*(fill_rows(array, size) for array in block))
        yield slice(start, start + count), jax.tree.map(partial(_first, count), results)


def _first(count: int, rows: jax.Array) -> np.ndarray:
    return np.asarray(rows)[:count]
