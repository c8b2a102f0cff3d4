"""What all heads share: the protocol, their support embeddings, and temperatures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, Self

import numpy as np

from fsljax.classification.heads.traced import Probabilities
from fsljax.data.labels import Label
from fsljax.evaluation.arrays import in_blocks

_FLOATS_A_BLOCK = 1 << 24
_SHORTEST = 1e-12
_TEMPERATURES = np.geomspace(1e-3, 1.0, 25)
_FEWEST_TOLD_APART = 1 / 8  # of the mean distance: a temperature where no class has two embeddings
_MOST_FOLDS = 10
_MOST_CLASSES_LEFT_OUT = 50


class Compared(NamedTuple):
    """Result of comparing embeddings with the enrolled classes.

    Attributes:
      predictions: int `[n]`, the most likely class.
      probabilities: float32 `[n, classes]`, highest for the prediction.
      distances: float32 `[n, classes]`, to the nearest prototype or representative of each class.
    """

    predictions: np.ndarray
    probabilities: np.ndarray
    distances: np.ndarray

    @property
    def nearest(self) -> np.ndarray:
        """Distances float32 `[n]` to what is nearest of any class."""
        nearest: np.ndarray = self.distances.min(axis=1)
        return nearest


class Head(Protocol):
    """A classifier of embeddings, given a few of each class."""

    @property
    def name(self) -> str:
        """One of `HEADS`, or the name of a rule that a method trained."""

    def copy(self) -> Self:
        """A copy with the same classes; changes to one do not affect the other."""

    def settled(self) -> Head:
        """The same classes, with parameters chosen from all embeddings (temperature, σ, penalty) fixed."""

    def telling_unknown(self) -> Head:
        """The settled head whose distances are used to detect unknown classes."""

    @property
    def labels(self) -> list[Label]:
        """Labels in order of first enrolment."""

    @property
    def supports(self) -> Mapping[Label, np.ndarray]:
        """Embeddings `[n, dim]` of each class; empty for a class of which only the sum was kept."""

    def add(self, labels: Sequence[Label], embeddings: np.ndarray) -> None:
        """Adds embeddings `[n, dim]`."""

    def forget(self, label: Label) -> None:
        """Removes a class."""

    def compare(self, embeddings: np.ndarray) -> Compared:
        """Compares embeddings `[n, dim]` with all classes."""

    def traceable(self) -> Probabilities:
        """The probabilities that `compare` gives, as a function for JAX to trace."""

    def radius(self) -> float:
        """Half the mean distance of a class to its nearest neighbour; requires two or more classes."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything to store except the labels."""

    def restore(self, labels: Sequence[Label], arrays: Mapping[str, np.ndarray]) -> None:
        """Restores the result of `arrays`."""


class Supports:
    """The embeddings of each class, float32 `[n, dim]`; never changed, but replaced."""

    def __init__(self, rows: Mapping[Label, np.ndarray] | None = None):
        self.of_class: dict[Label, np.ndarray] = dict(rows or {})

    def copy(self) -> Supports:
        return Supports(self.of_class)

    def add(self, labels: Sequence[Label], embeddings: np.ndarray) -> list[Label]:
        """Adds embeddings `[n, dim]`; returns the classes that changed."""
        changed = list(dict.fromkeys(labels))
        for label in changed:
            added = np.asarray(embeddings[[other == label for other in labels]], np.float32)
            self.of_class[label] = np.concatenate([self.of_class.get(label, added[:0]), added])
        return changed

    def stacked(self) -> tuple[np.ndarray, np.ndarray]:
        """All embeddings `[n, dim]`, and the place of the class of each, int `[n]`."""
        counts = [len(rows) for rows in self.of_class.values()]
        return np.concatenate(list(self.of_class.values())), np.repeat(np.arange(len(counts)), counts)

    def arrays(self, name: str = "supports") -> dict[str, np.ndarray]:
        return rows_to_keep(name, list(self.of_class.values()))

    def restore(
        self, labels: Sequence[Label], arrays: Mapping[str, np.ndarray], name: str = "supports"
    ) -> None:
        self.of_class = dict(zip(labels, kept_rows(name, arrays), strict=True))


def rows_to_keep(name: str, rows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Rows of each class as two arrays: `name`, and `name`_counts."""
    joined = np.concatenate(rows) if rows else np.zeros((0, 0))
    return {name: joined, f"{name}_counts": np.array([len(of_class) for of_class in rows], np.int64)}


def kept_rows(name: str, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The rows of each class, of what `rows_to_keep` made.

    Raises:
      ValueError: if there are more rows, or fewer, than are counted.
    """
    counts = arrays[f"{name}_counts"]
    if len(arrays[name]) != counts.sum():
        raise ValueError(f"{name} and their counts differ")
    return np.split(np.asarray(arrays[name], np.float32), np.cumsum(counts)[:-1]) if len(counts) else []


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows brought to length 1, float32; zeros stay."""
    wide = np.asarray(rows, np.float64)
    lengths = np.sqrt(np.sum(np.square(wide), axis=-1, keepdims=True))
    return (wide / np.maximum(lengths, _SHORTEST)).astype(np.float32)


def squared_distances(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances float32 `[n, m]`, by products in float64: rows about of length 1."""
    rows, others = np.asarray(rows, np.float64), np.asarray(others, np.float64)
    squares = np.sum(np.square(rows), axis=1)[:, None] + np.sum(np.square(others), axis=1)
    return np.maximum(squares - 2 * rows @ others.T, 0).astype(np.float32)


def by_blocks(
    distances: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, floats_a_row: int
) -> np.ndarray:
    """Distances `[n, m]` of rows, of so many at once as their differences take little memory."""
    size = max(1, min(len(rows), _FLOATS_A_BLOCK // max(1, floats_a_row)))
    return np.concatenate([of_block for _, of_block in in_blocks(distances, rows, size=size)])


def mean_radius(between: np.ndarray) -> float:
    """Half the mean of distances `[classes, classes]` to the nearest other class."""
    between = between.copy()
    np.fill_diagonal(between, np.inf)
    return float(0.5 * between.min(axis=1).mean())


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities float32 `[n, classes]` of scores."""
    wide = np.asarray(scores, np.float64)
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def folds(labels: np.ndarray, most: int = _MOST_FOLDS) -> Iterator[np.ndarray]:
    """Divides embeddings so that each part has one of each class at most; a class of one is never left out.

    With more than `most` in a class a part has several of it.

    Args:
      labels: int `[n]`, 0 … classes − 1.
      most: parts.

    Yields:
      bool `[n]`, those left out.
    """
    counts = np.bincount(labels)
    place = np.zeros(len(labels), int)
    for label in np.flatnonzero(counts):
        place[labels == label] = np.arange(counts[label]) % most
    alone = counts[labels] < 2
    for fold in range(min(most, int(np.max(counts, initial=0)))):
        left_out = (place == fold) & ~alone
        if left_out.any():
            yield left_out


class LeftOut(NamedTuple):
    """What a head says of its own embeddings, each left out of it.

    Attributes:
      labels: int `[n]`, places of their classes.
      predictions: int `[n]`; of a class with one embedding, which stays in, its own.
      distances: float32 `[n, classes]`; NaN to the own class where it has no other embedding.
    """

    labels: np.ndarray
    predictions: np.ndarray
    distances: np.ndarray

    @property
    def told(self) -> np.ndarray:
        """Bool `[n]`, those whose class has another embedding."""
        told: np.ndarray = np.isfinite(self.distances).all(axis=1)
        return told


def left_out(head: Head) -> LeftOut:
    """Compares the embeddings of a head with its classes, each without itself; by parts, as `folds` has them.

    Args:
      head: of embeddings that were kept; what it chose from all of them stays as it is.
    """
    settled, names = head.settled(), head.labels
    supports = {label: head.supports[label] for label in names if label in head.supports}
    rows = np.concatenate(list(supports.values()))
    labels = np.repeat([names.index(label) for label in supports], [len(of) for of in supports.values()])
    compared = settled.compare(rows)
    predictions, distances = compared.predictions.copy(), compared.distances.copy()
    alone = np.bincount(labels, minlength=len(names))[labels] < 2
    distances[alone, labels[alone]] = np.nan
    for fold in folds(labels):
        without = settled.copy()
        changed = np.unique(labels[fold])
        for place in changed:
            without.forget(names[place])
        returned = np.flatnonzero(~fold & np.isin(labels, changed))
        without.add([names[place] for place in labels[returned]], rows[returned])
        places = np.array([names.index(label) for label in without.labels])
        again = without.compare(rows[fold])
        predictions[fold] = places[again.predictions]
        distances[np.ix_(fold, places)] = again.distances
    return LeftOut(labels, predictions, distances)


def left_out_classes(head: Head) -> tuple[np.ndarray, np.ndarray]:
    """Distances of enrolled embeddings to what is nearest once their own class is forgotten.

    Of many classes several are left out at once.

    Args:
      head: of two classes or more, whose embeddings were kept.

    Returns:
      distances float32 `[n]`, and the places of their own classes int `[n]`.
    """
    settled, names = head.settled(), head.labels
    parts = np.array_split(np.arange(len(names)), min(len(names), _MOST_CLASSES_LEFT_OUT))
    nearest = []
    for part in parts:
        without = settled.copy()
        for place in part:
            without.forget(names[place])
        rows = np.concatenate([head.supports[names[place]] for place in part])
        nearest.append(without.compare(rows).nearest)
    counts = [len(head.supports[name]) for name in names]
    return np.concatenate(nearest), np.repeat(np.arange(len(names)), counts)


def likeliest_temperature(distances: np.ndarray, labels: np.ndarray) -> float:
    """The temperature at which softmax(−distance / temperature) gives the classes the highest likelihood.

    Args:
      distances: `[n, classes]`, of embeddings to the classes without these embeddings; NaN: there is none.
      labels: int `[n]`, the own class.
    """
    finite = distances[np.isfinite(distances)]
    scale = max(float(finite.mean()) if len(finite) else 1.0, _SHORTEST)
    told = np.isfinite(distances).all(axis=1)
    if not told.any() or distances.shape[1] < 2:
        return scale * _FEWEST_TOLD_APART
    own = labels[told]
    losses = []
    for share in _TEMPERATURES:
        logits = -np.float64(distances[told]) / (scale * share)
        logits -= logits.max(axis=1, keepdims=True)
        losses.append(np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(own)), own]))
    return float(scale * _TEMPERATURES[int(np.argmin(losses))])
