"""What an application calls: a trained network that learns new classes from a few images each."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from fsljax import networks
from fsljax.data.decode import decode_image, fit_image
from fsljax.errors import UserError
from fsljax.evaluation.episodic import embed_in_batches
from fsljax.losses.prototypical import DISTANCES
from fsljax.training import workdir
from fsljax.training.checkpoints import Checkpoints, Model

Images = np.ndarray | Sequence[np.ndarray] | Sequence[str | os.PathLike[str]] | Sequence[Image.Image]

_ENROLLED = "enrolled.npz"


class Classifier:
    """Names images by the nearest class prototype; classes are enrolled from a few images each.

    Images are given as paths, as Pillow images, or as arrays `[n, height, width]` or
    `[n, height, width, channel]` of uint8 (0 … 255) or floats (0 … 1); they are brought to the size and the
    channels that the network was trained with. A network trained on Omniglot or glyphs expects bright ink
    on dark paper.

    Attributes:
      unknown: confidence, from 0 to 1, below which `predict` answers None; None: never. See `confidence`.
    """

    def __init__(self, config: ConfigDict, model: Model, *, unknown: float | None = None):
        self._config = config
        self._model = model
        self._network = networks.build(config)
        self._sums: dict[Hashable, np.ndarray] = {}
        self._counts: dict[Hashable, int] = {}
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
        folder = Path(path)
        try:
            config = ConfigDict(json.loads((folder / workdir.CONFIG).read_text()))
        except OSError:
            raise UserError(
                f"There is no model in {folder}: give the workdir of a run, or a folder written by save."
            ) from None
        except ValueError as error:
            raise UserError(f"{folder / workdir.CONFIG} cannot be read: {error}.") from error
        classifier = cls(config, Checkpoints(folder).restore_model(), unknown=unknown)
        if (folder / _ENROLLED).exists():
            classifier._read_enrolled(folder / _ENROLLED, keep_threshold=unknown is not None)
        return classifier

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes network and enrolled classes to a folder that `load` reads.

        Raises:
          UserError: if the folder cannot be written, or holds another model.
        """
        folder = Path(path)
        try:
            with workdir.exclusive(folder):
                if (folder / workdir.CONFIG).exists():
                    workdir.check_same(folder, self._config)
                else:
                    workdir.write_json(folder / workdir.CONFIG, self._config.to_dict())
                checkpoints = Checkpoints(folder)
                if self._model.step not in checkpoints.selections():
                    checkpoints.write_model(self._model, None)
                checkpoints.close()
                self._write_enrolled(folder / _ENROLLED)
        except OSError as error:
            raise UserError(f"{folder} cannot be written: {error.strerror or error}.") from error

    @property
    def classes(self) -> list[Hashable]:
        """The enrolled labels, in the order of their first enrolment."""
        return list(self._sums)

    def enroll(self, images: Images, labels: Sequence[Hashable] | np.ndarray | str) -> Classifier:
        """Adds classes, or images to classes; a prototype is the mean of all images of its class.

        Args:
          images: `n` of them.
          labels: `n` labels (strings or integers), or one for all.

        Returns:
          this classifier.

        Raises:
          UserError: if there are no images, not as many labels, or an image cannot be read.
        """
        embeddings = self.embed(images)
        if isinstance(labels, str | int):
            labels = [labels] * len(embeddings)
        labels = np.asarray(labels).tolist() if isinstance(labels, np.ndarray) else list(labels)
        if len(labels) != len(embeddings):
            raise UserError(
                f"{len(embeddings)} images were given with {len(labels)} labels: one label an image."
            )
        for label, embedding in zip(labels, embeddings, strict=True):
            self._sums[label] = self._sums.get(label, 0) + embedding.astype(np.float64)
            self._counts[label] = self._counts.get(label, 0) + 1
        return self

    def forget(self, label: Hashable) -> Classifier:
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
        """
        threshold = self.unknown if unknown is None else _checked(unknown)
        distances = self._distances(images)
        nearest = np.argmin(distances, axis=1)
        if threshold is None:
            return np.array([self.classes[index] for index in nearest])
        known = self._confidence(distances) >= threshold
        answers = np.empty(len(nearest), object)
        answers[:] = [self.classes[i] if sure else None for i, sure in zip(nearest, known, strict=True)]
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
        return embed_in_batches(self._embed_batch, self._prepared(images), batch=_batch(len(images)))

    @cached_property
    def _embed_batch(self) -> Any:
        variables = jax.device_put(self._model.variables)

        def embed(images: jax.Array) -> Any:
            return self._network.apply(variables, images.astype(jnp.float32) / 255, running_average=True)

        return jax.jit(embed)

    def _prepared(self, images: Images) -> np.ndarray:
        """uint8 `[n, size, size, channels]`, as in training."""
        if len(images) == 0:
            raise UserError("There are no images: give one at least.")
        return np.stack([_to_network(image, self._config.data) for image in images])

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

    def _write_enrolled(self, path: Path) -> None:
        labels = json.dumps(self.classes)  # keeps strings and integers apart
        arrays = {
            "labels": np.array(labels),
            "counts": np.array(list(self._counts.values()), np.int64),
            "sums": np.array(list(self._sums.values()), np.float64),
            "unknown": np.array(np.nan if self.unknown is None else self.unknown),
        }
        unfinished = path.with_name(f".{os.getpid()}.{path.name}")
        try:
            np.savez(unfinished, allow_pickle=False, **arrays)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def _read_enrolled(self, path: Path, *, keep_threshold: bool) -> None:
        try:
            with np.load(path, allow_pickle=False) as arrays:
                labels = json.loads(str(arrays["labels"]))
                self._sums = dict(zip(labels, arrays["sums"], strict=True))
                self._counts = dict(zip(labels, arrays["counts"].tolist(), strict=True))
                threshold = float(arrays["unknown"])
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise UserError(f"The enrolled classes in {path} cannot be read: {error}.") from error
        if not keep_threshold:
            self.unknown = None if np.isnan(threshold) else threshold


def _batch(count: int) -> int:
    """Few distinct batch sizes, so that few programs are compiled: a power of two, 64 at most."""
    return min(64, 1 << (count - 1).bit_length())


def _checked(unknown: float | None) -> float | None:
    if unknown is not None and not 0 <= unknown <= 1:
        raise UserError(f"unknown is {unknown}; it must be from 0 to 1, or None.")
    return unknown


def _to_network(image: Any, data: ConfigDict) -> np.ndarray:
    fitting = {"image_size": data.image_size, "channels": data.channels}
    if isinstance(image, str | os.PathLike):
        return decode_image(image, **fitting)
    picture = image if isinstance(image, Image.Image) else _from_array(np.asarray(image))
    # As the training images were made: drawings by area, photographs by a bicubic filter.
    drawn = data.name in ("omniglot", "glyphs")
    resampling = Image.Resampling.BOX if drawn else Image.Resampling.BICUBIC
    return fit_image(picture, resampling=resampling, **fitting)


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)):
        raise UserError(
            f"An image has the shape {list(array.shape)}; it must be [height, width] or "
            "[height, width, channel] with 1, 3 or 4 channels."
        )
    if np.issubdtype(array.dtype, np.floating):
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise UserError(
                "An image of floats has values outside 0 … 1: divide by its largest possible value."
            )
        array = np.round(255 * array).astype(np.uint8)
    elif array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype != np.uint8:
        raise UserError(f"An image has the type {array.dtype}; it must be uint8, or floats from 0 to 1.")
    return Image.fromarray(array)
