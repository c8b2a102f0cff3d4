"""Finds objects of classes that are enrolled from a box each."""

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
"""Least score of a detection, before it is calibrated."""


class Detector:
    """Finds objects in images; classes are enrolled from one box or a few.

    Images are given as paths, Pillow images, or the content of image files in bytes or open files (one of
    these, or several), or as arrays `[n, height, width]` or `[n, height, width, channel]` of uint8 (0 … 255),
    bool or floats (0 … 1); images of several sizes as a list. They may be of any size, and any number: they
    are read a few at a time and scaled whole to the size that the network was trained with.

    Several threads may use one detector: each call sees the classes as they were at one moment, and no
    enrolment is lost. It can be pickled and copied. Worker processes are to be begun by "spawn" or
    "forkserver": in one made by fork after JAX had computed, every call raises a UserError, for JAX cannot
    compute there.
    """

    _origin = ""  # the folder that it was loaded from

    def __init__(self, trained: TrainedDetector, space: Space | None = None):
        if REPRESENTATIVES not in trained.variables["params"]:
            raise UserError(
                "This detector was trained with a linear head, which knows no new classes: load one that was "
                "trained with config.head.kind 'repmet'."
            )
        self._trained = trained
        self._space = HeadSpace(trained) if space is None else space
        # Never changed, but replaced as a whole: who reads it holds the classes of one moment.
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
        """Loads a run's workdir, a shipped model, or what `save` wrote.

        Args:
          path: the folder.
          compare: where regions are compared with new classes. "head": by the detector's own head, from whose
            training they come. "backbone": the best proposals are cut out and embedded by a classifier's
            frozen network, which costs about a second an image. None: as the classes were enrolled, "head"
            where there are none.
          weights: of that network, "efficientnet_lite0" (by default), "dinov2_small" or any others that
            `Classifier.pretrained` takes.

        Raises:
          UserError: if the folder holds none of these, or nothing that can be read; the weights cannot be
            had; the classes in it were compared elsewhere.
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
        """Writes network and enrolled classes, with what is kept of their photographs, to a folder.

        Raises:
          UserError: if the folder cannot be written, or holds another model.
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
        """The enrolled labels, in the order of their first enrolment."""
        return list(self._known.representatives)

    def boxes_of(self, label: Label) -> int:
        """How many boxes a class was enrolled from, as far as their photographs are kept.

        Raises:
          UserError: if it is not enrolled.
        """
        (enrolled,) = enrolled_labels([label], self.classes)
        return sum(one.labels.count(enrolled) for one in self._known.photographs if not one.is_view)

    @property
    def threshold(self) -> float:
        """Least score of what `detect` finds by default: as `calibrate` chose it, or 0.3."""
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
        """Adds classes, or boxes to classes.

        Args:
          images: `n` of them; or, without boxes, an annotation file of LabelMe, VOC (XML) or COCO, several of
            these, or a folder of them with their images: all objects in it are enrolled.
          boxes: `n` boxes `[4]`, one in each image, or for each image several, `[m, 4]`:
            `[y_min, x_min, y_max, x_max]` in pixels of the image, upright (as EXIF turns it).
          labels: one label (a string or an integer) for each box, in the order of the boxes; or one for all.
            Of annotations: the classes that are enrolled; None: all.
          augment: how many changed views of each image (mirrored, smaller, larger, moved) give
            representatives too, up to 8; True: all; None: as the detector's config says, `eval.enrol.views`.
          clusters: representatives of a class at most, the means of clusters; 0: all; None: as the config
            says, `eval.enrol.clusters`.
          background: images that hold no object of these classes. The regions in them that are most like one
            count as background from now on: what is nearer to such a region than to the class is none.
          fine_tune_epochs: how often all classes learn from the regions of all their photographs, as in
            few-shot episodes; background is learned from, then, instead of being compared with.

        Returns:
          this detector.

        Raises:
          UserError: if there are no images, not as many boxes or labels, an image cannot be read, or a box is
            none: outside its image, less than a pixel in a direction, a fraction of the image, or of no
            finite numbers.
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

        Raises:
          UserError: if it is not enrolled.
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
        """Finds objects of the enrolled classes.

        Args:
          images: `n` of them.
          labels: the classes to look for, which alone compete; None: all.
          threshold: least score of a detection; None: `self.threshold`.
          most: detections of an image at most.

        Raises:
          UserError: if nothing is enrolled, a label is not, there are no images, or one cannot be read.
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
        """Chooses the threshold by images whose objects are known, and keeps it as `self.threshold`.

        Detections of all classes are counted together. One is right if its box and that of an object of its
        class overlap with an IoU of 0.5 or more, and no better detection has that object. The threshold is
        that of the largest F1, 2 · right / (detections + objects).

        Args:
          images, boxes, labels: as of `enroll`, of all objects of the enrolled classes in these images, which
            are best none of the enrolled ones. None: the enrolled photographs, each of which is searched with
            the classes as the others alone make them; of classes that no other photograph shows, nothing is
            counted. Where that is so of all, each box is searched by the other boxes of its class.

        Returns:
          this detector.

        Raises:
          UserError: if there is nothing to calibrate by, a label is not enrolled, no object is found again;
            or as `enroll`.
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
