"""The counter of the published code of Karlinsky et al. (2019), against its loops and by hand."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from fsljax.detection.data.structures import Detections, ground_truth_of_image
from fsljax.detection.evaluation.authors_counter import (
    Counts,
    count_image,
    judged_by_counts,
    pooled_ignoring_duplicates,
)
from fsljax.detection.evaluation.average_precision import average_precision
from fsljax.detection.evaluation.judging import judge

WAY, FOUND, TRUTHS = 3, 25, 5


def overlaps(boxes, others):
    starts = np.maximum(boxes[:, None, :2], others[:, :2])
    sides = np.maximum(np.minimum(boxes[:, None, 2:], others[:, 2:]) - starts, 0)
    shared = sides.prod(-1)
    areas = [(part[:, 2:] - part[:, :2]).prod(-1) for part in (boxes, others)]
    return shared / (areas[0][:, None] + areas[1] - shared)


def entries(boxes, scores, labels, true_boxes, true_labels):
    """(score, right) of every entry that the published loops make of an image, class by class."""
    made = []
    for label in range(WAY):
        chosen = np.flatnonzero(labels == label)
        near = overlaps(boxes[chosen], true_boxes) >= 0.5
        own = near & (true_labels == label)
        of_others = near & (true_labels != label) & ~own.any(axis=1, keepdims=True)
        for right, taken in ((True, own), (False, of_others)):
            for column in taken.T:
                if column.any():
                    made.append((scores[chosen][column].max(), right))
        made += [
            (score, False)
            for score, on_any in zip(scores[chosen], near.any(axis=1), strict=True)
            if not on_any
        ]
    return made


def area(made, positives):
    right = np.array([good for _, good in sorted(made, key=lambda one: -one[0])])
    hits = np.cumsum(right)
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    return float((precision * right).sum() / positives)


def images(seed: int, count: int = 20):
    random = np.random.default_rng(seed)
    for _ in range(count):
        corners = random.integers(0, 30, (TRUTHS, 2))
        truths = np.concatenate([corners, corners + random.integers(10, 20, corners.shape)], axis=1)
        true_labels = random.integers(0, WAY, TRUTHS)
        near = random.integers(0, TRUTHS, FOUND)
        boxes = truths[near] + random.integers(-4, 5, (FOUND, 4))
        labels = np.where(random.random(FOUND) < 0.7, true_labels[near], random.integers(0, WAY, FOUND))
        yield boxes.astype(float), -np.sort(-random.random(FOUND)), labels, truths.astype(float), true_labels


def test_it_is_the_published_loops():
    made, scores, labels, counted, positives = [], [], [], [], np.zeros(WAY, int)
    count = jax.jit(count_image)
    for boxes, of_scores, of_labels, truths, true_labels in images(0):
        made += entries(boxes, of_scores, of_labels, truths, true_labels)
        found = Detections(boxes.astype(np.float32), of_scores, of_labels)
        counted.append(count(found, ground_truth_of_image(truths.astype(np.float32), true_labels)))
        scores.append(of_scores)
        labels.append(of_labels)
        positives += np.bincount(true_labels, minlength=WAY)
    counts = Counts(*(np.stack(part) for part in zip(*counted, strict=True)))
    assert (counts.right > 1).any() and not ((counts.right > 0) & (counts.wrong > 0)).any()
    judged = judged_by_counts(np.stack(scores), np.stack(labels), counts, positives)
    assert sorted(zip(judged.scores, judged.right, strict=True)) == sorted(made)
    ours = pooled_ignoring_duplicates(np.stack(scores), np.stack(labels), counts, positives)
    assert ours == pytest.approx(area(made, positives.sum())) and 0.2 < ours < 0.9


def test_a_duplicate_is_ignored_where_vocs_rule_counts_it_as_wrong():
    truth = ground_truth_of_image(np.array([[0, 0, 10, 10], [50, 50, 60, 60.0]]), np.array([0, 0]))
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60.0]])
    found = Detections(boxes, np.array([0.9, 0.8, 0.7]), np.zeros(3, int))
    by_voc = judge([found], [truth], num_classes=1)
    assert average_precision(by_voc) == pytest.approx((1 + 2 / 3) / 2)
    counts = count_image(found, truth)
    assert (counts.right.tolist(), counts.wrong.tolist()) == ([1, 0, 1], [0, 0, 0])
    assert pooled_ignoring_duplicates(found.scores, found.labels, counts, by_voc.positives) == 1.0


def test_padding_difficult_objects_and_crowds_are_left_aside():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 60, 60.0], [0, 0, 10, 10]])
    truth = ground_truth_of_image(
        boxes, np.array([0, 0, 0, 1]), np.array([0, 1, 1, 0], bool), np.array([0, 1, 0, 0], bool)
    )
    truth = truth._replace(mask=np.array([True, True, True, False]))
    within = np.array(
        [[0, 0, 10, 10], [20, 20, 25, 25], [21, 21, 26, 26], [50, 50, 60, 60], [0, 0, 9, 9], [0, 0, 10, 10]]
    )
    found = Detections(within.astype(float), np.linspace(0.9, 0.4, 6), np.array([0, 0, 0, 0, 1, 1]))
    counts = count_image(found._replace(valid=np.array([True] * 5 + [False])), truth)
    # One on the object; on the crowd and the difficult one nothing counts; one of another class.
    assert (counts.right.tolist(), counts.wrong.tolist()) == ([1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0])
