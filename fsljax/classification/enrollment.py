"""What a classifier keeps of the classes that were enrolled, and how it compares embeddings with them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.classification import representatives as by_representatives
from fsljax.classification.stored_config import ClassifierConfig
from fsljax.data.labels import Label
from fsljax.errors import UserError
from fsljax.evaluation.arrays import in_blocks
from fsljax.losses.prototypical import DISTANCES
from fsljax.networks.variables import Params

_OUT_OF_REACH = 1e15  # the square of a difference stays in float32's range
_FLOATS_A_BLOCK = 1 << 24


class Compared(NamedTuple):
    """Embeddings compared with the enrolled classes.

    Attributes:
      predictions: int `[n]`, the likeliest class.
      probabilities: float32 `[n, classes]`.
      nearest: float32 `[n]`, distance to what is nearest of any class.
    """

    predictions: np.ndarray
    probabilities: np.ndarray
    nearest: np.ndarray


class Enrolled(Protocol):
    """Classes by a few embeddings each."""

    def copy(self) -> Self:
        """The same classes; what changes one of the two does not change the other."""

    @property
    def labels(self) -> list[Label]:
        """In the order of their first enrolment."""

    def add(self, labels: Sequence[Label], embeddings: np.ndarray) -> None:
        """Adds embeddings `[n, dim]`."""

    def forget(self, label: Label) -> None:
        """Removes a class."""

    def compare(self, embeddings: np.ndarray) -> Compared:
        """Compares embeddings `[n, dim]` with all classes."""

    def radius(self) -> float:
        """Half the distance of a class to its nearest neighbour, in the mean; of two classes or more."""

    def arrays(self) -> dict[str, np.ndarray]:
        """All there is to keep but the labels."""

    def restore(self, labels: Sequence[Label], arrays: Mapping[str, np.ndarray]) -> None:
        """Takes what `arrays` gave."""


class Prototypes:
    """Classes by the means of their embeddings (Snell, Swersky and Zemel, 2017)."""

    def __init__(self, distance: str, temperature: float):
        self._distance = DISTANCES[distance]
        self._takes_differences = distance == "squared_euclidean"
        self._temperature = temperature
        self._sums: dict[Label, np.ndarray] = {}
        self._counts: dict[Label, int] = {}

    def copy(self) -> Self:
        other = copy.copy(self)
        other._sums, other._counts = dict(self._sums), dict(self._counts)
        return other

    @property
    def labels(self) -> list[Label]:
        return list(self._sums)

    def add(self, labels: Sequence[Label], embeddings: np.ndarray) -> None:
        for label, embedding in zip(labels, embeddings, strict=True):
            self._sums[label] = self._sums.get(label, 0) + embedding.astype(np.float64)
            self._counts[label] = self._counts.get(label, 0) + 1

    def forget(self, label: Label) -> None:
        del self._sums[label], self._counts[label]

    def compare(self, embeddings: np.ndarray) -> Compared:
        distances = self._between(embeddings, self._means())
        probabilities = jax.nn.softmax(-distances / self._temperature, axis=1)
        return Compared(np.argmin(distances, axis=1), np.asarray(probabilities), distances.min(axis=1))

    def radius(self) -> float:
        return _mean_radius(self._between(self._means(), self._means()))

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            "counts": np.array(list(self._counts.values()), np.int64),
            "sums": np.array(list(self._sums.values()), np.float64),
        }

    def restore(self, labels: Sequence[Label], arrays: Mapping[str, np.ndarray]) -> None:
        self._sums = dict(zip(labels, arrays["sums"], strict=True))
        self._counts = dict(zip(labels, arrays["counts"].tolist(), strict=True))

    def _means(self) -> np.ndarray:
        return np.stack([self._sums[label] / self._counts[label] for label in self._sums]).astype(np.float32)

    def _between(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        def of(some: np.ndarray) -> np.ndarray:
            return np.array(self._distance(jnp.asarray(some), jnp.asarray(others)))

        return _by_blocks(of, rows, others.size) if self._takes_differences else of(rows)


class Representatives:
    """Classes by representatives: their embeddings, or k-means of these (Karlinsky et al., 2019).

    Attributes:
      per_class: representatives of a class at most; 0: every embedding is one.
    """

    def __init__(
        self,
        *,
        sigma: float,
        alpha: float = 1.0,
        version: str = "v2",
        squared: bool = False,
        per_class: int = 0,
    ):
        self._sigma, self._alpha, self._version, self._squared = sigma, alpha, version, squared
        self.per_class = per_class
        self._supports: dict[Label, np.ndarray] = {}
        self._centres: dict[Label, np.ndarray] = {}

    def copy(self) -> Self:
        other = copy.copy(self)
        other._supports, other._centres = dict(self._supports), dict(self._centres)
        return other

    @property
    def labels(self) -> list[Label]:
        return list(self._supports)

    def add(self, labels: Sequence[Label], embeddings: np.ndarray) -> None:
        for label in dict.fromkeys(labels):
            added = embeddings[[other == label for other in labels]]
            support = np.concatenate([self._supports.get(label, added[:0]), added])
            made = by_representatives.of_support(jnp.asarray(support)[None], self.per_class)
            self._supports[label], self._centres[label] = support, np.asarray(made[0])

    def forget(self, label: Label) -> None:
        del self._supports[label], self._centres[label]

    def fine_tune(self, steps: int, rate: float) -> None:
        """Lets the representatives of all classes learn from their supports (of two at least)."""
        if len(self._supports) < 2:
            raise UserError("Two classes must be enrolled for their representatives to learn: there is one.")
        padded, exists = self._padded()
        supports = list(self._supports.values())
        learned = by_representatives.fine_tuned(
            jnp.asarray(padded),
            jnp.asarray(np.concatenate(supports)),
            jnp.repeat(jnp.arange(len(supports)), np.array([len(support) for support in supports])),
            steps=steps,
            rate=rate,
            sigma=self._sigma,
            alpha=self._alpha,
            version=self._version,
            squared=self._squared,
        )
        for label, row, there in zip(self._centres, np.asarray(learned), exists, strict=True):
            self._centres[label] = row[there]

    def background(self, embeddings: np.ndarray) -> np.ndarray:
        """Probability of none of the classes, float32 `[n]`: 1 − max p."""
        return np.asarray(self._classify(embeddings).background)

    def compare(self, embeddings: np.ndarray) -> Compared:
        output = self._classify(embeddings)
        padded, _ = self._padded()
        return Compared(
            np.asarray(output.predictions["soft_posterior"]),
            np.asarray(output.soft_posteriors),
            self._between_classes(embeddings[:, None], padded).min(axis=1),
        )

    def radius(self) -> float:
        padded, exists = self._padded()
        rows = [self._between_classes(of_class[there][:, None], padded).min(axis=0)
                for of_class, there in zip(padded, exists, strict=True)]  # fmt: skip
        return _mean_radius(np.stack(rows))

    def arrays(self) -> dict[str, np.ndarray]:
        of_classes = {
            "supports": list(self._supports.values()),
            "representatives": list(self._centres.values()),
        }
        counts = {f"{name}_counts": np.array([len(rows) for rows in all_rows], np.int64)
                for name, all_rows in of_classes.items()}  # fmt: skip
        joined = {
            name: np.concatenate(rows) if rows else np.zeros((0, 0)) for name, rows in of_classes.items()
        }
        return counts | joined | {"per_class": np.array(self.per_class)}

    def restore(self, labels: Sequence[Label], arrays: Mapping[str, np.ndarray]) -> None:
        self.per_class = int(arrays["per_class"])
        restored = []
        for name in ("supports", "representatives"):
            ends = np.cumsum(arrays[f"{name}_counts"])
            rows = np.split(np.asarray(arrays[name], np.float32), ends[:-1]) if len(ends) else []
            if sum(map(len, rows)) != arrays[f"{name}_counts"].sum():
                raise ValueError(f"{name} and their counts differ")
            restored.append(dict(zip(labels, rows, strict=True)))
        self._supports, self._centres = restored

    def _classify(self, embeddings: np.ndarray) -> by_representatives.RepresentativeOutput:
        padded, exists = self._padded()
        return by_representatives.classify(embeddings, padded, sigma=self._sigma, exists=exists)

    def _padded(self) -> tuple[np.ndarray, np.ndarray]:
        """Representatives `[classes, k, dim]`, and which exist; the others are out of reach."""
        centres = list(self._centres.values())
        exists = np.arange(max(map(len, centres))) < np.array([[len(rows)] for rows in centres])
        padded = np.full((*exists.shape, centres[0].shape[1]), _OUT_OF_REACH, np.float32)
        padded[exists] = np.concatenate(centres)
        return padded, exists

    def _between_classes(self, rows: np.ndarray, padded: np.ndarray) -> np.ndarray:
        """Squared distances `[n, classes]` of `[n, 1, dim]` to the nearest representative of each class."""

        def of(some: np.ndarray) -> np.ndarray:
            squares = [np.sum(np.square(some - of_class), axis=-1).min(axis=1) for of_class in padded]
            return np.stack(squares, axis=1)

        return _by_blocks(of, rows, padded[0].size)


def _by_blocks(
    distances: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, floats_a_row: int
) -> np.ndarray:
    """Distances `[n, m]` of rows, of so many at once as their differences take little memory."""
    size = max(1, min(len(rows), _FLOATS_A_BLOCK // max(1, floats_a_row)))
    return np.concatenate([of_block for _, of_block in in_blocks(distances, rows, size=size)])


def enrolled_by(config: ClassifierConfig, params: Params, representatives: int | None) -> Enrolled:
    """What keeps the classes of a network, by the method that trained it.

    Args:
      config: of the network.
      params: of the network, and of the method.
      representatives: of a class at most; None: as the config says.

    Raises:
      UserError: representatives are asked of another method's network, or fewer than none.
    """
    if config.method != "repmet":
        if representatives is not None:
            raise _no_representatives(config.method)
        return Prototypes(config.loss.distance, config.loss.temperature)
    if representatives is not None and representatives < 0:
        raise UserError(f"representatives is {representatives}; it must be 0 or more.")
    loss = config.loss
    return Representatives(
        sigma=float(jax.nn.softplus(params["sigma"])) if "sigma" in params else loss.sigma,
        alpha=loss.alpha,
        version=loss.version,
        squared=loss.squared,
        per_class=config.eval.support_representatives if representatives is None else representatives,
    )


def with_representatives(known: Enrolled, method: str) -> Representatives:
    """The classes, or a UserError: the method that trained the network gives them no representatives."""
    if not isinstance(known, Representatives):
        raise _no_representatives(method)
    return known


def _no_representatives(method: str) -> UserError:
    return UserError(
        f"This network was trained by {method!r}, whose classes have no representatives: load "
        "one that was trained by 'repmet'."
    )


def _mean_radius(between: np.ndarray) -> float:
    """Half the mean of distances `[classes, classes]` to the nearest other class."""
    between = between.copy()
    np.fill_diagonal(between, np.inf)
    return float(0.5 * between.min(axis=1).mean())
