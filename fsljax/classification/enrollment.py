"""The classes of a classifier at one moment, and which head compares them by default."""

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
    """Classes of one moment: never changed, but replaced as a whole.

    Attributes:
      head: with the classes.
      kind: of the head; see `fsljax.classification.heads.kept.arrays_of`.
      kept_scale: of the confidence, of a head that keeps no embeddings.
    """

    head: Head
    kind: str = ""
    kept_scale: Scale | None = None

    @classmethod
    def read(cls, path: Path, model: Model, dim: int, own: Head) -> tuple[Enrolled, float | None]:
        """The classes of a file, and the threshold that was kept; arguments as of `kept.Kept`."""
        there = kept.Kept(path, model, dim, own)
        return cls(there.head, there.kind, there.scale), there.unknown

    @property
    def labels(self) -> list[Label]:
        return self.head.labels

    @cached_property
    def scale(self) -> Scale | None:
        """Of the confidence; None where too little is known for one."""
        has_all = len(self.labels) > 1 and set(self.head.supports) == set(self.labels)
        return scale_of(self.distances) if has_all else self.kept_scale

    @cached_property
    def distances(self) -> Distances:
        """Of the enrolled embeddings, each left out."""
        return left_out_distances(self.head)

    def check_fine_tuning(self, steps: int, rate: float, method: str) -> None:
        """Raises a UserError for impossible fine-tuning: of a number, or of another method's network."""
        steps_are_none = not isinstance(steps, Integral) or steps < 0
        if steps_are_none or not isinstance(rate, Real) or not 0 <= rate < np.inf:
            raise UserError(
                f"fine_tune_steps is {steps!r} and fine_tune_rate {rate!r}: give a whole "
                "number and a number, 0 or more."
            )
        if steps:
            with_representatives(self.head, method)

    def added(
        self, labels: Sequence[Label], embeddings: np.ndarray, method: str, *, steps: int, rate: float
    ) -> Enrolled:
        """With further embeddings `[n, dim]`, and steps of fine-tuning where they are asked for."""
        head = self.head.copy()
        head.add(spelled_as(labels, head.labels), embeddings)
        if steps:
            with_representatives(head, method).fine_tune(steps, rate)
        return replace(self, head=head)

    def without(self, label: Label) -> Enrolled:
        """Without a class.

        Raises:
          UserError: if it is not enrolled.
        """
        known = self.labels
        if label not in known:
            (label,) = spelled_as([label], known)
        if label not in known:
            raise UserError(f"{label!r} is not enrolled; enrolled are {known}.")
        head = self.head.copy()
        head.forget(label)
        return replace(self, head=head)

    def compared_by(self, name: str, distance: str) -> Enrolled:
        """By another head.

        Raises:
          UserError: if there is no such head, or the embeddings of a class were not kept.
        """
        changed = new_head(name, distance=distance)
        supports = self.head.supports
        if lost := [str(label) for label in self.labels if label not in supports]:
            raise UserError(
                f"The head cannot be changed: the embeddings of {first_few(lost)} were not kept, for they "
                "were trained, or enrolled by an earlier version. Enrol their images."
            )
        for label in self.labels:
            changed.add([label] * len(supports[label]), supports[label])
        return Enrolled(changed, f"{name}:{distance}")

    @cached_property
    def telling(self) -> Head:
        """By whose distances the unknown is told."""
        return self.head.telling_unknown()

    def confidence(self, embeddings: np.ndarray) -> np.ndarray:
        """How sure it is of each of embeddings `[n, dim]`, `[n]`."""
        return confidence(self.head, self.scale, embeddings, telling=self.telling)

    def calibrated(
        self, known: np.ndarray | None, unknown: np.ndarray | None, false_accept: float
    ) -> Calibration:
        """A threshold by confidences of images of the classes, and of none; None: of the enrolled ones.

        Raises:
          UserError: if there are too few enrolled ones to choose it by, or the share is none.
        """
        if not isinstance(false_accept, Real) or not 0 < false_accept < 1:
            raise UserError(f"false_accept is {false_accept!r}; it must be between 0 and 1.")
        share = None if unknown is None else share_of_further(unknown, None, float(false_accept))
        if known is None or unknown is None:
            distances = self.distances
            if self.scale is None:
                raise UserError(
                    "The enrolled images are too few, or too much alike, to choose a threshold by: enrol "
                    "more of each class, or give images of known and of unknown classes."
                )
            known = self.scale.confidence(distances.known) if known is None else known
            unknown = self.scale.confidence(distances.unknown) if unknown is None else unknown
            share = share or share_of_further(distances.unknown, distances.classes, float(false_accept))
        assert share is not None
        return calibrated(known, unknown, share)

    def arrays(self, unknown: float | None) -> dict[str, np.ndarray]:
        """What is to be kept of them, and of the threshold."""
        threshold = np.array(np.nan if unknown is None else unknown)
        return {**kept.arrays_of(self.head, self.kind, self.kept_scale), "unknown": threshold}


def enrolled_by(config: ClassifierConfig, params: Params, representatives: int | None) -> Head:
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
    """The classes, or a UserError: the method that trained the network gives them no representatives."""
    if not isinstance(known, Representatives):
        raise _no_representatives(method)
    return known


def _no_representatives(method: str) -> UserError:
    return UserError(
        f"This network was trained by {method!r}, whose classes have no representatives: load "
        "one that was trained by 'repmet'."
    )
