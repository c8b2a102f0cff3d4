"""Regions of images in which some boxes are given beforehand: of supports, or true ones."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fsljax.detection.model.detector import DetectorNetwork
from fsljax.networks.variables import Variables


class Examined(NamedTuple):
    """Regions of images, those given first and then the proposals.

    Attributes:
      boxes: `[b, p, 4]`, where features were pooled.
      valid: bool `[b, p]`.
      features: `[b, p, hidden]`.
      refined: `[b, p, 4]`, the boxes after regression; `[b, p, classes, 4]` where each class has its own.
      objectness: `[b, p]`, probabilities of the proposals; 1 for what is given.
    """

    boxes: jax.Array
    valid: jax.Array
    features: jax.Array
    refined: jax.Array
    objectness: jax.Array


def examine(
    network: DetectorNetwork,
    variables: Variables,
    images: jax.Array,
    given: jax.Array,
    mask: jax.Array,
    height: float | jax.Array = math.inf,
    width: float | jax.Array = math.inf,
) -> Examined:
    """Pools features of the boxes that are given and of what is proposed.

    Args:
      network, variables: a detector.
      images: `[b, height, width, channel]` in [0, 1].
      given: `[b, g, 4]`.
      mask: bool `[b, g]`, False for padding.
      height, width: of the images without their padding, numbers or `[b]`; by default all of it.

    Returns:
      `Examined`, p = g + proposals.
    """
    whole = images.shape[1:3]
    height, width = (jnp.minimum(side, limit) for side, limit in zip((height, width), whole, strict=True))
    levels = network.apply(variables, images, height=height, width=width, method="trunk")
    proposals: Any = network.apply(variables, levels, height, width, method="propose")
    boxes = jnp.concatenate([given, proposals.boxes], axis=1)
    features: Any = network.apply(variables, levels, boxes, method="roi_features")
    ends = [jnp.reshape(side, (-1, 1)) for side in (height, width)]
    refined: Any = network.apply(variables, features, boxes, *ends, method="refine")
    objectness = jnp.concatenate([jnp.ones(mask.shape), proposals.scores], axis=1)
    return Examined(boxes, jnp.concatenate([mask, proposals.valid], axis=1), features, refined, objectness)
