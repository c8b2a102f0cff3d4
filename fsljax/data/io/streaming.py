"""Batches of images that don't fit on the device, read ahead of their use by Grain."""

from __future__ import annotations

import gc
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeGuard

import numpy as np
from absl import flags

from fsljax.data.io.encoded_images import EncodedImages
from fsljax.errors import UserError

if TYPE_CHECKING:
    from grain import DatasetIterator


def fits(images: np.ndarray | EncodedImages, budget_gb: float) -> bool:
    """Whether images or features `[n, …]` take at most `budget_gb` 10⁹ bytes, images when they are decoded.

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
) -> Generator[np.ndarray, None, None]:
    """Gives `images[rows]` for the rows of each step, in the order of the steps.

    Which images a batch holds depends on its rows alone: it is the same whether they are streamed or
    taken from an array in memory, from whichever step on, with however many workers.

    Args:
      images: `[n, height, width, channel]`: an array, which may be mapped from a file, or `EncodedImages`.
      rows_of_steps: int `[…]` for each step, known before; batches may differ in shape.
      start: the first step, for a run that goes on.
      workers: processes that decode `EncodedImages`, a batch each. With 0, and for arrays, which are but
        copied, threads of this process do it.
      prefetch: batches read ahead, by each worker; 0 reads a batch when it is asked for (without workers).

    Returns:
      A generator of uint8 `[…, height, width, channel]`, from step `start` on. Close it, or use it up,
      to end its workers; they end with this process, too.

    Raises:
      ValueError: `start` is no step, or a number is below 0.
      UserError: an image cannot be read, or a process came to an end (when its batch is asked for).
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
) -> Generator[np.ndarray, None, None]:
    if not len(rows_of_steps):
        return
    batches = _batches(images, rows_of_steps, workers, prefetch)
    try:
        for batch in batches:
            if _in_processes(images, workers):
                batch = np.array(
                    batch
                )  # what processes send lies in shared memory until nothing refers to it
            yield batch
    except RuntimeError as error:
        if not _in_processes(images, workers):
            raise
        raise UserError(
            f"A worker process reading the images in {images.folder} ended unexpectedly "
            f"({error}): give it more memory, copy the data set again, or read without worker "
            "processes, --config.data.workers=0."
        ) from error
    finally:
        batches.close()
        if _in_processes(images, workers):
            # Grain's iterators refer to each other: memory that they share would be left to the end of all.
            del batches
            gc.collect()


def _batches(
    images: np.ndarray | EncodedImages,
    rows_of_steps: Sequence[np.ndarray] | np.ndarray,
    workers: int,
    prefetch: int,
) -> DatasetIterator[np.ndarray]:
    # Imported where used: it takes a second.
    from grain import MapDataset, MultiprocessingOptions, ReadOptions

    in_processes = _in_processes(images, workers)
    # A batch is decoded by as many threads as there are processors, unless the processes are those.
    read_batch = partial(read, images, threads=1 if in_processes else None)
    ahead = 0 if in_processes else prefetch
    batches = (
        MapDataset.source(rows_of_steps)
        .map(read_batch)
        .to_iter_dataset(ReadOptions(num_threads=min(ahead, 1), prefetch_buffer_size=ahead))
    )
    if in_processes:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain looks into absl's flags, which not every program reads
        batches = batches.mp_prefetch(
            MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=max(prefetch, 1)),
            worker_init_fn=_begin_worker,
        )
    return iter(batches)


def read(images: np.ndarray | EncodedImages, rows: np.ndarray, *, threads: int | None = None) -> np.ndarray:
    """`images[rows]` in memory; of `EncodedImages`, decoded by so many threads (None: one a processor)."""
    if isinstance(images, EncodedImages):
        return images.read(rows, threads=threads)
    return np.asarray(images[rows])


def _in_processes(images: np.ndarray | EncodedImages, workers: int) -> TypeGuard[EncodedImages]:
    return workers > 0 and isinstance(images, EncodedImages)


def _begin_worker(index: int, count: int) -> None:
    """Leaves signals to the process that uses the batches, and ends when it does."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
