"""Calibrates the score threshold of a detector: the one with the largest F1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from fsljax.data.labels import Label
from fsljax.detection.data.structures import Detections
from fsljax.detection.enrolled.classes import Classes
from fsljax.detection.enrolled.comparison import detected, few_numbers
from fsljax.detection.enrolled.photographs import Photograph, overlaps
from fsljax.detection.model.enroll import Enrollment
from fsljax.detection.model.inference import Suppression
from fsljax.detection.model.search import Seen
from fsljax.errors import UserError

_OVERLAP = 0.5  # IoU from which a detection is of an object


class Judged(NamedTuple):
    """Detections of one image: scores `[n]`, which ones are correct, bool `[n]`, and number of objects."""

    scores: np.ndarray
    right: np.ndarray
    objects: int


def judge(
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: Sequence[Label],
    true_boxes: np.ndarray,
    true_labels: Sequence[Label],
) -> Judged:
    """Which detections of an image are right, the best first: of an object's class, and each object once.

    Args:
      boxes, scores, labels: `[n, 4]` and `[n]`, by decreasing score.
      true_boxes, true_labels: those of its objects, `[t, 4]` and `[t]`.
    """
    near = overlaps(np.asarray(boxes).reshape(-1, 4), np.asarray(true_boxes).reshape(-1, 4))
    near *= np.array([[label == true for true in true_labels] for label in labels]).reshape(near.shape)
    right = np.zeros(len(near), bool)
    for row in range(len(near) if len(true_labels) else 0):
        best = int(np.argmax(near[row]))
        if near[row, best] >= _OVERLAP:
            right[row] = True
            near[:, best] = 0
    return Judged(np.asarray(scores), right, len(true_labels))


def judged_with(
    classes: Classes, photographs: Sequence[Photograph], enrollment: Enrollment, suppression: Suppression
) -> list[Judged]:
    """Judges detections in photographs with known objects; objects of other classes do not count."""
    counted = []
    for one in photographs:
        found = _found(classes, one, enrollment, suppression)
        objects = [row for row, label in enumerate(one.labels) if label in classes.representatives]
        counted.append(judge(*found, one.boxes[objects], [one.labels[row] for row in objects]))
    return counted


def judged_without_each(classes: Classes, enrollment: Enrollment, suppression: Suppression) -> list[Judged]:
    """Judges detections in each enrolled photograph, with classes enrolled from the others only.

    If no class has several photographs, each box is searched for with the other boxes of its class.

    Raises:
      UserError: if no class was enrolled from two boxes or more.
    """
    counted = []
    for one in classes.photographs:
        rest = classes.without_photograph(one.number, enrollment)
        if not one.is_view and rest.representatives:
            counted += judged_with(rest, [one], enrollment, suppression)
    if not any(one.objects for one in counted):
        counted = list(_judged_without_each_box(classes, enrollment, suppression))
    if not counted:
        raise UserError(
            "There is nothing to calibrate on: no class was enrolled from two or more boxes. Give other "
            "photographs with all of their boxes: calibrate(images, boxes, labels)."
        )
    return counted


def _judged_without_each_box(
    classes: Classes, enrollment: Enrollment, suppression: Suppression
) -> Iterator[Judged]:
    for one in classes.photographs:
        several = [row for row, label in enumerate(one.labels) if one.labels.count(label) > 1]
        for row in several if not one.is_view else ():
            rest = classes.without_box(one.number, row, enrollment)
            boxes, scores, labels = _found(rest, one, enrollment, suppression)
            near = overlaps(boxes, one.boxes[: len(one.labels)])
            # What lies on other boxes is known by them, and what lies on none is counted once.
            own = near.max(axis=1, initial=0) <= near[:, row]
            if row != several[0]:
                own &= near[:, row] >= _OVERLAP
            kept = np.flatnonzero(own)
            yield judge(
                boxes[kept], scores[kept], [labels[place] for place in kept], one.boxes[[row]],
                [one.labels[row]],
            )  # fmt: skip


def _found(
    classes: Classes, photograph: Photograph, enrollment: Enrollment, suppression: Suppression
) -> tuple[np.ndarray, np.ndarray, list[Label]]:
    """Boxes `[n, 4]`, scores `[n]` and labels of what is detected, best first."""
    names = list(classes.representatives)
    compared = classes.compared(names, enrollment)
    found: Detections = jax.device_get(detected(_proposals(photograph), compared, suppression))
    (of_image,) = found.of_images()
    labels = [names[int(number)] for number in np.asarray(of_image.labels)]
    return np.asarray(of_image.boxes), np.asarray(of_image.scores), labels


def _proposals(photograph: Photograph) -> Seen:
    """Its regions but for the boxes that are given, filled up to few distinct numbers of them."""
    given = len(photograph.labels)
    count = len(photograph.boxes) - given
    places = few_numbers(max(count, 1))

    def filled(column: np.ndarray) -> np.ndarray:
        rest = column[given:]
        return np.pad(rest, [(0, places - count), *[(0, 0)] * (rest.ndim - 1)])[None]

    boxes, refined, objectness, weight, features = photograph.regions
    columns = boxes, refined, np.ones(len(boxes), bool), objectness, weight, features
    return Seen(*map(filled, columns))  # type: ignore[arg-type]


def best_threshold(images: Sequence[Judged]) -> float:
    """The threshold that maximises F1 = 2 · correct / (detections + objects), pooled over classes.

    It is the midpoint between the lowest accepted score and the next lower one.

    Raises:
      UserError: if no detection is correct.
    """
    scores = np.concatenate([np.zeros(0), *(one.scores for one in images)])
    right = np.concatenate([np.zeros(0, bool), *(one.right for one in images)])
    if not right.any():
        raise UserError(
            "None of the objects was detected again at any threshold: give more photographs of each "
            "class to enroll, or check their boxes and labels."
        )
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], right[order]
    objects = sum(one.objects for one in images)
    f1 = 2 * np.cumsum(right) / (1 + np.arange(len(right)) + objects)
    # Detections of one score stand or fall together.
    f1[np.append(scores[1:] == scores[:-1], False)] = -1
    last = int(np.argmax(f1))
    below = scores[last + 1] if last + 1 < len(scores) else 0.0
    return float((scores[last] + below) / 2)
