"""Average precision of detections, as PASCAL VOC and COCO define it, by class or pooled over classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fsljax.errors import UserError

COCO_IOUS = np.linspace(0.5, 0.95, 10)
COCO_RECALLS = np.linspace(0.0, 1.0, 101)
COCO_DETECTIONS = 100  # of a class in an image
WRONG, RIGHT, IGNORED = 0, 1, -1


class ImageDetections(NamedTuple):
    """What was found in an image: boxes `[n, 4]`, scores `[n]`, labels int `[n]`, in any order."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


class ImageTruths(NamedTuple):
    """What there is in an image.

    Attributes:
      boxes: `[t, 4]`.
      labels: int `[t]`.
      difficult: bool `[t]`, None for none: neither to be found nor wrong when it is.
      crowd: bool `[t]`, None for none: boxes around many; any detections that lie within are ignored.
    """

    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray | None = None
    crowd: np.ndarray | None = None


class Judged(NamedTuple):
    """Detections of many images, best first, equal ones in the order of images; without those ignored.

    Attributes:
      scores: `[n]`.
      labels: int `[n]`.
      right: bool `[n]`.
      positives: int `[classes]`, how many there were to be found.
    """

    scores: np.ndarray
    labels: np.ndarray
    right: np.ndarray
    positives: np.ndarray


class Coco(NamedTuple):
    """Result of `coco_average_precision`.

    Attributes:
      ap: mean over classes and the IoUs 0.50, 0.55, … 0.95.
      ap50: at IoU 0.50.
      ap75: at IoU 0.75.
      of_classes: `[classes]`, mean over IoUs; NaN for a class without truths.
    """

    ap: float
    ap50: float
    ap75: float
    of_classes: np.ndarray


def judge(
    detections: Sequence[ImageDetections],
    truths: Sequence[ImageTruths],
    *,
    num_classes: int,
    iou_threshold: float = 0.5,
    rule: str = "voc",
    most: int | None = None,
) -> Judged:
    """Tells right detections from wrong ones, best first.

    `voc` (Everingham et al., 2010, section 4.2): a detection is right if the truth of its class with which it
    overlaps most does so by `iou_threshold` or more and was not found by a better detection before. `coco`
    (Lin et al., 2014, and its evaluation code): it takes the best truth that is still free, and a difficult
    one or a crowd only where no other is. Under both, detections that take a difficult truth or a crowd are
    ignored; overlap with a crowd is the part of the detection that lies within it.

    Args:
      detections: one of each image.
      truths: of the same images.
      num_classes: labels are below it.
      iou_threshold: least overlap.
      rule: `voc` or `coco`.
      most: detections of a class in an image that count, the best ones; all where it is None.

    Returns:
      `Judged`.

    Raises:
      ValueError: if there are not as many of both, the rule is another, or a label is out of range.
      UserError: if a score is not a finite number.
    """
    return _judge_at(detections, truths, num_classes, np.array([iou_threshold]), rule, most)[0]


def precision_recall(judged: Judged, label: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Precision `[n]` and recall `[n]` after each detection, best first.

    Args:
      judged: as `judge` or `pool` gives it.
      label: of which class; None for all detections ranked together.
    """
    right, positives = judged.right, int(judged.positives.sum())
    if label is not None:
        right, positives = right[judged.labels == label], int(judged.positives[label])
    found = np.cumsum(right)
    return found / np.arange(1, len(right) + 1), found / max(positives, 1)


def average_precision(judged: Judged, label: int | None = None, *, interpolation: str = "all") -> float:
    """Area under the precision–recall curve, where precision counts as the best at this recall or beyond.

    Args:
      judged: as `judge` or `pool` gives it.
      label: of which class; None for all detections ranked together, the pooled figure of Karlinsky et al.
        (2019).
      interpolation: `all` points (VOC 2010 on), `11` recalls 0, 0.1, … 1 (VOC 2007), or `101` (COCO).

    Returns:
      In [0, 1]; NaN where there was nothing to be found.
    """
    positives = judged.positives.sum() if label is None else judged.positives[label]
    return _area(*precision_recall(judged, label), interpolation) if positives else float("nan")


def class_average_precisions(judged: Judged, *, interpolation: str = "all") -> np.ndarray:
    """`[classes]`: the average precision of each, NaN for a class without truths. `np.nanmean` is the mAP."""
    return np.array(
        [
            average_precision(judged, label, interpolation=interpolation)
            for label in range(len(judged.positives))
        ]
    )


def coco_average_precision(
    detections: Sequence[ImageDetections], truths: Sequence[ImageTruths], *, num_classes: int
) -> Coco:
    """COCO's figures over all sizes of box, at most 100 detections of a class in an image.

    Args:
      detections: one of each image.
      truths: of the same images.
      num_classes: labels are below it.

    Returns:
      `Coco`; NaN where no class has a truth.

    Raises:
      ValueError, UserError: as `judge`.
    """
    judged = _judge_at(detections, truths, num_classes, COCO_IOUS, "coco", COCO_DETECTIONS)
    precisions = np.stack([class_average_precisions(of, interpolation="101") for of in judged])
    found = precisions[:, judged[0].positives > 0]
    if found.size == 0:
        return Coco(float("nan"), float("nan"), float("nan"), precisions[0])
    return Coco(float(found.mean()), float(found[0].mean()), float(found[5].mean()), precisions.mean(axis=0))


def pool(parts: Sequence[Judged]) -> Judged:
    """Ranks the detections of all parts together, as if of one set of images with the classes of all.

    Args:
      parts: of the same number of classes, one for each episode.
    """
    scores, labels, right = (np.concatenate(of) for of in list(zip(*parts, strict=True))[:3])
    order = np.argsort(-scores, kind="stable")
    return Judged(scores[order], labels[order], right[order], np.sum([of.positives for of in parts], axis=0))


def resampled_average_precisions(
    parts: Sequence[Judged], times: np.ndarray, *, interpolation: str = "all"
) -> np.ndarray:
    """Pooled average precisions of samples of the parts, for a bootstrap.

    Args:
      parts: one for each episode.
      times: int `[samples, parts]`, how often each part is in each sample.
      interpolation: as in `average_precision`.

    Returns:
      `[samples]`.
    """
    order = np.argsort(-np.concatenate([of.scores for of in parts]), kind="stable")
    right = np.concatenate([of.right for of in parts])[order]
    part = np.repeat(np.arange(len(parts)), [len(of.scores) for of in parts])[order]
    positives = times @ np.array([of.positives.sum() for of in parts])
    # Precision is best where a detection is right: the curve between has no say, and is most of it.
    at = np.flatnonzero(right)
    figures = np.full(len(times), np.nan)
    for sample in np.flatnonzero(positives):
        seen = np.cumsum(times[sample][part])[at]
        found = np.cumsum(times[sample][part[at]])
        figures[sample] = _area(found / np.maximum(seen, 1), found / positives[sample], interpolation)
    return figures


def _area(precision: np.ndarray, recall: np.ndarray, interpolation: str) -> float:
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    if interpolation == "all":
        return float(np.sum(np.diff(recall, prepend=0.0) * best[:-1]))
    points = {"11": np.arange(11) / 10, "101": COCO_RECALLS}.get(interpolation)
    if points is None:
        raise ValueError(f"The interpolation is {interpolation!r}; it must be 'all', '11' or '101'.")
    return float(np.mean(best[np.searchsorted(recall, points, side="left")]))


def _judge_at(
    detections: Sequence[ImageDetections],
    truths: Sequence[ImageTruths],
    num_classes: int,
    thresholds: np.ndarray,
    rule: str,
    most: int | None,
) -> list[Judged]:
    if rule not in ("voc", "coco"):
        raise ValueError(f"The rule is {rule!r}; it must be 'voc' or 'coco'.")
    if len(detections) != len(truths):
        raise ValueError(
            f"{len(detections)} images have detections and {len(truths)} truths; they are the same."
        )
    positives = np.zeros(num_classes, np.int64)
    scores, labels, verdicts = [np.zeros(0)], [np.zeros(0, int)], [np.zeros((len(thresholds), 0), int)]
    for image, (found, there) in enumerate(zip(detections, truths, strict=True)):
        there_labels = np.asarray(there.labels, int)
        order = np.argsort(-np.asarray(found.scores), kind="stable")
        order = order[_among_best(np.asarray(found.labels, int)[order], most)]
        found = ImageDetections(*(np.asarray(of)[order] for of in found))
        if not np.isfinite(found.scores).all():
            raise UserError(f"Scores of image {image} are not finite numbers: the training has diverged.")
        for of in (there_labels, found.labels):
            if len(of) and not 0 <= of.min() <= of.max() < num_classes:
                raise ValueError(f"Labels of image {image} are not from 0 to {num_classes - 1}.")
        crowd, difficult = (
            np.zeros(len(there_labels), bool) if of is None else np.asarray(of, bool)
            for of in (there.crowd, there.difficult)
        )
        overlap = _overlaps(found.boxes, there.boxes, crowd)
        overlap[found.labels[:, None] != there_labels] = -1
        ignored = crowd | difficult
        positives += np.bincount(there_labels[~ignored], minlength=num_classes)
        verdicts.append(np.stack([_verdicts(overlap, ignored, crowd, at, rule) for at in thresholds]))
        scores.append(found.scores)
        labels.append(found.labels)
    everything = np.concatenate(scores), np.concatenate(labels)
    order = np.argsort(-everything[0], kind="stable")
    judged = []
    for of in np.concatenate(verdicts, axis=1):
        kept = order[of[order] != IGNORED]
        judged.append(Judged(everything[0][kept], everything[1][kept], of[kept] == RIGHT, positives))
    return judged


def _among_best(labels: np.ndarray, most: int | None) -> np.ndarray:
    """Bool `[n]`: whether fewer than `most` of the same label come before."""
    if most is None or len(labels) <= most:
        return np.ones(len(labels), bool)
    order = np.argsort(labels, kind="stable")
    in_order = labels[order]
    before = np.arange(len(labels)) - np.searchsorted(in_order, in_order)
    return (before < most)[np.argsort(order)]


def _overlaps(boxes: np.ndarray, truths: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """`[n, t]` in float64: intersection over union, or over the detection's own area for crowds."""
    a = np.asarray(boxes, np.float64).reshape(-1, 4)
    b = np.asarray(truths, np.float64).reshape(-1, 4)
    sides = np.minimum(a[:, None, 2:], b[:, 2:]) - np.maximum(a[:, None, :2], b[:, :2])
    shared = _product(np.maximum(sides, 0))
    areas, truth_areas = (_product(np.maximum(of[:, 2:] - of[:, :2], 0)) for of in (a, b))
    whole = np.where(crowd, areas[:, None], areas[:, None] + truth_areas - shared)
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
