"""Figures of the published protocol of few-shot detection, of novel and of base classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fsljax.detection.data.structures import Detections, GroundTruth
from fsljax.detection.evaluation.average_precision import (
    COCO_DETECTIONS,
    COCO_IOUS,
    class_average_precisions,
)
from fsljax.detection.evaluation.judging import judge, judge_at

PUBLISHED = {
    "repmet_detection_voc_split1": {
        f"novel_{shots}shot_ft0": {
            "RepMet, nAP50": repmet, "TFA, nAP50": tfa, "DeFRCN, nAP50": defrcn,
        }
        for shots, repmet, tfa, defrcn in (
            (1, 0.261, 0.398, 0.536), (3, 0.344, 0.447, 0.615), (10, 0.413, 0.560, 0.608),
        )
    },
    "repmet_detection_coco_few_shot": {"novel_10shot_ft0": {"DE-ViT, nAP": 0.340}},
}  # fmt: skip
"""Figures of others by the experiment's name and the setting."""

_AT_50, _AT_75 = 0, 5  # among COCO's overlaps


def split_figures(
    found: Sequence[Detections], truths: Sequence[GroundTruth], way: int, classes: int, rule: str
) -> dict[str, float]:
    """Means over the novel and over the base classes that have objects.

    Args:
      found: detections of each image, without padding.
      truths: objects of the same images, without padding.
      way: labels below it are of novel classes.
      classes: of both kinds.
      rule: whose `nap50` and `bap50` are. By "voc" they are the area under the curve, and with `_11point` the
        mean at eleven recalls, which the published figures on VOC 2007 are; by "coco" they are COCO's.

    Returns:
      `nap50`, `nap`, `nap75` and `bap50`, `bap`; `nap` and `nap75` by COCO's rule: at most 100 detections of
      a class in an image, crowds ignored, of the overlaps 0.5, 0.55, … 0.95 and of 0.75. A mean over no
      class is left out.
    """
    coco = np.stack(
        [
            class_average_precisions(judged, interpolation="101")
            for judged in judge_at(found, truths, classes, COCO_IOUS, "coco", COCO_DETECTIONS)
        ]
    )
    of_classes = {"ap50": coco[_AT_50], "ap": coco.mean(axis=0), "ap75": coco[_AT_75]}
    if rule == "voc":
        judged = judge(found, truths, num_classes=classes)
        of_classes = {
            "ap50": class_average_precisions(judged),
            "ap50_11point": class_average_precisions(judged, interpolation="11"),
            **{name: figures for name, figures in of_classes.items() if name != "ap50"},
        }
    figures: dict[str, float] = {}
    for kind, rows in (("n", slice(None, way)), ("b", slice(way, None))):
        for name, precisions in of_classes.items():
            if np.isfinite(precisions[rows]).any() and f"{kind}{name}" != "bap75":
                figures[f"{kind}{name}"] = float(np.nanmean(precisions[rows]))
    return figures


def figures_of_seeds(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    """Means over seeds; of several seeds also half the 95 % interval of each mean, 1.96 s/√n."""
    means: dict[str, float] = {}
    for name in figures[0]:
        values = np.array([of_seed[name] for of_seed in figures])
        means[name] = float(values.mean())
        if len(values) > 1:
            means[f"{name}_ci95"] = float(1.96 * values.std(ddof=1) / np.sqrt(len(values)))
    return means
