"""The classes of a classifier at one moment, and the default head for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path

import jax
import numpy as np

from fsljax.classification.heads import Head, Prototypes, Representatives, kept, new_head
from fsljax.classification.heads.unknown import (
    Calibration,
    Distances,
    Scale,
    calibrated,
    confidence,
    left_out_distances,
    scale_of,
    share_of_further,
)
from fsljax.classification.stored_config import PRETRAINED, ClassifierConfig
from fsljax.data.labels import Label, spelled_as
from fsljax.errors import UserError, first_few
from fsljax.networks.variables import Params
from fsljax.training.checkpoints import Model


@dataclass(frozen=True)
class Enrolled:
    """The classes at one moment: immutable, and replaced as a whole.

    Attributes:
      head: head with the classes.
      kind: kind of the head; see `fsljax.classification.heads.kept.arrays_of`.
      kept_scale: scale of the confidence, for a head that keeps no embeddings.
    """

    head: Head
    kind: str = ""
    kept_scale: Scale | None = None

    @classmethod
    def read(cls, path: Path, model: Model, dim: int, own: Head) -> tuple[Enrolled, float | None]:
        """The classes and the threshold stored in a file; arguments as in `kept.Kept`."""
        there = kept.Kept(path, model, dim, own)
        return cls(there.head, there.kind, there.scale), there.unknown

    @property
    def labels(self) -> list[Label]:
        return self.head.labels

    @cached_property
    def scale(self) -> Scale | None:
        """Scale of the confidence; None if there are too few embeddings for one."""
        has_all = len(self.labels) > 1 and set(self.head.supports) == set(self.labels)
        return scale_of(self.distances) if has_all else self.kept_scale

    @cached_property
    def distances(self) -> Distances:
        """Distances of the enrolled embeddings, each left out in turn."""
        return left_out_distances(self.head)

    def check_fine_tuning(self, steps: int, rate: float, method: str) -> None:
        """Raises a UserError for fine-tuning with invalid numbers, or of another method's network."""
        steps_are_none = not isinstance(steps, Integral) or steps < 0
        if steps_are_none or not isinstance(rate, Real) or not 0 <= rate < np.inf:
            raise UserError(
                f"fine_tune_steps is {steps!r} and fine_tune_rate {rate!r}: give a whole number and a "
                "number, both 0 or more."
            )
        if steps:
            with_representatives(self.head, method)

    def added(
        self, labels: Sequence[Label], embeddings: np.ndarray, method: str, *, steps: int, rate: float
    ) -> Enrolled:
        """The classes with further embeddings `[n, dim]`, fine-tuned if requested."""
        head = self.head.copy()
        head.add(spelled_as(labels, head.labels), embeddings)
        if steps:
            with_representatives(head, method).fine_tune(steps, rate)
        return replace(self, head=head)

    def without(self, label: Label) -> Enrolled:
        """The classes without one of them.

        Raises:
          UserError: if the class is not enrolled.
        """
        known = self.labels
        if label not in known:
            (label,) = spelled_as([label], known)
        if label not in known:
            raise UserError(f"{label!r} is not enrolled; the enrolled classes are {known}.")
        head = self.head.copy()
        head.forget(label)
        return replace(self, head=head)

    def compared_by(self, name: str, distance: str) -> Enrolled:
        """The classes compared by another head.

        Raises:
          UserError: if there is no such head, or the embeddings of a class were not kept.
        """
        changed = new_head(name, distance=distance)
        supports = self.head.supports
        if lost := [str(label) for label in self.labels if label not in supports]:
            raise UserError(
                f"The head cannot be changed: the embeddings of {first_few(lost)} were not kept, because "
                "they were trained, or enrolled by an earlier version: enrol their images."
            )
        for label in self.labels:
            changed.add([label] * len(supports[label]), supports[label])
        return Enrolled(changed, f"{name}:{distance}")

    @cached_property
    def telling(self) -> Head:
        """The head whose distances are used to detect unknown classes."""
        return self.head.telling_unknown()

    def confidence(self, embeddings: np.ndarray) -> np.ndarray:
        """Confidence `[n]` of embeddings `[n, dim]`."""
        return confidence(self.head, self.scale, embeddings, telling=self.telling)

    def calibrated(
        self, known: np.ndarray | None, unknown: np.ndarray | None, false_accept: float
    ) -> Calibration:
        """Calibrates from confidences of known and unknown images; None: from the enrolled ones.

        Raises:
          UserError: if there are too few enrolled images to calibrate with, or the fraction is invalid.
        """
        if not isinstance(false_accept, Real) or not 0 < false_accept < 1:
            raise UserError(f"false_accept is {false_accept!r}; it must be between 0 and 1.")
        share = None if unknown is None else share_of_further(unknown, None, float(false_accept))
        if known is None or unknown is None:
            distances = self.distances
            if self.scale is None:
                raise UserError(
                    "The enrolled images are too few, or too similar, to choose a threshold from: enrol "
                    "more of each class, or give images of known and of unknown classes."
                )
            known = self.scale.confidence(distances.known) if known is None else known
            unknown = self.scale.confidence(distances.unknown) if unknown is None else unknown
            share = share or share_of_further(distances.unknown, distances.classes, float(false_accept))
        assert share is not None
        return calibrated(known, unknown, share)

    def arrays(self, unknown: float | None) -> dict[str, np.ndarray]:
        """What to store of the classes and the threshold."""
        threshold = np.array(np.nan if unknown is None else unknown)
        return {**kept.arrays_of(self.head, self.kind, self.kept_scale), "unknown": threshold}


def enrolled_by(config: ClassifierConfig, params: Params, representatives: int | None) -> Head:
    """The default head for a network, from the method that trained it.

    Args:
      config: config of the network.
      params: parameters of the network and of the method.
      representatives: maximum number per class; None: as in the config.

    Raises:
      UserError: if representatives are requested for another method's network, or the number is negative.
    """
    if config.method != "repmet":
        if representatives is not None:
            raise _no_representatives(config.method)
        if config.method == PRETRAINED:
            return new_head("logistic")
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


def with_representatives(known: Head, method: str) -> Representatives:
    """The head, if the network's method has representatives; raises a UserError otherwise."""
    if not isinstance(known, Representatives):
        raise _no_representatives(method)
    return known


def _no_representatives(method: str) -> UserError:
    return UserError(
        f"This network was trained with {method!r}, whose classes have no representatives: load one that was "
        "trained with 'repmet'."
    )
