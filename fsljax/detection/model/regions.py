"""Regions of images in which some boxes are given beforehand: of supports, or true ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fsljax.detection.model.detector import DetectorNetwork
from fsljax.distances import normalize
from fsljax.networks.variables import Variables


class Examined(NamedTuple):
    """Regions of images, those given first and then the proposals.

    Attributes:
      boxes: `[b, p, 4]`, where features were pooled.
      valid: bool `[b, p]`.
      features: `[b, p, hidden]`.
      refined: `[b, p, 4]`, the boxes after regression; `[b, p, classes, 4]` where each class has its own.
      objectness: `[b, p]`, probabilities of the proposals; 1 for what is given.
      quality: `[b, p]`, the IoU that `refined` is predicted to have; 1 where the head does not.
      compared: `[b, p, …]`, what new classes are compared by or embedded from: `features`, or in the space
        "combined" what `combined` makes of them.
    """

    boxes: jax.Array
    valid: jax.Array
    features: jax.Array
    refined: jax.Array
    objectness: jax.Array
    quality: jax.Array
    compared: jax.Array


def examine(
    network: DetectorNetwork,
    variables: Variables,
    images: jax.Array,
    given: jax.Array,
    mask: jax.Array,
    height: float | jax.Array = math.inf,
    width: float | jax.Array = math.inf,
    *,
    combine: bool = False,
) -> Examined:
    """Pools features of the boxes that are given and of what is proposed.

    Args:
      network, variables: a detector.
      images: `[b, height, width, channel]` in [0, 1].
      given: `[b, g, 4]`.
      mask: bool `[b, g]`, False for padding.
      height, width: of the images without their padding, numbers or `[b]`; by default all of it.
      combine: new classes are compared in the space "combined".

    Returns:
      `Examined`, p = g + proposals.
    """
    whole = images.shape[1:3]
    height, width = (jnp.minimum(side, limit) for side, limit in zip((height, width), whole, strict=True))
    stages: Any = network.apply(variables, images, height=height, width=width, method="stages")
    levels = network.apply(variables, stages, method="levels_of")
    proposals: Any = network.apply(variables, levels, height, width, method="propose")
    boxes = jnp.concatenate([given, proposals.boxes], axis=1)
    features: Any = network.apply(variables, levels, boxes, method="roi_features")
    ends = [jnp.reshape(side, (-1, 1)) for side in (height, width)]
    refined: Any = network.apply(variables, features, boxes, *ends, method="refine")
    objectness = jnp.concatenate([jnp.ones(mask.shape), proposals.scores], axis=1)
    valid = jnp.concatenate([mask, proposals.valid], axis=1)
    quality: Any = network.apply(variables, features, method="quality")
    compared = combined(network, variables, stages, boxes, features) if combine else features
    return Examined(boxes, valid, features, refined, objectness, quality, compared)


def compared_boxes(
    network: DetectorNetwork, variables: Variables, images: jax.Array, boxes: jax.Array, *, combine: bool
) -> jax.Array:
    """What boxes `[b, t, 4]` in images `[b, height, width, channel]` are compared by, `[b, t, …]`."""
    stages: Any = network.apply(variables, images, method="stages")
    levels = network.apply(variables, stages, method="levels_of")
    features: jax.Array = network.apply(variables, levels, boxes, method="roi_features")  # type: ignore[assignment]
    return combined(network, variables, stages, boxes, features) if combine else features


def combined(
    network: DetectorNetwork,
    variables: Variables,
    stages: Sequence[jax.Array],
    boxes: jax.Array,
    features: jax.Array,
) -> jax.Array:
    """One vector of length 1 a region: features, embedding and the backbone's last two stages, all alike.

    Of the last stage the square root is taken, its sign kept, so that a few large values do not rule
    (Arandjelović and Zisserman, 2012, "Three things everyone should know to improve object retrieval").

    Args:
      network, variables: a detector.
      stages: of the backbone, as its method `stages` gives them.
      boxes: `[b, p, 4]`.
      features: `[b, p, hidden]` of them.

    Returns:
      `[b, p, hidden + dim + channels of both stages]`.
    """
    embeddings: Any = network.apply(variables, features, method="embed")
    means: Any = network.apply(variables, stages, boxes, method="stage_means")
    before, last = means
    parts = features, embeddings, before, jnp.sign(last) * jnp.sqrt(jnp.abs(last))
    return normalize(jnp.concatenate([normalize(part) for part in parts], axis=-1))
