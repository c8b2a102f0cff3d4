"""What an application calls: a trained network that learns new classes from a few images each."""

from __future__ import annotations

import json
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
from fsljax.classification.enrollment import (
    Compared,
    Enrolled,
    Label,
    Prototypes,
    Representatives,
    label_array,
    listed_labels,
)
from fsljax.config import check_at_least, check_choice, get, with_later_fields
from fsljax.data.user_images import Images, prepare
from fsljax.detection.object_detector import Detected, Detector
from fsljax.errors import UserError
from fsljax.evaluation.episodic import embed_in_batches
from fsljax.losses.prototypical import DISTANCES
from fsljax.training import saved_model as saved
from fsljax.training import workdir
from fsljax.training.checkpoints import Checkpoints, Model

__all__ = ["Classifier", "Detected", "Detector"]

# What methods whose loss has no such field compare embeddings by.
_COMPARED_BY = {"distance": "squared_euclidean", "temperature": 1.0}


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
        config: ConfigDict,
        model: Model,
        *,
        unknown: float | None = None,
        representatives: int | None = None,
    ):
        self._config = config
        self._model = model
        self._network = networks.build(config)
        self._enrolled = _enrolled(config, model, representatives)
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
        folder = Path(path).expanduser()
        config = _read_config(folder)
        model = Checkpoints(folder).restore_model()
        classifier = cls(config, model, unknown=unknown, representatives=representatives)
        if (folder / saved.ENROLLED).exists():
            classifier._read_enrolled(folder / saved.ENROLLED, keep_threshold=unknown is not None)
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
        saved.write(
            Path(path).expanduser(), self._config, self._model, self.classes, arrays, check=_read_config
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
            raise _no_representatives(self._config)
        return self._enrolled

    def _check_enrolled(self) -> None:
        if not self.classes:
            raise UserError("No class is enrolled: call enroll(images, labels) first.")

    def _read_enrolled(self, path: Path, *, keep_threshold: bool) -> None:
        def restore(labels: list[Label], arrays: Mapping[str, np.ndarray]) -> None:
            self._enrolled.restore(labels, arrays)
            threshold = float(arrays["unknown"])
            if not keep_threshold:
                self.unknown = None if np.isnan(threshold) else threshold

        saved.read_enrolled(path, self._model, restore)


def _enrolled(config: ConfigDict, model: Model, representatives: int | None) -> Enrolled:
    """What keeps the classes of a network, by the method that trained it."""
    if config.get("method") != "repmet":
        if representatives is not None:
            raise _no_representatives(config)
        return Prototypes(config.loss.distance, config.loss.temperature)
    if representatives is not None and representatives < 0:
        raise UserError(f"representatives is {representatives}; it must be 0 or more.")
    loss = config.loss.to_dict()
    params = model.variables["params"]
    if "sigma" in params:
        loss["sigma"] = float(jax.nn.softplus(params["sigma"]))
    return Representatives(
        loss, config.eval.support_representatives if representatives is None else representatives
    )


def _no_representatives(config: ConfigDict) -> UserError:
    return UserError(
        f"This network was trained by {config.get('method')!r}, whose classes have no representatives: load "
        "one that was trained by 'repmet'."
    )


def _read_config(folder: Path) -> ConfigDict:
    path = folder / workdir.CONFIG
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict):
            raise ValueError("it holds no config")
        config = with_later_fields(ConfigDict(content))
        config.loss = ConfigDict(_COMPARED_BY | config["loss"].to_dict())
        get(config, "data.name")
        check_choice(config, "data.channels", (1, 3))
        check_at_least(config, 1, "data.image_size", "network.filters", "network.blocks")
        check_at_least(config, 0, "loss.temperature")
        check_choice(config, "loss.distance", tuple(DISTANCES))
        networks.build(config)
    except OSError:
        raise UserError(
            f"There is no model in {folder}: give the workdir of a run, or a folder written by save."
        ) from None
    except KeyError as error:
        raise UserError(f"{path} cannot be read: it lacks {error}.") from error
    except Exception as error:  # damage comes as many types
        raise UserError(f"{path} cannot be read: {str(error).rstrip('.')}.") from error
    return config


def _batch(count: int) -> int:
    """Few distinct batch sizes, so that few programs are compiled: a power of two, 64 at most."""
    return min(64, 1 << (count - 1).bit_length())


def _checked(unknown: float | None) -> float | None:
    if unknown is not None and not 0 <= unknown <= 1:
        raise UserError(f"unknown is {unknown}; it must be from 0 to 1, or None.")
    return unknown
