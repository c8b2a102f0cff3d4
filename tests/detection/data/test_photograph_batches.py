"""Padded batches: where images and boxes go, and that a flip moves both."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest

from fsljax.detection.data.photograph_batches import Sizing, flip_some, load_batch
from fsljax.detection.data.set_operations import collect, one_image
from fsljax.detection.data.structures import DetectionSet
from fsljax.errors import UserError

SIZING = Sizing(shorter=60, longer=90, multiple=32)


@pytest.fixture(scope="module")
def data() -> DetectionSet:
    """Twelve images: black but for white boxes, number n of which has n % 3."""
    random = np.random.default_rng(0)
    annotated = []
    for number, (height, width) in enumerate(4 * [(30, 40), (40, 20), (20, 60)]):
        boxes = [[2, 2, 10, 12], [12, 10, 18, 18]][: number % 3]
        image = np.zeros((height, width, 3), np.uint8)
        for y_min, x_min, y_max, x_max in boxes:
            image[y_min:y_max, x_min:x_max] = 255
        difficult = random.random(len(boxes)) < 0.5
        annotated.append(
            one_image(
                image, f"i{number}", "", (height, width), boxes, ["ab"[number % 2]] * len(boxes), difficult
            )
        )
    return collect(annotated, ("a", "b"))


def test_sides_and_buckets():
    assert SIZING.buckets() == ((64, 64), (64, 96), (96, 64))
    assert SIZING.scaled((30, 40)) == (60, 80) and SIZING.bucket((30, 40)) == (64, 96)
    assert SIZING.scaled((40, 20)) == (90, 45) and SIZING.bucket((40, 20)) == (96, 64)
    assert SIZING.scaled((50, 50)) == (60, 60) and SIZING.bucket((50, 50)) == (64, 64)
    assert Sizing(128, 128, 32).buckets() == ((128, 128),)
    random = np.random.default_rng(0)
    for size in random.integers(1, 2_000, (500, 2)).tolist():
        height, width = SIZING.scaled(size)
        assert min(height, width) <= 60 and max(height, width) <= 90
        assert height <= SIZING.bucket(size)[0] and width <= SIZING.bucket(size)[1]


def test_images_and_boxes_are_scaled_together_and_padded(data):
    rows = np.array([5, 3, 0])
    batch = load_batch(data, (64, 96), rows, SIZING)
    truth = batch.ground_truth
    assert batch.images.shape == (3, 64, 96, 3) and truth.boxes.shape == (3, 2, 4)
    assert batch.rows.tolist() == [5, 3, 0]
    assert batch.sizes.tolist() == [[30, 90], [60, 80], [60, 80]]
    np.testing.assert_allclose([SIZING.scale(data.sizes[row]) for row in rows], [[1.5, 1.5], [2, 2], [2, 2]])
    np.testing.assert_allclose(truth.boxes[0], [[3, 3, 15, 18], [18, 15, 27, 27]])
    assert truth.mask.sum(axis=1).tolist() == [2, 0, 0]
    assert truth.labels[0].tolist() == [1, 1]
    np.testing.assert_array_equal(truth.difficult[0], data.difficult[5])
    assert not truth.boxes[~truth.mask].any()
    white = batch.images[0, :, :, 0] > 127
    assert white[4:14, 4:17].all() and white[19:26, 16:26].all()
    assert not white[:, 28:].any() and not batch.images[0, 30:].any() and not batch.images[2].any()


def test_a_flip_moves_images_and_boxes_within_the_padding(data):
    batch = load_batch(data, (64, 96), np.array([5, 2, 8, 11] * 4), SIZING)
    images, truth = jax.device_get(
        jax.jit(flip_some)(jax.random.key(0), batch.images, batch.ground_truth, batch.sizes)
    )
    flipped = batch._replace(images=images, ground_truth=truth)
    turned = 0
    for number, size in enumerate(batch.sizes):
        whole, image = batch.images[number], flipped.images[number]
        boxes = flipped.ground_truth.boxes[number]
        if (boxes == batch.ground_truth.boxes[number]).all():
            np.testing.assert_array_equal(image, whole)
            continue
        turned += 1
        height, width = size
        np.testing.assert_array_equal(image[:height, :width], whole[:height, :width][:, ::-1])
        assert not image[:, width:].any()
        for box in boxes[batch.ground_truth.mask[number]]:
            y_min, x_min, y_max, x_max = np.rint(box).astype(int)
            assert (image[y_min + 1 : y_max - 1, x_min + 1 : x_max - 1] > 127).all()
        assert not boxes[~batch.ground_truth.mask[number]].any()
    assert 2 <= turned <= 14
    np.testing.assert_array_equal(flipped.ground_truth.labels, batch.ground_truth.labels)


def test_an_image_of_another_size_is_refused(data):
    wrong = replace(data, sizes=data.sizes[:, ::-1])
    with pytest.raises(UserError, match="its annotation says"):
        load_batch(wrong, (96, 64), np.array([2]), SIZING)
