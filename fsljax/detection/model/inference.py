"""From images to regions, and from scored regions to detections."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fsljax.detection.model.detector import Detector
from fsljax.detection.model.regions import examine
from fsljax.detection.ops.nms import nms


class Regions(NamedTuple):
    """What may hold an object in each image of a batch, whatever its class.

    Attributes:
      boxes: `[b, p, 4]`, refined.
      objectness: `[b, p]`, probabilities by the proposal head.
      valid: bool `[b, p]`, False where there were fewer.
      features: `[b, p, hidden]`, what embeddings and linear scores are made of.
      embeddings: `[b, p, dim]`.
    """

    boxes: jax.Array
    objectness: jax.Array
    valid: jax.Array
    features: jax.Array
    embeddings: jax.Array


def find_regions(
    network: Detector,
    variables: Any,
    images: jax.Array,
    height: float | jax.Array = math.inf,
    width: float | jax.Array = math.inf,
) -> Regions:
    """The regions of images.

    Args:
      network: a detector.
      variables: of it.
      images: `[b, height, width, channel]` in [0, 1].
      height, width: of the images without their padding, numbers or `[b]`; by default all of it.
    """
    nothing = jnp.zeros((len(images), 0, 4))
    seen = examine(network, variables, images, nothing, jnp.ones(nothing.shape[:2], bool), height, width)
    embeddings: Any = network.apply(variables, seen.features, method="embed")
    return Regions(seen.refined, seen.objectness, seen.valid, seen.features, embeddings)


class Detections(NamedTuple):
    """What was found in an image, best first.

    Attributes:
      boxes: `[keep, 4]`.
      scores: `[keep]`, 0 where not valid.
      labels: int32 `[keep]`, classes from 0.
      valid: bool `[keep]`.
    """

    boxes: jax.Array
    scores: jax.Array
    labels: jax.Array
    valid: jax.Array


def detections(
    boxes: jax.Array,
    valid: jax.Array,
    scores: jax.Array,
    *,
    iou_threshold: float = 0.3,
    score_threshold: float = 0.0,
    keep: int = 100,
    candidates: int = 512,
) -> Detections:
    """Non-maximum suppression of each class among the best pairs of region and class of one image.

    Args:
      boxes: `[p, 4]`, the same for every class.
      valid: bool `[p]`.
      scores: `[p, 1 + classes]`, background first.
      iou_threshold: two detections of a class overlap less.
      score_threshold: least score.
      keep: detections of an image.
      candidates: pairs that are looked at.

    Returns:
      `Detections`.
    """
    boxes, classes = jnp.asarray(boxes), scores.shape[1] - 1
    pairs = jnp.where(valid[:, None], scores[:, 1:], -1.0).reshape(-1)
    best, places = jax.lax.top_k(pairs, min(candidates, len(pairs)))
    labels, chosen = (places % classes).astype(jnp.int32), boxes[places // classes]
    kept = nms(
        chosen,
        best,
        iou_threshold=iou_threshold,
        keep=keep,
        mask=(best >= 0) & (best >= score_threshold),
        labels=labels,
    )
    found = kept.indices
    return Detections(
        chosen[found] * kept.valid[:, None],
        jnp.where(kept.valid, best[found], 0.0),
        jnp.where(kept.valid, labels[found], 0),
        kept.valid,
    )
