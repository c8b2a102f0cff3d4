"""Matches anchors or RoIs to ground truth, and samples those to train on."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from fsljax.detection.ops.boxes import widened

POSITIVE, NEGATIVE, IGNORED = 1, 0, -1


class Match(NamedTuple):
    """Result of `match`.

    Attributes:
      labels: int32 `[anchors]`: 1 positive, 0 negative, −1 ignored.
      truth: int32 `[anchors]`, the ground-truth box with the largest IoU; 0 if there is none.
    """

    labels: jax.Array
    truth: jax.Array


class Sample(NamedTuple):
    """Result of `sample`.

    Attributes:
      indices: int32 `[count]`, positives first; 0 where not valid.
      valid: bool `[count]`, False if there was nothing left to draw.
    """

    indices: jax.Array
    valid: jax.Array


def match(
    iou: jax.Array,
    truth_mask: jax.Array,
    *,
    high: float,
    low: float,
    best_anchor_of_each: bool = True,
) -> Match:
    """Labels anchors by their IoU with the ground truth (Ren et al., 2015, section 3.1.2).

    An anchor is positive if its largest IoU is at least `high`, negative if it is below `low`, and ignored
    otherwise. With `best_anchor_of_each`, the anchor with the largest IoU with a ground-truth box (all such
    anchors in case of ties) is positive too, however small that IoU is, unless it is 0. Like any other
    anchor, it is matched to the ground-truth box that it overlaps most itself. Source:
    https://arxiv.org/abs/1506.01497.

    Args:
      iou: `[anchors, truths]`.
      truth_mask: bool `[truths]`, False for padding.
      high: minimum IoU of a positive anchor.
      low: anchors below this IoU are negative.
      best_anchor_of_each: see above.

    Returns:
      A `Match`; all anchors are negative if there is no ground truth.

    Raises:
      ValueError: if `low` is above `high`.
    """
    chex.assert_rank([iou, truth_mask], [2, 1])
    chex.assert_equal(iou.shape[1], truth_mask.shape[0])
    if low > high:
        raise ValueError(f"low is {low} and high {high}; low must not be above high.")
    iou, truth_mask = widened(iou), jnp.asarray(truth_mask, bool)
    anchors = len(iou)
    if 0 in iou.shape:
        return Match(jnp.zeros(anchors, jnp.int32), jnp.zeros(anchors, jnp.int32))
    iou = jnp.where(truth_mask, iou, 0.0)
    greatest = jnp.max(iou, axis=1)
    labels = jnp.where(greatest >= high, POSITIVE, jnp.where(greatest < low, NEGATIVE, IGNORED))
    if best_anchor_of_each:
        best = (iou == jnp.max(iou, axis=0)) & (iou > 0)
        labels = jnp.where(jnp.any(best, axis=1), POSITIVE, labels)
    # A low of 0 would leave the anchors of an image without truths ignored.
    labels = jnp.where(jnp.any(truth_mask), labels, NEGATIVE)
    return Match(labels.astype(jnp.int32), jnp.argmax(iou, axis=1).astype(jnp.int32))


def sample(key: jax.Array, labels: jax.Array, count: int, positive_fraction: float) -> Sample:
    """Draws positives and negatives at random, without replacement (Girshick, 2015, section 2.3).

    At most ⌊count · positive_fraction⌋ are positive; if there are fewer positives, negatives take their
    place. Source: https://arxiv.org/abs/1504.08083.

    Args:
      key: a random key.
      labels: int `[n]`: 1 positive, 0 negative, other values are never drawn.
      count: maximum number to draw.
      positive_fraction: maximum fraction of positives, 0 to 1.

    Returns:
      A `Sample`.
    """
    chex.assert_rank(labels, 1)
    most_positives = int(count * positive_fraction)
    ranks = jax.random.uniform(key, labels.shape)
    positives, drawn = _first(jnp.where(labels == POSITIVE, ranks, -1.0), most_positives)
    negatives, remaining = _first(jnp.where(labels == NEGATIVE, ranks, -1.0), count)
    place = jnp.arange(count)
    taken = jnp.sum(drawn)
    from_negatives = jnp.maximum(place - taken, 0)
    indices, valid = negatives[from_negatives], remaining[from_negatives]
    if most_positives:
        of_positives = jnp.minimum(place, most_positives - 1)
        indices = jnp.where(place < taken, positives[of_positives], indices)
        valid |= place < taken
    return Sample(jnp.where(valid, indices, 0), valid)


def hardest(losses: jax.Array, valid: jax.Array, count: int) -> jax.Array:
    """Marks examples with the largest losses (Shrivastava et al., 2016, https://arxiv.org/abs/1604.03540).

    Args:
      losses: `[n]`, 0 or more.
      valid: bool `[n]`; others are never marked.
      count: maximum number to mark; among equal losses, the first ones.

    Returns:
      bool `[n]`, without gradient.
    """
    chex.assert_equal_shape([losses, valid])
    losses, valid = jax.lax.stop_gradient(widened(losses)), jnp.asarray(valid, bool)
    indices, marked = _first(jnp.where(valid, losses, -1.0), count)
    # Places to be filled all name index 0, which may be marked itself: `max` lets one True stand.
    return jnp.zeros(losses.shape, bool).at[indices].max(marked)


def _first(ranks: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Indices int32 `[count]` of the largest ranks, and whether they are 0 or more; filled up with False."""
    within = min(count, ranks.shape[0])
    values, indices = jax.lax.top_k(ranks, within)
    fill = (0, count - within)
    return jnp.pad(indices.astype(jnp.int32), fill), jnp.pad(values >= 0, fill)
