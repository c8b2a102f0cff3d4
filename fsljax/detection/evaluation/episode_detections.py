"""Detections in the queries of few-shot episodes, by several rules on the same regions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fsljax.data.batches import batches_of
from fsljax.detection.config import Config
from fsljax.detection.data.structures import Detections, GroundTruth, ImageBatch
from fsljax.detection.enrolled.views import views_of_batch
from fsljax.detection.evaluation.authors_counter import Counts, count_image
from fsljax.detection.evaluation.verdicts import Verdict, judge_image, judge_image_as_coco
from fsljax.detection.model.enroll import (
    Enrollment,
    Known,
    Layer,
    Support,
    enrollment_of,
    scores_by_linear,
    scores_by_representatives,
)
from fsljax.detection.model.inference import Suppression, detections, weighted
from fsljax.detection.model.regions import Examined
from fsljax.detection.model.trained import TrainedDetector

REPMET, DISTANCE, VANILLA, CEILING = "", "distance", "vanilla", "ceiling"

_FEW_CLASSES = 127  # labels of so many take a byte each


@dataclass(frozen=True)
class Column:
    """A rule, from so many shots, after so many epochs of fine-tuning; whether trained classes compete."""

    rule: str
    shots: int
    epochs: int
    generalized: bool = False

    def setting(self, way: int, distractors: bool) -> str:
        """Its name in `results.json`."""
        parts = ["distractors"] * distractors + [self.rule] * bool(self.rule)
        parts += ["generalized"] * self.generalized
        return "_".join([f"{way}way", f"{self.shots}shot", f"ft{self.epochs}", *parts])


def enrollments_of(config: Config) -> dict[str, Enrollment]:
    """How each rule compares new classes."""
    enrollment = enrollment_of(config)
    by_distance = replace(enrollment, sigma=config.eval.distance_sigma, normalize=True)
    return {REPMET: enrollment, CEILING: enrollment, VANILLA: enrollment, DISTANCE: by_distance}


def regions_of(
    detector: TrainedDetector,
    support: ImageBatch,
    query: ImageBatch,
    images_at_once: int | None,
    views: int = 0,
) -> tuple[Support, Examined]:
    """The regions of supports and queries, with the boxes that are known.

    Args:
      detector: of the regions.
      support: images `[g, way, shots, …]`, the box that is given in each its ground truth.
      query: images `[g, queries, …]` with their ground truth.
      images_at_once: images that are looked at together; None: all of an episode.
      views: of each support beside itself; the regions of a support are then `[g, way, shots, 1 + views, …]`.
    """
    return support_of(detector, support, images_at_once, views), examine_all(detector, query, images_at_once)


def support_of(
    detector: TrainedDetector, support: ImageBatch, images_at_once: int | None, views: int = 0
) -> Support:
    """The regions of supports; arguments as of `regions_of`."""
    seen = examine_all(detector, support, images_at_once)
    if views:
        of_views = [examine_all(detector, view, images_at_once) for view in views_of_batch(support, views)]
        seen = jax.tree.map(lambda *parts: jnp.stack(parts, axis=3), seen, *of_views)
    return Support(seen.compared, seen.boxes, seen.valid, seen.objectness)


def first_shots(support: Support, shots: int) -> Support:
    """So many of the first supports of each class, of `[g, way, shots, …]`; their views are supports, too."""
    few: Support = jax.tree.map(lambda part: part[:, :, :shots], support)
    if few.valid.ndim > 4:
        few = jax.tree.map(lambda part: part.reshape(*part.shape[:2], -1, *part.shape[4:]), few)
    return few


def examine_all(detector: TrainedDetector, batch: ImageBatch, images_at_once: int | None) -> Examined:
    """The regions of images `[g, …]` with the boxes that are known.

    An episode at a time of each device, or fewer images: all would outgrow the processor's caches.
    """
    images, truth, sizes = jnp.asarray(batch.images), batch.ground_truth, batch.sizes
    around = images.shape[:-3]
    ends = () if sizes is None else (sizes[..., 0], sizes[..., 1])
    columns = [
        jnp.asarray(column).reshape(math.prod(around), *column.shape[len(around) :])
        for column in (images, truth.boxes, truth.mask, *ends)
    ]
    of_episode = len(columns[0]) // len(images)
    size = of_episode if images_at_once is None else min(images_at_once, of_episode)
    size = min(size * len(detector.devices), len(columns[0]))
    examined = [
        detector.examine(*(column[rows] for column in columns))
        for rows, _ in batches_of(len(columns[0]), size)
    ]
    joined = jax.tree.map(lambda *parts: jnp.concatenate(parts)[: len(columns[0])], *examined)
    regions: Examined = jax.tree.map(lambda part: part.reshape(*around, *part.shape[1:]), joined)
    return regions


class Candidates(NamedTuple):
    """Of queries: boxes `[g, q, p, 4]`, valid `[g, q, p]`, scores `[g, q, p, 1 + classes]`."""

    boxes: jax.Array
    valid: jax.Array
    scores: jax.Array


def candidates_of(
    detector: TrainedDetector,
    column: Column,
    support: Support,
    queries: Examined,
    enrollment: Enrollment,
    known: Known | None = None,
) -> Candidates:
    """The regions of queries, scored by the first supports of each class; trained ones may compete.

    The ceiling takes the true boxes, which come first, for proposals.
    """
    given = queries.boxes.shape[2] - detector.network.options.proposals.keep
    if column.rule == CEILING:
        boxes, rows = queries.boxes[:, :, :given], slice(None, given)
    else:
        boxes, rows = queries.refined[:, :, given:], slice(given, None)
    layer = None
    if column.rule != DISTANCE:
        layer = detector.layer("linear" if column.rule == VANILLA else "embedding")
    few = first_shots(support, column.shots)
    rule = scores_by_linear if column.rule == VANILLA else scores_by_representatives
    scores = _scores(few, queries.compared[:, :, rows], layer, known, rule, enrollment, column.epochs)
    objectness, quality = queries.objectness[:, :, rows], queries.quality[:, :, rows]
    scores = weighted(scores, objectness, quality, detector.config.eval)
    return Candidates(boxes, queries.valid[:, :, rows], scores)


@partial(jax.jit, static_argnames=("rule", "enrollment", "epochs"))
def _scores(
    support: Support,
    features: jax.Array,
    layer: Layer | None,
    known: Known | None,
    rule: Callable[..., jax.Array],
    enrollment: Enrollment,
    epochs: int,
) -> jax.Array:
    score = partial(rule, enrollment=enrollment, epochs=epochs)
    if known is not None:
        score = partial(score, known=known)
    return jax.vmap(lambda support, features: score(support, features, layer))(support, features)


@partial(jax.jit, static_argnums=2)
def judged_detections(
    candidates: Candidates, ground_truth: GroundTruth, suppression: Suppression
) -> tuple[Detections, Verdict, Verdict, Counts]:
    """The detections of queries `[g, q, keep]` after suppression class by class, and which are right.

    Returns:
      The detections; a verdict on each by VOC's rule at an IoU of 0.5, `[g, q, keep]`, and one by COCO's at
      each of its overlaps, `[g, q, ious, keep]`; how often each counts by the authors, `[g, q, keep]`.
    """

    def of_query(
        candidates: Candidates, ground_truth: GroundTruth
    ) -> tuple[Detections, Verdict, Verdict, Counts]:
        detected = detections(*candidates, suppression)
        narrow = jnp.int8 if candidates.scores.shape[-1] <= _FEW_CLASSES else jnp.int16
        return (
            detected._replace(labels=jnp.asarray(detected.labels).astype(narrow)),
            judge_image(detected, ground_truth),
            judge_image_as_coco(detected, ground_truth),
            count_image(detected, ground_truth),
        )

    return jax.vmap(jax.vmap(of_query))(candidates, ground_truth)
