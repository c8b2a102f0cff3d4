"""Batches of one size, so that one shape is compiled: the last is filled up with rows from the beginning.

Several devices take a batch each at a time; a process reads those of its own devices alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import jax
import numpy as np

from fsljax.data.io.encoded_images import EncodedImages
from fsljax.data.io.streaming import read
from fsljax.parallel.devices import ONE, Devices

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
        raise ValueError(f"{len(rows)} rows cannot be padded to {size}.")
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


def own_batches(count: int, size: int, devices: Devices = ONE) -> Iterator[np.ndarray]:
    """Positions of all rows in order, a batch of one size for each device at a time.

    Args:
      count: of rows.
      size: of a device's batch.
      devices: that take them.

    Yields:
      Positions int `[own devices · size]` of those that this process's devices take; from `count` on there
      are no rows.
    """
    whole = size * len(devices)
    own = devices.share(whole)
    for start in range(0, count, whole):
        yield start + own


def of_each_device(count: int, most: int, devices: Devices) -> int:
    """Rows of a batch of each device: `most` of them, or where there are fewer, one of few distinct sizes."""
    if len(devices) == 1:
        return most
    return min(most, 1 << (-(-count // len(devices)) - 1).bit_length())


def read_filled(rows: np.ndarray | EncodedImages, positions: np.ndarray) -> np.ndarray:
    """The rows at positions, as `own_batches` yields them; places without a row are filled with others."""
    there = positions[positions < len(rows)]
    first, end = (there[0], there[-1] + 1) if len(there) else (0, 1)
    return fill_rows(np.asarray(rows[first:end]), len(positions))


def embed_in_batches(
    embed: Callable[[np.ndarray | jax.Array], jax.Array],
    images: np.ndarray | EncodedImages,
    *,
    batch: int = 128,
    devices: Devices = ONE,
) -> np.ndarray:
    """Embeds a data set in batches of one shape, which are read one after another.

    Args:
      embed: compiled; uint8 `[batch, height, width, channel]` to `[batch, dim]`. For several devices: by
        `devices.over_rows`, of a batch for each.
      images: uint8 `[n, height, width, channel]`; mapped from a file or encoded, they stay so.
      batch: images at a time, of each device.
      devices: that share them.

    Returns:
      float32 `[n, dim]`.
    """
    size = of_each_device(len(images), batch, devices)
    pending: deque[jax.Array] = deque()
    embeddings: list[np.ndarray] = []
    for positions in own_batches(len(images), size, devices):
        pending.append(embed(devices.put_rows(read_filled(images, positions))))
        # A batch is held until it is embedded: so many may be on the device or on their way to it.
        if len(pending) > _BATCHES_IN_FLIGHT:
            embeddings.append(np.asarray(pending.popleft(), np.float32))
    embeddings += [np.asarray(part, np.float32) for part in pending]
    return np.concatenate(embeddings)[: len(images)]


def embed_in_order(
    embed: Callable[[np.ndarray | jax.Array], jax.Array],
    images: np.ndarray | EncodedImages,
    order: np.ndarray,
    *,
    batch: int,
    devices: Devices = ONE,
) -> np.ndarray:
    """Embeds a data set in whole batches of an order, each of which says how its images are embedded.

    Args:
      embed, images, devices: as of `embed_in_batches`.
      order: int `[n]`, positions of all images.
      batch: images at a time, of each device, where there are so many.

    Returns:
      float32 `[n, dim]`, in the order of the images.
    """
    size = min(batch, len(order))
    # The last batch is filled up with other images, not with one image again and again.
    batches = [order[places] for places, _ in batches_of(len(order), size)]
    whole = len(devices) * size
    own = devices.share(whole)
    embeddings: dict[int, np.ndarray] = {}
    for first in range(0, len(batches), len(devices)):
        rows = np.concatenate(batches[first : first + len(devices)])
        given = devices.put_rows(read(images, np.resize(rows, whole)[own]))
        embedded = np.asarray(embed(given), np.float32)[: len(rows)]
        embeddings |= dict(zip(rows.tolist(), embedded, strict=True))
    return np.stack([embeddings[row] for row in range(len(order))])


def batch_size(count: int) -> int:
    """Few distinct batch sizes, so that few programs are compiled: a power of two, 64 at most."""
    return min(64, 1 << (count - 1).bit_length())
