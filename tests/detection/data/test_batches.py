"""Padded batches: where images and boxes go, and that a flip moves both."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest

from fsljax.detection.data.batches import Sizing, flip_some, load_batch, plan_batches
from fsljax.detection.data.structures import Annotated, DetectionSet, collect
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
            Annotated(
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


def test_every_image_is_in_one_batch_of_its_bucket(data):
    plans = [
        plan_batches(data, 3, SIZING, seed=seed, epoch=epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    for plan in [*plans, plan_batches(data, 3, SIZING)]:
        assert sorted(row for _, rows in plan for row in rows) == list(range(12))
        for bucket, rows in plan:
            assert 1 <= len(rows) <= 3
            assert all(SIZING.bucket(data.sizes[row].tolist()) == bucket for row in rows)
    told = [repr(plan) for plan in plans]
    assert len(set(told)) == 3
    assert repr(plan_batches(data, 3, SIZING, seed=0)) == told[0]


def test_images_and_boxes_are_scaled_together_and_padded(data):
    batch = load_batch(data, (64, 96), np.array([5, 3, 0]), SIZING, batch_size=5, truths=3)
    assert batch.images.shape == (5, 64, 96, 3) and batch.truths.boxes.shape == (5, 3, 4)
    assert batch.rows.tolist() == [5, 3, 0, -1, -1]
    assert batch.sizes[:3].tolist() == [[30, 90], [60, 80], [60, 80]]
    np.testing.assert_allclose(batch.scales[:3], [[1.5, 1.5], [2, 2], [2, 2]])
    np.testing.assert_allclose(batch.truths.boxes[0, :2], [[3, 3, 15, 18], [18, 15, 27, 27]])
    assert batch.truths.mask.sum(axis=1).tolist() == [2, 0, 0, 0, 0]
    assert batch.truths.labels[0].tolist() == [1, 1, 0]
    np.testing.assert_array_equal(batch.truths.difficult[0, :2], data.difficult[5])
    assert not batch.truths.boxes[~batch.truths.mask].any()
    white = batch.images[0, :, :, 0] > 127
    assert white[4:14, 4:17].all() and white[19:26, 16:26].all()
    assert not white[:, 28:].any() and not batch.images[0, 30:].any() and not batch.images[3:].any()


def test_a_flip_moves_images_and_boxes_within_the_padding(data):
    batch = load_batch(data, (64, 96), np.array([5, 2, 8, 11] * 4), SIZING)
    images, truths = jax.device_get(
        jax.jit(flip_some)(jax.random.key(0), batch.images, batch.truths, batch.sizes)
    )
    flipped = batch._replace(images=images, truths=truths)
    turned = 0
    for number, size in enumerate(batch.sizes):
        whole, image = batch.images[number], flipped.images[number]
        boxes = flipped.truths.boxes[number]
        if (boxes == batch.truths.boxes[number]).all():
            np.testing.assert_array_equal(image, whole)
            continue
        turned += 1
        height, width = size
        np.testing.assert_array_equal(image[:height, :width], whole[:height, :width][:, ::-1])
        assert not image[:, width:].any()
        for box in boxes[batch.truths.mask[number]]:
            y_min, x_min, y_max, x_max = np.rint(box).astype(int)
            assert (image[y_min + 1 : y_max - 1, x_min + 1 : x_max - 1] > 127).all()
        assert not boxes[~batch.truths.mask[number]].any()
    assert 2 <= turned <= 14
    np.testing.assert_array_equal(flipped.truths.labels, batch.truths.labels)


def test_what_does_not_fit_is_refused(data):
    with pytest.raises(UserError, match="image i2 has 2 boxes, but there is room for 1"):
        load_batch(data, (64, 96), np.array([2]), SIZING, truths=1)
    with pytest.raises(ValueError, match="2 images do not fit into a batch of 1"):
        load_batch(data, (64, 96), np.array([2, 5]), SIZING, batch_size=1)
    wrong = replace(data, sizes=data.sizes[:, ::-1])
    with pytest.raises(UserError, match="its annotation says"):
        load_batch(wrong, (96, 64), np.array([2]), SIZING)
