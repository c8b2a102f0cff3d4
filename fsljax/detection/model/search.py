"""What an application asks of a network, compiled: what its images hold, as it is compared with classes."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.detection.model.detector import DetectorNetwork
from fsljax.detection.model.enroll import Enrollment, enrollment_of
from fsljax.detection.model.inference import region_weight
from fsljax.detection.model.regions import examine
from fsljax.detection.model.trained import TrainedDetector
from fsljax.distances import normalize
from fsljax.networks.variables import Variables


class Seen(NamedTuple):
    """Regions of images, those given first and then the proposals, best first.

    Attributes:
      boxes: `[b, p, 4]`, where the features are from.
      refined: `[b, p, 4]`, the boxes after regression.
      valid: bool `[b, p]`.
      objectness: `[b, p]`, probabilities of the proposals; 1 for what is given.
      weight: `[b, p]`, by which scores of classes are multiplied (`eval.objectness`, `eval.quality`).
      features: `[b, p, dim]`, as they are compared.
    """

    boxes: jax.Array
    refined: jax.Array
    valid: jax.Array
    objectness: jax.Array
    weight: jax.Array
    features: jax.Array


def look(
    detector: TrainedDetector,
    images: np.ndarray | jax.Array,
    sizes: np.ndarray | jax.Array,
    given: np.ndarray | jax.Array,
    mask: np.ndarray | jax.Array,
) -> Seen:
    """The regions of images, compared as `eval.enrol.space` says.

    Args:
      detector: of them.
      images: uint8 `[b, height, width, channel]`.
      sizes: `[b, 2]`, heights and widths without padding.
      given: `[b, g, 4]`, boxes that are known.
      mask: bool `[b, g]`, False for padding.
    """
    columns = map(jnp.asarray, (images, sizes, given, mask))
    config = detector.config
    powers = float(config.eval.objectness), float(config.eval.quality)
    seen: Seen = _look(detector.network, detector.variables, *columns, enrollment_of(config), powers)
    return seen


@partial(jax.jit, static_argnums=(0, 6, 7))
def _look(
    network: DetectorNetwork,
    variables: Variables,
    images: jax.Array,
    sizes: jax.Array,
    given: jax.Array,
    mask: jax.Array,
    enrollment: Enrollment,
    powers: tuple[float, float],
) -> Seen:
    scaled = images.astype(jnp.float32) / 255
    space = enrollment.options.space
    ends = sizes[:, 0], sizes[:, 1]
    regions = examine(network, variables, scaled, given, mask, *ends, combine=space == "combined")
    if space == "embedding":
        features = jnp.asarray(network.apply(variables, regions.features, method="embed"))
    else:
        features = normalize(regions.compared) if enrollment.normalize else regions.compared
    weight = region_weight(regions.objectness, regions.quality, *powers)
    return Seen(regions.boxes, regions.refined, regions.valid, regions.objectness, weight, features)
