"""Parts of the report on detections, from arrays made by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fsljax.detection.data.structures import Detections, ground_truth_of_image
from fsljax.detection.evaluation.judging import judge
from fsljax.detection.report.detections import DetectionPicture, detections_section, precision_recall_section

BOX = np.array([[2.0, 3.0, 12.0, 23.0]])
TRUTHS = ground_truth_of_image(np.concatenate([BOX, BOX + 30]), np.array([0, 1]))


def found(*rows: tuple[np.ndarray, float, int]) -> Detections:
    boxes, scores, labels = zip(*rows, strict=True)
    return Detections(np.concatenate(boxes), np.array(scores), np.array(labels))


def kinds(html: str) -> list[str]:
    return re.findall(r'<rect class="(\w+)"', html)


def test_right_wrong_and_missed_boxes_are_told_apart():
    detections = found((BOX, 0.6, 0), (BOX, 0.9, 1), (BOX + 30, 0.1, 1))
    picture = DetectionPicture(np.zeros((64, 64, 1)), detections, TRUTHS)
    section = detections_section([picture], ["<a>", "b"])
    assert kinds(section.html) == ["wrong", "right", "missed"]  # by score; the third is below the least
    assert 'x="3.0" y="2.0" width="20.0" height="10.0"' in section.html
    assert "&lt;a&gt; 0.60" in section.html and "<a>" not in section.html
    assert "1 correct, 1 wrong, 1 missed" in section.html


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_without_boxes_and_a_section_without_images(channels: int):
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    empty = ground_truth_of_image(np.zeros((0, 4)), np.zeros(0, int))
    picture = DetectionPicture(np.zeros((8, 8, channels), np.uint8), nothing, empty)
    assert kinds(detections_section([picture], ["a"]).html) == []
    assert "no image" in detections_section([], ["a"]).html


def test_the_curve_falls_where_a_detection_is_wrong():
    detections = found((BOX, 0.9, 0), (BOX + 5, 0.8, 0), (BOX + 30, 0.7, 1))
    section = precision_recall_section({"base": judge([detections], [TRUTHS], num_classes=2)})
    points = re.search(r'points="([^"]+)"', section.html)
    assert points is not None
    # Precision is shown from above: 1 at recall 0.5, then 2/3 to recall 1.
    assert points[1].split() == ["0,0.0", "50.0,0.0", "50.0,33.3", "100.0,33.3"]
    assert "base 83.3" in section.html


def test_nothing_detected_is_said():
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    judged = judge([nothing], [TRUTHS], num_classes=2)
    assert "Nothing was detected" in precision_recall_section({"base": judged}).html


def test_what_is_found_on_difficult_objects_and_crowds_is_not_shown():
    truths = TRUTHS._replace(difficult=np.array([True, False]), crowd=np.array([False, True]))
    detections = found((BOX, 0.9, 0), (BOX + 30, 0.8, 1), (BOX + 31, 0.7, 1), (BOX, 0.6, 1))
    picture = DetectionPicture(np.zeros((64, 64, 1)), detections, truths)
    assert kinds(detections_section([picture], ["a", "b"]).html) == ["wrong"]
