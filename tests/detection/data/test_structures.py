"""Ground truth and detections: filled up for the device, and without padding again."""

from __future__ import annotations

import jax
import numpy as np

from fsljax.detection.data.structures import (
    Detections,
    GroundTruth,
    ground_truth_of_image,
    pad_ground_truth,
)

BOXES = [np.array([[0, 0, 2, 2], [1, 1, 3, 3]]), np.zeros((0, 4)), np.array([[5, 5, 9, 9]])]
LABELS = [np.array([3, 1]), np.zeros(0, int), np.array([2])]
DIFFICULT = [np.array([False, True]), np.zeros(0, bool), np.array([False])]


def test_objects_of_images_are_filled_up_to_as_many_rows():
    truth = pad_ground_truth(BOXES, LABELS, DIFFICULT)
    assert [part.shape for part in truth[:4]] == [(3, 2, 4), (3, 2), (3, 2), (3, 2)]
    assert [part.dtype for part in truth[:4]] == [np.float32, np.int32, bool, bool]
    assert truth.mask.tolist() == [[True, True], [False, False], [True, False]]
    assert truth.labels.tolist() == [[3, 1], [0, 0], [2, 0]]
    assert not truth.boxes[~truth.mask].any()
    assert truth.non_difficult_mask().tolist() == [[True, False], [False, False], [True, False]]
    assert truth._replace(difficult=None).non_difficult_mask() is truth.mask
    assert pad_ground_truth([], [], []).boxes.shape == (0, 0, 4)
    assert pad_ground_truth(BOXES[1:2], LABELS[1:2], DIFFICULT[1:2], least=1).boxes.shape == (1, 1, 4)


def test_image_by_image_there_is_no_padding():
    padded = jax.device_put(pad_ground_truth(BOXES, LABELS, DIFFICULT))
    images = list(padded.of_images())
    assert len(images) == 3 and all(image.crowd is None for image in images)
    for image, boxes, labels, difficult in zip(images, BOXES, LABELS, DIFFICULT, strict=True):
        np.testing.assert_array_equal(image.boxes, boxes)
        np.testing.assert_array_equal(image.labels, labels)
        np.testing.assert_array_equal(image.difficult, difficult)
        assert image.mask.all() and image.mask.shape == labels.shape


def test_detections_are_taken_apart_where_they_are_valid():
    scores = np.array([[0.9, 0.5], [0.7, 0.0]])
    labels, valid = np.array([[1, 2], [3, 0]]), np.array([[True, True], [True, False]])
    detections = Detections(np.zeros((2, 2, 4)), scores, labels, valid)
    assert [image.labels.tolist() for image in detections.of_images()] == [[1, 2], [3]]
    everything = detections._replace(valid=None)
    assert [image.scores.tolist() for image in everything.of_images()] == scores.tolist()


def test_what_is_in_one_image_has_no_padding():
    truth = ground_truth_of_image(BOXES[0], LABELS[0], crowd=np.array([True, False]))
    assert isinstance(truth, GroundTruth) and truth.mask.tolist() == [True, True] and truth.difficult is None
