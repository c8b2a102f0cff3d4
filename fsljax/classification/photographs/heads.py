"""How well each head names photographs that it was not made of, and tells those of no class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fsljax.classification.heads.common import (
    LeftOut,
    left_out,
    left_out_classes,
    likeliest_temperature,
    softmax,
)
from fsljax.classification.heads.unknown import auroc, share_of_further
from fsljax.classification.photographs.pool import Pool
from fsljax.evaluation.paired import accuracy_and_ci95

Figures = dict[str, float]


class Told(NamedTuple):
    """What a head says of photographs that it was not made of.

    Attributes:
      predictions: int `[n]`, classes; of a class with one photograph its own.
      told: bool `[n]`, those whose class has another photograph.
      distances: float32 `[n, classes]`.
    """

    predictions: np.ndarray
    told: np.ndarray
    distances: np.ndarray

    def figures(self, labels: np.ndarray) -> Figures:
        """Accuracy over those that were told; none where there are none."""
        right = (self.predictions == labels)[self.told]
        return accuracy(right) if len(right) else {}

    def probabilities(self, labels: np.ndarray) -> np.ndarray:
        """Of each class, `[n, classes]`, by the distances; NaN where a photograph was not told."""
        found = np.full(self.distances.shape, np.nan, np.float32)
        if self.told.any():
            scale = likeliest_temperature(self.distances, labels)
            found[self.told] = softmax(-self.distances[self.told] / scale)
        return found


def accuracy(right: np.ndarray) -> Figures:
    """Of answers bool `[n]`."""
    mean, ci95 = accuracy_and_ci95(right)
    return {"accuracy": mean, "ci95": ci95, "examples": len(right)}


def cross_validated(pool: Pool, name: str, *, distance: str) -> Told:
    """Names every photograph by the others; by parts, each with one of a class at most."""
    without: LeftOut = left_out(pool.head(name, np.ones(len(pool.labels), bool), distance=distance))
    return Told(without.predictions, without.told, without.distances)


def held_out_predictions(pool: Pool, name: str, *, distance: str) -> np.ndarray:
    """Classes int `[m]` of the held-out photographs, named by the others."""
    compared = pool.head(name, ~pool.held_out, distance=distance).compare(pool.embeddings[pool.held_out])
    return compared.predictions


def best_of(told: dict[str, Told], labels: np.ndarray) -> str | None:
    """The head with the highest accuracy in cross-validation; None where nothing was told."""
    accuracies = {name: one.figures(labels).get("accuracy", -1.0) for name, one in told.items()}
    best = max(accuracies, key=lambda name: accuracies[name])
    return best if accuracies[best] >= 0 else None


def unknown_figures(
    pool: Pool, heads: Sequence[str], *, divisions: int, false_accept: float, seed: int, distance: str
) -> dict[str, Figures]:
    """How well each head tells photographs of its classes from those of classes that were left out.

    In every division half of the classes, drawn at random, are enrolled from the photographs that are not
    held out. The threshold on the distance is chosen from the enrolled photographs alone, each without its
    class.

    Args:
      pool: of photographs of four classes or more.
      heads: their names.
      divisions: how many.
      false_accept: the share of photographs of no class that may be taken for one of a class.
      seed: of the divisions.
      distance: of prototypes.

    Returns:
      Of each head `auroc`, and the shares of unknown and of known photographs that the threshold accepts,
      `false_accept` and `true_accept`, each with its interval over divisions; `examples` that were shown.
      Empty where the classes are too few, or no photograph is held out.
    """
    random = np.random.default_rng(seed)
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in heads}
    shown = 0
    for _ in range(divisions if pool.classes >= 4 else 0):
        known = np.zeros(pool.classes, bool)
        known[random.permutation(pool.classes)[: pool.classes // 2]] = True
        is_known = known[pool.labels]
        tested = is_known & pool.held_out
        if not tested.any():
            continue
        shown += int(tested.sum() + (~is_known).sum())
        for name in heads:
            head = pool.head(name, is_known & ~pool.held_out, distance=distance).telling_unknown()
            without, classes = left_out_classes(head)
            threshold = np.quantile(without, share_of_further(without, classes, false_accept).level)
            ours = head.compare(pool.embeddings[tested]).nearest
            others = head.compare(pool.embeddings[~is_known]).nearest
            false, true = (float(np.mean(nearest <= threshold)) for nearest in (others, ours))
            found[name].append((auroc(-ours, -others), false, true))
    return {name: _over_divisions(values) | {"examples": shown} for name, values in found.items() if values}


def _over_divisions(values: Sequence[tuple[float, float, float]]) -> Figures:
    figures: Figures = {}
    columns = np.asarray(values).T
    for name, column in zip(("auroc", "false_accept", "true_accept"), columns, strict=True):
        figures[name] = float(column.mean())
        if len(column) > 1:
            figures[f"{name}_ci95"] = float(1.96 * column.std(ddof=1) / np.sqrt(len(column)))
    return figures
