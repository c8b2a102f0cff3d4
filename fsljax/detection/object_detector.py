"""Finds objects of classes that are enrolled from a box each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.classification.enrollment import Label, label_array, listed_labels
from fsljax.data.user_images import Images
from fsljax.detection import trained as stored_detector
from fsljax.detection.data.padded_images import PaddedImages, prepare_padded
from fsljax.detection.evaluation.few_shot import enrol_options
from fsljax.detection.model.enroll import EnrolOptions, representative_rows
from fsljax.detection.model.inference import Detections, detections, find_regions
from fsljax.detection.model.regions import examine
from fsljax.detection.model.roi_head import repmet_scores
from fsljax.detection.ops.boxes import check_boxes
from fsljax.detection.trained import StoredDetector
from fsljax.distances import normalize
from fsljax.errors import UserError
from fsljax.training import saved_model as saved
from fsljax.training.checkpoints import Model

_IMAGES_AT_ONCE = 8


class Detected(NamedTuple):
    """What was found in `n` images, best first in each.

    Attributes:
      boxes: n arrays float32 `[found, 4]`, `[y_min, x_min, y_max, x_max]` in pixels of the image as given.
      scores: n arrays float32 `[found]`, probabilities among background and the enrolled classes.
      labels: n arrays `[found]`, as they were enrolled.
    """

    boxes: list[np.ndarray]
    scores: list[np.ndarray]
    labels: list[np.ndarray]


class Detector:
    """Finds objects in images; classes are enrolled from one box or a few.

    Images are given as paths, as Pillow images (one of these, or several), or as arrays `[n, height, width]`
    or `[n, height, width, channel]` of uint8 (0 … 255) or floats (0 … 1); images of several sizes as a list.
    They are scaled whole to the size that the network was trained with.
    """

    def __init__(self, stored: StoredDetector):
        if "representatives" not in stored.variables["params"]:
            raise UserError(
                "This detector was trained with a linear head, which knows no new classes: load one that was "
                "trained with config.head.kind 'repmet'."
            )
        self._stored = stored
        self._representatives: dict[Label, np.ndarray] = {}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Detector:
        """Loads a run's workdir, a shipped model, or what `save` wrote.

        Raises:
          UserError: if the folder holds none of these, or nothing that can be read.
        """
        folder = Path(path).expanduser()
        detector = cls(stored_detector.load(folder))
        if (folder / saved.ENROLLED).exists():
            saved.read_enrolled(folder / saved.ENROLLED, detector._model, detector._restore)
        return detector

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes network and enrolled classes to a folder that `load` reads.

        Raises:
          UserError: if the folder cannot be written, or holds another model.
        """
        counts = [len(of) for of in self._representatives.values()]
        held = [np.zeros((0, self._dim), np.float32), *self._representatives.values()]
        arrays = {"representatives": np.concatenate(held), "counts": np.array(counts, np.int64)}
        config = self._stored.config
        saved.write(
            Path(path).expanduser(),
            config,
            self._model,
            self.classes,
            arrays,
            same=lambda folder: True,
        )

    @property
    def classes(self) -> list[Label]:
        """The enrolled labels, in the order of their first enrolment."""
        return list(self._representatives)

    def enroll(self, images: Images, boxes: Any, labels: Label | Iterable[Label] | np.ndarray) -> Detector:
        """Adds classes, or boxes to classes.

        Args:
          images: `n` of them.
          boxes: `n` boxes `[4]`, one in each image, or for each image several, `[m, 4]`:
            `[y_min, x_min, y_max, x_max]` in pixels of the image.
          labels: one label (a string or an integer) for each box, in the order of the boxes; or one for all.

        Returns:
          this detector.

        Raises:
          UserError: if there are no images, not as many boxes or labels, an image cannot be read, or a box is
            none: outside its image, without area, or of no finite numbers.
        """
        prepared = prepare_padded(images, self._stored.config.data)
        of_images = _boxes_of(boxes, prepared)
        given = listed_labels(labels, sum(map(len, of_images)), "box")
        image_of = np.repeat(np.arange(len(of_images)), list(map(len, of_images)))
        scaled = np.concatenate(of_images) * prepared.scales[image_of]
        embeddings = np.concatenate(
            [
                self._embed_supports(prepared.images[rows], prepared.sizes[rows], boxes_of[:, None])
                for rows, boxes_of in _in_batches(image_of, scaled)
            ]
        )[: len(image_of)]
        for label, own in zip(given, embeddings, strict=True):
            before = self._representatives.get(label)
            self._representatives[label] = own if before is None else np.concatenate([before, own])
        return self

    def forget(self, label: Label) -> Detector:
        """Removes a class.

        Raises:
          UserError: if it is not enrolled.
        """
        self._check_known([label])
        del self._representatives[label]
        return self

    def detect(
        self,
        images: Images,
        *,
        labels: Sequence[Label] | None = None,
        threshold: float = 0.3,
        most: int = 100,
    ) -> Detected:
        """Finds objects of the enrolled classes.

        Args:
          images: `n` of them.
          labels: the classes to look for, which alone compete; None: all.
          threshold: least score of a detection.
          most: detections of an image at most.

        Raises:
          UserError: if nothing is enrolled, a label is not, there are no images, or one cannot be read.
        """
        if not self.classes:
            raise UserError("No class is enrolled: call enroll(images, boxes, labels) first.")
        if not 0 <= threshold <= 1 or most < 1:
            raise UserError(
                f"threshold is {threshold} and most {most}: give a threshold from 0 to 1, and 1 or more."
            )
        wanted = self.classes if labels is None else list(dict.fromkeys(labels))
        self._check_known(wanted)
        if not wanted:
            raise UserError("There is no label to look for: give one at least, or None for all.")
        prepared = prepare_padded(images, self._stored.config.data)
        names = label_array(wanted)
        found = Detected([], [], [])
        for start in range(0, len(prepared.images), _IMAGES_AT_ONCE):
            rows = np.arange(start, min(start + _IMAGES_AT_ONCE, len(prepared.images)))
            filled = np.resize(rows, _IMAGES_AT_ONCE)
            of_batch = self._find(
                prepared.images[filled], prepared.sizes[filled], self._padded(wanted), len(wanted), most
            )
            for place, row in enumerate(rows):
                boxes, scores, numbers, valid = (np.asarray(of)[place] for of in of_batch)
                good = valid & (scores >= threshold)
                found.boxes.append(boxes[good] / prepared.scales[row])
                found.scores.append(scores[good])
                found.labels.append(names[numbers[good]])
        return found

    @property
    def _model(self) -> Model:
        return Model(self._stored.step, self._stored.variables)

    @property
    def _dim(self) -> int:
        head = self._stored.config.head
        return int(head.dim if self._enrol.space == "embedding" else head.hidden)

    @property
    def _enrol(self) -> EnrolOptions:
        return enrol_options(self._stored.config)

    @cached_property
    def _variables(self) -> Any:
        return jax.device_put(self._stored.variables)

    def _embed_supports(self, images: np.ndarray, sizes: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Embeddings `[b, per_shot, dim]` of what a box `[b, 1, 4]` in each image gives."""
        enrol = self._enrol
        found = _embed_supports(
            self._stored.network,
            self._variables,
            jnp.asarray(images),
            jnp.asarray(sizes),
            jnp.asarray(boxes),
            enrol,
        )
        return np.asarray(found)

    def _find(
        self, images: np.ndarray, sizes: np.ndarray, representatives: np.ndarray, classes: int, most: int
    ) -> Detections:
        enrol, iou_threshold = self._enrol, float(self._stored.config.eval.iou_threshold)
        boxes, valid, embeddings = _embed_regions(
            self._stored.network, self._variables, jnp.asarray(images), jnp.asarray(sizes), enrol
        )
        scores = repmet_scores(embeddings, jnp.asarray(representatives), enrol.sigma, enrol.scale)
        # Few distinct numbers of classes, so that few programs are compiled.
        columns = 1 << (classes - 1).bit_length()
        scores = jnp.pad(scores, [(0, 0), (0, 0), (0, columns - classes)], constant_values=-1.0)
        return jax.device_get(_suppressed(boxes, valid, scores, iou_threshold, most))

    def _padded(self, labels: Sequence[Label]) -> np.ndarray:
        """Representatives `[classes, k, dim]`; a class of fewer has its first several times."""
        held = [self._representatives[label] for label in labels]
        most = max(map(len, held))
        return np.stack([of[np.r_[: len(of), np.zeros(most - len(of), int)]] for of in held])

    def _check_known(self, labels: Sequence[Label]) -> None:
        for label in labels:
            if label not in self._representatives:
                raise UserError(f"{label!r} is not enrolled; enrolled are {self.classes}.")

    def _restore(self, labels: list[Label], arrays: Mapping[str, np.ndarray]) -> None:
        ends = np.cumsum(arrays["counts"])
        held, dim = np.asarray(arrays["representatives"], np.float32), self._dim
        if len(labels) != len(ends) or held.shape != (ends[-1] if len(ends) else 0, dim):
            raise ValueError("labels and representatives do not fit together")
        self._representatives = dict(zip(labels, np.split(held, ends)[: len(labels)], strict=True))


@partial(jax.jit, static_argnums=(0, 5))
def _embed_supports(
    network: Any,
    variables: Any,
    images: jax.Array,
    sizes: jax.Array,
    boxes: jax.Array,
    enrol: EnrolOptions,
) -> jax.Array:
    mask = jnp.ones(boxes.shape[:2], bool)
    seen = examine(network, variables, _scaled(images), boxes, mask, sizes[:, 0], sizes[:, 1])
    rows = jax.vmap(partial(representative_rows, per_shot=enrol.per_shot, overlap=enrol.overlap))(
        seen.boxes, seen.valid
    )
    chosen = jnp.take_along_axis(seen.features, rows[..., None], axis=1)
    return _compared(network, variables, chosen, enrol)


@partial(jax.jit, static_argnums=(0, 4))
def _embed_regions(
    network: Any, variables: Any, images: jax.Array, sizes: jax.Array, enrol: EnrolOptions
) -> tuple[jax.Array, jax.Array, jax.Array]:
    found = find_regions(network, variables, _scaled(images), sizes[:, 0], sizes[:, 1])
    return found.boxes, found.valid, _compared(network, variables, found.features, enrol)


def _compared(network: Any, variables: Any, features: jax.Array, enrol: EnrolOptions) -> jax.Array:
    """What features are compared by."""
    if enrol.space == "features":
        return normalize(features) if enrol.normalize else features
    embedded: jax.Array = network.apply(variables, features, method="embed")
    return embedded


@partial(jax.jit, static_argnums=(3, 4))
def _suppressed(
    boxes: jax.Array, valid: jax.Array, scores: jax.Array, iou_threshold: float, most: int
) -> Detections:
    return jax.vmap(partial(detections, iou_threshold=iou_threshold, keep=most))(boxes, valid, scores)


def _scaled(images: jax.Array) -> jax.Array:
    return images.astype(jnp.float32) / 255


def _in_batches(image_of: np.ndarray, boxes: np.ndarray) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Rows of images and their boxes, in batches of one size: the last is filled up from its beginning."""
    for start in range(0, len(image_of), _IMAGES_AT_ONCE):
        rows = np.arange(start, min(start + _IMAGES_AT_ONCE, len(image_of)))
        filled = np.resize(rows, _IMAGES_AT_ONCE)
        yield image_of[filled], boxes[filled].astype(np.float32)


def _boxes_of(boxes: Any, prepared: PaddedImages) -> list[np.ndarray]:
    """The boxes `[m, 4]` of each image."""
    count = len(prepared.images)
    try:
        rows = [np.asarray(of) for of in boxes]
    except (TypeError, ValueError):
        raise UserError(
            "The boxes are no sequence: give one [y_min, x_min, y_max, x_max] an image."
        ) from None
    if count == 1 and len(rows) == 4 and all(of.ndim == 0 for of in rows):
        rows = [np.stack(rows)]
    if len(rows) != count:
        raise UserError(f"There are {count} images, but boxes for {len(rows)}: give one or more for each.")
    checked = []
    for number, (of_image, size) in enumerate(zip(rows, prepared.given, strict=True)):
        several = of_image[None] if of_image.shape == (4,) else of_image
        checked.append(check_boxes(several, float(size[0]), float(size[1]), f"image {number}"))
        if not len(checked[-1]):
            raise UserError(f"Image {number} has no box: leave it out, or give one.")
    return checked
