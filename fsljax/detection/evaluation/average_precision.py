"""Average precision of judged detections as in PASCAL VOC and COCO, per class or over all classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fsljax.detection.data.structures import Detections, GroundTruth
from fsljax.detection.evaluation.judging import Judged, judge_at

COCO_IOUS = np.linspace(0.5, 0.95, 10)
COCO_RECALLS = np.linspace(0.0, 1.0, 101)
COCO_DETECTIONS = 100  # of a class in an image


class Coco(NamedTuple):
    """Result of `coco_average_precision`.

    Attributes:
      ap: mean over classes and IoU thresholds 0.50, 0.55, … 0.95.
      ap50: at IoU 0.50.
      ap75: at IoU 0.75.
      of_classes: `[classes]`, mean over IoU thresholds; NaN for a class without objects.
    """

    ap: float
    ap50: float
    ap75: float
    of_classes: np.ndarray


def precision_recall(judged: Judged, label: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Precision `[n]` and recall `[n]` after each detection, by decreasing score.

    Args:
      judged: as `judge` gives it.
      label: the class; None: all detections ranked together.
    """
    right, positives = judged.right, int(judged.positives.sum())
    if label is not None:
        right, positives = right[judged.labels == label], int(judged.positives[label])
    hits = np.cumsum(right)
    return hits / np.arange(1, len(right) + 1), hits / max(positives, 1)


def average_precision(judged: Judged, label: int | None = None, *, interpolation: str = "all") -> float:
    """Area under the precision–recall curve, with precision interpolated as the maximum at higher recall.

    Args:
      judged: as `judge` gives it.
      label: the class; None: all detections ranked together. Karlinsky et al. (2019) pool detections in this
        way, but their published code ignores further detections of an object that is already found: see
        `fsljax.detection.evaluation.authors_counter`.
      interpolation: `all` points (from VOC 2010), `11` recalls 0, 0.1, … 1 (VOC 2007), or `101` (COCO).

    Returns:
      A value in [0, 1]; NaN if there are no objects.
    """
    positives = judged.positives.sum() if label is None else judged.positives[label]
    return _area(*precision_recall(judged, label), interpolation) if positives else float("nan")


def class_average_precisions(judged: Judged, *, interpolation: str = "all") -> np.ndarray:
    """Average precision per class, `[classes]`; NaN for a class without objects. `np.nanmean` is the mAP."""
    return np.array(
        [
            average_precision(judged, label, interpolation=interpolation)
            for label in range(len(judged.positives))
        ]
    )


def coco_average_precision(
    detections: Sequence[Detections], ground_truth: Sequence[GroundTruth], *, num_classes: int
) -> Coco:
    """COCO's average precision over all box sizes, with at most 100 detections per class and image.

    Args:
      detections: detections of each image, without padding.
      ground_truth: ground truth of the same images, without padding.
      num_classes: labels are below it.

    Returns:
      `Coco`; NaN if no class has an object.

    Raises:
      ValueError, UserError: as in `judge`.
    """
    judged = judge_at(detections, ground_truth, num_classes, COCO_IOUS, "coco", COCO_DETECTIONS)
    precisions = np.stack([class_average_precisions(at_iou, interpolation="101") for at_iou in judged])
    present = precisions[:, judged[0].positives > 0]
    if present.size == 0:
        return Coco(float("nan"), float("nan"), float("nan"), precisions[0])
    return Coco(
        float(present.mean()), float(present[0].mean()), float(present[5].mean()), precisions.mean(axis=0)
    )


def _area(precision: np.ndarray, recall: np.ndarray, interpolation: str) -> float:
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    if interpolation == "all":
        return float(np.sum(np.diff(recall, prepend=0.0) * best[:-1]))
    points = {"11": np.arange(11) / 10, "101": COCO_RECALLS}.get(interpolation)
    if points is None:
        raise ValueError(f"The interpolation is {interpolation!r}; it must be 'all', '11' or '101'.")
    return float(np.mean(best[np.searchsorted(recall, points, side="left")]))
