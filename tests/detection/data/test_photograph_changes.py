from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.detection.config import Augmentation
from fsljax.detection.data.photograph_changes import Photos, changed, check_amounts, zoomed
from fsljax.detection.data.structures import GroundTruth
from fsljax.errors import UserError

SIDE, SIZE = 48, (40, 32)
BOX = (10, 6, 26, 22)


def photos(count: int = 6) -> Photos:
    """A white rectangle on grey in each, black beyond the image."""
    image = np.zeros((SIDE, SIDE, 3), np.float32)
    image[: SIZE[0], : SIZE[1]] = 0.3
    image[BOX[0] : BOX[2], BOX[1] : BOX[3]] = 1.0
    boxes = np.zeros((count, 2, 4), np.float32)
    boxes[:, 0] = BOX
    mask = np.array([[True, False]] * count)
    truth = GroundTruth(*map(jnp.asarray, (boxes, np.zeros((count, 2), np.int32), mask, ~mask & mask)))
    return Photos(jnp.asarray(np.stack([image] * count)), truth, jnp.full((count, 2), jnp.array(SIZE)))


def seen_box(image: np.ndarray) -> np.ndarray:
    """Where an image is brighter than halfway to white."""
    rows, columns = np.nonzero(image.mean(axis=-1) > 0.65)
    return np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])


def test_without_a_zoom_nothing_changes():
    before = photos()
    after = zoomed(jax.random.key(0), before, (1.0, 1.0))
    np.testing.assert_allclose(after.images, before.images, atol=1e-6)
    np.testing.assert_allclose(after.ground_truth.boxes, before.ground_truth.boxes, atol=1e-5)
    np.testing.assert_array_equal(after.sizes, before.sizes)


@pytest.mark.parametrize("zoom", [(0.5, 0.9), (1.1, 1.2), (0.6, 2.0)])
def test_boxes_go_where_the_pixels_go(zoom: tuple[float, float]):
    after = zoomed(jax.random.key(1), photos(24), zoom, 0.2)
    truth = after.ground_truth
    assert truth.difficult is not None
    for image, boxes, difficult in zip(
        *map(np.asarray, (after.images, truth.boxes, truth.difficult)), strict=True
    ):
        if not difficult[0]:
            np.testing.assert_allclose(seen_box(image), boxes[0], atol=1.01)


def test_nothing_lies_beyond_the_new_size():
    after = zoomed(jax.random.key(2), photos(12), (0.5, 1.5))
    for image, (height, width) in zip(
        np.asarray(after.images), np.asarray(after.sizes).tolist(), strict=True
    ):
        assert not image[height:].any()
        assert not image[:, width:].any()
        assert image[:height, :width].min() > 0.25
    assert (np.asarray(after.ground_truth.boxes)[:, 0, 2:] <= np.asarray(after.sizes)).all()


def test_factors_reach_both_ends_and_are_spread_in_the_logarithm():
    sizes = np.asarray(zoomed(jax.random.key(3), photos(400), (0.5, 1.0)).sizes)
    factors = sizes[:, 0] / SIZE[0]
    assert factors.min() < 0.53
    assert factors.max() > 0.97
    assert np.mean(factors < 0.5**0.5) == pytest.approx(0.5, abs=0.08)


def test_an_object_of_which_little_is_left_becomes_difficult():
    after = zoomed(jax.random.key(4), photos(200), (4.0, 4.0))
    boxes, difficult = np.asarray(after.ground_truth.boxes), np.asarray(after.ground_truth.difficult)
    area = np.prod(boxes[:, 0, 2:] - boxes[:, 0, :2], axis=-1) / (16 * 16 * 16)
    assert 0 < difficult[:, 0].sum() < 200
    np.testing.assert_array_equal(difficult[:, 0], area < 0.4)
    assert not difficult[:, 1].any()  # padding


def test_colours_change_within_the_image_alone_and_boxes_stay():
    amounts = Augmentation(brightness=0.2, contrast=0.3, saturation=0.3, hue=0.05)
    before = photos()
    after = changed(jax.random.key(5), before, amounts)
    inside = np.asarray(after.images)[:, : SIZE[0], : SIZE[1]]
    assert np.abs(inside - np.asarray(before.images)[:, : SIZE[0], : SIZE[1]]).max() > 0.05
    assert not np.asarray(after.images)[:, SIZE[0] :].any()
    assert not np.asarray(after.images)[:, :, SIZE[1] :].any()
    np.testing.assert_array_equal(after.ground_truth.boxes, before.ground_truth.boxes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"zoom": (2.0, 1.0)}, "must not exceed"),
        ({"rotation": 10.0}, "augment.rotation is 10"),
        ({"flip": True}, "augment.flip"),
        ({"stop_at": 5}, "augment.stop_at"),
    ],
)
def test_what_boxes_cannot_follow_is_refused(change: dict, message: str):
    with pytest.raises(UserError, match=message):
        check_amounts(replace(Augmentation(), **change))


def test_what_there_is_passes():
    check_amounts(Augmentation(zoom=(0.5, 2.0), stretch=0.1, brightness=0.1, hue=0.1))
