"""Detection data in batches of few shapes: images padded to buckets, truths padded with masks."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL.Image import Resampling

from fsljax.detection.data.structures import DetectionSet
from fsljax.detection.data.truths import Truths
from fsljax.errors import UserError

Bucket = tuple[int, int]
"""Height and width of the images of a batch."""


class DetectionBatch(NamedTuple):
    """Images of one bucket.

    Attributes:
      images: uint8 `[batch, height, width, 3]`, each in the upper left corner, zeros right of it and below.
      truths: their boxes.
      sizes: int32 `[batch, 2]`, how high and wide each image is without the padding.
      scales: float32 `[batch, 2]`, pixels of the batch's image to one of the stored image, in height and
        width: boxes divided by them are boxes in the stored image.
      rows: int32 `[batch]`, which image of the data set each is; −1 for a filling one, all zeros.
    """

    images: jax.Array | np.ndarray
    truths: Truths
    sizes: jax.Array | np.ndarray
    scales: jax.Array | np.ndarray
    rows: jax.Array | np.ndarray


@dataclass(frozen=True)
class Sizing:
    """How images are scaled, and to which shapes they are padded.

    Attributes:
      shorter: pixels of the shorter side, unless the longer one would become too long.
      longer: pixels of the longer side at most.
      multiple: of which bucket sides are, so that every stride of the network divides them.
    """

    shorter: int = 600
    longer: int = 1000
    multiple: int = 32

    def buckets(self) -> tuple[Bucket, ...]:
        """The shapes there are: square, wide and high; one only where both sides are the same."""
        short, long = (-(-side // self.multiple) * self.multiple for side in (self.shorter, self.longer))
        return tuple(dict.fromkeys([(short, short), (short, long), (long, short)]))

    def scaled(self, size: Sequence[int]) -> tuple[int, int]:
        """The height and width to which an image of this (height, width) is scaled."""
        scale = min(self.shorter / min(size), self.longer / max(size))
        height, width = (max(1, round(side * scale)) for side in size)
        return height, width

    def scale(self, size: Sequence[int]) -> np.ndarray:
        """Pixels of the scaled image to one of the image of this (height, width), `[2]`."""
        return np.divide(self.scaled(size), size)

    def bucket(self, size: Sequence[int]) -> Bucket:
        """The smallest bucket that holds an image of this (height, width) after scaling."""
        height, width = self.scaled(size)
        return next(one for one in self.buckets() if height <= one[0] and width <= one[1])


def plan_batches(
    data: DetectionSet, batch_size: int, sizing: Sizing, *, seed: int | None = None, epoch: int = 0
) -> list[tuple[Bucket, np.ndarray]]:
    """Which images go into which batch: every image once.

    Args:
      data: the images.
      batch_size: images of a batch; the last of a bucket may have fewer.
      sizing: how they are scaled.
      seed: shuffles images and batches, differently in each epoch; None: in stored order, by bucket.
      epoch: number of the pass through the data.

    Returns:
      Bucket and rows int64 `[up to batch_size]` of each batch.
    """
    order = np.arange(len(data))
    random = None if seed is None else np.random.default_rng([seed, epoch])
    if random is not None:
        random.shuffle(order)
    by_bucket: dict[Bucket, list[int]] = defaultdict(list)
    for row in order.tolist():
        by_bucket[sizing.bucket(data.sizes[row].tolist())].append(row)
    batches = [
        (bucket, np.array(rows[start : start + batch_size]))
        for bucket, rows in sorted(by_bucket.items())
        for start in range(0, len(rows), batch_size)
    ]
    if random is not None:
        random.shuffle(batches)  # type: ignore[arg-type]
    return batches


def load_batch(
    data: DetectionSet,
    bucket: Bucket,
    rows: np.ndarray,
    sizing: Sizing,
    *,
    batch_size: int | None = None,
    truths: int | None = None,
) -> DetectionBatch:
    """Reads, scales and pads images, one thread a processor.

    Args:
      data: the images.
      bucket: as `plan_batches` gives it with `rows`.
      rows: int `[n]`, which images.
      sizing: as given to `plan_batches`.
      batch_size: of the result, filled up with empty images; None: n.
      truths: rows for the boxes of an image; None: as many as any image of the data set has.

    Returns:
      A batch of NumPy arrays.

    Raises:
      UserError: an image cannot be read, or has more boxes than `truths`.
      ValueError: more rows than `batch_size`.
    """
    count = len(rows) if batch_size is None else batch_size
    if len(rows) > count:
        raise ValueError(f"{len(rows)} images do not fit into a batch of {count}.")
    most = data.most_boxes if truths is None else truths
    images = np.zeros((count, *bucket, 3), np.uint8)
    boxes, labels = np.zeros((count, most, 4), np.float32), np.zeros((count, most), np.int32)
    mask, difficult = np.zeros((count, most), bool), np.zeros((count, most), bool)
    sizes, scales = np.zeros((count, 2), np.int32), np.ones((count, 2), np.float32)

    def fill(place: int) -> None:
        row = int(rows[place])
        height, width = sizing.scaled(data.sizes[row].tolist())
        picture = data.picture(row).resize((width, height), Resampling.BILINEAR, reducing_gap=3.0)
        images[place, :height, :width] = np.asarray(picture)
        sizes[place] = height, width
        scales[place] = sizing.scale(data.sizes[row].tolist())
        number = len(data.boxes[row])
        if number > most:
            raise UserError(
                f"The image {data.ids[row]} has {number} boxes, but there is room for {most}: "
                "give more truths."
            )
        boxes[place, :number] = data.boxes[row] * np.tile(scales[place], 2)
        labels[place, :number] = data.labels[row]
        difficult[place, :number] = data.difficult[row]
        mask[place, :number] = True

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for _ in threads.map(fill, range(len(rows))):
            pass
    filled = np.full(count, -1, np.int32)
    filled[: len(rows)] = rows
    truths_held = Truths(boxes, labels, mask, difficult)  # type: ignore[arg-type]  # of NumPy, as said
    return DetectionBatch(images, truths_held, sizes, scales, filled)


def flip_some(
    key: jax.Array, images: jax.Array, truths: Truths, sizes: jax.Array
) -> tuple[jax.Array, Truths]:
    """Mirrors each image left and right with probability ½, its padding staying where it is.

    Args:
      key: draws which.
      images: `[batch, height, width, channel]`.
      truths: of them.
      sizes: int32 `[batch, 2]`, heights and widths without padding.
    """
    flipped = jax.random.bernoulli(key, shape=(len(images),))
    width = jnp.asarray(sizes)[:, 1, None]
    columns = jnp.arange(images.shape[2])[None]
    source = jnp.where(flipped[:, None] & (columns < width), width - 1 - columns, columns)
    images = jnp.take_along_axis(jnp.asarray(images), source[:, None, :, None], axis=2)
    y_min, x_min, y_max, x_max = jnp.moveaxis(jnp.asarray(truths.boxes), -1, 0)
    mirrored = jnp.stack([y_min, width - x_max, y_max, width - x_min], axis=-1)
    changed = flipped[:, None] & jnp.asarray(truths.mask)
    return images, truths._replace(boxes=jnp.where(changed[..., None], mirrored, truths.boxes))
