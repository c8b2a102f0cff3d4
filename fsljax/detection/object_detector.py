"""Finds objects of classes that are enrolled from a box each."""

from __future__ import annotations

import os
import threading
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from fsljax.config import plain
from fsljax.data.batches import batches_of
from fsljax.data.labels import Label, label_array, listed_labels, spelled_as
from fsljax.data.user_images import Images
from fsljax.detection.data.padded_images import GivenBoxes, boxes_of_images, prepare_padded
from fsljax.detection.model import stored
from fsljax.detection.model.search import detect_classes, embed_supports, same_number
from fsljax.detection.model.trained import REPRESENTATIVES, TrainedDetector
from fsljax.errors import UserError
from fsljax.networks.forked import check_not_forked
from fsljax.storage.paths import given_path, is_there
from fsljax.training import saved_model, workdir
from fsljax.training.checkpoints import Model

_IMAGES_AT_ONCE = 8


class Detected(NamedTuple):
    """What was found in `n` images, best first in each.

    Attributes:
      boxes: n arrays float32 `[found, 4]`, `[y_min, x_min, y_max, x_max]` in pixels of the image, upright.
      scores: n arrays float32 `[found]`, probabilities among background and the enrolled classes.
      labels: n arrays `[found]`, as they were enrolled.
    """

    boxes: list[np.ndarray]
    scores: list[np.ndarray]
    labels: list[np.ndarray]


class Detector:
    """Finds objects in images; classes are enrolled from one box or a few.

    Images are given as paths, Pillow images, or the content of image files in bytes or open files (one of
    these, or several), or as arrays `[n, height, width]` or `[n, height, width, channel]` of uint8 (0 … 255),
    bool or floats (0 … 1); images of several sizes as a list. They are scaled whole to the size that the
    network was trained with.

    Several threads may use one detector: each call sees the classes as they were at one moment, and no
    enrolment is lost. It can be pickled and copied. Worker processes are to be begun by "spawn" or
    "forkserver": in one made by fork after JAX had computed, every call raises a UserError, for JAX cannot
    compute there.
    """

    def __init__(self, trained: TrainedDetector):
        if REPRESENTATIVES not in trained.variables["params"]:
            raise UserError(
                "This detector was trained with a linear head, which knows no new classes: load one that was "
                "trained with config.head.kind 'repmet'."
            )
        self._trained = trained
        # Never changed, but replaced as a whole: who reads it holds the classes of one moment.
        self._representatives: Mapping[Label, np.ndarray] = {}
        self._changing, self._saving = threading.Lock(), threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        left_behind = ("_changing", "_saving", "_on_device")
        return {name: value for name, value in self.__dict__.items() if name not in left_behind}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._changing, self._saving = threading.Lock(), threading.Lock()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Detector:
        """Loads a run's workdir, a shipped model, or what `save` wrote.

        Raises:
          UserError: if the folder holds none of these, or nothing that can be read.
        """
        check_not_forked()
        folder = given_path(path)
        detector = cls(stored.load(folder))
        if is_there(folder / saved_model.ENROLLED):
            saved_model.read_enrolled(
                folder / saved_model.ENROLLED, detector._model, detector._dim, detector._restore
            )
        return detector

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes network and enrolled classes to a folder that `load` reads.

        Raises:
          UserError: if the folder cannot be written, or holds another model.
        """
        check_not_forked()
        folder = given_path(path)
        with self._saving:
            known = self._representatives
            arrays = {
                "representatives": np.concatenate([np.zeros((0, self._dim), np.float32), *known.values()]),
                "counts": np.array([len(of_class) for of_class in known.values()], np.int64),
            }
            config = plain(self._trained.config)
            saved_model.write(folder, config, self._model, list(known), arrays, self._is_config_of)

    @property
    def classes(self) -> list[Label]:
        """The enrolled labels, in the order of their first enrolment."""
        return list(self._representatives)

    def enroll(
        self, images: Images, boxes: GivenBoxes, labels: Label | Iterable[Label] | np.ndarray
    ) -> Detector:
        """Adds classes, or boxes to classes.

        Args:
          images: `n` of them.
          boxes: `n` boxes `[4]`, one in each image, or for each image several, `[m, 4]`:
            `[y_min, x_min, y_max, x_max]` in pixels of the image, upright (as EXIF turns it).
          labels: one label (a string or an integer) for each box, in the order of the boxes; or one for all.

        Returns:
          this detector.

        Raises:
          UserError: if there are no images, not as many boxes or labels, an image cannot be read, or a box is
            none: outside its image, less than a pixel in a direction, a fraction of the image, or of no
            finite numbers.
        """
        check_not_forked()
        prepared = prepare_padded(images, self._trained.config.data)
        of_images = boxes_of_images(boxes, prepared)
        counts = list(map(len, of_images))
        given_labels = listed_labels(labels, sum(counts), "box")
        image_of_box = np.repeat(np.arange(len(of_images)), counts)
        scaled = (np.concatenate(of_images) * prepared.scales[image_of_box]).astype(np.float32)
        representatives = []
        for rows, count in batches_of(len(image_of_box), _IMAGES_AT_ONCE):
            images_of_boxes = image_of_box[rows]
            embedded = embed_supports(
                self._on_device,
                prepared.images[images_of_boxes],
                prepared.sizes[images_of_boxes],
                scaled[rows, None],
            )
            representatives.append(embedded[:count])
        with self._changing:
            known = dict(self._representatives)
            labels_here = spelled_as(given_labels, known)
            for label, of_box in zip(labels_here, np.concatenate(representatives), strict=True):
                known[label] = np.concatenate([known[label], of_box]) if label in known else of_box
            self._representatives = known
        return self

    def forget(self, label: Label) -> Detector:
        """Removes a class.

        Raises:
          UserError: if it is not enrolled.
        """
        check_not_forked()
        with self._changing:
            known = dict(self._representatives)
            (enrolled,) = _enrolled([label], known)
            del known[enrolled]
            self._representatives = known
        return self

    def detect(
        self,
        images: Images,
        *,
        labels: Label | Iterable[Label] | None = None,
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
        check_not_forked()
        known = self._representatives
        if not known:
            raise UserError("No class is enrolled: call enroll(images, boxes, labels) first.")
        if not isinstance(threshold, Real) or not isinstance(most, Integral):
            raise UserError(f"threshold is {threshold!r} and most {most!r}: give a number and an integer.")
        if not 0 <= threshold <= 1 or most < 1:
            raise UserError(
                f"threshold is {threshold} and most {most}: give a threshold from 0 to 1, and 1 or more."
            )
        one = isinstance(labels, str | Integral)
        chosen = list(known) if labels is None else _enrolled([labels] if one else list(labels), known)
        if not chosen:
            raise UserError("There is no label to look for: give one at least, or None for all.")
        prepared, names = prepare_padded(images, self._trained.config.data), label_array(chosen)
        representatives = same_number([known[label] for label in chosen])
        detected = Detected([], [], [])
        for rows, count in batches_of(len(prepared.images), _IMAGES_AT_ONCE):
            of_batch = detect_classes(
                self._on_device, prepared.images[rows], prepared.sizes[rows], representatives, most
            )
            for row, of_image in zip(rows[:count], of_batch.of_images(), strict=False):
                good = of_image.scores >= threshold
                boxes, scores, numbers = (np.asarray(part)[good] for part in of_image[:3])
                detected.boxes.append(boxes / prepared.scales[row])
                detected.scores.append(scores)
                detected.labels.append(names[numbers])
        return detected

    @property
    def _model(self) -> Model:
        return Model(self._trained.step, self._trained.variables)

    @property
    def _dim(self) -> int:
        config = self._trained.config
        return config.head.dim if config.eval.enrol.space == "embedding" else config.head.hidden

    @cached_property
    def _on_device(self) -> TrainedDetector:
        return replace(self._trained, variables=jax.device_put(self._trained.variables))

    def _is_config_of(self, folder: Path) -> bool:
        return not workdir.differences(stored.read_config(folder), self._trained.config)

    def _restore(self, labels: list[Label], arrays: Mapping[str, np.ndarray]) -> None:
        ends = np.cumsum(arrays["counts"])
        joined = np.asarray(arrays["representatives"], np.float32)
        if len(labels) != len(ends) or joined.shape != (ends[-1] if len(ends) else 0, self._dim):
            raise ValueError("labels and representatives do not fit together")
        self._representatives = dict(zip(labels, np.split(joined, ends)[: len(labels)], strict=True))


def _enrolled(labels: Sequence[Label], known: Mapping[Label, np.ndarray]) -> list[Label]:
    """The labels once each, as they were enrolled; a UserError for one that was not."""
    spelled = spelled_as(labels, known)
    for label in spelled:
        if not isinstance(label, Hashable) or label not in known:
            raise UserError(f"{label!r} is not enrolled; enrolled are {list(known)}.")
    return list(dict.fromkeys(spelled))
