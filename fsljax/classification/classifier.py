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
from fsljax.classification.enrollment import Compared, Enrolled, enrolled_by, with_representatives
from fsljax.classification.stored_config import classifier_config, read_classifier_config
from fsljax.config import plain
from fsljax.data.batches import batch_size, embed_in_batches
from fsljax.data.labels import Label, label_array, listed_labels, spelled_as
from fsljax.data.user_images import Images, prepare
from fsljax.errors import UserError
from fsljax.networks.forked import check_not_forked
from fsljax.networks.variables import check_variables
from fsljax.storage.paths import given_path, is_there
from fsljax.training import saved_model, workdir
from fsljax.training.checkpoints import Checkpoints, Model


class Classifier:
    """Names images by the nearest class prototype; classes are enrolled from a few images each.

    A network trained by RepMet names them by representatives instead: the embeddings of a class's images, or
    k-means of them.

    Images are given as paths, Pillow images, or the content of image files in bytes or open files (one of
    these, or several), or as arrays `[n, height, width]` or `[n, height, width, channel]` of uint8 (0 … 255),
    bool or floats (0 … 1); they are brought to the size and the channels that the network was trained with.
    A network trained on Omniglot or glyphs expects bright ink on dark paper.

    Several threads may use one classifier: each call sees the classes as they were at one moment, and no
    enrolment is lost. It can be pickled and copied. Worker processes are to be begun by "spawn" or
    "forkserver": in one made by fork after JAX had computed, every call raises a UserError, for JAX cannot
    compute there.

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
        check_not_forked()
        self._stored = plain(config)
        self._config = classifier_config(config)
        self._model = model
        self._network = networks.build(self._config)
        # Never changed, but replaced as a whole: who reads it holds the classes of one moment.
        self._enrolled: Enrolled = enrolled_by(self._config, model.variables["params"], representatives)
        self._changing, self._saving = threading.Lock(), threading.Lock()
        self.unknown = _checked(unknown)

    def __getstate__(self) -> dict[str, object]:
        left_behind = ("_changing", "_saving", "_embed_batch")
        return {name: value for name, value in self.__dict__.items() if name not in left_behind}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._changing, self._saving = threading.Lock(), threading.Lock()

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
        check_not_forked()
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
            arrays = {**known.arrays(), "unknown": np.array(np.nan if unknown is None else unknown)}
            saved_model.write(folder, self._stored, self._model, known.labels, arrays, self._is_config_of)

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
        steps_are_none = not isinstance(fine_tune_steps, Integral) or fine_tune_steps < 0
        if steps_are_none or not isinstance(fine_tune_rate, Real) or not 0 <= fine_tune_rate < np.inf:
            raise UserError(
                f"fine_tune_steps is {fine_tune_steps!r} and fine_tune_rate {fine_tune_rate!r}: give a whole "
                "number and a number, 0 or more."
            )
        if fine_tune_steps:
            with_representatives(self._enrolled, self._config.method)
        embeddings = self.embed(images)
        given = listed_labels(labels, len(embeddings))
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
        answers[_confidence(known, compared) < threshold] = None
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

        The class's probability among those enrolled, times r / (r + d): d is the distance to the nearest
        prototype or representative (squared, where the loss takes squares), and r half of that between a
        class and its nearest neighbour, in the mean. An image of no enrolled class lies about as far from
        all as these from each other: about ⅓.

        Raises:
          UserError: if fewer than two classes are enrolled.
        """
        embeddings, known = self._embedded(images)
        return _confidence(known, known.compare(embeddings))

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

    def _read_enrolled(self, path: Path, dim: int, *, keep_threshold: bool) -> None:
        def restore(labels: list[Label], arrays: Mapping[str, np.ndarray]) -> None:
            self._enrolled.restore(labels, arrays)
            threshold = float(arrays["unknown"])
            if not keep_threshold:
                self.unknown = None if np.isnan(threshold) else _checked(threshold)

        saved_model.read_enrolled(path, self._model, dim, restore)


def _confidence(known: Enrolled, compared: Compared) -> np.ndarray:
    if len(known.labels) < 2:
        raise UserError("Two classes must be enrolled to tell what is unknown: there is one.")
    radius = known.radius()
    return compared.probabilities.max(axis=1) * radius / np.maximum(radius + compared.nearest, 1e-30)


def _checked(unknown: float | None) -> float | None:
    if unknown is not None and not (isinstance(unknown, Real) and 0 <= unknown <= 1):
        raise UserError(f"unknown is {unknown!r}; it must be from 0 to 1, or None.")
    return unknown
