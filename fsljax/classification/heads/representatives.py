"""Classification by the representatives of RepMet networks (Karlinsky et al., 2019, arXiv:1806.04728)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.classification.heads.common import (
    Compared,
    Head,
    by_blocks,
    kept_rows,
    mean_radius,
    rows_to_keep,
)
from fsljax.classification.heads.comparison import (
    RepresentativeOutput,
    classify,
    compare,
    fine_tuned,
    of_support,
)
from fsljax.classification.heads.traced import Probabilities
from fsljax.data.labels import Label
from fsljax.errors import UserError

_OUT_OF_REACH = 1e15  # the square of a difference stays in float32's range


class Representatives:
    """Classification by representatives: embeddings, or their k-means centroids (Karlinsky et al., 2019).

    Attributes:
      per_class: maximum number of representatives per class; 0: every embedding is one.
    """

    name = "representatives"

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

    def settled(self) -> Self:
        return self.copy()

    def telling_unknown(self) -> Head:
        return self.settled()

    @property
    def labels(self) -> list[Label]:
        return list(self._supports)

    @property
    def supports(self) -> Mapping[Label, np.ndarray]:
        return {label: rows for label, rows in self._supports.items() if len(rows)}

    def add(self, labels: Sequence[Label], embeddings: np.ndarray) -> None:
        for label in dict.fromkeys(labels):
            added = embeddings[[other == label for other in labels]]
            support = np.concatenate([self._supports.get(label, added[:0]), added])
            made = np.asarray(of_support(jnp.asarray(support)[None], self.per_class)[0])
            if label in self._centres and label not in self.supports:  # trained: what is enrolled is added
                made = np.concatenate([self._centres[label], made])
            self._supports[label], self._centres[label] = support, made

    def hold(self, labels: Sequence[Label], representatives: np.ndarray) -> None:
        """Adds trained classes with their representatives `[classes, k, dim]`."""
        self._centres |= dict(zip(labels, np.asarray(representatives, np.float32), strict=True))
        none = np.zeros((0, representatives.shape[2]), np.float32)
        self._supports |= dict.fromkeys(labels, none)

    def forget(self, label: Label) -> None:
        del self._supports[label], self._centres[label]

    def fine_tune(self, steps: int, rate: float) -> None:
        """Fine-tunes the representatives of all classes, two or more, on their support."""
        if len(self._supports) < 2:
            raise UserError(
                "Training representatives needs at least two enrolled classes, but there is one: enrol "
                "another."
            )
        padded, exists = self._padded()
        supports = list(self._supports.values())
        learned = fine_tuned(
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
        """Probability that an image is of no class, float32 `[n]`: 1 − max p."""
        return np.asarray(self._classify(embeddings).background)

    def compare(self, embeddings: np.ndarray) -> Compared:
        output = self._classify(embeddings)
        padded, _ = self._padded()
        return Compared(
            np.asarray(output.predictions["soft_posterior"]),
            np.asarray(output.soft_posteriors),
            self._between_classes(embeddings[:, None], padded),
        )

    def traceable(self) -> Probabilities:
        padded, exists = self._padded()

        def probabilities(embeddings: jax.Array) -> jax.Array:
            compared = compare(
                embeddings, jnp.asarray(np.where(exists[..., None], padded, 0)), sigma=self._sigma,
                exists=jnp.asarray(exists),
            )  # fmt: skip
            return compared.soft_posteriors

        return probabilities

    def radius(self) -> float:
        padded, exists = self._padded()
        rows = [self._between_classes(of_class[there][:, None], padded).min(axis=0)
                for of_class, there in zip(padded, exists, strict=True)]  # fmt: skip
        return mean_radius(np.stack(rows))

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            **rows_to_keep("supports", list(self._supports.values())),
            **rows_to_keep("representatives", list(self._centres.values())),
            "per_class": np.array(self.per_class),
        }

    def restore(self, labels: Sequence[Label], arrays: Mapping[str, np.ndarray]) -> None:
        self.per_class = int(arrays["per_class"])
        self._supports, self._centres = (
            dict(zip(labels, kept_rows(name, arrays), strict=True))
            for name in ("supports", "representatives")
        )

    def _classify(self, embeddings: np.ndarray) -> RepresentativeOutput:
        padded, exists = self._padded()
        return classify(embeddings, padded, sigma=self._sigma, exists=exists)

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

        return by_blocks(of, rows, padded[0].size)
