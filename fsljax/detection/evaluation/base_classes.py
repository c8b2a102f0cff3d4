"""A detector on the classes that it was trained on, in images that it never saw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from fsljax.clustering import every_cluster, kmeans_per_class
from fsljax.data.dataset import ImageDataset, spread_classes
from fsljax.detection.data.source import LabelledImages
from fsljax.detection.evaluation.average_precision import (
    ImageDetections,
    ImageTruths,
    Judged,
    average_precision,
    class_average_precisions,
    judge,
)
from fsljax.detection.model.inference import Detections, detections
from fsljax.detection.report.detections import DetectionPicture, detections_section, precision_recall_section
from fsljax.reporting.pictures import to_uint8
from fsljax.reporting.sections import embedding_map_section
from fsljax.training.method import Evaluation

if TYPE_CHECKING:
    from fsljax.methods.repmet_detector import RepMetDetector

EVALUATION = {
    "images": 1000,  # that are looked at
    "classes": 100,  # drawn at random, for a setting of its own
    "training_images": False,  # a setting of its own on these: what was learned by heart
    "least_side": 16.0,  # pixels: the root of a box's area from which it counts as no small one
    "iou_threshold": 0.3,  # of suppression
    "score_threshold": 0.0,
    "keep": 100,  # detections of an image
    "seed": 0,
}

_PICTURES = 8
_CLASSES_ON_MAP = 20
_IMAGES_ON_MAP = 128
_CROP = 48  # pixels a side of the boxes shown there


class Found(NamedTuple):
    """What a detector did on a part: its detections judged, and a few pictures.

    Attributes:
      judged: by class.
      agnostic: whatever the class.
      larger: by class, small truths left aside.
      pictures: of the first images.
      images: how many there were.
    """

    judged: Judged
    agnostic: Judged
    larger: Judged
    pictures: list[DetectionPicture]
    images: int

    def figures(self) -> dict[str, Any]:
        """Average precision: the mean over classes, and that of boxes whatever the class; counts."""
        precisions = class_average_precisions(self.judged)
        larger = class_average_precisions(self.larger)
        return {
            "map50": float(np.nanmean(precisions)) if np.isfinite(precisions).any() else 0.0,
            "ap50_agnostic": average_precision(self.agnostic),
            "map50_larger": float(np.nanmean(larger)) if np.isfinite(larger).any() else 0.0,
            "examples": self.images,
            "classes": int(np.isfinite(precisions).sum()),
        }


def validate(method: RepMetDetector, variables: dict[str, Any]) -> dict[str, float]:
    """Figures on images of the trained classes that were not trained on."""
    found = detect_known(method, variables, method.config.validation.images, seed=1)
    figures = found.figures()
    return {"map50": figures["map50"], "ap50_agnostic": figures["ap50_agnostic"]}


def evaluate(method: RepMetDetector, variables: dict[str, Any]) -> Evaluation:
    """All trained classes at once, and some of them drawn at random, which then compete alone."""
    options = method.config.eval
    found = {"base": detect_known(method, variables, options.images, seed=options.seed)}
    if options.classes < method.classes:
        order = np.random.default_rng(options.seed).permutation(method.classes)
        few = np.sort(order[: options.classes])
        name = f"base_{options.classes}_classes"
        found[name] = detect_known(method, variables, options.images, seed=options.seed, classes=few)
    if options.training_images:
        found["training_images"] = detect_known(
            method, variables, options.images, seed=options.seed, training=True
        )
    embeddings, shown = _embedded_boxes(method, variables)
    return Evaluation(
        test={setting: part.figures() for setting, part in found.items()},
        published={},
        sections=[
            precision_recall_section({name: part.judged for name, part in found.items()}),
            detections_section(found["base"].pictures, method.data.class_names),
            embedding_map_section(
                embeddings, shown.labels, shown.class_names, shown.images, classes_seen=True
            ),
        ],
        embeddings=embeddings,
        shown=shown,
    )


def detect_known(
    method: RepMetDetector,
    variables: dict[str, Any],
    count: int,
    *,
    seed: int,
    classes: np.ndarray | None = None,
    training: bool = False,
) -> Found:
    """Detects trained classes in images.

    Args:
      method: a detector.
      variables: of it.
      count: about how many images.
      seed: which images.
      classes: int `[c]`, the only ones that are in the images and compete; None: all.
      training: take images that were trained on.
    """
    by_class: list[ImageDetections] = []
    agnostic: list[ImageDetections] = []
    truths: list[ImageTruths] = []
    pictures: list[DetectionPicture] = []
    for batch in method.data.test_images(count, seed, classes, training=training):
        named, whatever = _detect(method, variables, batch, classes)
        by_class += named
        agnostic += whatever
        truths += list(_image_truths(batch))
        for place in range(min(_PICTURES - len(pictures), len(named))):
            image = np.asarray(batch.images[place])
            pictures.append(DetectionPicture(image, named[place], truths[place - len(named)]))
    unnamed = [of._replace(labels=np.zeros_like(of.labels)) for of in truths]
    larger = [_without_small(of, method.config.eval.least_side) for of in truths]
    return Found(
        judge(by_class, truths, num_classes=method.classes),
        judge(agnostic, unnamed, num_classes=1),
        judge(by_class, larger, num_classes=method.classes),
        pictures,
        len(truths),
    )


def _without_small(truths: ImageTruths, least: float) -> ImageTruths:
    """Truths of which small ones need not be found."""
    sides = np.maximum(truths.boxes[:, 2:] - truths.boxes[:, :2], 0)
    small = sides[:, 0] * sides[:, 1] < least**2
    return truths._replace(difficult=small if truths.difficult is None else truths.difficult | small)


def clustered(
    key: jax.Array,
    batches: Iterable[LabelledImages],
    embed: Callable[[jax.Array, jax.Array], jax.Array],
    held: np.ndarray,
) -> np.ndarray:
    """Clusters of the embeddings of true boxes, float32 `[classes, k, dim]`, as representatives.

    Args:
      key: of the clustering.
      batches: images and their truths.
      embed: embeddings `[b, t, dim]` of images `[b, height, width, channel]` and boxes `[b, t, 4]`.
      held: representatives `[classes, k, dim]`, which classes that do not appear keep.
    """
    points, labels = [], []
    for batch in batches:
        truths = batch.truths
        found, mask = np.asarray(embed(batch.images, truths.boxes)), np.asarray(truths.wanted())
        points.append(found[mask])
        labels.append(np.asarray(truths.labels)[mask])
    joined, of_class = np.concatenate(points), np.concatenate(labels)
    present, local = np.unique(of_class, return_inverse=True)
    result = kmeans_per_class(
        key, joined, local.astype(np.int32), num_classes=len(present), clusters_per_class=held.shape[1]
    )
    taken = np.array(held, np.float32)
    taken[present] = every_cluster(result.centroids, result.counts)
    return taken


def _detect(
    method: RepMetDetector, variables: dict[str, Any], batch: LabelledImages, classes: np.ndarray | None
) -> tuple[list[ImageDetections], list[ImageDetections]]:
    """The detections of a batch by class, and whatever the class."""
    options = method.config.eval
    regions = method.find(variables, batch.images, batch.sizes)
    named, whatever = _suppressed(
        regions.boxes,
        regions.valid,
        method.scores(variables, regions, classes),
        iou_threshold=options.iou_threshold,
        score_threshold=options.score_threshold,
        keep=options.keep,
    )
    numbers = np.arange(method.classes) if classes is None else classes
    return list(_image_detections(named, numbers)), list(_image_detections(whatever, np.zeros(1, int)))


@partial(jax.jit, static_argnames=("iou_threshold", "score_threshold", "keep"))
def _suppressed(
    boxes: jax.Array, valid: jax.Array, scores: jax.Array, **options: Any
) -> tuple[Detections, Detections]:
    best = jnp.max(scores[..., 1:], axis=-1, keepdims=True)

    def suppress(scores: jax.Array) -> Detections:
        return jax.vmap(lambda *of_image: detections(*of_image, **options))(boxes, valid, scores)

    return suppress(scores), suppress(jnp.concatenate([1 - best, best], axis=-1))


def _image_detections(found: Detections, numbers: np.ndarray) -> Iterator[ImageDetections]:
    boxes, scores, labels, valid = map(np.asarray, found)
    for place, mask in enumerate(valid):
        yield ImageDetections(boxes[place][mask], scores[place][mask], numbers[labels[place][mask]])


def _image_truths(batch: LabelledImages) -> Iterator[ImageTruths]:
    boxes, labels, masks = map(np.asarray, batch.truths[:3])
    difficult = batch.truths.difficult
    hard = np.zeros_like(masks) if difficult is None else np.asarray(difficult)
    for place, mask in enumerate(masks):
        yield ImageTruths(boxes[place][mask], labels[place][mask], hard[place][mask])


def _embedded_boxes(method: RepMetDetector, variables: dict[str, Any]) -> tuple[np.ndarray, ImageDataset]:
    """Embeddings of the true boxes of a few classes, and these boxes cut out."""
    classes = spread_classes(method.classes, _CLASSES_ON_MAP)
    embeddings, labels, crops = [], [], []
    for batch in method.data.test_images(_IMAGES_ON_MAP, method.config.eval.seed, classes):
        found = np.asarray(method.embed_truths(variables, batch.images, batch.truths.boxes))
        pixels = to_uint8(np.asarray(batch.images))
        for image, truths, of_image in zip(pixels, _image_truths(batch), found, strict=True):
            embeddings.append(of_image[: len(truths.labels)])
            labels.append(truths.labels)
            crops += [_crop(image, box) for box in truths.boxes]
    names = method.data.class_names
    return np.concatenate(embeddings), ImageDataset(np.stack(crops), np.concatenate(labels), names)


def _crop(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    top, left, bottom, right = box.tolist()
    cut = picture.resize((_CROP, _CROP), Image.Resampling.BILINEAR, (left, top, right, bottom))
    return np.asarray(cut).reshape(_CROP, _CROP, -1)
