"""The threshold of the best F1."""

from __future__ import annotations

import numpy as np
import pytest

from fsljax.detection.enrolled.calibration import Judged, best_threshold, judge
from fsljax.errors import UserError


def judged(scores: list[float], right: list[int], objects: int) -> Judged:
    return Judged(np.array(scores), np.array(right, bool), objects)


def test_each_object_is_found_once_and_by_its_class():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [0, 0, 10, 10], [50, 50, 60, 60]])
    truth = np.array([[0, 0, 10, 10], [20, 20, 30, 30]])
    found = judge(boxes, np.linspace(0.9, 0.5, 5), ["a", "a", "b", "b", "a"], truth, ["a", "a"])
    assert found.right.tolist() == [True, False, False, False, False] and found.objects == 2
    nothing = judge(np.zeros((0, 4)), np.zeros(0), [], truth, ["a", "a"])
    assert len(nothing.right) == 0 and nothing.objects == 2
    assert not judge(boxes[:1], np.ones(1), ["a"], np.zeros((0, 4)), []).right.any()


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ([judged([0.9, 0.8, 0.4], [1, 1, 0], 2)], 0.6),
        ([judged([0.9, 0.3], [1, 0], 1), judged([0.7], [1], 1)], 0.5),
        ([judged([0.9, 0.5, 0.5, 0.5], [1, 1, 0, 0], 2)], 0.7),  # 2/3 at 0.9 alone; at 0.5 4/6, no more
        ([judged([0.6], [1], 1)], 0.3),
    ],
)
def test_the_threshold_lies_between_what_is_believed_and_what_is_not(images: list[Judged], expected: float):
    assert best_threshold(images) == pytest.approx(expected)


def test_it_is_the_best_of_all():
    rng = np.random.default_rng(0)
    scores = rng.uniform(size=40).round(2)
    right = rng.uniform(size=40) < scores
    images = [judged(scores[::2], right[::2], 15), judged(scores[1::2], right[1::2], 14)]

    def f1(threshold: float) -> float:
        taken = scores >= threshold
        return 2 * right[taken].sum() / (taken.sum() + 29)

    assert f1(best_threshold(images)) == max(f1(score) for score in scores)


def test_nothing_right_is_told():
    with pytest.raises(UserError, match="None of the objects was detected again"):
        best_threshold([judged([0.9], [0], 1)])
