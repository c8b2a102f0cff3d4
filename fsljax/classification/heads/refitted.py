"""A head that keeps the embeddings of its classes, and is made of them anew when they have changed."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np

from fsljax.classification.heads.common import Compared, Head, Supports
from fsljax.classification.heads.traced import Probabilities
from fsljax.data.labels import Label


class Rule(Protocol):
    """What is made of embeddings, and how others are compared with it; never changed."""

    @property
    def name(self) -> str:
        """One of `HEADS`."""

    def fitted(self, supports: Supports) -> Any:
        """What the classes' embeddings make."""

    def settled(self, fitted: Any) -> Rule:
        """The rule that chooses nothing any more: as it chose for `fitted`."""

    def telling_unknown(self, supports: Supports) -> Head:
        """The head of the same classes by whose distances it is told what belongs to none."""

    def compare(self, fitted: Any, embeddings: np.ndarray) -> Compared:
        """Compares embeddings `[n, dim]`."""

    def traceable(self, fitted: Any) -> Probabilities:
        """The probabilities that `compare` gives, as a function for JAX to trace."""

    def radius(self, fitted: Any) -> float:
        """Half the distance of a class to its nearest neighbour, in the mean."""


class Refitted:
    """Classes of which every embedding is kept, compared by a rule; a `Head`."""

    def __init__(self, rule: Rule, supports: Supports | None = None):
        self.rule = rule
        self._supports = Supports() if supports is None else supports.copy()
        self._fitted: Any = None

    @property
    def name(self) -> str:
        return self.rule.name

    def copy(self) -> Self:
        other = copy.copy(self)
        other._supports = self._supports.copy()
        return other

    def settled(self) -> Head:
        return Refitted(self.rule.settled(self.fitted()), self._supports)

    def telling_unknown(self) -> Head:
        return self.rule.telling_unknown(self._supports)

    @property
    def labels(self) -> list[Label]:
        return list(self._supports.of_class)

    @property
    def supports(self) -> Mapping[Label, np.ndarray]:
        return self._supports.of_class

    def add(self, labels: Sequence[Label], embeddings: np.ndarray) -> None:
        self._supports.add(labels, embeddings)
        self._fitted = None

    def forget(self, label: Label) -> None:
        del self._supports.of_class[label]
        self._fitted = None

    def compare(self, embeddings: np.ndarray) -> Compared:
        return self.rule.compare(self.fitted(), embeddings)

    def traceable(self) -> Probabilities:
        return self.rule.traceable(self.fitted())

    def radius(self) -> float:
        return self.rule.radius(self.fitted())

    def arrays(self) -> dict[str, np.ndarray]:
        return self._supports.arrays()

    def restore(self, labels: Sequence[Label], arrays: Mapping[str, np.ndarray]) -> None:
        self._supports.restore(labels, arrays)
        self._fitted = None

    def fitted(self) -> Any:
        """What the rule made of the classes as they are."""
        if self._fitted is None:
            self._fitted = self.rule.fitted(self._supports)
        return self._fitted
