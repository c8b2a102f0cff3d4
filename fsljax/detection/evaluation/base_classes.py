"""Evaluates a detector on its trained classes, in unseen images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from fsljax.clustering import every_cluster, kmeans_per_class
from fsljax.data.dataset import ImageDataset, spread_classes
from fsljax.detection.data.source import DetectionData
from fsljax.detection.data.structures import Array, Detections, GroundTruth, ImageBatch
from fsljax.detection.evaluation.average_precision import (
    average_precision,
    class_average_precisions,
    coco_average_precision,
)
from fsljax.detection.evaluation.judging import Judged, judge
from fsljax.detection.model.inference import Suppression, detections, suppression_of
from fsljax.detection.model.roi_head import of_labels
from fsljax.detection.model.trained import TrainedDetector
from fsljax.parallel.devices import ONE, Devices
from fsljax.reporting.pictures import to_uint8

_IMAGES_KEPT = 8
_CLASSES_ON_MAP = 20
_IMAGES_ON_MAP = 128
_CROP = 48  # pixels a side of the boxes shown there


class BaseResult(NamedTuple):
    """Results of a detector on images of the trained classes.

    Attributes:
      judged: judged by class.
      agnostic: judged irrespective of the class.
      larger: judged by class, without small objects.
      detections: detections of each image, by class.
      ground_truth: objects of each image.
      images: the first few images.
    """

    judged: Judged
    agnostic: Judged
    larger: Judged
    detections: list[Detections]
    ground_truth: list[GroundTruth]
    images: list[np.ndarray]

    def figures(self, least_boxes: int = 0) -> dict[str, float]:
        """Average precision: mean over classes, and class-agnostic; and counts.

        With `least_boxes`, also over the classes with at least this many boxes, which are more reliable.
        """
        precisions = class_average_precisions(self.judged)
        coco = coco_average_precision(
            self.detections, self.ground_truth, num_classes=len(self.judged.positives)
        )
        frequent = precisions[self.judged.positives >= least_boxes]
        of_frequent = {
            "map50_frequent": _mean_of_classes(frequent),
            "classes_frequent": int(np.isfinite(frequent).sum()),
        }
        return {
            "map50": _mean_of_classes(precisions),
            **(of_frequent if least_boxes else {}),
            "map": _or_zero(coco.ap),
            "ap50_agnostic": _or_zero(average_precision(self.agnostic)),
            "map50_larger": _mean_of_classes(class_average_precisions(self.larger)),
            "examples": len(self.ground_truth),
            "classes": int(np.isfinite(precisions).sum()),
        }


def validate(detector: TrainedDetector, data: DetectionData) -> dict[str, float]:
    """Metrics on held-out images of the trained classes."""
    result = detect_known(detector, data, detector.config.validation.images, seed=1)
    return {
        "map50": _mean_of_classes(class_average_precisions(result.judged)),
        "ap50_agnostic": _or_zero(average_precision(result.agnostic)),
    }


def evaluate(detector: TrainedDetector, data: DetectionData) -> dict[str, BaseResult]:
    """Evaluates all trained classes together, and a random subset that competes on its own."""
    options = detector.config.eval
    results = {"base": detect_known(detector, data, options.images, seed=options.seed)}
    if options.classes < detector.classes:
        order = np.random.default_rng(options.seed).permutation(detector.classes)
        few = np.sort(order[: options.classes])
        name = f"base_{options.classes}_classes"
        results[name] = detect_known(detector, data, options.images, seed=options.seed, classes=few)
    if options.training_images:
        results["training_images"] = detect_known(
            detector, data, options.images, seed=options.seed, training=True
        )
    return results


def detect_known(
    detector: TrainedDetector,
    data: DetectionData,
    count: int,
    *,
    seed: int,
    classes: np.ndarray | None = None,
    training: bool = False,
) -> BaseResult:
    """Detects trained classes in images.

    Args:
      detector: the detector.
      data: data with the images.
      count: approximate number of images.
      seed: seed for choosing images.
      classes: int `[c]`, the only classes in the images and in competition; None: all.
      training: use training images.
    """
    by_class: list[Detections] = []
    agnostic: list[Detections] = []
    truths: list[GroundTruth] = []
    images: list[np.ndarray] = []
    for batch in data.test_images(count, seed, classes, training=training):
        named, unnamed = _detect(detector, batch, classes)
        by_class += named
        agnostic += unnamed
        truths += batch.ground_truth.of_images()
        kept = min(_IMAGES_KEPT - len(images), len(named))
        images += list(np.asarray(_images(batch)[:kept]))
    without_class = [truth._replace(labels=np.zeros_like(truth.labels)) for truth in truths]
    larger = [_without_small(truth, detector.config.eval.least_side) for truth in truths]
    return BaseResult(
        judge(by_class, truths, num_classes=detector.classes),
        judge(agnostic, without_class, num_classes=1),
        judge(by_class, larger, num_classes=detector.classes),
        by_class,
        truths,
        images,
    )


def embedded_boxes(detector: TrainedDetector, data: DetectionData) -> tuple[np.ndarray, ImageDataset]:
    """Embeddings of ground-truth boxes of a few classes, and crops of these boxes.

    They come from the first images; if these contain none of the classes, from any class in all test images.
    """
    options = detector.config.eval
    few = data.test_images(_IMAGES_ON_MAP, options.seed, spread_classes(detector.classes, _CLASSES_ON_MAP))
    embeddings, labels, crops = _embedded(detector, few)
    if not crops:
        embeddings, labels, crops = _embedded(detector, data.test_images(options.images, options.seed))
    return np.concatenate(embeddings), ImageDataset(np.stack(crops), np.concatenate(labels), data.class_names)


def _embedded(
    detector: TrainedDetector, batches: Iterable[ImageBatch]
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Embeddings, labels and crops of the true boxes of images."""
    embeddings, labels, crops = [], [], []
    for batch in batches:
        images = _images(batch)
        of_boxes = np.asarray(detector.embed_boxes(images, batch.ground_truth.boxes))
        pixels, mask = to_uint8(np.asarray(images)), np.asarray(batch.ground_truth.mask)
        embeddings += [of_image[there] for of_image, there in zip(of_boxes, mask, strict=True)]
        for image, truth in zip(pixels, batch.ground_truth.of_images(), strict=True):
            labels.append(np.asarray(truth.labels))
            crops += [_crop(image, box) for box in np.asarray(truth.boxes)]
    return embeddings, labels, crops


def clustered(
    key: jax.Array,
    batches: Iterable[ImageBatch],
    embed: Callable[[Array, Array], jax.Array],
    representatives: np.ndarray,
    devices: Devices = ONE,
) -> np.ndarray:
    """Clusters of the embeddings of true boxes, float32 `[classes, k, dim]`, as representatives.

    Args:
      key: random key of the clustering.
      batches: images and their ground truth.
      embed: embeddings `[b, t, dim]` of images `[b, height, width, channel]` and boxes `[b, t, 4]`.
      representatives: `[classes, k, dim]`, kept by classes that do not appear.
      devices: devices to distribute the classes over.
    """
    points, labels = [], []
    for batch in batches:
        truth = batch.ground_truth
        embeddings, mask = (
            np.asarray(embed(_images(batch), truth.boxes)),
            np.asarray(truth.non_difficult_mask()),
        )
        points.append(embeddings[mask])
        labels.append(np.asarray(truth.labels)[mask])
    present, local = np.unique(np.concatenate(labels), return_inverse=True)
    result = kmeans_per_class(
        key,
        np.concatenate(points),
        local.astype(np.int32),
        num_classes=len(present),
        clusters_per_class=representatives.shape[1],
        devices=devices,
    )
    taken = np.array(representatives, np.float32)
    taken[present] = every_cluster(result.centroids, result.counts)
    return taken


def _images(batch: ImageBatch) -> Array:
    assert batch.images is not None
    return batch.images


def _mean_of_classes(precisions: np.ndarray) -> float:
    return float(np.nanmean(precisions)) if np.isfinite(precisions).any() else 0.0


def _or_zero(figure: float) -> float:
    return 0.0 if np.isnan(figure) else figure


def _without_small(truth: GroundTruth, least: float) -> GroundTruth:
    """Objects of which small ones need not be found."""
    boxes = np.asarray(truth.boxes)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    small = sides[:, 0] * sides[:, 1] < least**2
    return truth._replace(difficult=small if truth.difficult is None else truth.difficult | small)


def _detect(
    detector: TrainedDetector, batch: ImageBatch, classes: np.ndarray | None
) -> tuple[list[Detections], list[Detections]]:
    """The detections of each image of a batch by class, and whatever the class."""
    options = detector.config.eval
    regions = detector.propose_regions(_images(batch), batch.sizes)
    named, unnamed = _suppressed(
        detector.class_boxes(regions, classes),
        regions.valid,
        detector.scores(regions, classes),
        suppression_of(options, score_threshold=options.score_threshold),
    )
    numbers = np.arange(detector.classes) if classes is None else classes
    return (
        [of_image._replace(labels=numbers[of_image.labels]) for of_image in named.of_images()],
        list(unnamed.of_images()),
    )


@partial(jax.jit, static_argnums=3)
def _suppressed(
    boxes: jax.Array, valid: jax.Array, scores: jax.Array, suppression: Suppression
) -> tuple[Detections, Detections]:
    best = jnp.max(scores[..., 1:], axis=-1, keepdims=True)

    def suppress(boxes: jax.Array, scores: jax.Array) -> Detections:
        return jax.vmap(partial(detections, suppression=suppression))(boxes, valid, scores)

    named, of_best = suppress(boxes, scores), boxes
    if boxes.ndim == 4:  # each class has boxes of its own
        of_best = of_labels(boxes, 1 + jnp.argmax(scores[..., 1:], axis=-1))
    return named, suppress(of_best, jnp.concatenate([1 - best, best], axis=-1))


def _crop(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    top, left, bottom, right = box.tolist()
    cut = picture.resize((_CROP, _CROP), Image.Resampling.BILINEAR, (left, top, right, bottom))
    return np.asarray(cut).reshape(_CROP, _CROP, -1)
