"""The threshold that a detector chooses by photographs whose objects are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fsljax.api import Detector
from fsljax.detection.enrolled.photographs import overlaps
from fsljax.errors import UserError
from tests.detection.small_detector import BOX, patterns, same


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return patterns(6)


def test_by_other_photographs(detector: Detector, images: np.ndarray, tmp_path: Path):
    detector.enroll(images[:2], [BOX, BOX], ["a", "b"])
    assert detector.threshold == 0.3
    found = detector.detect(images[3:], threshold=0.0)
    # The best detection of each image is taken for its only object; one image has none.
    boxes = [of_image[:1] for of_image in found.boxes[:2]]
    labels = [of_image[0] for of_image in found.labels[:2]]
    detector.calibrate(images[3:], [*boxes, np.zeros((0, 4))], labels)
    least = min(scores[0] for scores in found.scores[:2])
    assert 0 < detector.threshold <= least
    kept = detector.detect(images[3:])
    same(kept, detector.detect(images[3:], threshold=detector.threshold))
    assert all(len(scores) and scores.min() >= detector.threshold for scores in kept.scores[:2])
    detector.save(tmp_path / "saved")
    assert Detector.load(tmp_path / "saved").threshold == detector.threshold
    assert detector.enroll(images[2:3], [BOX], "c").threshold != 0.3


def test_by_the_enrolled_photographs_each_of_which_is_left_out(detector: Detector, images: np.ndarray):
    """What a photograph says of itself does not count: the representatives are those of the others."""
    twins = np.concatenate([images[:1], images[:1], images[1:2]])
    first = Detector(detector._trained).enroll(images[:1], [BOX], "a")
    box = first.detect(images[:1], threshold=0.0, most=1).boxes[0][0]
    detector.enroll(twins, [box, box, BOX], ["a", "a", "b"], augment=1)
    detector.calibrate()
    alone = Detector(detector._trained).enroll(images[:1], [box], "a", augment=1)
    alone.enroll(images[1:2], [BOX], "b", augment=1)
    scores = alone.detect(images[:1], threshold=0.0).scores[0]
    middles = (scores + np.append(scores[1:], 0)) / 2
    assert np.abs(middles - detector.threshold).min() < 1e-3


def test_by_the_boxes_of_one_photograph_each_of_which_is_left_out(detector: Detector, images: np.ndarray):
    """Twins side by side: each is found by the other, as surely as by itself."""
    twins = np.concatenate([images[0, :, :16], images[0, :, :16]], axis=1)[None]
    first = Detector(detector._trained).enroll(twins, [[6, 2, 20, 14]], "a")
    found = first.detect(twins, threshold=0.0)
    # A box that a proposal lies on, and another one.
    left = found.boxes[0][0]
    others = [box for box in found.boxes[0] if abs(box[1] - left[1]) > 6 or abs(box[0] - left[0]) > 6]
    detector.enroll(twins, [[left, others[0]]], "a", augment=1)
    detector.calibrate()
    assert 0 < detector.threshold < 1
    by_others = []
    for shown, hidden in ((left, others[0]), (others[0], left)):
        alone = Detector(detector._trained).enroll(twins, [shown], "a", augment=1)
        (boxes,), (scores,), _ = alone.detect(twins, threshold=0.0)
        by_others += scores[overlaps(boxes, hidden[None])[:, 0] >= 0.5].tolist()
    own = detector.detect(twins, threshold=0.0).scores[0][0]
    assert detector.threshold <= max(by_others) < own


def test_background_counts_as_holding_nothing(detector: Detector, images: np.ndarray):
    first = Detector(detector._trained).enroll(images[:1], [BOX], "a")
    box = first.detect(images[:1], threshold=0.0, most=1).boxes[0][0]
    twins = np.concatenate([images[:1], images[:1]])
    thresholds = [
        Detector(detector._trained)
        .enroll(twins, [box, box], "a", background=background)
        .calibrate()
        .threshold
        for background in (None, images[2:])
    ]
    assert thresholds[0] != thresholds[1]


def test_nothing_to_calibrate_by_is_told(detector: Detector, images: np.ndarray):
    with pytest.raises(UserError, match="no class was enrolled from two or more boxes"):
        detector.calibrate()
    detector.enroll(images[:2], [BOX, BOX], ["a", "b"])
    with pytest.raises(UserError, match="no class was enrolled from two or more boxes"):
        detector.calibrate()
    with pytest.raises(UserError, match="Boxes and labels are missing"):
        detector.calibrate(images)
    with pytest.raises(UserError, match="'c' is not enrolled"):
        detector.calibrate(images[:1], [BOX], "c")
    assert detector.threshold == 0.3
