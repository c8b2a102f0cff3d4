"""Anchors, counted and placed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fsljax.detection.ops.anchors import corner_anchors, pyramid_anchors


def test_anchors_are_ordered_by_level_row_column_size_and_ratio():
    strides, sizes, ratios = (4, 8), ((8.0,), (16.0, 20.0)), (0.5, 2.0)
    anchors = pyramid_anchors(10, 16, strides, sizes, ratios)
    expected = []
    for stride, of_level in zip(strides, sizes, strict=True):
        for row in range(-(-10 // stride)):
            for column in range(-(-16 // stride)):
                for size in of_level:
                    for ratio in ratios:
                        height, width = size * np.sqrt(ratio), size / np.sqrt(ratio)
                        y, x = (row + 0.5) * stride, (column + 0.5) * stride
                        expected.append([y - height / 2, x - width / 2, y + height / 2, x + width / 2])
    assert anchors.dtype == np.float32
    np.testing.assert_allclose(anchors, expected, rtol=1e-6)
    sides = anchors[:, 2:] - anchors[:, :2]
    np.testing.assert_allclose(sides.prod(axis=1)[: 3 * 4 * 2], 64, rtol=1e-5)
    np.testing.assert_allclose((sides[:, 0] / sides[:, 1])[:2], ratios, rtol=1e-5)


def test_each_stride_has_sizes():
    with pytest.raises(ValueError, match="2 strides but 1 tuples of sizes"):
        pyramid_anchors(8, 8, (4, 8), ((8.0,),), (1.0,))


def test_anchors_of_corners_have_whole_sides_and_strides():
    # By torchvision's AnchorGenerator(((32, 64),), ((0.5, 1.0, 2.0),)): x before y there.
    coarse, fine = corner_anchors(352, 320, [(6, 5), (11, 10)], ((32.0, 64.0), (32.0,)), (0.5, 1.0, 2.0))
    assert coarse.dtype == np.float32 and coarse.shape == (6 * 5 * 6, 4) and fine.shape == (11 * 10 * 3, 4)
    expected = [[-11, -23, 11, 23], [-23, -45, 23, 45], [-16, -16, 16, 16], [-32, -32, 32, 32],
                [-23, -11, 23, 11], [-45, -23, 45, 23]]  # fmt: skip
    np.testing.assert_array_equal(coarse[:6], expected)
    # A stride is rounded down: 352 / 6 is 58.67.
    np.testing.assert_array_equal(
        coarse[(4 * 5 + 3) * 6 + 2], [4 * 58 - 16, 3 * 64 - 16, 4 * 58 + 16, 3 * 64 + 16]
    )
    np.testing.assert_array_equal(
        fine[(2 * 10 + 7) * 3 + 1], [2 * 32 - 16, 7 * 32 - 16, 2 * 32 + 16, 7 * 32 + 16]
    )
