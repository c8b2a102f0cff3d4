"""Batches of one size, so that one shape is compiled: the last is filled up with rows from the beginning."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def fill_rows(rows: np.ndarray, size: int) -> np.ndarray:
    """Rows repeated cyclically, from the first, up to a size.

    Args:
      rows: `[n, ...]`, from 1 to `size` of them.
      size: how many are needed.

    Returns:
      `[size, ...]`, of which the first n are those given.

    Raises:
      ValueError: if there are no rows, or more than `size`.
    """
    if not 1 <= len(rows) <= size:
        raise ValueError(f"{len(rows)} rows cannot be filled up to {size}.")
    return np.resize(rows, (size, *rows.shape[1:]))


def batches_of(count: int, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Positions of all rows in order, in batches of one size.

    Args:
      count: of rows.
      size: of a batch.

    Yields:
      Positions int `[size]`, and how many of them are real: in the last batch the others go on from 0.
    """
    for start in range(0, count, size):
        yield np.arange(start, start + size) % count, min(size, count - start)
