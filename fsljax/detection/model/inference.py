"""Inference of a detector: from images to regions, and from scored regions to detections."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fsljax.detection.config import Eval
from fsljax.detection.data.structures import Detections
from fsljax.detection.model.detector import DetectorNetwork
from fsljax.detection.model.regions import examine
from fsljax.detection.ops.boxes import widened
from fsljax.detection.ops.nms import nms, soft_nms
from fsljax.networks.variables import Variables


class Regions(NamedTuple):
    """Candidate regions for objects of any class in each image of a batch.

    Attributes:
      boxes: `[b, p, 4]`, refined; `[b, p, classes, 4]` if boxes are regressed per class.
      objectness: `[b, p]`, probabilities from the proposal head.
      valid: bool `[b, p]`, False for padding.
      features: `[b, p, hidden]`, inputs of the embedding and the linear scores.
      embeddings: `[b, p, dim]`.
      quality: `[b, p]`, predicted IoU of `boxes`; 1 if the head does not predict it.
    """

    boxes: jax.Array
    objectness: jax.Array
    valid: jax.Array
    features: jax.Array
    embeddings: jax.Array
    quality: jax.Array


def propose_regions(
    network: DetectorNetwork,
    variables: Variables,
    images: jax.Array,
    height: float | jax.Array = math.inf,
    width: float | jax.Array = math.inf,
) -> Regions:
    """Proposes the regions of images.

    Args:
      network: a detector.
      variables: its variables.
      images: `[b, height, width, channel]` in [0, 1].
      height, width: sizes of the images without padding, numbers or `[b]`; by default there is no padding.
    """
    nothing = jnp.zeros((len(images), 0, 4))
    no_boxes = jnp.ones(nothing.shape[:2], bool)
    examined = examine(network, variables, images, nothing, no_boxes, height, width)
    embeddings: Any = network.apply(variables, examined.features, method="embed")
    return Regions(
        examined.refined,
        examined.objectness,
        examined.valid,
        examined.features,
        embeddings,
        examined.quality,
    )


def weighted(scores: jax.Array, objectness: jax.Array, quality: jax.Array, options: Eval) -> jax.Array:
    """Class scores `[…, p, 1 + classes]` multiplied by powers of objectness and quality `[…, p]`."""
    if not options.objectness and not options.quality:
        return scores
    return times_weight(scores, region_weight(objectness, quality, options.objectness, options.quality))


def region_weight(
    objectness: jax.Array, quality: jax.Array, of_objectness: float, of_quality: float
) -> jax.Array:
    """Product of powers of objectness and quality of regions, `[…, p]`."""
    return objectness**of_objectness * quality**of_quality


def times_weight(scores: jax.Array, weight: jax.Array) -> jax.Array:
    """Scores `[…, p, 1 + classes]` of regions times a weight `[…, p]`, except for background."""
    return jnp.concatenate([scores[..., :1], scores[..., 1:] * weight[..., None]], axis=-1)


@dataclass(frozen=True)
class Suppression:
    """Options of non-maximum suppression.

    Attributes:
      iou_threshold: maximum IoU of two detections of a class; soft suppression lowers scores above it.
      keep: maximum number of detections per image.
      score_threshold: minimum score.
      soft: lower the scores of boxes that overlap with higher-scoring ones, instead of removing them.
      soft_sigma: σ of the factor exp(−IoU²/σ); 0: the factor is 1 − IoU.
      soft_threshold: minimum score after lowering.
      candidates: number of highest-scoring pairs of region and class considered.
      least_side: minimum height and width of a detection in pixels.
    """

    iou_threshold: float
    keep: int
    score_threshold: float = 0.0
    soft: bool = False
    soft_sigma: float = 0.0
    soft_threshold: float = 0.0
    candidates: int = 512
    least_side: float = 0.0


def suppression_of(options: Eval, *, keep: int | None = None, score_threshold: float = 0.0) -> Suppression:
    """The suppression that a config specifies; `keep` overrides its number of detections per image."""
    return Suppression(
        float(options.iou_threshold),
        options.keep if keep is None else keep,
        float(score_threshold),
        options.suppression == "soft",
        float(options.soft_sigma),
        float(options.soft_threshold),
        options.candidates,
        float(options.smallest_box),
    )


def detections(
    boxes: jax.Array,
    valid: jax.Array,
    scores: jax.Array,
    suppression: Suppression,
    *,
    candidates: int | None = None,
) -> Detections:
    """Non-maximum suppression per class over the highest-scoring pairs of region and class of one image.

    Args:
      boxes: `[p, 4]`, shared by all classes, or `[p, classes, 4]` per class; p may be 0.
      valid: bool `[p]`.
      scores: `[p, 1 + classes]`, background first.
      suppression: the options.
      candidates: number of pairs considered; None: as in `suppression`.

    Returns:
      `Detections` `[keep, …]`.
    """
    boxes, classes = widened(boxes), scores.shape[1] - 1
    valid, scores = jnp.asarray(valid, bool), widened(scores)
    if not len(boxes) or not classes:
        # A place that no detection fills, as where there are fewer than are kept.
        boxes, valid, scores, classes = jnp.zeros((1, 4)), jnp.zeros(1, bool), jnp.zeros((1, 2)), 1
    if candidates is None:
        candidates = suppression.candidates
    pairs = jnp.where(valid[:, None], scores[:, 1:], -1.0).reshape(-1)
    best, places = jax.lax.top_k(pairs, min(candidates, len(pairs)))
    labels = (places % classes).astype(jnp.int32)
    chosen = boxes[places // classes] if boxes.ndim == 2 else boxes.reshape(-1, 4)[places]
    mask = (best >= 0) & (best >= suppression.score_threshold)
    if suppression.least_side:
        mask &= jnp.all(chosen[:, 2:] - chosen[:, :2] >= suppression.least_side, axis=-1)
    if suppression.soft:
        indices, kept_scores, kept = soft_nms(
            chosen,
            best,
            method="gaussian" if suppression.soft_sigma else "linear",
            iou_threshold=suppression.iou_threshold,
            sigma=suppression.soft_sigma,
            score_threshold=suppression.soft_threshold,
            keep=suppression.keep,
            mask=mask,
            labels=labels,
        )
    else:
        indices, kept = nms(
            chosen,
            best,
            iou_threshold=suppression.iou_threshold,
            keep=suppression.keep,
            mask=mask,
            labels=labels,
        )
        kept_scores = best[indices]
    return Detections(
        chosen[indices] * kept[:, None],
        jnp.where(kept, kept_scores, 0.0),
        jnp.where(kept, labels[indices], 0),
        kept,
    )
