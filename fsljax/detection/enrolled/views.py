"""Views of a support: mirrored, smaller, larger, and moved a little, each with its boxes.

RepMet's authors take the representatives of a class from such views of its few images, too.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fsljax.detection.data.structures import Array, GroundTruth, ImageBatch

_MARGIN = 1.1  # a window is at least so many times as large as what is boxed


class View(NamedTuple):
    """How an image is changed.

    Attributes:
      flip: left to right.
      scale: of its sides. What then leaves the square is cut off, but nothing of a box.
      down, right: where the window lies that is left of it, from 0 (as far up and left as the boxes allow) to
        1.
    """

    flip: bool
    scale: float
    down: float = 0.5
    right: float = 0.5


VIEWS = (
    View(True, 1.0),
    View(False, 0.75),
    View(False, 1.3),
    View(True, 0.75),
    View(True, 1.3),
    View(False, 1.1, 0.0, 0.0),
    View(True, 1.1, 1.0, 1.0),
    View(False, 1.1, 1.0, 0.0),
)
"""Those that there are; the first ones are taken."""


class Viewed(NamedTuple):
    """Images `[n, height, width, channel]`, boxes `[n, t, 4]` in them, and sizes `[n, 2]`."""

    images: jax.Array
    boxes: jax.Array
    sizes: jax.Array


def views(images: Array, boxes: Array, sizes: Array, count: int, mask: Array | None = None) -> list[Viewed]:
    """Changed views of images with boxes, always the same ones.

    Args:
      images: `[n, height, width, channel]`, uint8 or float, each in the upper left corner, zeros right of it
        and below.
      boxes: `[n, t, 4]`, `[y_min, x_min, y_max, x_max]` in pixels of the images.
      sizes: `[n, 2]`, heights and widths without padding.
      count: of views, at most as many as there are in `VIEWS`.
      mask: bool `[n, t]`, False for padding; None: there is none.

    Returns:
      `count` of them, of the same shapes and types.

    Raises:
      ValueError: if there are not so many.
    """
    if not 0 <= count <= len(VIEWS):
        raise ValueError(f"There are {len(VIEWS)} views, not {count}.")
    there = jnp.ones(boxes.shape[:2], bool) if mask is None else jnp.asarray(mask)
    columns = (jnp.asarray(images), jnp.asarray(boxes, jnp.float32), jnp.asarray(sizes, jnp.float32), there)
    return [seen_by(*columns, view) for view in VIEWS[:count]]


@partial(jax.jit, static_argnums=4)
def seen_by(images: jax.Array, boxes: jax.Array, sizes: jax.Array, mask: jax.Array, view: View) -> Viewed:
    """One view; see `views`."""
    return jax.vmap(partial(_of_image, view=view))(images, boxes, sizes, mask)


def views_of_batch(batch: ImageBatch, count: int) -> list[ImageBatch]:
    """Views of the images of a batch, whatever its axes `…`, with their ground truth."""
    images, truth = jnp.asarray(batch.images), batch.ground_truth
    around, shape = images.shape[:-3], images.shape[-3:]
    sizes = jnp.broadcast_to(jnp.array(shape[:2]), (*around, 2)) if batch.sizes is None else batch.sizes
    boxes, mask = jnp.asarray(truth.boxes), jnp.asarray(truth.mask)
    flat = views(
        images.reshape(-1, *shape),
        boxes.reshape(-1, *boxes.shape[-2:]),
        jnp.asarray(sizes).reshape(-1, 2),
        count,
        mask.reshape(-1, mask.shape[-1]),
    )
    return [
        ImageBatch(
            one.images.reshape(images.shape),
            GroundTruth(one.boxes.reshape(boxes.shape), *truth[1:]),
            one.sizes.reshape(*around, 2),
            batch.rows,
        )
        for one in flat
    ]


def _of_image(image: jax.Array, boxes: jax.Array, size: jax.Array, mask: jax.Array, *, view: View) -> Viewed:
    whole = jnp.array(image.shape[:2], jnp.float32)
    low = jnp.min(jnp.where(mask[:, None], boxes[:, :2], jnp.inf), axis=0, initial=jnp.inf)
    high = jnp.max(jnp.where(mask[:, None], boxes[:, 2:], -jnp.inf), axis=0, initial=-jnp.inf)
    # Without a box the whole image may be cut.
    low, high = (jnp.where(jnp.isfinite(end), end, size / 2) for end in (low, high))
    if view.flip:
        image = _mirrored(image, size[1])
        boxes = jnp.stack([boxes[:, 0], size[1] - boxes[:, 3], boxes[:, 2], size[1] - boxes[:, 1]], axis=-1)
        low, high = jnp.stack([low[0], size[1] - high[1]]), jnp.stack([high[0], size[1] - low[1]])
    fits = jnp.min(whole / jnp.maximum(_MARGIN * (high - low), 1.0))
    scale = jnp.maximum(jnp.minimum(view.scale, fits), min(view.scale, 1.0))
    # How far the window may begin from the image's corner: within the image, and around the boxes.
    rest = jnp.maximum(scale * size - whole, 0.0)
    last = jnp.clip(scale * low, 0.0, rest)
    first = jnp.clip(scale * high - whole, 0.0, last)
    start = jnp.round(first + jnp.array([view.down, view.right]) * (last - first))
    seen = jnp.clip(jnp.round(scale * size) - start, 1.0, whole)
    resized = jax.image.scale_and_translate(
        image.astype(jnp.float32), image.shape, (0, 1), jnp.full(2, scale), -start, "linear"
    )
    rows, columns = (jnp.arange(side) < end for side, end in zip(image.shape[:2], seen, strict=True))
    kept = jnp.where(rows[:, None, None] & columns[None, :, None], resized, 0.0)
    if jnp.issubdtype(image.dtype, jnp.integer):
        kept = jnp.round(jnp.clip(kept, 0, 255))
    moved = jnp.clip(scale * boxes - jnp.tile(start, 2), 0.0, jnp.tile(seen, 2))
    return Viewed(kept.astype(image.dtype), jnp.where(mask[:, None], moved, 0.0), seen)


def _mirrored(image: jax.Array, width: jax.Array) -> jax.Array:
    columns = jnp.arange(image.shape[1])
    source = jnp.where(columns < width, width.astype(int) - 1 - columns, columns)
    return image[:, source]
