"""Names images by the classes that were enrolled from a few images each."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fsljax import networks
from fsljax.classification import kept
from fsljax.classification.enrollment import changed_head, enrolled_by, with_representatives
from fsljax.classification.heads import Head
from fsljax.classification.stored_config import (
    classifier_config,
    pretrained_config,
    pretrained_model,
    read_classifier_config,
)
from fsljax.classification.unknown import (
    Calibration,
    Scale,
    calibrated,
    confidence,
    left_out_distances,
    scale_of,
)
from fsljax.config import plain
from fsljax.data.batches import batch_size, embed_in_batches
from fsljax.data.folders.class_folders import prepared_classes
from fsljax.data.labels import Label, label_array, listed_labels, spelled_as
from fsljax.data.user_images import Images, prepare
from fsljax.errors import UserError
from fsljax.networks.forked import check_not_forked
from fsljax.networks.variables import check_variables
from fsljax.storage.paths import given_path, is_there
from fsljax.training import saved_model, workdir
from fsljax.training.checkpoints import Checkpoints, Model


class Classifier:
    """Names images by classes that were enrolled from a few images each, or that the network was trained on.

    Images are given as paths, Pillow images, or the content of image files in bytes or open files (one of
    these, or several), or as arrays `[n, height, width]` or `[n, height, width, channel]` of uint8 (0 … 255),
    bool or floats (0 … 1); they are brought to the size and the channels that the network was trained with.
    A network trained on Omniglot or glyphs expects bright ink on dark paper.

    Classes are compared by a head, see `change_head`: of a network of published weights logistic regression,
    of one that was trained here what its method compares by: prototypes, RepMet's representatives.

    Several threads may use one classifier: each call sees the classes as they were at one moment, and no
    enrolment is lost. It can be pickled and copied. Worker processes are to be begun by "spawn" or
    "forkserver": in one made by fork after JAX had computed, every call raises a UserError, for JAX cannot
    compute there.

    Attributes:
      unknown: confidence, from 0 to 1, below which `predict` answers None; None: never. See `confidence`,
        and `calibrate`, which chooses it.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | ConfigDict,
        model: Model,
        *,
        unknown: float | None = None,
        representatives: int | None = None,
    ):
        check_not_forked()
        self._stored = plain(config)
        self._config = classifier_config(config)
        self._model = model
        self._network = networks.build(self._config)
        # Never changed, but replaced as a whole: who reads it holds the classes of one moment.
        self._enrolled: Head = enrolled_by(self._config, model.variables["params"], representatives)
        self._kind = ""
        self._scales: tuple[Head, Scale | None] | None = None
        self._changing, self._saving = threading.Lock(), threading.Lock()
        self.unknown = _checked(unknown)

    def __getstate__(self) -> dict[str, object]:
        left_behind = ("_changing", "_saving", "_embed_batch")
        return {name: value for name, value in self.__dict__.items() if name not in left_behind}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._changing, self._saving = threading.Lock(), threading.Lock()

    @classmethod
    def pretrained(
        cls,
        weights: str | os.PathLike[str] = "efficientnet_lite0",
        *,
        head: str = "logistic",
        distance: str = "cosine",
        unknown: float | None = None,
    ) -> Classifier:
        """A network of published weights, without classes: enrol some.

        Args:
          weights: a name, such as "efficientnet_lite0" or "dinov2_small"; a file; or a repository of the hub,
            "timm/resnet50.tv_in1k". What the network was trained on, and how, is in
            `fsljax.networks.pretrained.KNOWN`.
          head, distance: see `change_head`.
          unknown: the threshold.

        Raises:
          UserError: if the weights cannot be had, or are of a network that is not here.
        """
        check_not_forked()
        config = pretrained_config(os.fspath(weights))
        return cls(config, pretrained_model(config), unknown=unknown).change_head(head, distance=distance)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        unknown: float | None = None,
        representatives: int | None = None,
        classes: bool = True,
    ) -> Classifier:
        """Loads a run's workdir, a shipped model, or what `save` wrote.

        The classes that were enrolled come with it; else those that the run was trained on, if it was
        evaluated on them, with the method's own rule: the softmax layer, representatives, or clusters.

        Args:
          path: the folder.
          unknown: replaces the threshold that was saved.
          representatives: of a network trained by RepMet, how many a class gets at most, by k-means of its
            images' embeddings; 0: every one is a representative. None: as saved, or as its config evaluates.
          classes: False: without any.

        Raises:
          UserError: if the folder holds none of these, or nothing that can be read, or representatives are
            asked of another method's network.
        """
        check_not_forked()
        folder = given_path(path)
        config = read_classifier_config(folder)
        model = Checkpoints(folder).restore_model()
        classifier = cls(config, model, unknown=unknown, representatives=representatives)
        side, channels = classifier._config.data.image_size, classifier._config.data.channels
        where = f"The model in {folder}"
        (dim,) = check_variables(classifier._network, model.variables, (side, side, channels), where)
        there = [folder / name for name in (saved_model.ENROLLED, saved_model.LEARNED)]
        for file in [file for file in there if classes and is_there(file)][:1]:
            classifier._take(kept.Kept(file, model, dim, classifier._enrolled), unknown is None)
            if representatives is not None:
                with_representatives(classifier._enrolled, config["method"]).per_class = representatives
        return classifier

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes network and enrolled classes to a folder that `load` reads.

        Raises:
          UserError: if the folder cannot be written, or holds another model.
        """
        check_not_forked()
        folder = given_path(path)
        with self._saving:
            known, unknown = self._enrolled, _checked(self.unknown)
            arrays = kept.arrays_of(known, self._kind, self._scale(known) if len(known.labels) > 1 else None)
            arrays["unknown"] = np.array(np.nan if unknown is None else unknown)
            saved_model.write(folder, self._stored, self._model, known.labels, arrays, self._is_config_of)

    @property
    def classes(self) -> list[Label]:
        """The enrolled labels, in the order of their first enrolment."""
        return self._enrolled.labels

    @property
    def head(self) -> str:
        """How the classes are compared; see `change_head`."""
        return self._enrolled.name

    def change_head(self, head: str, *, distance: str = "cosine") -> Classifier:
        """Compares the classes otherwise; no image is embedded anew.

        Args:
          head: "prototype": the nearest mean. "centered": the nearest, once the mean of all enrolled
            embeddings is taken off. "logistic": logistic regression, its strength chosen by leaving images
            out. "representatives": the posteriors of RepMet, each enrolled image a representative.
          distance: of prototypes, "cosine" or "squared_euclidean".

        Returns:
          this classifier.

        Raises:
          UserError: if there is no such head, or the embeddings of a class were not kept.
        """
        with self._changing:
            self._enrolled = changed_head(self._enrolled, head, distance)
            self._kind = f"{head}:{distance}"
        return self

    def enroll(
        self,
        images: Images,
        labels: Label | Iterable[Label] | np.ndarray | None = None,
        *,
        fine_tune_steps: int = 0,
        fine_tune_rate: float = 0.1,
    ) -> Classifier:
        """Adds classes, or images to classes; a prototype is the mean of all images of its class.

        Args:
          images: `n` of them; or, without labels, the path of a folder with a folder of images for each class.
          labels: `n` labels (strings or integers), or one for all.
          fine_tune_steps: of a network trained by RepMet, steps in which the representatives of all classes
            enrolled, and they alone, learn from all images enrolled.
          fine_tune_rate: how fast; see `fsljax.classification.representatives.fine_tuned`.

        Returns:
          this classifier.

        Raises:
          UserError: if there are no images, not as many labels, a label is neither a string nor an integer,
            or an image cannot be read; if fine-tuning is asked of another method's network, or of one class.
        """
        steps_are_none = not isinstance(fine_tune_steps, Integral) or fine_tune_steps < 0
        if steps_are_none or not isinstance(fine_tune_rate, Real) or not 0 <= fine_tune_rate < np.inf:
            raise UserError(
                f"fine_tune_steps is {fine_tune_steps!r} and fine_tune_rate {fine_tune_rate!r}: give a whole "
                "number and a number, 0 or more."
            )
        if fine_tune_steps:
            with_representatives(self._enrolled, self._config.method)
        given, embeddings = self._labelled(images, labels)
        with self._changing:
            changed = self._enrolled.copy()
            changed.add(spelled_as(given, changed.labels), embeddings)
            if fine_tune_steps:
                learning = with_representatives(changed, self._config.method)
                learning.fine_tune(fine_tune_steps, fine_tune_rate)
            self._enrolled = changed
        return self

    def forget(self, label: Label) -> Classifier:
        """Removes a class.

        Raises:
          UserError: if it is not enrolled.
        """
        check_not_forked()
        with self._changing:
            changed = self._enrolled.copy()
            known = changed.labels
            if label not in known:
                (label,) = spelled_as([label], known)
            if label not in known:
                raise UserError(f"{label!r} is not enrolled; enrolled are {known}.")
            changed.forget(label)
            self._enrolled = changed
        return self

    def predict(self, images: Images, *, unknown: float | None = None) -> np.ndarray:
        """The label of each image, `[n]`; None where the confidence is below the threshold.

        Args:
          images: `n` of them.
          unknown: threshold for this call; the classifier's own by default.

        Returns:
          an array of strings or of integers; of objects, if there are both among the classes, or a threshold.
        """
        threshold = _checked(self.unknown if unknown is None else unknown)
        embeddings, known = self._embedded(images)
        compared = known.compare(embeddings)
        if threshold is None:
            return label_array(known.labels)[compared.predictions]
        answers = np.array(known.labels, object)[compared.predictions]
        answers[confidence(known, self._scale(known), compared) < threshold] = None
        return answers

    def predict_proba(self, images: Images) -> np.ndarray:
        """Probabilities of the enrolled classes: softmax over negative distances to prototypes.

        Of a network trained by RepMet the soft posterior.

        Returns:
          float32 `[n, classes]`, columns in the order of `classes`.
        """
        embeddings, known = self._embedded(images)
        return known.compare(embeddings).probabilities

    def background(self, images: Images) -> np.ndarray:
        """Probability that an image belongs to none of the enrolled classes, float32 `[n]`: 1 − max p.

        p falls with the distance in units of the σ that the network was trained with; see `confidence` for a
        figure that depends on the enrolled classes alone.

        Raises:
          UserError: if the network was trained by another method than RepMet, or no class is enrolled.
        """
        with_representatives(self._enrolled, self._config.method)
        embeddings, known = self._embedded(images)
        return with_representatives(known, self._config.method).background(embeddings)

    def confidence(self, images: Images) -> np.ndarray:
        """How sure it is that an image belongs to the class it is nearest to, `[n]`, from 0 to 1.

        One half is a distance at which enrolled images without themselves and enrolled images without their
        class lie as often. With too few images for that it is the class's probability times r / (r + d): d
        is the distance to the nearest class, and r half of that between a class and its nearest neighbour.

        Raises:
          UserError: if fewer than two classes are enrolled.
        """
        embeddings, known = self._embedded(images)
        return confidence(known, self._scale(known), known.compare(embeddings))

    def calibrate(
        self,
        known: Images | None = None,
        unknown: Images | None = None,
        *,
        false_accept: float = 0.05,
    ) -> Calibration:
        """Chooses the threshold `unknown` by the share of images of no class that may be accepted.

        Args:
          known: further images of the enrolled classes; None: the enrolled ones, each without itself.
          unknown: images of nothing enrolled; None: the enrolled ones, each without its class.
          false_accept: that share, between 0 and 1.

        Returns:
          the threshold, and what is to be expected of it.

        Raises:
          UserError: if fewer than two classes are enrolled, or there are no embeddings to choose it by.
        """
        if not isinstance(false_accept, Real) or not 0 < false_accept < 1:
            raise UserError(f"false_accept is {false_accept!r}; it must be between 0 and 1.")
        accepted = None if known is None else self.confidence(known)
        refused = None if unknown is None else self.confidence(unknown)
        head = self._enrolled
        if accepted is None or refused is None:
            distances, scale = left_out_distances(head), self._scale(head)
            if scale is None:
                raise UserError(
                    "The enrolled images are too few, or too much alike, to choose a threshold by: enrol more "
                    "of each class, or give images of known and of unknown classes."
                )
            accepted = scale.confidence(distances.known) if accepted is None else accepted
            refused = scale.confidence(distances.unknown) if refused is None else refused
        calibration = calibrated(accepted, refused, float(false_accept))
        self.unknown = calibration.threshold
        return calibration

    def embed(self, images: Images) -> np.ndarray:
        """Embeddings, float32 `[n, dim]`.

        Raises:
          UserError: if there are no images, or one cannot be read.
        """
        check_not_forked()
        prepared = prepare(images, self._config.data)
        return embed_in_batches(self._embed_batch, prepared, batch=batch_size(len(prepared)))

    @cached_property
    def _embed_batch(self) -> Any:
        variables = jax.device_put(self._model.variables)

        def embed(images: jax.Array) -> Any:
            return self._network.apply(variables, images.astype(jnp.float32) / 255, running_average=True)

        return jax.jit(embed)

    def _is_config_of(self, folder: Path) -> bool:
        there = classifier_config(read_classifier_config(folder))
        return not workdir.differences(there, self._config)

    def _embedded(self, images: Images) -> tuple[np.ndarray, Enrolled]:
        """Embeddings `[n, dim]`, and the classes of this moment."""
        embeddings, known = self.embed(images), self._enrolled
        if not known.labels:
            raise UserError("No class is enrolled: call enroll(images, labels) first.")
        return embeddings, known

    def _labelled(
        self, images: Images, labels: Label | Iterable[Label] | np.ndarray | None
    ) -> tuple[list[Label], np.ndarray]:
        """The label and the embedding of each image."""
        if labels is not None:
            embeddings = self.embed(images)
            return listed_labels(labels, len(embeddings)), embeddings
        if not isinstance(images, str | os.PathLike):
            raise UserError("Images were given without labels: give one label for each, or a folder of them.")
        names: list[Label] = []
        parts = []
        for prepared, of_part in prepared_classes(images, self._config.data):
            parts.append(self.embed(prepared))
            names += of_part
        return names, np.concatenate(parts)

    def _scale(self, known: Head) -> Scale | None:
        """The scale of the confidence, found once for the classes of a moment."""
        if self._scales is None or self._scales[0] is not known:
            has_all = len(known.labels) > 1 and set(known.supports) == set(known.labels)
            self._scales = known, scale_of(left_out_distances(known)) if has_all else None
        return self._scales[1]

    def _take(self, there: kept.Kept, keep_threshold: bool) -> None:
        """Takes the classes of a file."""
        self._enrolled, self._kind = there.head, there.kind
        if there.scale is not None:
            self._scales = there.head, there.scale
        if keep_threshold:
            self.unknown = None if np.isnan(there.unknown) else _checked(there.unknown)


def _checked(unknown: float | None) -> float | None:
    if unknown is not None and not (isinstance(unknown, Real) and 0 <= unknown <= 1):
        raise UserError(f"unknown is {unknown!r}; it must be from 0 to 1, or None.")
    return unknown
