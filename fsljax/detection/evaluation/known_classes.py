"""Trained classes that compete with new ones: generalised few-shot detection."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.detection.data.source import DetectionData
from fsljax.detection.data.structures import Array, GroundTruth
from fsljax.detection.evaluation.base_classes import clustered
from fsljax.detection.evaluation.episode_detections import DISTANCE, REPMET, VANILLA
from fsljax.detection.model.enroll import Enrollment, Known
from fsljax.detection.model.trained import TrainedDetector
from fsljax.distances import normalize
from fsljax.errors import UserError


def known_by_representatives(detector: TrainedDetector, data: DetectionData, enrollment: Enrollment) -> Known:
    """The trained classes in the space in which new ones are compared.

    Among embeddings they are the representatives that were trained, with the σ of the training. Among
    features, where nothing was trained, they are clusters of the features of the training images' true boxes,
    `representatives.per_class` a class.

    Args:
      detector: with representatives.
      data: that it was trained on.
      enrollment: of new classes.
    """
    if enrollment.options.space == "embedding":
        representatives = detector.representatives
        assert representatives is not None
        return Known(representatives, float(detector.config.loss.sigma))
    return known_by_features(detector, data, enrollment, detector.config.representatives.per_class)


def known_by_features(
    detector: TrainedDetector, data: DetectionData, enrollment: Enrollment, per_class: int = 1
) -> Known:
    """The trained classes as clusters of the features of true boxes; one a class is their mean.

    They are of at most `representatives.reset_images` training images.
    """
    key, config = jax.random.key(detector.config.eval.seed), detector.config

    def embed(images: Array, boxes: Array) -> jax.Array:
        features = detector.compare_boxes(images, boxes)
        return normalize(features) if enrollment.normalize else features

    clusters = clustered(
        key,
        data.training_images(key, data.training_data(), config.representatives.reset_images),
        embed,
        np.full((detector.classes, per_class, detector.compared_dim), np.nan, np.float32),
        detector.devices,
    )
    there = np.isfinite(clusters).all(axis=(1, 2))  # others have no object in these images
    representatives = jnp.asarray(np.where(there[:, None, None], clusters, 0.0))
    if enrollment.normalize:
        representatives = normalize(representatives)
    return Known(representatives, enrollment.sigma, jnp.asarray(there))


def known_of_rules(
    detectors: Mapping[str, TrainedDetector], data: DetectionData, enrollments: Mapping[str, Enrollment]
) -> dict[str, Known]:
    """The trained classes as each rule knows them: baselines by the means of their features.

    Args:
      detectors: by rule.
      data: that they were trained on.
      enrollments: of new classes, by rule.

    Raises:
      UserError: if the baseline was trained on other classes.
    """
    known = {REPMET: known_by_representatives(detectors[REPMET], data, enrollments[REPMET])}
    if DISTANCE in detectors:
        if detectors[DISTANCE].classes != detectors[REPMET].classes:
            raise UserError(
                f"The baseline (config.eval.baseline) was trained on {detectors[DISTANCE].classes} classes "
                f"and this detector on {detectors[REPMET].classes}: give one trained on the same "
                "classes, since these compete in config.eval.base_classes."
            )
        known[DISTANCE] = known_by_features(detectors[DISTANCE], data, enrollments[DISTANCE])
        known[VANILLA] = known[DISTANCE]
    return known


def with_trained(truth: GroundTruth, trained: GroundTruth | None, way: int) -> GroundTruth:
    """Objects of new classes, and of trained ones, whose labels begin at `way`."""
    if trained is None:
        return truth

    def joined(name: str) -> jax.Array | None:
        parts = [getattr(truth, name), getattr(trained, name)]
        if all(part is None for part in parts):
            return None
        masks = (truth.mask, trained.mask)
        filled = [
            jnp.zeros(mask.shape, bool) if part is None else jnp.asarray(part)
            for part, mask in zip(parts, masks, strict=True)
        ]
        return jnp.concatenate([filled[0], filled[1] + way if name == "labels" else filled[1]], axis=2)

    boxes, labels, mask = (joined(name) for name in ("boxes", "labels", "mask"))
    assert boxes is not None and labels is not None and mask is not None
    return GroundTruth(boxes, labels, mask, joined("difficult"), joined("crowd"))
