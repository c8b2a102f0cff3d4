"""Names images by the classes that were enrolled from a few images each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fsljax import networks
from fsljax.classification.enrollment import Compared, Representatives, enrolled_by, no_representatives
from fsljax.classification.stored_config import ClassifierConfig, read_classifier_config
from fsljax.config import plain, read
from fsljax.data.batches import embed_in_batches
from fsljax.data.labels import Label, label_array, listed_labels
from fsljax.data.user_images import Images, prepare
from fsljax.errors import UserError
from fsljax.networks.variables import check_variables
from fsljax.storage.paths import given_path, is_there
from fsljax.training import saved_model, workdir
from fsljax.training.checkpoints import Checkpoints, Model


class Classifier:
    """Names images by the nearest class prototype; classes are enrolled from a few images each.

    A network trained by RepMet names them by representatives instead: the embeddings of a class's images, or
    k-means of them.

    Images are given as paths, as Pillow images (one of these, or several), or as arrays `[n, height, width]`
    or `[n, height, width, channel]` of uint8 (0 … 255) or floats (0 … 1); they are brought to the size and
    the channels that the network was trained with. A network trained on Omniglot or glyphs expects bright
    ink on dark paper.

    Attributes:
      unknown: confidence, from 0 to 1, below which `predict` answers None; None: never. See `confidence`.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | ConfigDict,
        model: Model,
        *,
        unknown: float | None = None,
        representatives: int | None = None,
    ):
        self._stored = plain(config)
        self._config = read(ClassifierConfig, config, complete=False)
        self._model = model
        self._network = networks.build(self._config)
        self._enrolled = enrolled_by(self._config, model.variables["params"], representatives)
        self.unknown = _checked(unknown)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        unknown: float | None = None,
        representatives: int | None = None,
    ) -> Classifier:
        """Loads a run's workdir, a shipped model, or what `save` wrote.

        Args:
          path: the folder.
          unknown: replaces the threshold that was saved.
          representatives: of a network trained by RepMet, how many a class gets at most, by k-means of its
            images' embeddings; 0: every one is a representative. None: as saved, or as its config evaluates.

        Raises:
          UserError: if the folder holds none of these, or nothing that can be read, or representatives are
            asked of another method's network.
        """
        folder = given_path(path)
        config = read_classifier_config(folder)
        model = Checkpoints(folder).restore_model()
        classifier = cls(config, model, unknown=unknown, representatives=representatives)
        side, channels = classifier._config.data.image_size, classifier._config.data.channels
        where = f"The model in {folder}"
        (dim,) = check_variables(classifier._network, model.variables, (side, side, channels), where)
        if is_there(folder / saved_model.ENROLLED):
            classifier._read_enrolled(folder / saved_model.ENROLLED, dim, keep_threshold=unknown is not None)
            if representatives is not None:
                classifier._representatives().per_class = representatives
        return classifier

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes network and enrolled classes to a folder that `load` reads.

        Raises:
          UserError: if the folder cannot be written, or holds another model.
        """
        arrays = {
            **self._enrolled.arrays(),
            "unknown": np.array(np.nan if self.unknown is None else self.unknown),
        }
        saved_model.write(
            given_path(path), self._stored, self._model, self.classes, arrays, same=self._is_config_of
        )

    @property
    def classes(self) -> list[Label]:
        """The enrolled labels, in the order of their first enrolment."""
        return self._enrolled.labels

    def enroll(
        self,
        images: Images,
        labels: Label | Iterable[Label] | np.ndarray,
        *,
        fine_tune_steps: int = 0,
        fine_tune_rate: float = 0.1,
    ) -> Classifier:
        """Adds classes, or images to classes; a prototype is the mean of all images of its class.

        Args:
          images: `n` of them.
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
        if fine_tune_steps < 0 or not fine_tune_rate >= 0:
            raise UserError(
                f"fine_tune_steps is {fine_tune_steps} and fine_tune_rate {fine_tune_rate}: give 0 or more."
            )
        if fine_tune_steps:
            self._representatives()
        embeddings = self.embed(images)
        given = listed_labels(labels, len(embeddings))
        if fine_tune_steps and len({*self.classes, *given}) < 2:
            raise UserError("Two classes must be enrolled for their representatives to learn: there is one.")
        self._enrolled.add(given, embeddings)
        if fine_tune_steps:
            self._representatives().fine_tune(fine_tune_steps, fine_tune_rate)
        return self

    def forget(self, label: Label) -> Classifier:
        """Removes a class.

        Raises:
          UserError: if it is not enrolled.
        """
        if label not in self.classes:
            raise UserError(f"{label!r} is not enrolled; enrolled are {self.classes}.")
        self._enrolled.forget(label)
        return self

    def predict(self, images: Images, *, unknown: float | None = None) -> np.ndarray:
        """The label of each image, `[n]`; None where the confidence is below the threshold.

        Args:
          images: `n` of them.
          unknown: threshold for this call; the classifier's own by default.

        Returns:
          an array of strings or of integers; of objects, if there are both among the classes, or a threshold.
        """
        threshold = self.unknown if unknown is None else _checked(unknown)
        compared = self._compare(images)
        if threshold is None:
            return label_array(self.classes)[compared.predictions]
        answers = np.array(self.classes, object)[compared.predictions]
        answers[self._confidence(compared) < threshold] = None
        return answers

    def predict_proba(self, images: Images) -> np.ndarray:
        """Probabilities of the enrolled classes: softmax over negative distances to prototypes.

        Of a network trained by RepMet the soft posterior.

        Returns:
          float32 `[n, classes]`, columns in the order of `classes`.
        """
        return self._compare(images).probabilities

    def background(self, images: Images) -> np.ndarray:
        """Probability that an image belongs to none of the enrolled classes, float32 `[n]`: 1 − max p.

        p falls with the distance in units of the σ that the network was trained with; see `confidence` for a
        figure that depends on the enrolled classes alone.

        Raises:
          UserError: if the network was trained by another method than RepMet, or no class is enrolled.
        """
        known = self._representatives()
        self._check_enrolled()
        return known.background(self.embed(images))

    def confidence(self, images: Images) -> np.ndarray:
        """How sure it is that an image belongs to the class it is nearest to, `[n]`, from 0 to 1.

        The class's probability among those enrolled, times r / (r + d): d is the distance to the nearest
        prototype or representative (squared, where the loss takes squares), and r half of that between a
        class and its nearest neighbour, in the mean. An image of no enrolled class lies about as far from
        all as these from each other: about ⅓.

        Raises:
          UserError: if fewer than two classes are enrolled.
        """
        return self._confidence(self._compare(images))

    def embed(self, images: Images) -> np.ndarray:
        """Embeddings, float32 `[n, dim]`.

        Raises:
          UserError: if there are no images, or one cannot be read.
        """
        prepared = prepare(images, self._config.data)
        return embed_in_batches(self._embed_batch, prepared, batch=_batch(len(prepared)))

    @cached_property
    def _embed_batch(self) -> Any:
        variables = jax.device_put(self._model.variables)

        def embed(images: jax.Array) -> Any:
            return self._network.apply(variables, images.astype(jnp.float32) / 255, running_average=True)

        return jax.jit(embed)

    def _is_config_of(self, folder: Path) -> bool:
        there = read(ClassifierConfig, read_classifier_config(folder), complete=False)
        return not workdir.differences(there, self._config)

    def _compare(self, images: Images) -> Compared:
        embeddings = self.embed(images)
        self._check_enrolled()
        return self._enrolled.compare(embeddings)

    def _confidence(self, compared: Compared) -> np.ndarray:
        if len(self.classes) < 2:
            raise UserError("Two classes must be enrolled to tell what is unknown: there is one.")
        radius = self._enrolled.radius()
        return compared.probabilities.max(axis=1) * radius / np.maximum(radius + compared.nearest, 1e-30)

    def _representatives(self) -> Representatives:
        if not isinstance(self._enrolled, Representatives):
            raise no_representatives(self._config.method)
        return self._enrolled

    def _check_enrolled(self) -> None:
        if not self.classes:
            raise UserError("No class is enrolled: call enroll(images, labels) first.")

    def _read_enrolled(self, path: Path, dim: int, *, keep_threshold: bool) -> None:
        def restore(labels: list[Label], arrays: Mapping[str, np.ndarray]) -> None:
            self._enrolled.restore(labels, arrays)
            threshold = float(arrays["unknown"])
            if not keep_threshold:
                self.unknown = None if np.isnan(threshold) else _checked(threshold)

        saved_model.read_enrolled(path, self._model, dim, restore)


def _batch(count: int) -> int:
    """Few distinct batch sizes, so that few programs are compiled: a power of two, 64 at most."""
    return min(64, 1 << (count - 1).bit_length())


def _checked(unknown: float | None) -> float | None:
    if unknown is not None and not 0 <= unknown <= 1:
        raise UserError(f"unknown is {unknown}; it must be from 0 to 1, or None.")
    return unknown
