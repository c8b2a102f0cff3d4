"""A head that keeps the embeddings of its classes and is refitted when they change."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np

from fsljax.classification.heads.common import Compared, Head, Supports
from fsljax.classification.heads.traced import Probabilities
from fsljax.data.labels import Label


class Rule(Protocol):
    """A comparison rule fitted to embeddings; immutable."""

    @property
    def name(self) -> str:
        """One of `HEADS`."""

    def fitted(self, supports: Supports) -> Any:
        """Fits the rule to the embeddings of the classes."""

    def settled(self, fitted: Any) -> Rule:
        """The rule with all choices fixed as they were made for `fitted`."""

    def telling_unknown(self, supports: Supports) -> Head:
        """The head over the same classes whose distances are used to detect unknown classes."""

    def compare(self, fitted: Any, embeddings: np.ndarray) -> Compared:
        """Compares embeddings `[n, dim]`."""

    def traceable(self, fitted: Any) -> Probabilities:
        """The probabilities that `compare` gives, as a function for JAX to trace."""

    def radius(self, fitted: Any) -> float:
        """Half the mean distance of a class to its nearest neighbour."""


class Refitted:
    """A `Head` that keeps every embedding of its classes and compares them by a rule."""

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
        """The rule fitted to the current classes."""
        if self._fitted is None:
            self._fitted = self.rule.fitted(self._supports)
        return self._fitted
