"""Non-maximum suppression of overlapping boxes."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from fsljax.detection.ops.boxes import area, widened

BLOCK = 64  # candidates that are compared with those kept, and with one another, at once


class Kept(NamedTuple):
    """Result of `nms`, by decreasing score.

    Attributes:
      indices: int32 `[keep]`; 0 where not valid.
      valid: bool `[keep]`, False for padding.
    """

    indices: jax.Array
    valid: jax.Array


class SoftKept(NamedTuple):
    """Result of `soft_nms`, in the order of selection: by decreasing score.

    Attributes:
      indices: int32 `[keep]`; 0 where not valid.
      scores: float32 `[keep]` (float64 if the input is), after lowering; 0 where not valid.
      valid: bool `[keep]`, False for padding.
    """

    indices: jax.Array
    scores: jax.Array
    valid: jax.Array


class _Candidates(NamedTuple):
    boxes: jax.Array
    labels: jax.Array
    valid: jax.Array
    indices: jax.Array


def nms(
    boxes: jax.Array,
    scores: jax.Array,
    *,
    iou_threshold: float,
    keep: int,
    mask: jax.Array | None = None,
    labels: jax.Array | None = None,
) -> Kept:
    """Greedy non-maximum suppression, exact.

    In order of decreasing score, a box is kept unless its IoU with a box already kept is above
    `iou_threshold`; among equal scores, the first box comes first. Boxes without area overlap with nothing.

    Args:
      boxes: `[n, 4]`.
      scores: `[n]`; a NaN is never kept.
      iou_threshold: maximum intersection over union of two kept boxes.
      keep: maximum number of boxes to keep.
      mask: bool `[n]`, False for boxes to ignore; None: use all boxes.
      labels: int `[n]`; boxes with different labels do not suppress one another. None: suppress across
        classes.

    Returns:
      `Kept`, without gradient.
    """
    boxes, scores, candidate, labels = _checked(boxes, scores, mask, labels)
    num_blocks = max(1, -(-len(scores) // BLOCK))
    padding = num_blocks * BLOCK - len(scores)
    order = jnp.argsort(jnp.where(candidate, -scores, jnp.inf), stable=True).astype(jnp.int32)
    rows = _Candidates(boxes[order], labels[order], candidate[order], order)
    rows = jax.tree.map(lambda part: jnp.pad(part, [(0, padding)] + [(0, 0)] * (part.ndim - 1)), rows)
    blocks = jax.tree.map(lambda part: part.reshape(-1, BLOCK, *part.shape[1:]), rows)
    # Slots to be filled hold boxes without area, which suppress nothing.
    kept = jax.tree.map(lambda part: jnp.zeros((keep, *part.shape[1:]), part.dtype), rows)

    def unfinished(state: tuple[jax.Array, jax.Array, _Candidates]) -> jax.Array:
        at, taken, _ = state
        return (at < num_blocks) & (taken < keep)

    def add_block(
        state: tuple[jax.Array, jax.Array, _Candidates],
    ) -> tuple[jax.Array, jax.Array, _Candidates]:
        at, taken, kept = state
        block = jax.tree.map(lambda part: part[at], blocks)
        left = block.valid & ~jnp.any(_overlap(block, kept, iou_threshold), axis=1)
        chosen = _greedy(left, _overlap(block, block, iou_threshold))
        slots = jnp.where(chosen, taken + jnp.cumsum(chosen) - 1, keep)
        kept = jax.tree.map(lambda into, part: into.at[slots].set(part, mode="drop"), kept, block)
        return at + 1, taken + jnp.sum(chosen, dtype=jnp.int32), kept

    zero = jnp.zeros((), jnp.int32)
    *_, kept = jax.lax.while_loop(unfinished, add_block, (zero, zero, kept))
    return Kept(kept.indices, kept.valid)


def soft_nms(
    boxes: jax.Array,
    scores: jax.Array,
    *,
    method: str = "linear",
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float = 0.001,
    keep: int,
    mask: jax.Array | None = None,
    labels: jax.Array | None = None,
) -> SoftKept:
    """Soft-NMS (Bodla et al., 2017): overlapping boxes have their scores lowered instead of being removed.

    The highest-scoring remaining box is selected, and each other score is multiplied by 1 − IoU if the IoU
    with it is above `iou_threshold` (`linear`, equation 2), or by exp(−IoU² / σ) (`gaussian`, equation 3);
    this is repeated. Source: https://arxiv.org/abs/1704.04503.

    Args:
      boxes: `[n, 4]`.
      scores: `[n]`, 0 or more; a NaN is never kept.
      method: `linear` or `gaussian`.
      iou_threshold: IoU up to which `linear` leaves scores unchanged.
      sigma: σ of `gaussian`.
      score_threshold: minimum score of a kept box, after lowering.
      keep: maximum number of boxes to keep.
      mask: bool `[n]`, False for boxes to ignore; None: use all boxes.
      labels: int `[n]`; boxes with different labels do not affect one another. None: lower scores across
        classes.

    Returns:
      `SoftKept`, without gradient.

    Raises:
      ValueError: if there is no such method.
    """
    if method not in ("linear", "gaussian"):
        raise ValueError(f"The method is {method!r}; it must be 'linear' or 'gaussian'.")
    boxes, scores, candidate, labels = _checked(boxes, scores, mask, labels)
    if not len(scores):
        return SoftKept(jnp.zeros(keep, jnp.int32), jnp.zeros(keep, scores.dtype), jnp.zeros(keep, bool))
    areas = area(boxes)

    def choose(left: jax.Array, _: None) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        best = jnp.argmax(left)
        score = left[best]
        shared = _intersection(boxes, boxes[best])
        overlap = shared / jnp.where(shared > 0, areas + areas[best] - shared, 1.0)
        if method == "linear":
            factors = jnp.where(overlap > iou_threshold, 1.0 - overlap, 1.0)
        else:
            factors = jnp.exp(-jnp.square(overlap) / sigma)
        lowered = (labels == labels[best]) & (left > -jnp.inf)  # −∞ · 0 is no number
        left = jnp.where(lowered, left * factors, left).at[best].set(-jnp.inf)
        return left, (best.astype(jnp.int32), score)

    start = jnp.where(candidate, scores, -jnp.inf)
    steps = min(keep, len(scores))
    _, (indices, chosen) = jax.lax.scan(choose, start, length=steps)
    valid = (chosen >= score_threshold) & (chosen > -jnp.inf)
    fill = (0, keep - steps)
    return SoftKept(
        jnp.pad(jnp.where(valid, indices, 0), fill),
        jnp.pad(jnp.where(valid, chosen, 0.0), fill),
        jnp.pad(valid, fill),
    )


def _checked(
    boxes: jax.Array, scores: jax.Array, mask: jax.Array | None, labels: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Boxes and scores without gradient, which are candidates, and labels: all 0 where none are given."""
    chex.assert_shape(boxes, (None, 4))
    chex.assert_shape([given for given in (scores, mask, labels) if given is not None], (len(boxes),))
    boxes, scores = jax.lax.stop_gradient((widened(boxes), widened(scores)))
    candidate = ~jnp.isnan(scores)
    if mask is not None:
        candidate &= jnp.asarray(mask, bool)
    labels = jnp.zeros(len(boxes), jnp.int32) if labels is None else jnp.asarray(labels)
    return boxes, scores, candidate, labels


def _intersection(a: jax.Array, b: jax.Array) -> jax.Array:
    """Areas shared by boxes `[..., 4]` that broadcast."""
    height = jnp.minimum(a[..., 2], b[..., 2]) - jnp.maximum(a[..., 0], b[..., 0])
    width = jnp.minimum(a[..., 3], b[..., 3]) - jnp.maximum(a[..., 1], b[..., 1])
    return jnp.maximum(height, 0.0) * jnp.maximum(width, 0.0)


def _overlap(a: _Candidates, b: _Candidates, threshold: float) -> jax.Array:
    """Bool `[n, m]`: whether two are of one label and overlap by more than the threshold."""
    shared = _intersection(a.boxes[:, None], b.boxes)
    union = area(a.boxes)[:, None] + area(b.boxes) - shared
    return (shared > threshold * union) & (a.labels[:, None] == b.labels)


def _greedy(left: jax.Array, overlap: jax.Array) -> jax.Array:
    """Which of the candidates a greedy pass from the first to the last keeps.

    A candidate stays unless an earlier one that stays overlaps with it. Asked of all at once again and again,
    the first answer is right at once, and each round makes right those that depend on right ones alone: the
    rounds are as many as the longest chain of overlaps, which is short.

    Args:
      left: bool `[n]`.
      overlap: bool `[n, n]`.

    Returns:
      bool `[n]`.
    """
    by_earlier = jnp.tril(overlap, -1)

    def ask(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        stays = state[1]
        return stays, left & ~jnp.any(by_earlier & stays, axis=1)

    return jax.lax.while_loop(lambda state: jnp.any(state[0] != state[1]), ask, (~left, left))[1]
