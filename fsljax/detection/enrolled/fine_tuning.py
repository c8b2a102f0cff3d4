"""Enrolled classes go on learning from the regions of their photographs, as in few-shot episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.data.labels import Label
from fsljax.detection.enrolled.comparison import padded
from fsljax.detection.enrolled.photographs import Photograph, overlaps, squared_distances
from fsljax.detection.model.enroll import Enrollment, SupportRegions, fine_tuned, representative_loss
from fsljax.detection.model.roi_head import BACKGROUND
from fsljax.distances import normalize


def learned_further(
    representatives: Mapping[Label, np.ndarray],
    photographs: Sequence[Photograph],
    enrollment: Enrollment,
    epochs: int,
) -> dict[Label, np.ndarray]:
    """Representatives after fine-tuning; the network stays as it is.

    A step is taken for each box, in turns of the classes, with the losses that
    `fsljax.detection.model.enroll.scores_by_representatives` has, and one for each background photograph,
    whose regions are background where they are most like a class that it lacks.

    Args:
      representatives: `[k of the class, dim]` of each class, to begin with.
      photographs: that boxes were given in, and background.
      enrollment: of the classes.
      epochs: of fine-tuning.
    """
    labels = list(representatives)
    by_class: dict[Label, list[SupportRegions]] = {label: [] for label in labels}
    background = []
    for photograph in photographs:
        for row, label in enumerate(photograph.labels):
            by_class[label].append(_of_box(photograph, row, labels.index(label), enrollment))
        if photograph.lacks and not photograph.labels:
            background.append(_of_background(photograph, representatives, enrollment))
    turns = max(map(len, by_class.values()))
    ordered = [
        of_class[turn] for turn in range(turns) for of_class in by_class.values() if turn < len(of_class)
    ]
    most = max(len(one.labels) for one in [*ordered, *background])
    regions = jax.tree.map(
        lambda *parts: np.stack([_filled(part, most) for part in parts]), *ordered, *background
    )
    start, there = padded(list(representatives.values()), len(representatives))
    learned = np.asarray(_learned(start, there, regions, enrollment, epochs))
    return {label: learned[place][there[place]] for place, label in enumerate(labels)}


def _of_box(photograph: Photograph, row: int, number: int, enrollment: Enrollment) -> SupportRegions:
    """The regions that a box says something of; those about other boxes of the photograph are left out."""
    options, given = enrollment.options, len(photograph.labels)
    near = photograph.overlaps(row)
    nearest_given = overlaps(photograph.boxes, photograph.boxes[:given]).max(axis=1)
    positive = near >= options.high
    negative = (nearest_given < options.low) & (photograph.regions.objectness < options.object)
    weights = positive * (options.positive_fraction / max(int(positive.sum()), 1))
    weights = weights + negative * ((1 - options.positive_fraction) / max(int(negative.sum()), 1))
    labels = np.where(positive, 1 + number, BACKGROUND).astype(np.int32)
    return SupportRegions(photograph.features, labels, weights.astype(np.float32))  # type: ignore[arg-type]


def _of_background(
    photograph: Photograph, representatives: Mapping[Label, np.ndarray], enrollment: Enrollment
) -> SupportRegions:
    far = [squared_distances(photograph.features, of).min(axis=1) for of in representatives.values()]
    lacked = np.isin(np.arange(len(far)), [place for place, label in enumerate(representatives)
                                           if label in photograph.lacks])  # fmt: skip
    counts = lacked[np.argmin(far, axis=0)]
    weights = counts * ((1 - enrollment.options.positive_fraction) / max(int(counts.sum()), 1))
    labels = np.full(len(counts), BACKGROUND, np.int32)
    return SupportRegions(photograph.features, labels, weights.astype(np.float32))  # type: ignore[arg-type]


def _filled(part: np.ndarray, most: int) -> np.ndarray:
    return np.pad(part, [(0, most - len(part)), *[(0, 0)] * (part.ndim - 1)])


@partial(jax.jit, static_argnums=(3, 4))
def _learned(
    start: np.ndarray, there: np.ndarray, regions: SupportRegions, enrollment: Enrollment, epochs: int
) -> jax.Array:
    def finished(x: jax.Array) -> jax.Array:
        return normalize(x) if enrollment.normalize else x

    def loss_of(representatives: jax.Array, regions: SupportRegions) -> jax.Array:
        return representative_loss(regions.features, finished(representatives), regions, enrollment, there)

    return finished(fine_tuned(jnp.asarray(start), loss_of, regions, enrollment.options, epochs))
