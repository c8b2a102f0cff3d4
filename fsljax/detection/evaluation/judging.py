"""Judges which detections are correct, by the rules of PASCAL VOC and COCO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fsljax.detection.data.structures import Detections, GroundTruth
from fsljax.errors import UserError

WRONG, RIGHT, IGNORED = 0, 1, -1


class Judged(NamedTuple):
    """Detections of many images by decreasing score, ties in image order, without ignored ones.

    Attributes:
      scores: `[n]`.
      labels: int `[n]`.
      right: bool `[n]`.
      positives: int `[classes]`, number of objects to be found.
    """

    scores: np.ndarray
    labels: np.ndarray
    right: np.ndarray
    positives: np.ndarray


def judge(
    detections: Sequence[Detections],
    ground_truth: Sequence[GroundTruth],
    *,
    num_classes: int,
    iou_threshold: float = 0.5,
    rule: str = "voc",
    most: int | None = None,
) -> Judged:
    """Distinguishes correct from wrong detections, by decreasing score.

    `voc` (Everingham et al., 2010, section 4.2): a detection is correct if the IoU with the ground-truth box
    of its class that it overlaps most is at least `iou_threshold`, and no higher-scoring detection has found
    that box. `coco` (Lin et al., 2014, and its evaluation code): it matches the best box that is not matched
    yet, and a difficult object or a crowd only if there is no other. In both, detections matched to a
    difficult object or a crowd are ignored; overlap with a crowd is the fraction of the detection within it.

    Args:
      detections: detections of each image, without padding.
      ground_truth: ground truth of the same images, without padding.
      num_classes: labels are below it.
      iou_threshold: minimum IoU.
      rule: `voc` or `coco`.
      most: number of highest-scoring detections per class and image that count; None: all.

    Returns:
      `Judged`.

    Raises:
      ValueError: if their numbers differ, there is no such rule, or a label is out of range.
      UserError: if a score is not finite.
    """
    return judge_at(detections, ground_truth, num_classes, np.array([iou_threshold]), rule, most)[0]


def judge_at(
    detections: Sequence[Detections],
    ground_truth: Sequence[GroundTruth],
    num_classes: int,
    thresholds: np.ndarray,
    rule: str,
    most: int | None,
) -> list[Judged]:
    """`judge` at each of several IoU thresholds."""
    if rule not in ("voc", "coco"):
        raise ValueError(f"The rule is {rule!r}; it must be 'voc' or 'coco'.")
    if len(detections) != len(ground_truth):
        raise ValueError(
            f"{len(detections)} images have detections and {len(ground_truth)} ground truth; they must be "
            "the same images."
        )
    positives = np.zeros(num_classes, np.int64)
    scores, labels, verdicts = [np.zeros(0)], [np.zeros(0, int)], [np.zeros((len(thresholds), 0), int)]
    for image, (detected, there) in enumerate(zip(detections, ground_truth, strict=True)):
        true_labels = np.asarray(there.labels, int)
        order = np.argsort(-np.asarray(detected.scores), kind="stable")
        order = order[_among_best(np.asarray(detected.labels, int)[order], most)]
        boxes, of_scores, of_labels = (np.asarray(part)[order] for part in detected[:3])
        if not np.isfinite(of_scores).all():
            raise UserError(f"Scores of image {image} are not finite numbers: the training has diverged.")
        for numbers in (true_labels, of_labels):
            if len(numbers) and not 0 <= numbers.min() <= numbers.max() < num_classes:
                raise ValueError(f"Labels of image {image} are not from 0 to {num_classes - 1}.")
        overlap, ignored, crowd = _of_image(boxes, of_labels, there)
        positives += np.bincount(true_labels[~ignored], minlength=num_classes)
        verdicts.append(np.stack([_verdicts(overlap, ignored, crowd, at, rule) for at in thresholds]))
        scores.append(of_scores)
        labels.append(of_labels)
    all_scores, all_labels = np.concatenate(scores), np.concatenate(labels)
    order = np.argsort(-all_scores, kind="stable")
    judged = []
    for at_threshold in np.concatenate(verdicts, axis=1):
        kept = order[at_threshold[order] != IGNORED]
        judged.append(Judged(all_scores[kept], all_labels[kept], at_threshold[kept] == RIGHT, positives))
    return judged


def verdicts_of_image(
    detections: Detections, ground_truth: GroundTruth, *, iou_threshold: float = 0.5
) -> np.ndarray:
    """RIGHT, WRONG or IGNORED by VOC's rule for each detection of an image, int `[n]`.

    Args:
      detections: by decreasing score, without padding.
      ground_truth: the objects, without padding.
      iou_threshold: minimum IoU.
    """
    overlap, ignored, crowd = _of_image(
        np.asarray(detections.boxes), np.asarray(detections.labels, int), ground_truth
    )
    return _verdicts(overlap, ignored, crowd, iou_threshold, "voc")


def _of_image(
    boxes: np.ndarray, labels: np.ndarray, there: GroundTruth
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Overlap `[n, t]` where classes agree, else −1; bool `[t]`: what is ignored; what is a crowd."""
    true_labels = np.asarray(there.labels, int)
    crowd, difficult = (
        np.zeros(len(true_labels), bool) if part is None else np.asarray(part, bool)
        for part in (there.crowd, there.difficult)
    )
    overlap = _overlaps(boxes, np.asarray(there.boxes), crowd)
    overlap[labels[:, None] != true_labels] = -1
    return overlap, crowd | difficult, crowd


def _among_best(labels: np.ndarray, most: int | None) -> np.ndarray:
    """Bool `[n]`: whether fewer than `most` of the same label come before."""
    if most is None or len(labels) <= most:
        return np.ones(len(labels), bool)
    order = np.argsort(labels, kind="stable")
    in_order = labels[order]
    before = np.arange(len(labels)) - np.searchsorted(in_order, in_order)
    return (before < most)[np.argsort(order)]


def _overlaps(boxes: np.ndarray, true_boxes: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """`[n, t]` in float64: intersection over union, or over the detection's own area for crowds."""
    a = np.asarray(boxes, np.float64).reshape(-1, 4)
    b = np.asarray(true_boxes, np.float64).reshape(-1, 4)
    sides = np.minimum(a[:, None, 2:], b[:, 2:]) - np.maximum(a[:, None, :2], b[:, :2])
    shared = _product(np.maximum(sides, 0))
    areas, true_areas = (_product(np.maximum(part[:, 2:] - part[:, :2], 0)) for part in (a, b))
    whole = np.where(crowd, areas[:, None], areas[:, None] + true_areas - shared)
    return np.where(shared > 0, shared / np.where(shared > 0, whole, 1), 0.0)


def _product(sides: np.ndarray) -> np.ndarray:
    return sides[..., 0] * sides[..., 1]


def _verdicts(
    overlap: np.ndarray, ignored: np.ndarray, crowd: np.ndarray, threshold: float, rule: str
) -> np.ndarray:
    """int `[n]` for detections best first: RIGHT, WRONG or IGNORED."""
    verdicts = np.full(len(overlap), WRONG)
    free = np.ones(len(ignored), bool)
    for index in np.flatnonzero((overlap >= threshold).any(axis=1)):
        near = overlap[index] >= threshold
        if rule == "coco":
            near &= free | crowd
            near = near & ~ignored if (near & ~ignored).any() else near
        elif (near & ~crowd).any():
            near &= ~crowd
        if not near.any():
            continue
        row = np.where(near, overlap[index], -1.0)
        best = len(row) - 1 - int(np.argmax(row[::-1])) if rule == "coco" else int(np.argmax(row))
        if ignored[best]:
            verdicts[index] = IGNORED
        elif free[best]:
            verdicts[index] = RIGHT
        free[best] = False
    return verdicts
