"""Configs in the layout of torchvision's Faster R-CNN, into which its published weights can be loaded."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from fsljax.config import nearest
from fsljax.errors import UserError

PREFIX = "fasterrcnn_"
_SIDES = (32.0, 64.0, 128.0, 256.0, 512.0)
_MOST_DETECTIONS = 20_000  # above a score of 0.05: of each of 1,000 regions 20 at most

_COMMON: dict[str, dict[str, Any]] = {
    "data": {"channels": 3, "fill": "mean"},
    "network": {
        "name": "resnet50", "padding": "symmetric", "frozen_statistics": True,
        "input_mean": (0.485, 0.456, 0.406), "input_std": (0.229, 0.224, 0.225),
    },
    "pyramid": {"channels": 256, "extra_levels": 1},
    "proposals": {
        "sizes": _SIDES, "ratios": (0.5, 1.0, 2.0), "anchors": "corners", "high": 0.7, "low": 0.3,
        "sampled": 256, "positive_fraction": 0.5, "before_nms": 2000, "before_nms_in_test": 1000,
        "iou_threshold": 0.7, "by_level": True, "least_side": 1e-3, "keep": 2000, "keep_in_test": 1000,
    },
    "rois": {
        "sampled": 512, "positive_fraction": 0.25, "high": 0.5, "low": 0.5, "output_size": 7, "samples": 2,
        "canonical_size": 224.0, "canonical_level": 2, "level_tolerance": 1e-6, "aligned": False,
    },
    "head": {"hidden": 1024, "class_boxes": True},
    "eval": {
        "iou_threshold": 0.5, "score_threshold": 0.05, "keep": 100, "candidates": _MOST_DETECTIONS,
        "smallest_box": 0.01,
    },
}  # fmt: skip
_MOBILE: dict[str, dict[str, Any]] = {
    "network": {"name": "mobilenet_v3_large"},
    "proposals": {"sizes": 3 * _SIDES, "score_threshold": 0.05},
}
LAYOUTS: dict[str, dict[str, dict[str, Any]]] = {
    "resnet50_fpn": {},
    "resnet50_fpn_v2": {
        "pyramid": {"norm": True},
        "proposals": {"convolutions": 2},
        "head": {"convolutions": 4, "dense": 1},
    },
    "mobilenet_v3_large_fpn": _MOBILE,
    "mobilenet_v3_large_320_fpn": {
        **_MOBILE,
        "proposals": {**_MOBILE["proposals"], "before_nms_in_test": 150, "keep_in_test": 150},
    },
}


def as_torchvision(config: ConfigDict, layout: str = "resnet50_fpn") -> ConfigDict:
    """Sets every field that the forward pass of torchvision depends on; changes the config in place.

    Args:
      config: a config of `fsljax.methods.repmet_detector`.
      layout: one of `LAYOUTS`, with or without the prefix "fasterrcnn_".

    Raises:
      UserError: if there is no such layout.
    """
    known = layout.removeprefix(PREFIX)
    if known not in LAYOUTS:
        raise UserError(
            f"There is no layout {layout!r} of torchvision's detectors.{nearest(known, list(LAYOUTS))} The "
            f"layouts are {', '.join(LAYOUTS)}."
        )
    for fields in (_COMMON, LAYOUTS[known]):
        for section, values in fields.items():
            config[section].update(values)
    return config
