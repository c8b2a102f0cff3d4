"""Batches of images that don't fit on the device, read ahead of their use by Grain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from absl import flags

from fsljax.data.encoded_images import EncodedImages


def fits(images: np.ndarray | EncodedImages, budget_gb: float) -> bool:
    """Whether images `[n, height, width, channel]` take at most `budget_gb` 10⁹ bytes when decoded.

    Those that do can be put on the device, `jax.device_put(np.asarray(images))`; the others are streamed.
    """
    return images.nbytes <= budget_gb * 1e9


def stream(
    images: np.ndarray | EncodedImages,
    rows_of_steps: Sequence[np.ndarray] | np.ndarray,
    *,
    start: int = 0,
    workers: int = 0,
    prefetch: int = 2,
) -> Iterator[np.ndarray]:
    """Gives `images[rows]` for the rows of each step, in the order of the steps.

    Which images a batch holds depends on its rows alone: it is the same whether they are streamed or
    taken from an array in memory, from whichever step on, with however many workers.

    Args:
      images: `[n, height, width, channel]`: an array, which may be mapped from a file, or `EncodedImages`.
      rows_of_steps: int `[batch]` for each step, known before; batches may differ in size.
      start: the first step, for a run that goes on.
      workers: processes that decode `EncodedImages`, a batch each. With 0, and for arrays, which are but
        copied, threads of this process do it.
      prefetch: batches read ahead, by each worker; 0 reads a batch when it is asked for (without workers).

    Returns:
      An iterator over uint8 `[batch, height, width, channel]`, from step `start` on. Close it, or use it up,
      to end its workers.

    Raises:
      ValueError: `start` is no step, or a number is below 0.
      UserError: an image cannot be read (when its batch is asked for).
    """
    if not 0 <= start <= len(rows_of_steps):
        raise ValueError(f"start is {start}, but there are {len(rows_of_steps)} steps.")
    if workers < 0 or prefetch < 0:
        raise ValueError(f"workers is {workers} and prefetch {prefetch}; both must be 0 or more.")
    return _stream(images, rows_of_steps[start:], workers, prefetch)


def _stream(
    images: np.ndarray | EncodedImages,
    rows_of_steps: Sequence[np.ndarray] | np.ndarray,
    workers: int,
    prefetch: int,
) -> Iterator[np.ndarray]:
    if not len(rows_of_steps):
        return
    batches: Any = _batches(images, rows_of_steps, workers, prefetch)
    try:
        yield from batches
    finally:
        batches.close()


def _batches(
    images: np.ndarray | EncodedImages,
    rows_of_steps: Sequence[np.ndarray] | np.ndarray,
    workers: int,
    prefetch: int,
) -> Any:
    # Imported where used: it takes a second.
    from grain import MapDataset, MultiprocessingOptions, ReadOptions

    in_processes = workers > 0 and isinstance(images, EncodedImages)
    # A batch is decoded by as many threads as there are processors, unless the processes are those.
    read = partial(_read, images, threads=1 if in_processes else None)
    ahead = 0 if in_processes else prefetch
    batches = (
        MapDataset.source(rows_of_steps)
        .map(read)
        .to_iter_dataset(ReadOptions(num_threads=min(ahead, 1), prefetch_buffer_size=ahead))
    )
    if in_processes:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain looks into absl's flags, which not every program reads
        batches = batches.mp_prefetch(
            MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=max(prefetch, 1))
        )
    return iter(batches)


def _read(images: np.ndarray | EncodedImages, rows: np.ndarray, *, threads: int | None) -> np.ndarray:
    if isinstance(images, EncodedImages):
        return images.read(rows, threads=threads)
    return np.asarray(images[rows])
