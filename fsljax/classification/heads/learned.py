"""Classification of the classes that a network was trained on, by its own rule."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.classification.heads import traced
from fsljax.classification.heads.common import (
    Compared,
    Head,
    kept_rows,
    mean_radius,
    rows_to_keep,
)
from fsljax.classification.heads.comparison import of_support
from fsljax.classification.heads.prototypes import Prototypes
from fsljax.classification.heads.traced import Probabilities
from fsljax.data.labels import Label
from fsljax.evaluation import nearest_cluster


class SoftmaxLayer:
    """The layer trained with the network, as long as there are no classes other than its own.

    An enrolled class has no row in it: all classes are then compared by the means of their embeddings, those
    of the training images for trained classes.
    """

    name = "softmax"

    def __init__(self) -> None:
        self._trained: list[Label] = []
        self._kernel, self._bias = np.zeros((0, 0), np.float32), np.zeros(0, np.float32)
        self._means = Prototypes("squared_euclidean", None)

    @classmethod
    def of(
        cls,
        labels: Sequence[Label],
        kernel: np.ndarray,
        bias: np.ndarray,
        embeddings: np.ndarray,
        of: np.ndarray,
    ) -> Self:
        """The layer `kernel` `[dim, classes]` and `bias` `[classes]`, and the training images' embeddings.

        Args:
          labels: names of the classes.
          kernel, bias: parameters of the layer.
          embeddings: `[n, dim]`.
          of: int `[n]`, their classes.
        """
        sums = np.zeros((len(labels), embeddings.shape[1]))
        np.add.at(sums, of, embeddings)
        counts = np.bincount(of, minlength=len(labels))
        head = cls()
        head.restore(labels, {"kernel": kernel, "bias": bias, "sums": sums, "counts": counts})
        return head

    def copy(self) -> Self:
        other = copy.copy(self)
        other._means = self._means.copy()
        return other

    def settled(self) -> Self:
        return self.copy()

    def telling_unknown(self) -> Head:
        return self.copy()

    @property
    def labels(self) -> list[Label]:
        return self._means.labels

    @property
    def supports(self) -> Mapping[Label, np.ndarray]:
        return self._means.supports

    def add(self, labels: Sequence[Label], embeddings: np.ndarray) -> None:
        self._means.add(labels, embeddings)
        self._trained = []

    def forget(self, label: Label) -> None:
        self._means.forget(label)
        self._trained = []

    def compare(self, embeddings: np.ndarray) -> Compared:
        compared = self._means.compare(embeddings)
        if not self._trained:
            return compared
        logits = jnp.asarray(embeddings) @ self._kernel + self._bias
        probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        return Compared(np.asarray(jnp.argmax(logits, axis=1)), np.asarray(probabilities), compared.distances)

    def traceable(self) -> Probabilities:
        if not self._trained:
            return self._means.traceable()
        kernel, bias = self._kernel, self._bias
        return lambda embeddings: jax.nn.softmax(traced.product(embeddings, kernel) + bias, axis=1)

    def radius(self) -> float:
        return self._means.radius()

    def arrays(self) -> dict[str, np.ndarray]:
        layer = {"kernel": self._kernel, "bias": self._bias} if self._trained else {}
        return {**self._means.arrays(), **layer}

    def restore(self, labels: Sequence[Label], arrays: Mapping[str, np.ndarray]) -> None:
        self._means.restore(labels, arrays)
        if "kernel" in arrays:
            if arrays["kernel"].shape[1:] != (len(labels),) or arrays["bias"].shape != (len(labels),):
                raise ValueError("the layer does not have one output per class")
            self._trained = list(labels)
            self._kernel, self._bias = (np.asarray(arrays[name], np.float32) for name in ("kernel", "bias"))


class NearestClusters:
    """The clusters of each class's embeddings (Rippel et al., 2016, arXiv:1511.05939).

    Attributes:
      per_class: maximum number of k-means clusters of an enrolled class.
    """

    name = "clusters"

    def __init__(self, per_class: int = 1, variance: float = 1.0, num_nearest: int = 1):
        self.per_class, self._variance, self._num_nearest = per_class, variance, num_nearest
        self._supports: dict[Label, np.ndarray] = {}
        self._centroids: dict[Label, np.ndarray] = {}

    @classmethod
    def of(
        cls,
        labels: Sequence[Label],
        centroids: np.ndarray,
        counts: np.ndarray,
        variance: float,
        num_nearest: int,
    ) -> Self:
        """The clusters `[classes, k, dim]` of training images; those with a count of 0 do not exist."""
        head = cls(centroids.shape[1], variance, num_nearest)
        rows = [np.asarray(of[there > 0]) for of, there in zip(centroids, counts, strict=True)]
        head._centroids = dict(zip(labels, rows, strict=True))
        head._supports = {label: np.zeros((0, centroids.shape[2]), np.float32) for label in labels}
        return head

    def copy(self) -> Self:
        other = copy.copy(self)
        other._supports, other._centroids = dict(self._supports), dict(self._centroids)
        return other

    def settled(self) -> Self:
        return self.copy()

    def telling_unknown(self) -> Head:
        return self.copy()

    @property
    def labels(self) -> list[Label]:
        return list(self._centroids)

    @property
    def supports(self) -> Mapping[Label, np.ndarray]:
        return {label: rows for label, rows in self._supports.items() if len(rows)}

    def add(self, labels: Sequence[Label], embeddings: np.ndarray) -> None:
        for label in dict.fromkeys(labels):
            added = np.asarray(embeddings[[other == label for other in labels]], np.float32)
            own = np.concatenate([self._supports.get(label, added[:0]), added])
            made = np.asarray(of_support(jnp.asarray(own)[None], self.per_class)[0])
            trained = self._centroids.get(label) if label not in self.supports else None
            self._supports[label] = own
            self._centroids[label] = made if trained is None else np.concatenate([trained, made])

    def forget(self, label: Label) -> None:
        del self._supports[label], self._centroids[label]

    def compare(self, embeddings: np.ndarray) -> Compared:
        padded, counts = self._padded()
        output = nearest_cluster.classify(
            embeddings, padded, counts, self._variance, num_nearest=self._num_nearest
        )
        return Compared(output.predictions, output.posteriors, self._between(embeddings))

    def traceable(self) -> Probabilities:
        padded, counts = self._padded()
        centroids, there = jnp.asarray(padded), jnp.asarray(counts)

        def probabilities(embeddings: jax.Array) -> jax.Array:
            return jnp.exp(
                nearest_cluster.log_posteriors(
                    embeddings, centroids, there, self._variance, num_nearest=self._num_nearest
                )
            )

        return probabilities

    def radius(self) -> float:
        rows = [self._between(of_class).min(axis=0) for of_class in self._centroids.values()]
        return mean_radius(np.stack(rows))

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            **rows_to_keep("supports", list(self._supports.values())),
            **rows_to_keep("representatives", list(self._centroids.values())),
            "per_class": np.array(self.per_class),
            "variance": np.array(self._variance),
            "num_nearest": np.array(self._num_nearest),
        }

    def restore(self, labels: Sequence[Label], arrays: Mapping[str, np.ndarray]) -> None:
        self.per_class, self._num_nearest = int(arrays["per_class"]), int(arrays["num_nearest"])
        self._variance = float(arrays["variance"])
        self._supports, self._centroids = (
            dict(zip(labels, kept_rows(name, arrays), strict=True))
            for name in ("supports", "representatives")
        )

    def _padded(self) -> tuple[np.ndarray, np.ndarray]:
        """Centroids `[classes, k, dim]`, and 1 where one exists."""
        rows = list(self._centroids.values())
        exists = np.arange(max(map(len, rows))) < np.array([[len(of)] for of in rows])
        padded = np.zeros((*exists.shape, rows[0].shape[1]), np.float32)
        padded[exists] = np.concatenate(rows)
        return padded, exists.astype(np.int32)

    def _between(self, embeddings: np.ndarray) -> np.ndarray:
        """Squared distances float32 `[n, classes]` to the nearest cluster of each class."""
        columns = [
            np.sum(np.square(embeddings[:, None] - of_class), axis=-1).min(axis=1)
            for of_class in self._centroids.values()
        ]
        return np.stack(columns, axis=1).astype(np.float32)
