"""Detects objects of classes enrolled from one or a few boxes each."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from fsljax.config import plain
from fsljax.data.labels import Label, described
from fsljax.data.user_images import Images
from fsljax.detection.data.padded_images import GivenBoxes
from fsljax.detection.enrolled.annotated import given_objects
from fsljax.detection.enrolled.arguments import checked_count, enrolled_labels
from fsljax.detection.enrolled.calibration import best_threshold, judged_with, judged_without_each
from fsljax.detection.enrolled.classes import Classes
from fsljax.detection.enrolled.head_space import HeadSpace
from fsljax.detection.enrolled.looking import Space, background_photographs, photographs_with_boxes
from fsljax.detection.enrolled.searching import Detected, search
from fsljax.detection.enrolled.spaces import description_of, space_of
from fsljax.detection.enrolled.stored import arrays_of, classes_of
from fsljax.detection.enrolled.views import VIEWS
from fsljax.detection.model import stored
from fsljax.detection.model.inference import suppression_of
from fsljax.detection.model.trained import REPRESENTATIVES, TrainedDetector
from fsljax.errors import UserError
from fsljax.networks.forked import check_not_forked
from fsljax.storage.paths import given_path, is_there
from fsljax.training import saved_model, workdir
from fsljax.training.checkpoints import Model

__all__ = ["THRESHOLD", "Detected", "Detector"]

THRESHOLD = 0.3
"""Minimum score of a detection, unless calibrated."""


class Detector:
    """Detects objects in images; classes are enrolled from one or a few boxes each.

    Images can be paths, Pillow images, or the contents of image files as bytes or open files (a single one or
    several), or arrays `[n, height, width]` or `[n, height, width, channel]` of uint8 (0 … 255), bool or
    floats (0 … 1); pass images of different sizes as a list. Any size and number is accepted: images are read
    a few at a time, and each is scaled as a whole to the size that the network was trained with.

    A detector may be shared between threads: each call sees a consistent set of classes, and no enrolment is
    lost. It can be pickled and copied. Start worker processes with "spawn" or "forkserver": in a process
    forked after JAX has run a computation, every call raises a UserError, since JAX does not work there.
    """

    _origin = ""  # the folder that it was loaded from

    def __init__(self, trained: TrainedDetector, space: Space | None = None):
        if REPRESENTATIVES not in trained.variables["params"]:
            raise UserError(
                "This detector was trained with a linear head, which cannot learn new classes: load one that "
                "was trained with config.head.kind 'repmet'."
            )
        self._trained = trained
        self._space = HeadSpace(trained) if space is None else space
        # Never modified, only replaced as a whole, so that a reader holds a consistent set of classes.
        self._known = Classes()
        self._changing, self._saving = threading.Lock(), threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        left_behind = ("_changing", "_saving")
        return {name: value for name, value in self.__dict__.items() if name not in left_behind}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._changing, self._saving = threading.Lock(), threading.Lock()

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, compare: str | None = None, weights: str | None = None
    ) -> Detector:
        """Loads a run's workdir, a shipped model, or a folder written by `save`.

        Args:
          path: the folder.
          compare: the embedding in which regions are compared with new classes. "head": that of the
            detector's own trained head. "backbone": the best proposals are cropped and embedded by the frozen
            network of a classifier, which takes about a second per image. None: the one that the classes were
            enrolled with, or "head" if there are none.
          weights: weights of that network: "efficientnet_lite0" (the default), "dinov2_small" or any others
            that `Classifier.pretrained` accepts.

        Raises:
          UserError: if the folder holds none of these or cannot be read; the weights are not available; or
            the classes in the folder were enrolled with another embedding.
        """
        check_not_forked()
        folder = given_path(path)
        enrolled, trained = folder / saved_model.ENROLLED, stored.load(folder)
        detector = cls(trained, space_of(trained, compare, weights, enrolled))
        detector._origin = str(folder)
        if is_there(enrolled):
            saved_model.read_enrolled(enrolled, detector._model, detector._space.dim, detector._restore)
        return detector

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the network, the enrolled classes and the features of their photographs to a folder.

        Raises:
          UserError: if the folder cannot be written, or holds a different model.
        """
        check_not_forked()
        folder = given_path(path)
        with self._saving:
            known = self._known
            arrays = {**arrays_of(known, self._space.dim), **description_of(self._space)}
            config = plain(self._trained.config)
            saved_model.write(
                folder, config, self._model, list(known.representatives), arrays, self._is_config_of
            )

    def __repr__(self) -> str:
        network, data = self._trained.config.network, self._trained.config.data
        size = f"{network.name} at {data.image_size}×{data.image_size}×{data.channels}"
        origin = f" from {self._origin!r}" if self._origin else ""
        return f"Detector({size}{origin}, {described(self.classes)}, threshold={self.threshold:.2g})"

    @property
    def classes(self) -> list[Label]:
        """The enrolled labels, in order of first enrolment."""
        return list(self._known.representatives)

    def boxes_of(self, label: Label) -> int:
        """Number of boxes that a class was enrolled from, counting photographs whose features are kept.

        Raises:
          UserError: if the class is not enrolled.
        """
        (enrolled,) = enrolled_labels([label], self.classes)
        return sum(one.labels.count(enrolled) for one in self._known.photographs if not one.is_view)

    @property
    def threshold(self) -> float:
        """Default minimum score for `detect`: chosen by `calibrate`, or 0.3."""
        threshold = self._known.threshold
        return THRESHOLD if threshold is None else threshold

    def enroll(
        self,
        images: Images,
        boxes: GivenBoxes | None = None,
        labels: Label | Iterable[Label] | np.ndarray | None = None,
        *,
        augment: int | bool | None = None,
        clusters: int | None = None,
        background: Images | None = None,
        fine_tune_epochs: int = 0,
    ) -> Detector:
        """Adds classes, or boxes to existing classes.

        Args:
          images: `n` images; or, without boxes, one or several annotation files of LabelMe, VOC (XML) or
            COCO, or a folder of them with their images: all annotated objects are enrolled.
          boxes: `n` boxes `[4]`, one per image, or several for each image, `[m, 4]`:
            `[y_min, x_min, y_max, x_max]` in pixels of the upright image (EXIF orientation applied).
          labels: one label (a string or an integer) per box, in the order of the boxes; or a single label for
            all. With annotations: the classes to enrol; None: all.
          augment: number of augmented views of each image (mirrored, smaller, larger, moved) that also give
            representatives, up to 8; True: all 8; None: `eval.enrol.views` of the detector's config.
          clusters: maximum number of representatives per class, as cluster means; 0: keep all; None:
            `eval.enrol.clusters` of the config.
          background: images without any object of these classes. Their regions that resemble a class most
            count as background from now on: a region nearer to one of them than to the class is rejected.
          fine_tune_epochs: number of epochs of fine-tuning all classes on the regions of all their
            photographs, as in few-shot episodes; background regions are then trained on instead of being
            compared with.

        Returns:
          this detector.

        Raises:
          UserError: if there are no images, the numbers of images, boxes and labels do not match, an image
            cannot be read, or a box is invalid: outside its image, less than a pixel high or wide, given as
            fractions of the image, or not finite.
        """
        check_not_forked()
        options = self._space.enrollment.options
        views = checked_count("augment", options.views if augment is None else augment, len(VIEWS))
        most = checked_count("clusters", options.clusters if clusters is None else clusters)
        epochs = checked_count("fine_tune_epochs", fine_tune_epochs)
        data = self._trained.config.data
        images, boxes, labels = given_objects(images, boxes, labels)
        photographs = photographs_with_boxes(self._space, data, images, boxes, labels, views)
        if background is not None:
            lacks = list(dict.fromkeys(label for one in photographs for label in one.labels))
            first = 1 + max(one.number for one in photographs)
            photographs += background_photographs(self._space, data, background, lacks, first)
        with self._changing:
            self._known = self._known.with_photographs(
                photographs, self._space.enrollment, clusters=most, epochs=epochs
            )
        return self

    def forget(self, label: Label) -> Detector:
        """Removes a class.

        Returns:
          this detector.

        Raises:
          UserError: if the class is not enrolled.
        """
        check_not_forked()
        with self._changing:
            (enrolled,) = enrolled_labels([label], self.classes)
            self._known = self._known.without(enrolled)
        return self

    def detect(
        self,
        images: Images,
        *,
        labels: Label | Iterable[Label] | None = None,
        threshold: float | None = None,
        most: int = 100,
    ) -> Detected:
        """Detects objects of the enrolled classes.

        Args:
          images: `n` images.
          labels: the classes to detect; other classes do not compete with them. None: all.
          threshold: minimum score of a detection; None: `self.threshold`.
          most: maximum number of detections per image.

        Raises:
          UserError: if no class is enrolled, a label is not enrolled, there are no images, or one cannot be
            read.
        """
        check_not_forked()
        known = self._known
        least = self.threshold if threshold is None else threshold
        return search(self._space, self._trained.config, known, images, labels, least, most)

    def calibrate(
        self,
        images: Images | None = None,
        boxes: GivenBoxes | None = None,
        labels: Label | Iterable[Label] | np.ndarray | None = None,
    ) -> Detector:
        """Chooses the threshold from images whose objects are known, and stores it as `self.threshold`.

        Detections of all classes are pooled. A detection is correct if the IoU of its box with an object of
        its class is 0.5 or more, and no higher-scoring detection matches that object. The threshold maximises
        F1 = 2 · correct / (detections + objects).

        Args:
          images, boxes, labels: as in `enroll`, covering all objects of the enrolled classes in these images,
            which should preferably not be the enrolled ones. None: leave-one-out over the enrolled
            photographs, each searched with the classes enrolled from the others; classes that no other
            photograph shows are not counted. If this leaves no class, each box is searched for with the other
            boxes of its class.

        Returns:
          this detector.

        Raises:
          UserError: if there is nothing to calibrate with, a label is not enrolled, or no object is found; or
            as in `enroll`.
        """
        check_not_forked()
        known = self._known
        suppression = suppression_of(self._trained.config.eval)
        if images is None:
            counted = judged_without_each(known, self._space.enrollment, suppression)
        else:
            images, boxes, labels = given_objects(images, boxes, labels)
            photographs = photographs_with_boxes(
                self._space, self._trained.config.data, images, boxes, labels, may_be_empty=True
            )
            enrolled_labels([label for one in photographs for label in one.labels], known.representatives)
            counted = judged_with(known, photographs, self._space.enrollment, suppression)
        threshold = best_threshold(counted)
        with self._changing:
            self._known = replace(self._known, threshold=threshold)
        return self

    @property
    def _model(self) -> Model:
        return Model(self._trained.step, self._trained.variables)

    @property
    def _representatives(self) -> Mapping[Label, np.ndarray]:
        return self._known.representatives

    def _is_config_of(self, folder: Path) -> bool:
        return not workdir.differences(stored.read_config(folder), self._trained.config)

    def _restore(self, labels: list[Label], arrays: Mapping[str, np.ndarray]) -> None:
        self._known = classes_of(labels, arrays, self._space.dim)
