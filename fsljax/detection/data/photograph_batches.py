"""Photographs in batches of few shapes: images padded to buckets, ground truth padded with masks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from PIL.Image import Resampling

from fsljax.detection.data.structures import DetectionSet, GroundTruth, ImageBatch, pad_ground_truth
from fsljax.parallel import shares

Bucket = tuple[int, int]
"""Height and width of the images of a batch."""


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


def load_batch(data: DetectionSet, bucket: Bucket, rows: np.ndarray, sizing: Sizing) -> ImageBatch:
    """Reads, scales and pads images, one thread a processor.

    Args:
      data: the images.
      bucket: the shape of the result's images, which holds all of these.
      rows: int `[n]`, which images.
      sizing: how they are scaled.

    Returns:
      A batch of n uint8 images, as NumPy arrays.

    Raises:
      UserError: an image cannot be read.
    """
    images = np.zeros((len(rows), *bucket, 3), np.uint8)

    def read(place: int) -> None:
        row = int(rows[place])
        height, width = sizing.scaled(data.sizes[row].tolist())
        picture = data.picture(row).resize((width, height), Resampling.BILINEAR, reducing_gap=3.0)
        images[place, :height, :width] = np.asarray(picture)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for _ in threads.map(read, range(len(rows))):
            pass
    scaled_sizes = [sizing.scaled(size) for size in data.sizes[rows].tolist()]
    return ImageBatch(
        images,
        scaled_ground_truth(data, rows, sizing),
        np.array(scaled_sizes, np.int32).reshape(-1, 2),
        np.asarray(rows, np.int32),
    )


def scaled_ground_truth(data: DetectionSet, rows: np.ndarray, sizing: Sizing) -> GroundTruth:
    """The objects of images `[n, t, …]`, in pixels of the scaled images; of all rows t is the same."""
    sizes = data.sizes[rows].tolist()
    scales = np.array([sizing.scale(size) for size in sizes], np.float32).reshape(-1, 2)
    return pad_ground_truth(
        [data.boxes[row] * np.tile(scale, 2) for row, scale in zip(rows, scales, strict=True)],
        [data.labels[row] for row in rows],
        [data.difficult[row] for row in rows],
        None if data.crowd is None else [data.crowd[row] for row in rows],
        least=data.most_boxes,
    )


def flip_some(
    key: jax.Array, images: jax.Array, ground_truth: GroundTruth, sizes: jax.Array
) -> tuple[jax.Array, GroundTruth]:
    """Mirrors each image left and right with probability ½, its padding staying where it is.

    Args:
      key: draws which.
      images: `[batch, height, width, channel]`, this device's share of a step's.
      ground_truth: of them.
      sizes: int32 `[batch, 2]`, heights and widths without padding.
    """
    flipped = shares.drawn(
        lambda count: jax.random.bernoulli(key, shape=(count,)), len(images), shares.among(len(images))
    )
    width = jnp.asarray(sizes)[:, 1, None]
    columns = jnp.arange(images.shape[2])[None]
    source = jnp.where(flipped[:, None] & (columns < width), width - 1 - columns, columns)
    images = jnp.take_along_axis(jnp.asarray(images), source[:, None, :, None], axis=2)
    y_min, x_min, y_max, x_max = jnp.moveaxis(jnp.asarray(ground_truth.boxes), -1, 0)
    mirrored = jnp.stack([y_min, width - x_max, y_max, width - x_min], axis=-1)
    changed = flipped[:, None] & jnp.asarray(ground_truth.mask)
    boxes = jnp.where(changed[..., None], mirrored, ground_truth.boxes)
    return images, ground_truth._replace(boxes=boxes)
