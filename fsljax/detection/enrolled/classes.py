"""The classes that a detector knows at one moment, and the photographs they are from; never changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fsljax.data.labels import Label, spelled_as
from fsljax.detection.enrolled.comparison import Comparison, comparison_of
from fsljax.detection.enrolled.fine_tuning import learned_further
from fsljax.detection.enrolled.photographs import (
    Photograph,
    clustered,
    negatives_of,
    renumbered,
    representatives_of,
)
from fsljax.detection.model.enroll import Enrollment
from fsljax.errors import UserError


@dataclass(frozen=True, eq=False)
class Classes:
    """What is known.

    Attributes:
      representatives: `[k, dim]` of each class, in the order of their first enrolment.
      negatives: `[n, dim]` of classes that background photographs compete with.
      photographs: that boxes were given in, with their views, and background.
      clusters: representatives of a class at most; 0: all.
      epochs: of the fine-tuning that these representatives are from; 0: of none.
      threshold: of detections, as calibrated; None: it is not.
    """

    representatives: Mapping[Label, np.ndarray] = field(default_factory=dict)
    negatives: Mapping[Label, np.ndarray] = field(default_factory=dict)
    photographs: tuple[Photograph, ...] = ()
    clusters: int = 0
    epochs: int = 0
    threshold: float | None = None

    def with_photographs(
        self, given: Sequence[Photograph], enrollment: Enrollment, *, clusters: int = 0, epochs: int = 0
    ) -> Classes:
        """The classes with the boxes of further photographs.

        Args:
          given: numbered from 0.
          enrollment: how they are enrolled.
          clusters: representatives of a class at most; 0: all.
          epochs: of fine-tuning, by all photographs, of all classes.

        Raises:
          UserError: if a class that is to be fine-tuned has no photographs.
        """
        new = _spelled(given, self.representatives)
        first = 1 + max((one.number for one in self.photographs), default=-1)
        photographs = (*self.photographs, *renumbered(new, first))
        found, known = representatives_of(new, enrollment.options), dict(self.representatives)
        for label, of_class in found.items():
            known[label] = np.concatenate([known[label], of_class]) if label in known else of_class
        whole = representatives_of(photographs, enrollment.options)
        for label in found if clusters else ():
            # Means of clusters are not clustered again, where it is known what they are means of.
            before = label in self.representatives and not _is_kept(label, self.photographs)
            given_all = known[label] if before else whole[label]
            known[label] = clustered(given_all, clusters, normalize=enrollment.normalize)
        if not epochs:
            of_background = negatives_of(photographs, known)
            negatives = {**self.negatives, **{label: of_background[label] for label in found
                                              if label in of_background}}  # fmt: skip
            return Classes(known, negatives, photographs, clusters, self.epochs, self.threshold)
        if forgotten := [label for label in known if label not in whole]:
            raise UserError(
                f"The photographs of the class {forgotten[0]!r} are not stored, because an earlier version "
                "saved it: forget it and enrol it again, or leave fine_tune_epochs at 0."
            )
        start = {label: clustered(whole[label], clusters, normalize=enrollment.normalize) for label in known}
        learned = learned_further(start, photographs, enrollment, epochs)
        return Classes(learned, {}, photographs, clusters, epochs, self.threshold)

    def without_photograph(self, number: int, enrollment: Enrollment) -> Classes:
        """The same classes as if a photograph had not been given; those of it alone are gone."""
        rest = [one for one in self.photographs if one.number != number]
        if not any(one.labels for one in rest):
            return Classes()
        return Classes().with_photographs(rest, enrollment, clusters=self.clusters, epochs=self.epochs)

    def without_box(self, number: int, row: int, enrollment: Enrollment) -> Classes:
        """The same classes as if one of the boxes of a photograph had not been given."""
        rest = [one.without_box(row) if one.number == number else one for one in self.photographs]
        return Classes().with_photographs(rest, enrollment, clusters=self.clusters, epochs=self.epochs)

    def without(self, label: Label) -> Classes:
        """The classes without one of them."""
        representatives, negatives = dict(self.representatives), dict(self.negatives)
        del representatives[label]
        negatives.pop(label, None)
        photographs = (one.without(label) for one in self.photographs)
        kept = tuple(one for one in photographs if one.labels or one.lacks)
        return replace(self, representatives=representatives, negatives=negatives, photographs=kept)

    def compared(self, labels: Sequence[Label], enrollment: Enrollment) -> Comparison:
        """What regions are compared with to find some of the classes, which alone compete."""
        representatives = [self.representatives[label] for label in labels]
        nothing = np.zeros((0, representatives[0].shape[1]), np.float32)
        negatives = [self.negatives.get(label, nothing) for label in labels]
        return comparison_of(representatives, negatives, enrollment.sigma, enrollment.scale)


def _is_kept(label: Label, photographs: Sequence[Photograph]) -> bool:
    return any(label in one.labels for one in photographs)


def _spelled(photographs: Sequence[Photograph], known: Mapping[Label, np.ndarray]) -> list[Photograph]:
    """The photographs with their labels as they are known, or came first."""
    labels = [label for one in photographs for label in (*one.labels, *one.lacks)]
    spelling = dict(zip(labels, spelled_as(labels, known), strict=True))
    return [
        replace(
            one,
            labels=tuple(spelling[label] for label in one.labels),
            lacks=tuple(dict.fromkeys(spelling[label] for label in one.lacks)),
        )
        for one in photographs
    ]
