"""The RoI head of a detector: embedding, representatives and boxes.

RepMet: Karlinsky et al., 2019, https://arxiv.org/abs/1806.04728.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from fsljax.detection.config import RoIOptions
from fsljax.detection.model.fpn import NormedConv
from fsljax.detection.model.rpn import without_difficult
from fsljax.detection.ops.boxes import iou
from fsljax.detection.ops.matching import IGNORED, POSITIVE, match, sample
from fsljax.distances import normalize
from fsljax.losses.repmet import log_posteriors
from fsljax.networks.layers import Settings

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of box changes, as in Girshick's Fast R-CNN
BACKGROUND = 0  # among scores and RoI labels; class c is 1 + c


class RoIHead(nn.Module):
    """Dense layers, followed by an embedding, box deltas and linear scores.

    Attributes:
      hidden: units of each dense layer.
      dim: dimension of the embedding.
      classes: number of classes of the linear scores, without background; 0: no linear scores.
      normalize: normalise embeddings to length 1.
      dense: number of dense layers, 1 or 2.
      convolutions: number of 3×3 convolutions with batch norm before the dense layers, with `channels`
        filters each.
      class_boxes: separate box deltas for each class of the linear scores, instead of shared ones.
      settings: kernel implementation of the convolutions.
      with_quality: also predict the IoU of boxes.
    """

    hidden: int
    dim: int
    classes: int = 0
    normalize: bool = True
    dense: int = 2
    convolutions: int = 0
    channels: int = 0
    class_boxes: bool = False
    settings: Settings = Settings()
    with_quality: bool = False

    def setup(self) -> None:
        start = nn.initializers.he_normal()
        dense = partial(nn.Dense, param_dtype=jnp.result_type(float))
        self.hidden0 = dense(self.hidden, kernel_init=start)
        if self.dense > 1:
            self.hidden1 = dense(self.hidden, kernel_init=start)
        for number in range(self.convolutions):
            setattr(self, f"conv{number}", NormedConv(self.channels, 3, self.settings))
        self.embedding = dense(self.dim)
        boxes = self.classes if self.class_boxes else 1
        self.changes = dense(4 * boxes, kernel_init=nn.initializers.normal(0.001))
        if self.classes:
            self.linear = dense(1 + self.classes, kernel_init=nn.initializers.normal(0.01))
        if self.with_quality:
            self.fit = dense(1, kernel_init=nn.initializers.normal(0.01))

    def __call__(self, pooled: jax.Array) -> jax.Array:
        """Features `[..., hidden]` of pooled regions `[..., output, output, channels]`."""
        leading = pooled.shape[:-3]
        if self.convolutions:
            pooled = pooled.reshape(-1, *pooled.shape[-3:])
            for number in range(self.convolutions):
                pooled = nn.relu(getattr(self, f"conv{number}")(pooled))
        x = nn.relu(self.hidden0(pooled.reshape(*leading, -1)))
        return nn.relu(self.hidden1(x)) if self.dense > 1 else x

    def embed(self, roi: jax.Array) -> jax.Array:
        """Embeddings `[..., dim]` of `[..., hidden]`."""
        embeddings = self.embedding(roi)
        return normalize(embeddings) if self.normalize else embeddings

    def box_changes(self, roi: jax.Array) -> jax.Array:
        """Box deltas `[..., 4]` of the regions, shared by all classes; or `[..., classes, 4]` per class."""
        changes: jax.Array = self.changes(roi)
        return changes.reshape(*roi.shape[:-1], -1, 4) if self.class_boxes else changes

    def quality_logits(self, roi: jax.Array) -> jax.Array:
        """Logits `[...]` of the IoU of each region's refined box with its object.

        As Kim et al., 2022 (https://arxiv.org/abs/2108.06753, section 3.2), whose localisation quality,
        unlike objectness, generalises to objects of untrained classes.
        """
        return self.fit(roi)[..., 0]

    def linear_logits(self, roi: jax.Array) -> jax.Array:
        """Logits `[..., 1 + classes]`, background first.

        Raises:
          ValueError: if the head has no linear scores.
        """
        if not self.classes:
            raise ValueError("This head has no linear scores: it was built with classes=0.")
        return self.linear(roi)


def of_labels(changes: jax.Array, labels: jax.Array) -> jax.Array:
    """Selects the box deltas `[..., 4]` of each region's own class.

    Args:
      changes: `[..., classes, 4]`.
      labels: `[...]`, 1 + class; for `BACKGROUND`, the deltas of the first class are returned.
    """
    own = jnp.maximum(labels - 1, 0)[..., None, None]
    return jnp.take_along_axis(changes, own, axis=-2)[..., 0, :]


def squared_distances(embeddings: jax.Array, representatives: jax.Array) -> jax.Array:
    """Squared distances `[..., classes, k]` as a matrix product, for vectors of length about 1.

    Args:
      embeddings: `[..., dim]`.
      representatives: `[classes, k, dim]`.
    """
    products = jnp.einsum("...d,ckd->...ck", embeddings, representatives, precision="highest")
    lengths = jnp.sum(jnp.square(embeddings), axis=-1)[..., None, None]
    return jnp.maximum(lengths + jnp.sum(jnp.square(representatives), axis=-1) - 2 * products, 0.0)


def repmet_logits(nearest: jax.Array, sigma: float | jax.Array, scale: float = 15.0) -> jax.Array:
    """`scale` · [background, p_1 … p_C] `[..., 1 + classes]`, whose softmax gives the scores.

    Args:
      nearest: squared distance to the nearest representative of each class, `[..., classes]`.
      sigma: σ.
      scale: as in the authors' detector; without it, probabilities would give an almost flat softmax.
    """
    posteriors = jnp.exp(log_posteriors(nearest, sigma))
    background = 1 - jnp.max(posteriors, axis=-1, keepdims=True)
    return scale * jnp.concatenate([background, posteriors], axis=-1)


def repmet_scores(
    embeddings: jax.Array, representatives: jax.Array, sigma: float | jax.Array, scale: float = 15.0
) -> jax.Array:
    """Probabilities of background and of each class (Karlinsky et al., 2019, equations 1 and 2).

    p_i = max_j exp(−‖E − R_ij‖²/2σ²), background 1 − max_i p_i; the scores are the softmax of these
    probabilities times `scale`.

    Args:
      embeddings: `[..., dim]`.
      representatives: `[classes, k, dim]`.
      sigma: σ above 0.
      scale: scale of the softmax.

    Returns:
      `[..., 1 + classes]`, background first.
    """
    nearest = jnp.min(squared_distances(embeddings, representatives), axis=-1)
    return jax.nn.softmax(repmet_logits(nearest, sigma, scale), axis=-1)


class RoITargets(NamedTuple):
    """Regions of one image and their targets.

    Attributes:
      boxes: `[r, 4]`.
      labels: int32 `[r]`, `BACKGROUND`, or 1 + class.
      true_boxes: `[r, 4]`, the ground-truth box of each positive region.
      valid: bool `[r]`, False for padding.
    """

    boxes: jax.Array
    labels: jax.Array
    true_boxes: jax.Array
    valid: jax.Array


def roi_targets(
    key: jax.Array,
    proposals: jax.Array,
    valid: jax.Array,
    true_boxes: jax.Array,
    labels: jax.Array,
    mask: jax.Array,
    options: RoIOptions,
    difficult: jax.Array | None = None,
) -> RoITargets:
    """Samples the regions of one image to train on: proposals, ground-truth boxes, and jittered copies.

    Args:
      key: random key.
      proposals: `[p, 4]`.
      valid: bool `[p]`.
      true_boxes: `[t, 4]`.
      labels: int `[t]`, classes from 0.
      mask: bool `[t]`, False for padding.
      options: options of matching and sampling.
      difficult: bool `[t]`, objects on which no region counts as background; None: no such objects.
    """
    jitter_key, sample_key = jax.random.split(key)
    around = _jittered(jitter_key, true_boxes, options.jittered, options.jitter)
    boxes = jnp.concatenate([true_boxes, around, proposals])
    available = jnp.concatenate([mask, jnp.tile(mask, options.jittered), valid])
    overlaps = iou(boxes, true_boxes)
    matched = match(overlaps, mask, high=options.high, low=options.low, best_anchor_of_each=False)
    if difficult is not None:
        matched = matched._replace(labels=without_difficult(matched.labels, overlaps, difficult, options.low))
    drawn = sample(
        sample_key,
        jnp.where(available, matched.labels, IGNORED),
        options.sampled,
        options.positive_fraction,
    )
    truth = matched.truth[drawn.indices]
    positive = drawn.valid & (matched.labels[drawn.indices] == POSITIVE)
    return RoITargets(
        jax.lax.stop_gradient(boxes[drawn.indices]),
        jnp.where(positive, 1 + labels[truth].astype(jnp.int32), BACKGROUND),
        true_boxes[truth],
        drawn.valid,
    )


def _jittered(key: jax.Array, true_boxes: jax.Array, count: int, amount: float) -> jax.Array:
    """Boxes `[count · t, 4]` whose borders are moved at random."""
    sides = jnp.tile(true_boxes[:, 2:] - true_boxes[:, :2], (1, 2))
    moves = jax.random.uniform(key, (count, *true_boxes.shape), minval=-amount, maxval=amount)
    return (true_boxes + moves * sides).reshape(-1, 4)
