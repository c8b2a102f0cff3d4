"""Sections of the report of a detector, made from plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fsljax.detection.data.structures import Detections, GroundTruth, ground_truth_of_image
from fsljax.detection.evaluation.average_precision import average_precision, precision_recall
from fsljax.detection.evaluation.judging import IGNORED, RIGHT, Judged, judge, verdicts_of_image
from fsljax.reporting.pictures import data_uri
from fsljax.reporting.sections import Section, render

_SIDE = 256
_MOST = 20  # boxes of a picture
_POINTS = 200


@dataclass(frozen=True)
class DetectionPicture:
    """An image `[height, width, channel]`, what was found in it, and what there is.

    Attributes:
      image: uint8, or float in [0, 1].
      detections: in it, without padding.
      ground_truth: of it, without padding.
      remark: what is shown, where it is not clear from its place.
    """

    image: np.ndarray
    detections: Detections
    ground_truth: GroundTruth
    remark: str = ""


def detections_section(
    pictures: Sequence[DetectionPicture],
    class_names: Sequence[str],
    *,
    least_score: float = 0.3,
    title: str = "Detections",
) -> Section:
    """Images with boxes: right and wrong detections, and objects that were not found.

    Args:
      pictures: to be shown.
      class_names: that labels are indices of.
      least_score: weaker detections are left out.
      title: of the section.
    """
    if not pictures:
        return Section(title, "<p>There is no image to show.</p>")
    shown = []
    for picture in pictures:
        height, width = picture.image.shape[:2]
        boxes = _boxes(picture, class_names, least_score)
        shown.append(
            {
                "image": data_uri(picture.image, side=_SIDE),
                "height": height,
                "width": width,
                "boxes": boxes,
                "remark": picture.remark,
                "counts": {
                    kind: sum(b["kind"] == kind for b in boxes) for kind in ("right", "wrong", "missed")
                },
            }
        )
    text = (
        f"Detections with a score of {least_score:g} or more: green if class and box are correct (IoU of 0.5 "
        "or more), red if not; dashed: a missed object. Hover over a box for details."
    )
    return Section(title, render("detections", pictures=shown), text)


def _boxes(picture: DetectionPicture, names: Sequence[str], least: float) -> list[dict[str, object]]:
    boxes, scores, labels = (np.asarray(part) for part in picture.detections[:3])
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= least][:_MOST]
    shown = Detections(boxes[order], scores[order], labels[order])
    verdicts = verdicts_of_image(shown, picture.ground_truth)
    drawn = [
        _box("right" if verdict == RIGHT else "wrong", box, f"{names[label]} {score:.2f}")
        for verdict, box, score, label in zip(verdicts, *shown[:3], strict=True)
        if verdict != IGNORED
    ]
    to_be_found = np.asarray(picture.ground_truth.non_difficult_mask())
    true_boxes, true_labels = (np.asarray(part)[to_be_found] for part in picture.ground_truth[:2])
    for box, label in zip(true_boxes, true_labels, strict=True):
        alone = ground_truth_of_image(box[None], np.array([label]))
        if not judge([shown], [alone], num_classes=len(names)).right.any():
            drawn.append(_box("missed", box, str(names[label])))
    return drawn


def _box(kind: str, box: np.ndarray, title: str) -> dict[str, object]:
    top, left, bottom, right = (round(float(value), 1) for value in box)
    return {
        "kind": kind,
        "x": left,
        "y": top,
        "width": round(right - left, 1),
        "height": round(bottom - top, 1),
        "title": title,
    }


def precision_recall_section(judged: Mapping[str, Judged]) -> Section:
    """Precision over recall of all detections ranked together, a line for each setting."""
    lines = []
    for number, (name, of_setting) in enumerate(judged.items()):
        precision, recall = precision_recall(of_setting)
        if not len(recall) or not of_setting.positives.any():
            continue
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        chosen = np.unique(np.linspace(0, len(recall) - 1, _POINTS).astype(int))
        points = " ".join(f"{100 * recall[i]:.1f},{100 - 100 * envelope[i]:.1f}" for i in chosen)
        lines.append(
            {
                "name": name.replace("_", " "),
                "points": f"0,{100 - 100 * envelope[0]:.1f} {points}",
                "ap": f"{100 * average_precision(of_setting):.1f}",
                "series": number % 8 + 1,
            }
        )
    if not lines:
        return Section("Precision and recall", "<p>Nothing was detected.</p>")
    text = "All detections ranked together by score; the figure is the area under the curve, in per cent."
    return Section("Precision and recall", render("precision_recall", lines=lines), text)
