"""The section of the report that shows an episode of detection: the boxes given, and what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fsljax.detection.report.detections import DetectionPicture, detections_section
from fsljax.reporting.pictures import data_uri
from fsljax.reporting.sections import Section, render

_SIDE = 256


@dataclass(frozen=True)
class SupportPicture:
    """An image with the box that a class is enrolled from.

    Attributes:
      image: uint8, or float in [0, 1], `[height, width, channel]`.
      box: `[4]`.
      name: of the class.
    """

    image: np.ndarray
    box: np.ndarray
    name: str


def episode_section(
    supports: Sequence[SupportPicture], queries: Sequence[DetectionPicture], class_names: Sequence[str]
) -> Section:
    """An episode: what the detector was shown of each class, then detections, right and wrong.

    Args:
      supports: the images that classes were enrolled from.
      queries: images to be searched.
      class_names: of the episode, which detections and ground truth number.
    """
    shown = []
    for support in supports:
        top, left, bottom, right = (round(float(value), 1) for value in support.box)
        height, width = support.image.shape[:2]
        shown.append(
            {
                "image": data_uri(support.image, side=_SIDE),
                "height": height,
                "width": width,
                "box": {"x": left, "y": top, "width": right - left, "height": bottom - top},
                "name": support.name,
            }
        )
    detections = detections_section(queries, class_names)
    html = render("supports", supports=shown, found=detections.html)
    return Section(
        "An episode of new classes",
        html,
        "First, the support boxes: the only examples of these classes that the detector was given."
        f" Then, its detections in the query images. {detections.text_before}",
    )
