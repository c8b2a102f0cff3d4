"""Boxes against float64 NumPy, one pair at a time."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.detection.ops import boxes
from fsljax.errors import UserError

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def random_boxes(seed: int, count: int, *, extent: float = 100.0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    starts = generator.uniform(0, 0.8 * extent, (count, 2))
    return np.float32(
        np.concatenate([starts, starts + generator.uniform(1, 0.4 * extent, (count, 2))], axis=1)
    )


def reference_iou(a, b) -> float:
    (top, left, bottom, right), (other_top, other_left, other_bottom, other_right) = (
        np.float64(a),
        np.float64(b),
    )
    height = min(bottom, other_bottom) - max(top, other_top)
    width = min(right, other_right) - max(left, other_left)
    if height <= 0 or width <= 0:
        return 0.0
    areas = (bottom - top) * (right - left) + (other_bottom - other_top) * (other_right - other_left)
    return height * width / (areas - height * width)


@pytest.mark.parametrize("offset", [0.0, 4000.0])
def test_iou_is_that_of_each_pair(offset):
    a, b = random_boxes(0, 12) + np.float32(offset), random_boxes(1, 9) + np.float32(offset)
    expected = [[reference_iou(one, other) for other in b] for one in a]
    assert np.count_nonzero(expected) > 10
    np.testing.assert_allclose(jax.jit(boxes.iou)(a, b), expected, atol=1e-5)


def test_iou_is_1_with_itself_and_0_without_area():
    rows = np.float32([[1, 2, 5, 8], [3, 3, 3, 9], [4, 4, 2, 2], [0, 0, 0, 0]])
    np.testing.assert_array_equal(boxes.iou(rows, rows), np.diag([1, 0, 0, 0]))
    np.testing.assert_array_equal(boxes.area(rows), [24, 0, 0, 0])
    gradient = jax.jit(jax.grad(lambda x: boxes.iou(x, x).sum()))(rows)
    assert np.isfinite(gradient).all()


def test_targets_are_the_published_ones_and_decode_undoes_them():
    truths, anchors = random_boxes(2, 30), random_boxes(3, 30)
    deltas = boxes.encode(truths, anchors, WEIGHTS)
    for delta, truth, anchor in zip(deltas, np.float64(truths), np.float64(anchors), strict=True):
        sides, anchor_sides = truth[2:] - truth[:2], anchor[2:] - anchor[:2]
        centres, anchor_centres = (truth[2:] + truth[:2]) / 2, (anchor[2:] + anchor[:2]) / 2
        expected = [*(10 * (centres - anchor_centres) / anchor_sides), *(5 * np.log(sides / anchor_sides))]
        np.testing.assert_allclose(delta, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(boxes.decode(deltas, anchors, WEIGHTS), truths, atol=1e-3)


def test_growth_is_limited_and_padding_has_finite_targets_and_gradients():
    anchor = jnp.float32([[0, 0, 16, 16]])
    grown = boxes.decode(jnp.float32([[0, 0, 50, 50]]), anchor)
    np.testing.assert_allclose(grown, [[-492, -492, 508, 508]], rtol=1e-5)
    encoded = jax.jit(jax.value_and_grad(lambda *x: boxes.encode(*x).sum(), argnums=(0, 1)))
    for truth, other in ((jnp.zeros((1, 4)), anchor), (anchor, jnp.zeros((1, 4)))):
        values, gradients = encoded(truth, other)
        assert np.isfinite(values)
        assert all(np.isfinite(of).all() for of in gradients)


def test_clip_takes_one_size_for_all_or_one_for_each_image():
    rows = np.float32([[[-5, 2, 30, 40], [25, 50, 60, 70]], [[1, 1, 9, 9], [-9, -9, -1, -1]]])
    np.testing.assert_array_equal(
        boxes.clip(rows, 20, 30), [[[0, 2, 20, 30], [20, 30, 20, 30]], [[1, 1, 9, 9], [0, 0, 0, 0]]]
    )
    heights = jnp.float32([[20], [5]])
    np.testing.assert_array_equal(
        boxes.clip(rows, heights, 30), [[[0, 2, 20, 30], [20, 30, 20, 30]], [[1, 1, 5, 9], [0, 0, 0, 0]]]
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            [[0, 0, 4, 4], [1, np.nan, 3, 3]],
            r"Box 1 of cat\.jpg, \[1, nan, 3, 3\], has a value that is not a finite",
        ),
        ([[2, 2, 2, 5]], r"Box 0 of cat\.jpg, \[2, 2, 2, 5\], has no area"),
        ([[0, 0, 4, 30.5]], r"extends beyond the image, which is 20 high and 30 wide"),
        ([[-1, 0, 4, 3]], r"extends beyond the image"),
        ([0, 0, 4, 3], r"boxes of cat\.jpg are int64 \[4\]; give numbers \[n, 4\]"),
    ],
)
def test_boxes_that_cannot_be_are_told(given, message):
    with pytest.raises(UserError, match=message):
        boxes.check_boxes(np.asarray(given), 20, 30, "cat.jpg")


def test_boxes_that_can_be_are_returned_within_the_image():
    checked = boxes.check_boxes(np.asarray([[0, 0, 20.001, 30], [1, 2, 3, 4]]), 20, 30, "cat.jpg")
    np.testing.assert_array_equal(checked, [[0, 0, 20, 30], [1, 2, 3, 4]])
    assert checked.dtype == np.float32
    assert boxes.check_boxes([], 20, 30, "cat.jpg").shape == (0, 4)
