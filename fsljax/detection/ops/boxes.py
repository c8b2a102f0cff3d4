"""Boxes `[y_min, x_min, y_max, x_max]` in pixels: overlap, and regression targets relative to anchors."""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np

from fsljax.errors import UserError

LARGEST_LOG_SCALE = math.log(1000 / 16)  # a 16-pixel anchor grows to 1,000 pixels at most
SMALLEST_SIDE = 1e-3  # pixels; keeps the logarithm of a padded box's size finite
ROUNDING = 0.01  # pixels by which a box may leave its image: boxes are often stored as fractions of it
WEIGHTS = (1.0, 1.0, 1.0, 1.0)


def widened(values: jax.Array) -> jax.Array:
    """Values as float32, or float64 if given as such: an area of 256 × 256 pixels overflows float16."""
    return jnp.asarray(values, jnp.promote_types(jnp.result_type(values), jnp.float32))


def area(boxes: jax.Array) -> jax.Array:
    """Areas of boxes.

    Args:
      boxes: `[..., 4]`.

    Returns:
      `[...]`, in square pixels, float32 (float64 if boxes are); 0 for a box whose maximum is below its
      minimum.
    """
    boxes = widened(boxes)
    sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
    return sides[..., 0] * sides[..., 1]


def iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Intersection over union of all pairs.

    Args:
      a: `[n, 4]`.
      b: `[m, 4]`.

    Returns:
      `[n, m]`, float32 (float64 if boxes are); 0 where either box has no area.
    """
    shared = _shared(a, b)
    union = area(a)[:, None] + area(b) - shared
    return jnp.where(shared > 0, shared / jnp.where(shared > 0, union, 1.0), 0.0)


def covered(a: jax.Array, b: jax.Array) -> jax.Array:
    """Fraction of each box of `a` covered by each box of `b`: COCO's overlap with crowds.

    Args:
      a: `[n, 4]`.
      b: `[m, 4]`.

    Returns:
      `[n, m]`; 0 where either box has no area.
    """
    shared = _shared(a, b)
    return jnp.where(shared > 0, shared / jnp.where(shared > 0, area(a)[:, None], 1.0), 0.0)


def encode(
    boxes: jax.Array, anchors: jax.Array, weights: tuple[float, float, float, float] = WEIGHTS
) -> jax.Array:
    """Regression targets of boxes relative to anchors (Girshick et al., 2014, appendix C).

        dy = (y − y_a) / h_a,  dx = (x − x_a) / w_a,  dh = log(h / h_a),  dw = log(w / w_a)

    with (y, x) the centres and (h, w) the sides. Source: https://arxiv.org/abs/1311.2524, equations 6–9.

    Args:
      boxes: `[..., 4]`.
      anchors: `[..., 4]`.
      weights: factors for (dy, dx, dh, dw), so that their variances are similar.

    Returns:
      `[..., 4]`, float32 (float64 if boxes are), finite even for boxes without area: sides are clamped to at
      least 0.001 pixels.
    """
    boxes, anchors = widened(boxes), widened(anchors)
    centres, sides = _centres_and_sides(boxes)
    anchor_centres, anchor_sides = _centres_and_sides(anchors)
    sides, anchor_sides = jnp.maximum(sides, SMALLEST_SIDE), jnp.maximum(anchor_sides, SMALLEST_SIDE)
    shifts = (centres - anchor_centres) / anchor_sides
    return jnp.concatenate([shifts, jnp.log(sides / anchor_sides)], axis=-1) * jnp.asarray(weights)


def decode(
    deltas: jax.Array, anchors: jax.Array, weights: tuple[float, float, float, float] = WEIGHTS
) -> jax.Array:
    """Decodes regression targets to boxes, the inverse of `encode`.

    Args:
      deltas: `[..., 4]`, (dy, dx, dh, dw) times the weights; dh and dw are clamped to at most log(1000/16).
      anchors: `[..., 4]`.
      weights: as given to `encode`.

    Returns:
      `[..., 4]`, float32 (float64 if anchors or deltas are).
    """
    deltas, anchors = widened(deltas), widened(anchors)
    centres, sides = _centres_and_sides(anchors)
    deltas = deltas / jnp.asarray(weights)
    centres = centres + deltas[..., :2] * sides
    half = 0.5 * sides * jnp.exp(jnp.minimum(deltas[..., 2:], LARGEST_LOG_SCALE))
    return jnp.concatenate([centres - half, centres + half], axis=-1)


def clip(boxes: jax.Array, height: float | jax.Array, width: float | jax.Array) -> jax.Array:
    """Clips boxes to an image; a box outside it has no area afterwards.

    Args:
      boxes: `[..., 4]`.
      height: height of the image in pixels; a number, or an array that broadcasts against `[...]`.
      width: width of the image, likewise.

    Returns:
      `[..., 4]`, float32 (float64 if boxes are): float16 may not be able to represent the border.
    """
    boxes = widened(boxes)
    limits = jnp.stack(jnp.broadcast_arrays(*map(jnp.asarray, (height, width, height, width))), axis=-1)
    return jnp.clip(boxes, 0.0, limits)


def check_boxes(boxes: np.ndarray | jax.Array, height: float, width: float, where: str) -> np.ndarray:
    """Validates boxes given by a user and returns them as float32 `[n, 4]`, within the image.

    Args:
      boxes: `[n, 4]`, `[y_min, x_min, y_max, x_max]` in pixels.
      height: height of their image.
      width: width of their image.
      where: what they belong to, for error messages: "image 3", "cat.jpg".

    Raises:
      UserError: if they are not `[n, 4]`, or a box is not finite, has no area, or extends beyond the image by
        more than rounding.
    """
    rows = np.asarray(boxes)
    if rows.size == 0:
        return np.zeros((0, 4), np.float32)
    if rows.ndim != 2 or rows.shape[1] != 4 or rows.dtype.kind not in "iuf":
        raise UserError(
            f"The boxes of {where} are {rows.dtype} {list(rows.shape)}; give numbers [n, 4], a row "
            "[y_min, x_min, y_max, x_max] in pixels for each box."
        )
    rows = np.asarray(rows, np.float32)
    finite = np.isfinite(rows).all(axis=1)
    limits = np.array([height, width], np.float32)
    outside = ((rows[:, :2] < -ROUNDING) | (rows[:, 2:] > limits + ROUNDING)).any(axis=1)
    for wrong, what in (
        (~finite, "has a value that is not a finite number"),
        ((rows[:, 2:] <= rows[:, :2]).any(axis=1), "has no area: its maximum must exceed its minimum"),
        (outside, f"extends beyond the image, which is {height:g} high and {width:g} wide"),
    ):
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            numbers = ", ".join(f"{value:g}" for value in rows[first])
            raise UserError(
                f"Box {first} of {where}, [{numbers}], {what}; boxes are [y_min, x_min, y_max, x_max] in "
                "pixels."
            )
    clipped: np.ndarray = np.clip(rows, 0, np.concatenate([limits, limits]))
    return clipped


def _centres_and_sides(boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
    starts, ends = boxes[..., :2], boxes[..., 2:]
    return 0.5 * (starts + ends), ends - starts


def _shared(a: jax.Array, b: jax.Array) -> jax.Array:
    """Areas of the intersections of all pairs, `[n, m]`."""
    chex.assert_shape([a, b], (None, 4))
    a, b = widened(a), widened(b)
    sides = [
        jnp.maximum(
            jnp.minimum(a[:, None, end], b[:, end]) - jnp.maximum(a[:, None, start], b[:, start]), 0.0
        )
        for start, end in ((0, 2), (1, 3))
    ]
    return sides[0] * sides[1]
