"""Region proposals (Ren et al., 2015, https://arxiv.org/abs/1506.01497) on a feature pyramid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from fsljax.detection.config import ProposalOptions
from fsljax.detection.model.fpn import BiasedConv
from fsljax.detection.ops.boxes import clip, decode, encode, iou
from fsljax.detection.ops.matching import IGNORED, NEGATIVE, POSITIVE, match, sample
from fsljax.detection.ops.nms import nms
from fsljax.networks.layers import Settings


def sizes_of_levels(sizes: Sequence[float], levels: int) -> tuple[tuple[float, ...], ...]:
    """Splits anchor sizes, finest level first, by level.

    Raises:
      ValueError: if they cannot be divided evenly.
    """
    if len(sizes) % levels:
        raise ValueError(f"{len(sizes)} sizes cannot be divided among {levels} levels.")
    each = len(sizes) // levels
    return tuple(
        tuple(float(size) for size in sizes[level * each : (level + 1) * each]) for level in range(levels)
    )


class Proposals(NamedTuple):
    """Regions that may contain an object, by decreasing score.

    Attributes:
      boxes: `[b, p, 4]`.
      scores: `[b, p]`, probabilities.
      valid: bool `[b, p]`; False for padding.
    """

    boxes: jax.Array
    scores: jax.Array
    valid: jax.Array


class ProposalHead(nn.Module):
    """Objectness and box deltas at every cell of every level, with shared filters.

    Attributes:
      anchors_a_place: number of anchors per cell.
      settings: kernel implementation.
      convolutions: number of 3×3 convolutions before them.
    """

    anchors_a_place: int
    settings: Settings = Settings()
    convolutions: int = 1

    @nn.compact
    def __call__(self, levels: Sequence[jax.Array]) -> tuple[list[jax.Array], list[jax.Array]]:
        """Logits `[b, anchors of the level]` and deltas `[b, anchors of the level, 4]` of each level.

        Args:
          levels: each `[b, height, width, channels]`.
        """
        channels = levels[0].shape[-1]
        names = ["shared", *(f"shared{number}" for number in range(1, self.convolutions))]
        shared = [BiasedConv(channels, 3, self.settings, name=name) for name in names]
        objectness = BiasedConv(self.anchors_a_place, 1, self.settings, scale=0.01, name="objectness")
        changes = BiasedConv(4 * self.anchors_a_place, 1, self.settings, scale=0.01, name="changes")
        logits, deltas = [], []
        for level in levels:
            hidden = level
            for conv in shared:
                hidden = nn.relu(conv(hidden))
            logits.append(objectness(hidden).reshape(len(level), -1))
            deltas.append(changes(hidden).reshape(len(level), -1, 4))
        return logits, deltas


def surroundings(levels: Sequence[jax.Array], a_place: int, numbers: jax.Array) -> jax.Array:
    """Input of a 3×3 filter at the cells of anchors, `[s, 3, 3, channels]`, zero beyond the border.

    Args:
      levels: levels of one image, each `[height, width, channels]`.
      a_place: number of anchors per cell.
      numbers: indices of the anchors, int `[s]`, into the anchors of all levels.
    """
    centres, widths, first = [], [], 0
    for level in levels:
        height, width = level.shape[:2]
        centre = first + (np.arange(height)[:, None] + 1) * (width + 2) + np.arange(width) + 1
        centres.append(centre.reshape(-1))
        widths.append(np.full(height * width, width + 2))
        first += (height + 2) * (width + 2)
    padded = [jnp.pad(level, ((1, 1), (1, 1), (0, 0))).reshape(-1, level.shape[-1]) for level in levels]
    places, steps = numbers // a_place, np.arange(-1, 2)
    rows = jnp.asarray(np.concatenate(widths))[places, None, None] * steps[:, None] + steps
    return jnp.concatenate(padded)[jnp.asarray(np.concatenate(centres))[places, None, None] + rows]


def propose(
    logits: Sequence[jax.Array],
    deltas: Sequence[jax.Array],
    anchors: Sequence[np.ndarray],
    height: float | jax.Array,
    width: float | jax.Array,
    options: ProposalOptions,
) -> Proposals:
    """The proposals of images, without gradients.

    Args:
      logits: for each level, `[b, anchors of the level]`.
      deltas: for each level, `[b, anchors of the level, 4]`.
      anchors: for each level, `[anchors of the level, 4]`.
      height, width: sizes of the images in pixels, numbers or `[b]`; proposals are clipped to them.
      options: options of the proposals.
    """

    def of_one(
        logits: list[jax.Array], deltas: list[jax.Array], height: jax.Array, width: jax.Array
    ) -> Proposals:
        boxes, scores = [], []
        for level_logits, level_deltas, level_anchors in zip(logits, deltas, anchors, strict=True):
            count = min(options.before_nms, len(level_logits))
            best, places = jax.lax.top_k(level_logits, count)
            boxes.append(
                clip(decode(level_deltas[places], jnp.asarray(level_anchors)[places]), height, width)
            )
            scores.append(best)
        joined, joined_scores = jnp.concatenate(boxes), jax.nn.sigmoid(jnp.concatenate(scores))
        sides = joined[:, 2:] - joined[:, :2]
        levels = np.repeat(np.arange(len(scores)), [len(of_level) for of_level in scores])
        kept = nms(
            joined,
            joined_scores,
            iou_threshold=options.iou_threshold,
            keep=options.keep,
            mask=jnp.all(sides >= options.least_side, axis=-1) & (joined_scores >= options.score_threshold),
            labels=jnp.asarray(levels) if options.by_level else None,
        )
        kept_scores = jnp.where(kept.valid, joined_scores[kept.indices], 0.0)
        return Proposals(joined[kept.indices] * kept.valid[:, None], kept_scores, kept.valid)

    images = len(logits[0])
    logits, deltas = jax.lax.stop_gradient((list(logits), list(deltas)))
    sides = [jnp.broadcast_to(jnp.asarray(side, jnp.float32), (images,)) for side in (height, width)]
    return jax.vmap(of_one)(logits, deltas, *sides)


class ProposalLosses(NamedTuple):
    """Losses `[]` of one image: objectness, and boxes of positive anchors."""

    objectness: jax.Array
    boxes: jax.Array


def proposal_losses(
    key: jax.Array,
    logits: jax.Array,
    deltas: jax.Array,
    anchors: jax.Array | np.ndarray,
    true_boxes: jax.Array,
    mask: jax.Array,
    options: ProposalOptions,
    difficult: jax.Array | None = None,
    look_again: Callable[[jax.Array], tuple[jax.Array, jax.Array]] | None = None,
) -> ProposalLosses:
    """The losses of one image (Ren et al., 2015, equation 1), each a mean over the sampled anchors.

    Args:
      key: random key for sampling anchors.
      logits: `[anchors]`.
      deltas: `[anchors, 4]`.
      anchors: `[anchors, 4]`.
      true_boxes: `[t, 4]`.
      mask: bool `[t]`, False for padding.
      options: options of matching and sampling.
      difficult: bool `[t]`, objects on which no anchor counts as background; None: no such objects.
      look_again: function that recomputes logits `[s]` and deltas `[s, 4]` of anchors from their indices
        `[s]`, to compute gradients for these only; None: use the given ones.
    """
    anchors = jnp.asarray(anchors)
    overlaps = iou(anchors, true_boxes)
    matched = match(overlaps, mask, high=options.high, low=options.low)
    if difficult is not None:
        matched = matched._replace(labels=without_difficult(matched.labels, overlaps, difficult, options.low))
    drawn = sample(key, matched.labels, options.sampled, options.positive_fraction)
    labels = jnp.where(drawn.valid, matched.labels[drawn.indices], NEGATIVE)
    positive = drawn.valid & (labels == POSITIVE)
    count = jnp.maximum(jnp.sum(drawn.valid), 1)
    if look_again is not None:
        logits, deltas = look_again(drawn.indices)
    else:
        logits, deltas = logits[drawn.indices], deltas[drawn.indices]
    surprise = optax.sigmoid_binary_cross_entropy(logits, labels.astype(jnp.float32))
    targets = encode(true_boxes[matched.truth[drawn.indices]], anchors[drawn.indices])
    wrong = smooth_l1(deltas - targets, beta=1 / 9)
    return ProposalLosses(
        jnp.sum(jnp.where(drawn.valid, surprise, 0)) / count,
        jnp.sum(jnp.where(positive, wrong, 0)) / count,
    )


def without_difficult(
    labels: jax.Array, overlaps: jax.Array, difficult: jax.Array, least: float
) -> jax.Array:
    """Labels `[n]` in which negatives that overlap with a difficult object are ignored instead.

    Args:
      labels: `[n]`, from `match`.
      overlaps: IoU `[n, t]`.
      difficult: bool `[t]`.
      least: minimum IoU for an anchor to be ignored.
    """
    on_difficult = jnp.max(jnp.where(difficult, overlaps, 0.0), axis=1, initial=0.0) >= least
    return jnp.where((labels == NEGATIVE) & on_difficult, IGNORED, labels)


def smooth_l1(errors: jax.Array, *, beta: float) -> jax.Array:
    """Huber loss divided by `beta`, summed over the four coordinates of a box (Girshick, 2015, equation 3).

    Args:
      errors: `[..., 4]`.
      beta: error up to which the loss is quadratic.

    Returns:
      `[...]`.
    """
    return jnp.sum(optax.huber_loss(errors, delta=beta), axis=-1) / beta
