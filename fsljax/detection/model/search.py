"""What an application asks of a network, compiled: representatives of boxes, and detections by them."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.detection.data.structures import Detections
from fsljax.detection.model.detector import DetectorNetwork
from fsljax.detection.model.enroll import Enrollment, enrollment_of, representative_rows
from fsljax.detection.model.inference import Suppression, detections, propose_regions, suppression_of
from fsljax.detection.model.regions import examine
from fsljax.detection.model.roi_head import repmet_scores
from fsljax.detection.model.trained import TrainedDetector
from fsljax.distances import normalize
from fsljax.networks.variables import Variables


def embed_supports(
    detector: TrainedDetector, images: np.ndarray, sizes: np.ndarray, boxes: np.ndarray
) -> np.ndarray:
    """Representatives `[b, per_shot, dim]` of what a box in each image gives.

    Args:
      detector: whose `eval.enrol` says how.
      images: uint8 `[b, height, width, channel]`.
      sizes: `[b, 2]`, heights and widths without padding.
      boxes: `[b, 1, 4]`.
    """
    embeddings = _embed_supports(
        detector.network,
        detector.variables,
        jnp.asarray(images),
        jnp.asarray(sizes),
        jnp.asarray(boxes),
        enrollment_of(detector.config),
    )
    return np.asarray(embeddings)


def detect_classes(
    detector: TrainedDetector,
    images: np.ndarray,
    sizes: np.ndarray,
    representatives: np.ndarray,
    keep: int,
) -> Detections:
    """Detections `[b, keep]` of classes by their representatives `[classes, k, dim]`.

    Args:
      detector: whose `eval` says how.
      images: uint8 `[b, height, width, channel]`.
      sizes: `[b, 2]`, heights and widths without padding.
      representatives: of the classes, which alone compete.
      keep: detections of an image.
    """
    enrollment = enrollment_of(detector.config)
    boxes, valid, embeddings = _embed_regions(
        detector.network, detector.variables, jnp.asarray(images), jnp.asarray(sizes), enrollment
    )
    scores = repmet_scores(embeddings, jnp.asarray(representatives), enrollment.sigma, enrollment.scale)
    # Few distinct numbers of classes, so that few programs are compiled.
    classes = len(representatives)
    columns = 1 << (classes - 1).bit_length()
    scores = jnp.pad(scores, [(0, 0), (0, 0), (0, columns - classes)], constant_values=-1.0)
    suppression = suppression_of(detector.config.eval, keep=keep)
    fetched: Detections = jax.device_get(_suppressed(boxes, valid, scores, suppression))
    return fetched


def same_number(representatives: list[np.ndarray]) -> np.ndarray:
    """Representatives `[classes, k, dim]`; a class of fewer has its first several times."""
    most = max(map(len, representatives))
    return np.stack(
        [
            of_class[np.r_[: len(of_class), np.zeros(most - len(of_class), int)]]
            for of_class in representatives
        ]
    )


@partial(jax.jit, static_argnums=(0, 5))
def _embed_supports(
    network: DetectorNetwork,
    variables: Variables,
    images: jax.Array,
    sizes: jax.Array,
    boxes: jax.Array,
    enrollment: Enrollment,
) -> jax.Array:
    mask, options = jnp.ones(boxes.shape[:2], bool), enrollment.options
    regions = examine(network, variables, _scaled(images), boxes, mask, sizes[:, 0], sizes[:, 1])
    rows = jax.vmap(partial(representative_rows, per_shot=options.per_shot, overlap=options.overlap))(
        regions.boxes, regions.valid
    )
    chosen = jnp.take_along_axis(regions.features, rows[..., None], axis=1)
    return _compared(network, variables, chosen, enrollment)


@partial(jax.jit, static_argnums=(0, 4))
def _embed_regions(
    network: DetectorNetwork,
    variables: Variables,
    images: jax.Array,
    sizes: jax.Array,
    enrollment: Enrollment,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    regions = propose_regions(network, variables, _scaled(images), sizes[:, 0], sizes[:, 1])
    return regions.boxes, regions.valid, _compared(network, variables, regions.features, enrollment)


def _compared(
    network: DetectorNetwork, variables: Variables, features: jax.Array, enrollment: Enrollment
) -> jax.Array:
    """What features are compared by."""
    if enrollment.options.space == "features":
        return normalize(features) if enrollment.normalize else features
    return jnp.asarray(network.apply(variables, features, method="embed"))


@partial(jax.jit, static_argnums=3)
def _suppressed(
    boxes: jax.Array, valid: jax.Array, scores: jax.Array, suppression: Suppression
) -> Detections:
    return jax.vmap(partial(detections, suppression=suppression))(boxes, valid, scores)


def _scaled(images: jax.Array) -> jax.Array:
    return images.astype(jnp.float32) / 255
