"""Average precision of judged detections, as PASCAL VOC and COCO define it, by class or over all classes."""

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
      ap: mean over classes and the IoUs 0.50, 0.55, … 0.95.
      ap50: at IoU 0.50.
      ap75: at IoU 0.75.
      of_classes: `[classes]`, mean over IoUs; NaN for a class without objects.
    """

    ap: float
    ap50: float
    ap75: float
    of_classes: np.ndarray


def precision_recall(judged: Judged, label: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Precision `[n]` and recall `[n]` after each detection, best first.

    Args:
      judged: as `judge` gives it.
      label: of which class; None for all detections ranked together.
    """
    right, positives = judged.right, int(judged.positives.sum())
    if label is not None:
        right, positives = right[judged.labels == label], int(judged.positives[label])
    hits = np.cumsum(right)
    return hits / np.arange(1, len(right) + 1), hits / max(positives, 1)


def average_precision(judged: Judged, label: int | None = None, *, interpolation: str = "all") -> float:
    """Area under the precision–recall curve, where precision counts as the best at this recall or beyond.

    Args:
      judged: as `judge` gives it.
      label: of which class; None for all detections ranked together. Karlinsky et al. (2019) pool them so,
        but their published code ignores further detections of an object that is found already:
        `fsljax.detection.evaluation.authors_counter` gives that figure.
      interpolation: `all` points (VOC 2010 on), `11` recalls 0, 0.1, … 1 (VOC 2007), or `101` (COCO).

    Returns:
      In [0, 1]; NaN where there was nothing to be found.
    """
    positives = judged.positives.sum() if label is None else judged.positives[label]
    return _area(*precision_recall(judged, label), interpolation) if positives else float("nan")


def class_average_precisions(judged: Judged, *, interpolation: str = "all") -> np.ndarray:
    """`[classes]`: the average precision of each, NaN for one without objects. `np.nanmean` is the mAP."""
    return np.array(
        [
            average_precision(judged, label, interpolation=interpolation)
            for label in range(len(judged.positives))
        ]
    )


def coco_average_precision(
    detections: Sequence[Detections], ground_truth: Sequence[GroundTruth], *, num_classes: int
) -> Coco:
    """COCO's figures over all sizes of box, at most 100 detections of a class in an image.

    Args:
      detections: of each image, without padding.
      ground_truth: of the same images, without padding.
      num_classes: labels are below it.

    Returns:
      `Coco`; NaN where no class has an object.

    Raises:
      ValueError, UserError: as `judge`.
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
