"""What an application calls: a trained network that learns new classes from a few images each."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fsljax import networks
from fsljax.config import check_at_least, check_choice, get, with_later_fields
from fsljax.data.given_images import Images, prepare
from fsljax.errors import UserError
from fsljax.evaluation.episodic import embed_in_batches
from fsljax.files import replacing
from fsljax.losses.prototypical import DISTANCES
from fsljax.training import workdir
from fsljax.training.checkpoints import Checkpoints, Model, digest

Label = str | int

_ENROLLED = "enrolled.npz"

# What methods whose loss has no such field compare embeddings by.
_COMPARED_BY = {"distance": "squared_euclidean", "temperature": 1.0}


class Classifier:
    """Names images by the nearest class prototype; classes are enrolled from a few images each.

    Images are given as paths, as Pillow images (one of these, or several), or as arrays `[n, height, width]`
    or `[n, height, width, channel]` of uint8 (0 … 255) or floats (0 … 1); they are brought to the size and
    the channels that the network was trained with. A network trained on Omniglot or glyphs expects bright
    ink on dark paper.

    Attributes:
      unknown: confidence, from 0 to 1, below which `predict` answers None; None: never. See `confidence`.
    """

    def __init__(self, config: ConfigDict, model: Model, *, unknown: float | None = None):
        self._config = config
        self._model = model
        self._network = networks.build(config)
        self._sums: dict[Label, np.ndarray] = {}
        self._counts: dict[Label, int] = {}
        self.unknown = _checked(unknown)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, unknown: float | None = None) -> Classifier:
        """Loads a run's workdir, a shipped model, or what `save` wrote.

        Args:
          path: the folder.
          unknown: replaces the threshold that was saved.

        Raises:
          UserError: if the folder holds none of these, or nothing that can be read.
        """
        folder = Path(path).expanduser()
        config = _read_config(folder)
        classifier = cls(config, Checkpoints(folder).restore_model(), unknown=unknown)
        if (folder / _ENROLLED).exists():
            classifier._read_enrolled(folder / _ENROLLED, keep_threshold=unknown is not None)
        return classifier

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes network and enrolled classes to a folder that `load` reads.

        Raises:
          UserError: if the folder cannot be written, or holds another model.
        """
        folder = Path(path).expanduser()
        try:
            with _held(folder), closing(Checkpoints(folder)) as checkpoints:
                if not self._may_go_to(folder, checkpoints):
                    raise UserError(f"{folder} holds another model: give a new folder.")
                if not (folder / workdir.CONFIG).exists():
                    workdir.write_json(folder / workdir.CONFIG, self._config.to_dict())
                if not checkpoints.selections():
                    checkpoints.write_model(self._model, None)
                self._write_enrolled(folder / _ENROLLED)
        except OSError as error:
            raise _not_writable(folder, error) from error

    @property
    def classes(self) -> list[Label]:
        """The enrolled labels, in the order of their first enrolment."""
        return list(self._sums)

    def enroll(self, images: Images, labels: Label | Iterable[Label] | np.ndarray) -> Classifier:
        """Adds classes, or images to classes; a prototype is the mean of all images of its class.

        Args:
          images: `n` of them.
          labels: `n` labels (strings or integers), or one for all.

        Returns:
          this classifier.

        Raises:
          UserError: if there are no images, not as many labels, a label is neither a string nor an integer,
            or an image cannot be read.
        """
        embeddings = self.embed(images)
        for label, embedding in zip(_labels(labels, len(embeddings)), embeddings, strict=True):
            self._sums[label] = self._sums.get(label, 0) + embedding.astype(np.float64)
            self._counts[label] = self._counts.get(label, 0) + 1
        return self

    def forget(self, label: Label) -> Classifier:
        """Removes a class.

        Raises:
          UserError: if it is not enrolled.
        """
        if label not in self._sums:
            raise UserError(f"{label!r} is not enrolled; enrolled are {self.classes}.")
        del self._sums[label], self._counts[label]
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
        distances = self._distances(images)
        nearest = np.argmin(distances, axis=1)
        if threshold is None:
            return _label_array(self.classes)[nearest]
        answers = np.array(self.classes, object)[nearest]
        answers[self._confidence(distances) < threshold] = None
        return answers

    def predict_proba(self, images: Images) -> np.ndarray:
        """Probabilities of the enrolled classes: softmax over negative distances to prototypes.

        Returns:
          float32 `[n, classes]`, columns in the order of `classes`.
        """
        return self._softmax(self._distances(images))

    def confidence(self, images: Images) -> np.ndarray:
        """How sure it is that an image belongs to the class it is nearest to, `[n]`, from 0 to 1.

        The class's probability among those enrolled, times r / (r + d): d is the distance to its prototype
        (squared, where the loss takes squares), and r half of that between a prototype and its nearest
        neighbour, in the mean. An image of no enrolled class lies about as far from prototypes as these from
        each other: about ⅓.

        Raises:
          UserError: if fewer than two classes are enrolled.
        """
        return self._confidence(self._distances(images))

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

    def _prototypes(self) -> np.ndarray:
        if not self._sums:
            raise UserError("No class is enrolled: call enroll(images, labels) first.")
        return np.stack([self._sums[label] / self._counts[label] for label in self._sums]).astype(np.float32)

    def _distances(self, images: Images) -> np.ndarray:
        return self._between(self.embed(images), self._prototypes())

    def _between(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        distance = DISTANCES[self._config.loss.distance]
        return np.array(distance(jnp.asarray(rows), jnp.asarray(others)))

    def _softmax(self, distances: np.ndarray) -> np.ndarray:
        return np.asarray(jax.nn.softmax(-distances / self._config.loss.temperature, axis=1))

    def _confidence(self, distances: np.ndarray) -> np.ndarray:
        prototypes = self._prototypes()
        if len(prototypes) < 2:
            raise UserError("Two classes must be enrolled to tell what is unknown: there is one.")
        between = self._between(prototypes, prototypes)
        np.fill_diagonal(between, np.inf)
        radius = 0.5 * between.min(axis=1).mean()
        nearest = distances.min(axis=1)
        return self._softmax(distances).max(axis=1) * radius / np.maximum(radius + nearest, 1e-30)

    def _may_go_to(self, folder: Path, checkpoints: Checkpoints) -> bool:
        """Whether a folder holds this model, or none."""
        try:
            if (folder / workdir.CONFIG).exists():
                _read_config(folder)
                workdir.check_same(folder, self._config)
            there = checkpoints.restore_model() if checkpoints.selections() else self._model
        except UserError:
            return False
        return there.step == self._model.step and digest(there.variables) == digest(self._model.variables)

    def _write_enrolled(self, path: Path) -> None:
        labels = json.dumps(self.classes)  # keeps strings and integers apart
        arrays = {
            "labels": np.array(labels),
            "counts": np.array(list(self._counts.values()), np.int64),
            "sums": np.array(list(self._sums.values()), np.float64),
            "model": np.array(digest(self._model.variables)),
            "unknown": np.array(np.nan if self.unknown is None else self.unknown),
        }
        with replacing(path) as unfinished, unfinished.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    def _read_enrolled(self, path: Path, *, keep_threshold: bool) -> None:
        try:
            with np.load(path, allow_pickle=False) as arrays:
                model = str(arrays["model"]) if "model" in arrays else None
                labels = json.loads(str(arrays["labels"]))
                self._sums = dict(zip(labels, arrays["sums"], strict=True))
                self._counts = dict(zip(labels, arrays["counts"].tolist(), strict=True))
                threshold = float(arrays["unknown"])
        except Exception as error:  # damage comes as many types
            raise UserError(
                f"The enrolled classes in {path} cannot be read ({error}): delete the file and enrol anew."
            ) from error
        if model not in (None, digest(self._model.variables)):
            raise UserError(
                f"The enrolled classes in {path} belong to another network than {path.parent} holds: "
                "delete the file and enrol anew, or give another folder."
            )
        if not keep_threshold:
            self.unknown = None if np.isnan(threshold) else threshold


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


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Holds a folder as a run does; its errors name no flags, for there are none here."""
    with ExitStack() as stack:
        try:
            stack.enter_context(workdir.exclusive(folder))
        except UserError as error:
            if isinstance(error.__cause__, OSError):
                raise _not_writable(folder, error.__cause__) from error
            raise UserError(
                f"{folder} is in use by another run: wait for it to end, or give another folder."
            ) from error
        yield


def _not_writable(folder: Path, error: OSError) -> UserError:
    return UserError(f"{folder} cannot be written ({error.strerror or error}): give another folder.")


def _labels(labels: Any, count: int) -> list[Label]:
    """One label an image, as Python's own strings and integers."""
    if hasattr(labels, "tolist"):
        labels = labels.tolist()
    one_for_all = isinstance(labels, str | bytes) or not isinstance(labels, Iterable)
    listed = [labels] * count if one_for_all else list(labels)
    if len(listed) != count:
        raise UserError(f"{count} images were given with {len(listed)} labels: one label an image.")
    listed = [label.item() if isinstance(label, np.generic) else label for label in listed]
    for number, label in enumerate(listed):
        if isinstance(label, bool) or not isinstance(label, str | int):
            raise UserError(f"The label of image {number} is {label!r}; it must be a string or an integer.")
    return listed


def _label_array(labels: list[Label]) -> np.ndarray:
    """An array of strings or of integers, or of objects where one of these would change a label."""
    array = np.array(labels)
    return array if array.dtype.kind in "Uiu" and array.tolist() == labels else np.array(labels, object)


def _batch(count: int) -> int:
    """Few distinct batch sizes, so that few programs are compiled: a power of two, 64 at most."""
    return min(64, 1 << (count - 1).bit_length())


def _checked(unknown: float | None) -> float | None:
    if unknown is not None and not 0 <= unknown <= 1:
        raise UserError(f"unknown is {unknown}; it must be from 0 to 1, or None.")
    return unknown
