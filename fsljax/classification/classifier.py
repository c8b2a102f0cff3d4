"""Classifies images into classes enrolled from a few images each."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from fsljax.classification import portable
from fsljax.classification.enrollment import Enrolled, enrolled_by, with_representatives
from fsljax.classification.heads.unknown import Calibration, checked_threshold
from fsljax.classification.network import ImageNetwork
from fsljax.data.labels import Label, described, label_array
from fsljax.data.user_images import Images
from fsljax.errors import UserError
from fsljax.networks.forked import check_not_forked
from fsljax.storage.paths import given_path
from fsljax.training import saved_model
from fsljax.training.checkpoints import Model

Folder = str | os.PathLike[str]


class Classifier:
    """Classifies images into classes enrolled from a few images each, or those the network was trained on.

    Images can be paths, Pillow images, or the contents of image files as bytes or open files (a single one or
    several), or arrays `[n, height, width]` or `[n, height, width, channel]` of uint8 (0 … 255), bool or
    floats (0 … 1). They are converted to the size and number of channels that the network was trained with.
    A network trained on Omniglot or glyphs expects bright ink on dark paper.

    Classes are compared by a head, see `change_head`. The default is logistic regression for published
    weights, and the comparison of the training method otherwise: prototypes, or RepMet's representatives.

    A classifier may be shared between threads: each call sees a consistent set of classes, and no enrolment
    is lost. It can be pickled and copied. Start worker processes with "spawn" or "forkserver": in a process
    forked after JAX has run a computation, every call raises a UserError.

    Attributes:
      unknown: confidence, from 0 to 1, below which `predict` returns None; None: no threshold. See
        `confidence`, and `calibrate`, which chooses the threshold.
    """

    def __init__(
        self, config: Mapping[str, Any] | ConfigDict, model: Model, *, unknown: float | None = None,
        representatives: int | None = None,
    ):  # fmt: skip
        self._begin(ImageNetwork(config, model), unknown, representatives)

    def _begin(self, network: ImageNetwork, unknown: float | None, representatives: int | None) -> None:
        self._network, params = network, network.model.variables["params"]
        # Never modified, only replaced as a whole, so that a reader holds a consistent set of classes.
        self._enrolled = Enrolled(enrolled_by(network.config, params, representatives))
        self._changing, self._saving = threading.Lock(), threading.Lock()
        self.unknown = checked_threshold(unknown)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_changing", "_saving")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._changing, self._saving = threading.Lock(), threading.Lock()

    @classmethod
    def pretrained(
        cls, weights: Folder = "efficientnet_lite0", *, head: str = "logistic", distance: str = "cosine",
        unknown: float | None = None,
    ) -> Classifier:  # fmt: skip
        """A classifier with published weights and no classes yet; add some with `enroll`.

        Args:
          weights: a name, such as "efficientnet_lite0" or "dinov2_small" (`fsljax.networks.pretrained.KNOWN`
            says how each was trained); a file; or a hub repository, such as "timm/resnet50.tv_in1k".
          head, distance: see `change_head`.
          unknown: the threshold; see the attribute.

        Raises:
          UserError: if the weights are not available, or belong to an unsupported network.
        """
        classifier = cls.__new__(cls)
        classifier._begin(ImageNetwork.of_weights(os.fspath(weights)), unknown, None)
        return classifier.change_head(head, distance=distance)

    @classmethod
    def load(
        cls, path: Folder, *, unknown: float | None = None, representatives: int | None = None,
        classes: bool = True,
    ) -> Classifier:  # fmt: skip
        """Loads a run's workdir, a shipped model, or a folder written by `save`.

        It has the classes that were enrolled; otherwise, those that the run was trained and evaluated on,
        classified by the method's own rule: the softmax layer, representatives, or clusters.

        Args:
          path: the folder.
          unknown: replaces the saved threshold.
          representatives: for a network trained with RepMet, the maximum number of representatives per class,
            by k-means over its images' embeddings; 0: every embedding is one. None: as saved or configured.
          classes: whether to load the classes.

        Raises:
          UserError: if the folder holds none of these or cannot be read, or `representatives` is given for a
            network of another method.
        """
        folder = given_path(path)
        network, classifier = ImageNetwork.of_folder(folder), cls.__new__(cls)
        classifier._begin(network, unknown, representatives)
        dim = network.dim(f"The model in {folder}")
        if classes and (file := saved_model.classes_file(folder)) is not None:
            own = classifier._enrolled.head
            classifier._enrolled, threshold = Enrolled.read(file, network.model, dim, own)
            if unknown is None:
                classifier.unknown = checked_threshold(threshold)
            if representatives is not None:
                own = with_representatives(classifier._enrolled.head, network.config.method)
                own.per_class = representatives
        return classifier

    def save(self, path: Folder) -> None:
        """Writes the network and the enrolled classes to a folder that `load` can read.

        Raises:
          UserError: if the folder cannot be written, or holds a different model.
        """
        check_not_forked()
        with self._saving:
            known = self._enrolled
            arrays = known.arrays(checked_threshold(self.unknown))
            self._network.write(given_path(path), known.labels, arrays)

    def export(self, path: Folder, format: str = "jax", *, embeddings: bool | None = None) -> Path:
        """Writes one file that runs without fsljax, and a description beside it, at `path` + ".json".

        It takes images float32 `[n, image_size, image_size, channel]` in [0, 1], for any `n`, and gives what
        `predict_proba` gives, or embeddings.

        Args:
          path: of the file.
          format: "jax", for `jax.export.deserialize(content).call(images)`; "onnx", with the extra `onnx`.
          embeddings: whether it gives these, `[n, dim]`; None: where no class is enrolled.

        Raises:
          UserError: if it cannot be written, or in this format; or no class is enrolled.
        """
        check_not_forked()
        return portable.write(self._network, self._enrolled, path, format, embeddings)

    def __repr__(self) -> str:
        return f"Classifier({self._network.described()}, {described(self.classes)}, head={self.head!r})"

    @property
    def classes(self) -> list[Label]:
        """The enrolled labels, in order of first enrolment."""
        return self._enrolled.labels

    @property
    def head(self) -> str:
        """The name of the head that compares the classes; see `change_head`."""
        return self._enrolled.head.name

    def change_head(self, head: str, *, distance: str = "cosine") -> Classifier:
        """Changes how the classes are compared, without embedding any image again.

        Args:
          head: "prototype": the nearest class mean. "centered": the nearest class mean after subtracting the
            mean of all enrolled embeddings. "logistic": logistic regression, with its regularisation chosen
            by cross-validation. "representatives": RepMet's posteriors, with each enrolled image as a
            representative.
          distance: distance to prototypes, "cosine" or "squared_euclidean".

        Raises:
          UserError: if there is no such head, or the embeddings of a class were not kept.
        """
        with self._changing:
            self._enrolled = self._enrolled.compared_by(head, distance)
        return self

    def enroll(
        self, images: Images, labels: Label | Iterable[Label] | np.ndarray | None = None, *,
        fine_tune_steps: int = 0, fine_tune_rate: float = 0.1,
    ) -> Classifier:  # fmt: skip
        """Adds classes, or images to existing classes; a prototype is the mean of all images of its class.

        Args:
          images: `n` images; or, without labels, a folder with one subfolder of images per class.
          labels: `n` labels (strings or integers), or a single label for all images.
          fine_tune_steps: for a network trained with RepMet, number of steps in which the representatives of
            all enrolled classes, and nothing else, are fine-tuned on all enrolled images.
          fine_tune_rate: learning rate; see `fsljax.classification.representatives.fine_tuned`.

        Raises:
          UserError: if there are no images, the numbers of images and labels differ, a label is neither a
            string nor an integer, or an image cannot be read; if fine-tuning is requested for another method,
            or with a single class.
        """
        self._enrolled.check_fine_tuning(fine_tune_steps, fine_tune_rate, self._network.config.method)
        given, embeddings = self._network.labelled(images, labels)
        with self._changing:
            self._enrolled = self._enrolled.added(
                given,
                embeddings,
                self._network.config.method,
                steps=int(fine_tune_steps),
                rate=fine_tune_rate,
            )
        return self

    def forget(self, label: Label) -> Classifier:
        """Removes a class.

        Raises:
          UserError: if the class is not enrolled.
        """
        check_not_forked()
        with self._changing:
            self._enrolled = self._enrolled.without(label)
        return self

    def predict(self, images: Images, *, unknown: float | None = None) -> np.ndarray:
        """The label of each image, `[n]`; None if its confidence is below the threshold.

        Args:
          images: `n` images.
          unknown: threshold for this call; None: the classifier's own.

        Returns:
          strings or integers; objects if the classes have labels of both kinds, or if there is a threshold.
        """
        threshold = checked_threshold(self.unknown if unknown is None else unknown)
        embeddings, known = self._embedded(images)
        compared = known.head.compare(embeddings)
        if threshold is None:
            return label_array(known.labels)[compared.predictions]
        answers = np.array(known.labels, object)[compared.predictions]
        answers[known.confidence(embeddings) < threshold] = None
        return answers

    def predict_proba(self, images: Images) -> np.ndarray:
        """Class probabilities, float32 `[n, classes]`, in the order of `classes`.

        For prototypes, the softmax over negative distances; for representatives, the soft posterior.
        """
        embeddings, known = self._embedded(images)
        return known.head.compare(embeddings).probabilities

    def background(self, images: Images) -> np.ndarray:
        """Probability that an image is of no enrolled class, float32 `[n]`: 1 − max p; RepMet only."""
        with_representatives(self._enrolled.head, self._network.config.method)
        embeddings, known = self._embedded(images)
        return with_representatives(known.head, self._network.config.method).background(embeddings)

    def confidence(self, images: Images) -> np.ndarray:
        """Confidence that each image belongs to its nearest class, `[n]`, from 0 to 1.

        At one half, an enrolled image compared with the others of its class, and one compared with the other
        classes only, are equally likely; see `fsljax.classification.heads.unknown.confidence`.

        Raises:
          UserError: if fewer than two classes are enrolled.
        """
        embeddings, known = self._embedded(images)
        return known.confidence(embeddings)

    def calibrate(
        self, known: Images | None = None, unknown: Images | None = None, *, false_accept: float = 0.05
    ) -> Calibration:
        """Chooses the threshold `unknown` for a given rate of false accepts, and sets it.

        Args:
          known: further images of the enrolled classes; None: the enrolled images, each left out in turn.
          unknown: images of classes not enrolled; None: the enrolled images, each with its class left out.
          false_accept: the fraction of images of unknown classes that may be accepted, between 0 and 1.

        Returns:
          the threshold, and the accuracy to expect with it.

        Raises:
          UserError: if fewer than two classes are enrolled, or there are no embeddings to calibrate with.
        """
        accepted = None if known is None else self.confidence(known)
        refused = None if unknown is None else self.confidence(unknown)
        calibration = self._enrolled.calibrated(accepted, refused, false_accept)
        self.unknown = calibration.threshold
        return calibration

    def embed(self, images: Images) -> np.ndarray:
        """Embeddings, float32 `[n, dim]`."""
        return self._network.embed(images)

    def _embedded(self, images: Images) -> tuple[np.ndarray, Enrolled]:
        """Embeddings `[n, dim]`, and the classes at this moment."""
        embeddings, known = self.embed(images), self._enrolled
        if not known.labels:
            raise UserError("No class is enrolled: call enroll(images, labels) first.")
        return embeddings, known
