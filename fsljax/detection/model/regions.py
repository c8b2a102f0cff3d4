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
      refined: `[b, p, 4]`, the boxes after regression.
      objectness: `[b, p]`, probabilities of the proposals; 1 for what is given.
      quality: `[b, p]`, the IoU that `refined` is predicted to have; 1 where the head does not.
      combined: `[b, p, …]`, what is compared in the space "combined", of length 1; None: not asked for.
    """

    boxes: jax.Array
    valid: jax.Array
    features: jax.Array
    refined: jax.Array
    objectness: jax.Array
    quality: jax.Array
    combined: jax.Array | None = None


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
      combine: whether `combined` is asked for.

    Returns:
      `Examined`, p = g + proposals.
    """
    whole = images.shape[1:3]
    height, width = (jnp.minimum(side, limit) for side, limit in zip((height, width), whole, strict=True))
    stages: Any = network.apply(variables, images, method="stages")
    levels = network.apply(variables, stages, method="levels_of")
    proposals: Any = network.apply(variables, levels, height, width, method="propose")
    boxes = jnp.concatenate([given, proposals.boxes], axis=1)
    features: Any = network.apply(variables, levels, boxes, method="roi_features")
    ends = [jnp.reshape(side, (-1, 1)) for side in (height, width)]
    refined: Any = network.apply(variables, features, boxes, *ends, method="refine")
    objectness = jnp.concatenate([jnp.ones(mask.shape), proposals.scores], axis=1)
    valid = jnp.concatenate([mask, proposals.valid], axis=1)
    quality: Any = network.apply(variables, features, method="quality")
    combined = None
    if combine:
        embeddings: Any = network.apply(variables, features, method="embed")
        means: Any = network.apply(variables, stages, boxes, method="stage_means")
        combined = combined_of(features, embeddings, means)
    return Examined(boxes, valid, features, refined, objectness, quality, combined)


def combined_of(features: jax.Array, embeddings: jax.Array, means: Sequence[jax.Array]) -> jax.Array:
    """One vector of length 1 a region, `[…, all of their dims]`, in which each part counts alike.

    Of what the backbone sees the square root is taken, its sign kept, so that a few large values do not rule
    (Arandjelović and Zisserman, 2012, "Three things everyone should know to improve object retrieval").
    """
    rooted = [jnp.sign(mean) * jnp.sqrt(jnp.abs(mean)) for mean in means]
    parts = [normalize(part) for part in (features, embeddings, *rooted)]
    return normalize(jnp.concatenate(parts, axis=-1))
