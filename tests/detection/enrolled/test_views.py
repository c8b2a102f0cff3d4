"""Views of supports: boxes stay on what they were on."""

from __future__ import annotations

import numpy as np
import pytest

from fsljax.detection.data.structures import GroundTruth, ImageBatch
from fsljax.detection.enrolled.views import VIEWS, views, views_of_batch


def scene(side: int, size: tuple[int, int], boxes: list[list[int]]) -> np.ndarray:
    """Grey, with a rectangle in each box, the left half of which is bright red."""
    image = np.zeros((side, side, 3), np.uint8)
    image[: size[0], : size[1]] = 90
    for top, left, bottom, right in boxes:
        image[top:bottom, left:right] = 255
        image[top:bottom, left : (left + right) // 2, 1:] = 0
    return image


@pytest.mark.parametrize(
    ("size", "boxes"),
    [
        ((64, 48), [[10, 12, 30, 36]]),
        ((40, 64), [[2, 50, 20, 64], [25, 40, 40, 60]]),
        ((64, 64), [[0, 0, 64, 64]]),
    ],
)
def test_boxes_lie_on_what_they_lay_on(size: tuple[int, int], boxes: list[list[int]]):
    images = scene(64, size, boxes)[None]
    given = np.zeros((1, 3, 4), np.float32)
    given[0, : len(boxes)] = boxes
    mask = np.arange(3)[None] < len(boxes)
    for view, (moved, of_view, seen) in zip(
        VIEWS, views(images, given, np.array([size]), len(VIEWS), mask), strict=True
    ):
        assert moved.shape == images.shape and moved.dtype == np.uint8
        pixels, (height, width) = np.asarray(moved[0]).astype(int), np.asarray(seen[0]).astype(int)
        assert not pixels[height:].any() and not pixels[:, width:].any()
        is_object = (pixels[..., 0] > 200) & (pixels[..., 0] - 50 > 90)
        for top, left, bottom, right in np.asarray(of_view[0])[: len(boxes)].round().astype(int):
            assert 0 <= top < bottom <= height and 0 <= left < right <= width
            inside = is_object[top + 1 : bottom - 1, left + 1 : right - 1]
            assert inside.mean() > 0.95, view
            red = pixels[top + 1 : bottom - 1, left + 1 : right - 1, 1] < 100
            halves = red[:, : (right - left) // 2 - 1].mean(), red[:, (right - left) // 2 :].mean()
            assert (halves[0] < halves[1]) == view.flip, view
            outside = is_object.sum() - is_object[top:bottom, left:right].sum()
            assert outside <= is_object.sum() * 0.1 or len(boxes) > 1, view
        assert not np.asarray(of_view[0])[len(boxes) :].any()
        longest = np.max(np.asarray(of_view[0])[0, 2:] - np.asarray(of_view[0])[0, :2])
        before = max(boxes[0][2] - boxes[0][0], boxes[0][3] - boxes[0][1])
        assert longest <= before * view.scale + 0.01 and longest >= before * min(view.scale, 1) - 0.01


def test_mirrored_twice_it_is_the_same():
    images = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 1)).astype(np.uint8)
    images[:, :, 20:] = 0
    boxes, sizes = np.array([[[3, 4, 10, 12]]] * 2, np.float32), np.array([[32, 20]] * 2)
    (once,) = views(images, boxes, sizes, 1)
    (twice,) = views(once.images, once.boxes, once.sizes, 1)
    np.testing.assert_array_equal(twice.images, images)
    np.testing.assert_allclose(twice.boxes, boxes)
    np.testing.assert_array_equal(once.images[:, :, :20], images[:, :, 19::-1])
    np.testing.assert_allclose(once.boxes[0, 0], [3, 8, 10, 16])


def test_of_a_batch_with_axes_of_episodes():
    images = np.random.default_rng(0).uniform(size=(2, 3, 1, 32, 32, 3)).astype(np.float32)
    boxes = np.tile(np.array([8, 8, 20, 24], np.float32), (2, 3, 1, 1, 1))
    truth = GroundTruth(boxes, np.zeros((2, 3, 1, 1), int), np.ones((2, 3, 1, 1), bool))
    batches = views_of_batch(ImageBatch(images, truth), 2)
    (flipped, _, _), *_ = views(images[1, 2], boxes[1, 2], np.array([[32, 32]]), 1)
    np.testing.assert_array_equal(batches[0].images[1, 2], flipped)
    assert batches[1].sizes.tolist() == [[[[24, 24]]] * 3] * 2
    with pytest.raises(ValueError, match="There are 8 views, not 9"):
        views_of_batch(ImageBatch(images, truth), 9)
