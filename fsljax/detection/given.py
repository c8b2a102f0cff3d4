"""Regions of images in which some boxes are given beforehand: supports, or truths in place of proposals."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fsljax.detection.detector import Detector


class Examined(NamedTuple):
    """Regions of images, those given first and then the proposals.

    Attributes:
      boxes: `[b, p, 4]`, where features were pooled.
      valid: bool `[b, p]`.
      features: `[b, p, hidden]`.
      refined: `[b, p, 4]`, the boxes after regression.
    """

    boxes: jax.Array
    valid: jax.Array
    features: jax.Array
    refined: jax.Array


def examine(
    network: Detector, variables: Any, images: jax.Array, given: jax.Array, mask: jax.Array
) -> Examined:
    """Pools features of the boxes that are given and of what is proposed.

    Args:
      network, variables: a detector.
      images: `[b, height, width, channel]` in [0, 1].
      given: `[b, g, 4]`.
      mask: bool `[b, g]`, False for padding.

    Returns:
      `Examined`, p = g + proposals.
    """
    height, width = map(float, images.shape[1:3])
    levels = network.apply(variables, images, method="trunk")
    proposals: Any = network.apply(variables, levels, method="propose")
    boxes = jnp.concatenate([given, proposals.boxes], axis=1)
    features: Any = network.apply(variables, levels, boxes, method="roi_features")
    refined: Any = network.apply(variables, features, boxes, height, width, method="refine")
    return Examined(boxes, jnp.concatenate([mask, proposals.valid], axis=1), features, refined)
