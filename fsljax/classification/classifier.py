"""Names images by the classes that were enrolled from a few images each."""

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
    """Names images by classes that were enrolled from a few images each, or that the network was trained on.

    Images are given as paths, Pillow images, or the content of image files in bytes or open files (one of
    these, or several), or as arrays `[n, height, width]` or `[n, height, width, channel]` of uint8 (0 … 255),
    bool or floats (0 … 1); they are brought to the size and the channels that the network was trained with.
    A network trained on Omniglot or glyphs expects bright ink on dark paper.

    Classes are compared by a head, see `change_head`: of a network of published weights logistic regression,
    of one that was trained here what its method compares by: prototypes, RepMet's representatives.

    Several threads may use one classifier: each call sees the classes as they were at one moment, and no
    enrolment is lost. It can be pickled and copied. Worker processes are to be begun by "spawn" or
    "forkserver": in one made by fork after JAX had computed, every call raises a UserError.

    Attributes:
      unknown: confidence, from 0 to 1, below which `predict` answers None; None: never. See `confidence`,
        and `calibrate`, which chooses it.
    """

    def __init__(
        self, config: Mapping[str, Any] | ConfigDict, model: Model, *, unknown: float | None = None,
        representatives: int | None = None,
    ):  # fmt: skip
        self._begin(ImageNetwork(config, model), unknown, representatives)

    def _begin(self, network: ImageNetwork, unknown: float | None, representatives: int | None) -> None:
        self._network, params = network, network.model.variables["params"]
        # Never changed, but replaced as a whole: who reads it holds the classes of one moment.
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
        classifier = cls.__new__(cls)
        classifier._begin(ImageNetwork.of_weights(os.fspath(weights)), unknown, None)
        return classifier.change_head(head, distance=distance)

    @classmethod
    def load(
        cls, path: Folder, *, unknown: float | None = None, representatives: int | None = None,
        classes: bool = True,
    ) -> Classifier:  # fmt: skip
        """Loads a run's workdir, a shipped model, or what `save` wrote.

        The classes that were enrolled come with it; else those that the run was trained on, if it was
        evaluated on them, with the method's own rule: the softmax layer, representatives, or clusters.

        Args:
          path: the folder.
          unknown: replaces the threshold that was saved.
          representatives: of a network trained by RepMet, how many a class gets at most, by k-means of its
            images' embeddings; 0: every one is a representative. None: as saved, or as configured.
          classes: False: without any.

        Raises:
          UserError: if the folder holds none of these, or nothing that can be read, or representatives are
            asked of another method's network.
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
        """Writes network and enrolled classes to a folder that `load` reads.

        Raises:
          UserError: if the folder cannot be written, or holds another model.
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
        """The enrolled labels, in the order of their first enrolment."""
        return self._enrolled.labels

    @property
    def head(self) -> str:
        """How the classes are compared; see `change_head`."""
        return self._enrolled.head.name

    def change_head(self, head: str, *, distance: str = "cosine") -> Classifier:
        """Compares the classes otherwise; no image is embedded anew.

        Args:
          head: "prototype": the nearest mean. "centered": the nearest, once the mean of all enrolled
            embeddings is taken off. "logistic": logistic regression, its strength chosen by leaving images
            out. "representatives": the posteriors of RepMet, each enrolled image a representative.
          distance: of prototypes, "cosine" or "squared_euclidean".

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
        """Adds classes, or images to classes; a prototype is the mean of all images of its class.

        Args:
          images: `n` of them; or, without labels, a folder with a folder of images for each class.
          labels: `n` labels (strings or integers), or one for all.
          fine_tune_steps: of a network trained by RepMet, steps in which the representatives of all classes
            enrolled, and they alone, learn from all images enrolled.
          fine_tune_rate: how fast; see `fsljax.classification.representatives.fine_tuned`.

        Raises:
          UserError: if there are no images, not as many labels, a label is neither a string nor an integer,
            or an image cannot be read; if fine-tuning is asked of another method, or of one class.
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
          UserError: if it is not enrolled.
        """
        check_not_forked()
        with self._changing:
            self._enrolled = self._enrolled.without(label)
        return self

    def predict(self, images: Images, *, unknown: float | None = None) -> np.ndarray:
        """The label of each image, `[n]`; None where the confidence is below the threshold.

        Args:
          images: `n` of them.
          unknown: threshold for this call; the classifier's own by default.

        Returns:
          strings or integers; objects, if there are both among the classes, or a threshold.
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
        """Probabilities of the classes, float32 `[n, classes]`, in the order of `classes`.

        Of prototypes softmax over negative distances, of representatives the soft posterior.
        """
        embeddings, known = self._embedded(images)
        return known.head.compare(embeddings).probabilities

    def background(self, images: Images) -> np.ndarray:
        """Probability of none of the enrolled classes, float32 `[n]`: 1 − max p; of RepMet's networks."""
        with_representatives(self._enrolled.head, self._network.config.method)
        embeddings, known = self._embedded(images)
        return with_representatives(known.head, self._network.config.method).background(embeddings)

    def confidence(self, images: Images) -> np.ndarray:
        """How sure it is that an image belongs to the class it is nearest to, `[n]`, from 0 to 1.

        One half is a distance at which enrolled images without themselves and enrolled images without their
        class lie as often; see `fsljax.classification.heads.unknown.confidence`.

        Raises:
          UserError: if fewer than two classes are enrolled.
        """
        embeddings, known = self._embedded(images)
        return known.confidence(embeddings)

    def calibrate(
        self, known: Images | None = None, unknown: Images | None = None, *, false_accept: float = 0.05
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
        accepted = None if known is None else self.confidence(known)
        refused = None if unknown is None else self.confidence(unknown)
        calibration = self._enrolled.calibrated(accepted, refused, false_accept)
        self.unknown = calibration.threshold
        return calibration

    def embed(self, images: Images) -> np.ndarray:
        """Embeddings, float32 `[n, dim]`."""
        return self._network.embed(images)

    def _embedded(self, images: Images) -> tuple[np.ndarray, Enrolled]:
        """Embeddings `[n, dim]`, and the classes of this moment."""
        embeddings, known = self.embed(images), self._enrolled
        if not known.labels:
            raise UserError("No class is enrolled: call enroll(images, labels) first.")
        return embeddings, known
