"""Classification by several representatives per class (Karlinsky et al., 2019, arXiv:1806.04728)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.classification.config import ClosedSetEval, FewShotEval
from fsljax.classification.heads.comparison import (
    RULES,
    RepresentativeOutput,
    classify,
    compare,
    fine_tuned,
    of_support,
)
from fsljax.config import field
from fsljax.evaluation.agreement import purity
from fsljax.losses import repmet_loss
from fsljax.losses.divided_repmet import divided_repmet_loss
from fsljax.losses.repmet import VERSIONS
from fsljax.parallel import shares
from fsljax.reporting.embedding_map import Clusters

STARTS = ("clusters", "random")
"""How representatives can be initialised: at k-means centroids, or at random."""


@dataclass(frozen=True)
class Loss:
    """The RepMet loss."""

    version: str = field("v2", "version of the loss; see `fsljax.losses.repmet_loss`", choices=VERSIONS)
    sigma: float = field(0.5, "σ of the representatives", above=0)
    alpha: float = field(1.0, "margin", least=0)
    squared: bool = field(False, 'use squared distances; for version "margin" only')
    exact: bool = field(False, "compute all distances in training from differences, which is slower")


@dataclass(frozen=True)
class RepresentativeOptions:
    """Representatives of the trained classes."""

    per_class: int = field(3, "number of representatives per class, k", least=1, cap=10_000)
    start: str = field(
        "clusters", 'initialisation: "clusters" of the training embeddings, or "random"', choices=STARTS
    )
    reset_every: int = field(
        0, "steps between resets to cluster means; 0: none after initialisation", least=0
    )
    reset_until: int = field(0, "step from which representatives are only learned, no longer reset", least=0)
    normalize: bool = field(
        True, "normalise representatives to length 1, as network.normalize does embeddings"
    )
    learn_sigma: bool = field(False, "learn σ, starting from loss.sigma")
    rate: float = field(1.0, "learning rate multiplier of the representatives", least=0)
    sigma_rate: float = field(1.0, "learning rate multiplier of σ", least=0)


@dataclass(frozen=True)
class RepresentativeEval(ClosedSetEval, FewShotEval):
    """Evaluation on the trained classes, or in episodes of new classes."""

    support_representatives: int = field(0, "representatives per new class; 0: its whole support", least=0)
    support_rule: str = field("soft_posterior", "rule by which new classes are distinguished", choices=RULES)
    fine_tune_steps: int = field(
        0, "steps of fine-tuning the representatives of new classes, as a setting of its own", least=0
    )
    fine_tune_rate: float = field(0.1, "learning rate of fine-tuning", least=0)


class BatchLoss(NamedTuple):
    """The loss `[]` of a batch, of this device or all, and which examples are correct, bool `[n]`."""

    loss: jax.Array
    right: jax.Array


def batch_loss(
    embeddings: jax.Array,
    labels: jax.Array,
    representatives: jax.Array,
    classes: int,
    sigma: float | jax.Array,
    options: Loss,
) -> BatchLoss:
    """The RepMet loss of a step.

    Args:
      embeddings: `[n, dim]`, this device's share of the batch.
      labels: int `[batch]`, for the whole batch.
      representatives: `[classes, k, dim]`, or this device's share of them.
      classes: number of classes over all devices.
      sigma: σ.
      options: options of the loss.
    """
    form: dict[str, Any] = {"sigma": sigma, "alpha": options.alpha, "version": options.version,
                            "squared": options.squared, "exact": options.exact}  # fmt: skip
    if len(representatives) < classes:
        embeddings = shares.gathered(embeddings)
        divided = divided_repmet_loss(embeddings, labels, representatives, classes=classes, **form)
        return BatchLoss(divided.loss, divided.right)
    labels = shares.share(labels)
    output = repmet_loss(embeddings, labels, representatives, **form)
    return BatchLoss(output.loss, jnp.argmax(output.posteriors, axis=-1) == labels)


def mean_length(moved: jax.Array, classes: int) -> jax.Array:
    """Mean length of vectors `[classes, k, dim]`, or of those of all devices, zeros beyond the classes."""
    lengths = jnp.linalg.norm(moved, axis=-1)
    if len(moved) == classes:
        return jnp.mean(lengths)
    summed: jax.Array = shares.total(jnp.sum(lengths))
    return summed / (classes * moved.shape[1])


@dataclass(frozen=True)
class SupportRule:
    """Classifies queries by representatives made from a few examples per class.

    Attributes:
      sigma: σ.
      representatives: number per class, by k-means of its support; 0, or at least the number of shots: the
        support itself.
      rule: one of `RULES`.
      fine_tune_steps: steps of fine-tuning only the representatives on the support; see `fine_tuned`.
      fine_tune_rate, alpha, version, squared: parameters of fine-tuning.
    """

    sigma: float
    representatives: int = 0
    rule: str = "soft_posterior"
    fine_tune_steps: int = 0
    fine_tune_rate: float = 0.1
    alpha: float = 1.0
    version: str = "v2"
    squared: bool = False

    def of(self, support: jax.Array) -> jax.Array:
        """Representatives `[way, k, dim]` from a support `[way, shot, dim]`."""
        centres = of_support(support, self.representatives)
        if not self.fine_tune_steps:
            return centres
        way, shot, dim = support.shape
        return fine_tuned(
            centres,
            support.reshape(way * shot, dim),
            jnp.repeat(jnp.arange(way), shot),
            steps=self.fine_tune_steps,
            rate=self.fine_tune_rate,
            sigma=self.sigma,
            alpha=self.alpha,
            version=self.version,
            squared=self.squared,
        )

    def __call__(self, support: jax.Array, queries: jax.Array) -> jax.Array:
        """Classes int32 `[way, queries]` of queries `[way, queries, dim]`, given `[way, shot, dim]`."""
        output = compare(queries.reshape(-1, queries.shape[-1]), self.of(support), sigma=self.sigma)
        return output.predictions[self.rule].reshape(queries.shape[:2])


def counts_in_use(nearest: np.ndarray, labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Number of examples whose nearest representative, within their class, is each one.

    Args:
      nearest: int `[n]`, 0 … k − 1.
      labels: int `[n]`.
      shape: `(classes, k)`.

    Returns:
      int64 `[classes, k]`.
    """
    places = np.asarray(labels) * shape[1] + np.asarray(nearest)
    return np.bincount(places, minlength=shape[0] * shape[1]).reshape(shape)


def representative_purity(
    representatives: np.ndarray, embeddings: np.ndarray, labels: np.ndarray, fine_labels: np.ndarray
) -> float:
    """How well a class's representatives separate its fine classes; see `evaluation.agreement.purity`.

    Args:
      representatives: `[classes, k, dim]`.
      embeddings: `[n, dim]`.
      labels: int `[n]`, class of each embedding, whose nearest representative is used.
      fine_labels: int `[n]`.
    """
    classes, per_class = representatives.shape[:2]
    nearest = Clusters(representatives, np.ones((classes, per_class), int)).nearest(embeddings, labels)
    return purity(labels.astype(np.int64) * per_class + nearest, fine_labels)


__all__ = [
    "RULES",
    "STARTS",
    "Loss",
    "RepresentativeEval",
    "RepresentativeOptions",
    "RepresentativeOutput",
    "SupportRule",
    "classify",
    "compare",
    "counts_in_use",
    "fine_tuned",
    "of_support",
    "representative_purity",
]
