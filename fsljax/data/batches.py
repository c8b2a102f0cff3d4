"""Batches of one size, so that one shape is compiled: the last is filled up with rows from the beginning."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import jax
import numpy as np

from fsljax.data.io.encoded_images import EncodedImages

_BATCHES_IN_FLIGHT = 8


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
    return rows if len(rows) == size else np.resize(rows, (size, *rows.shape[1:]))


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


def embed_in_batches(
    embed: Callable[[np.ndarray], jax.Array], images: np.ndarray | EncodedImages, *, batch: int = 128
) -> np.ndarray:
    """Embeds a data set in batches of one shape, which are read one after another.

    Args:
      embed: compiled; uint8 `[batch, height, width, channel]` to `[batch, dim]`.
      images: uint8 `[n, height, width, channel]`; mapped from a file or encoded, they stay so.
      batch: images at a time.

    Returns:
      float32 `[n, dim]`.
    """
    pending: deque[jax.Array] = deque()
    embeddings: list[np.ndarray] = []
    for start in range(0, len(images), batch):
        pending.append(embed(fill_rows(np.asarray(images[start : start + batch]), batch)))
        # A batch is held until it is embedded: so many may be on the device or on their way to it.
        if len(pending) > _BATCHES_IN_FLIGHT:
            embeddings.append(np.asarray(pending.popleft(), np.float32))
    embeddings += [np.asarray(part, np.float32) for part in pending]
    return np.concatenate(embeddings)[: len(images)]


def batch_size(count: int) -> int:
    """Few distinct batch sizes, so that few programs are compiled: a power of two, 64 at most."""
    return min(64, 1 << (count - 1).bit_length())
