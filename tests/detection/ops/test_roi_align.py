"""RoIAlign against a float64 reference, point by point, finite differences, and maps of known values."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.detection.ops.roi_align import roi_align

STRIDES, CANONICAL_SIZE, CANONICAL_LEVEL, CHANNELS = (4, 8, 16), 32.0, 1, 3
HEIGHT, WIDTH = 64, 96
SETTINGS = {"strides": STRIDES, "canonical_size": CANONICAL_SIZE, "canonical_level": CANONICAL_LEVEL}
align = jax.jit(partial(roi_align, **SETTINGS))

EDGE_CASES = np.float32(
    [
        [0, 0, HEIGHT, WIDTH],
        [-30, -20, 20, 15],  # partly outside
        [50, 80, 90, 140],
        [-40, -60, -10, -30],  # wholly outside, more than half a cell away
        [-9, 0, -1, 8],
        [10, 12, 10, 12],  # no area
        [10, 12, 10, 40],
        [30, 20, 20, 10],  # ends before its start
        [0, 0, 32, 32],  # exactly of the canonical size
        [0, 0, 31.9, 32],
        [0, 0, 64, 64],
        [1000, 1000, 5000, 5000],
    ]
)


def levels(seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [np.float32(generator.normal(size=(HEIGHT // s, WIDTH // s, CHANNELS))) for s in STRIDES]


def random_boxes(seed: int, count: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    starts = generator.uniform(-10, 50, (count, 2))
    return np.float32(
        np.concatenate([starts, starts + np.exp(generator.uniform(0, 4.3, (count, 2)))], axis=1)
    )


def interpolated(image: np.ndarray, y: float, x: float) -> np.ndarray:
    height, width = image.shape[:2]
    if y < -1 or y > height or x < -1 or x > width:
        return np.zeros(image.shape[2])
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = min(int(y), height - 2), min(int(x), width - 2)
    below, right = y - top, x - left
    return (
        image[top, left] * (1 - below) * (1 - right)
        + image[top, left + 1] * (1 - below) * right
        + image[top + 1, left] * below * (1 - right)
        + image[top + 1, left + 1] * below * right
    )


def reference(maps, boxes, bins=7, samples=2, *, aligned=True) -> np.ndarray:
    features = np.zeros((len(boxes), bins, bins, CHANNELS))
    for box, into in zip(np.float64(boxes), features, strict=True):
        size = math.sqrt(max(box[2] - box[0], 0) * max(box[3] - box[1], 0))
        level = math.floor(CANONICAL_LEVEL + math.log2(size / CANONICAL_SIZE)) if size else 0
        level = min(max(level, 0), len(maps) - 1)
        top, left, bottom, right = box / STRIDES[level] - (0.5 if aligned else 0)
        if not aligned:
            bottom, right = max(bottom, top + 1), max(right, left + 1)
        for i, j in np.ndindex(bins, bins):
            for u, v in np.ndindex(samples, samples):
                y = top + (i + (u + 0.5) / samples) * (bottom - top) / bins
                x = left + (j + (v + 0.5) / samples) * (right - left) / bins
                into[i, j] += interpolated(np.float64(maps[level]), y, x) / samples**2
    return features


def test_features_are_those_of_the_reference():
    maps, boxes = levels(), np.concatenate([random_boxes(0, 40), EDGE_CASES])
    found = align(maps, boxes)
    np.testing.assert_allclose(found, reference(maps, boxes), atol=2e-5)
    np.testing.assert_array_equal(found[40 + 3], 0)
    np.testing.assert_array_equal(found[-1], 0)


def test_unaligned_regions_are_half_a_cell_off_and_a_cell_wide_at_least():
    maps, boxes = levels(), np.concatenate([random_boxes(0, 40), EDGE_CASES])
    found = jax.jit(partial(roi_align, **SETTINGS, aligned=False))(maps, boxes)
    np.testing.assert_allclose(found, reference(maps, boxes, aligned=False), atol=2e-5)
    assert np.abs(found - align(maps, boxes)).max() > 0.1


def test_a_region_may_miss_its_level_by_a_tolerance():
    maps, box = levels(), np.float32([[0, 0, 63.9, 64]])
    settings = {**SETTINGS, "samples": 1, "output_size": 1}
    below, above = (
        roi_align(maps, box, **settings, level_tolerance=tolerance) for tolerance in (0.001, 0.01)
    )
    exact = roi_align(maps, np.float32([[0, 0, 64, 64]]), **settings)
    assert np.abs(above - exact).max() < 0.05 < np.abs(below - exact).max()


def test_levels_of_one_stride_give_the_first():
    maps, boxes = levels()[:1] * 2, random_boxes(0, 10)
    settings = {"strides": (4, 4), "canonical_size": 4.0, "canonical_level": 0}
    first = roi_align(maps[:1], boxes, **{**settings, "strides": (4,)})
    np.testing.assert_array_equal(roi_align([maps[0], 0 * maps[0]], boxes, **settings), first)


def test_other_bins_and_samples():
    maps, boxes = levels(1), random_boxes(1, 6)
    found = jax.jit(partial(roi_align, output_size=3, samples=3, **SETTINGS))(maps, boxes)
    np.testing.assert_allclose(found, reference(maps, boxes, bins=3, samples=3), atol=2e-5)


def test_a_plane_is_read_at_the_centres_of_the_bins():
    maps = []
    for stride in STRIDES:
        y, x = np.meshgrid(
            (np.arange(HEIGHT // stride) + 0.5) * stride,
            (np.arange(WIDTH // stride) + 0.5) * stride,
            indexing="ij",
        )
        maps.append(np.float32(np.stack([y, x, np.ones_like(y)], axis=-1)))
    boxes = np.float32([[10, 9, 24, 30], [9, 10, 51, 59], [14.5, 20.25, 50, 84]])
    for box, features in zip(boxes, align(maps, boxes), strict=True):
        centres = box[:2] + (np.arange(7)[:, None] + 0.5) * (box[2:] - box[:2]) / 7
        np.testing.assert_allclose(features[..., 0], np.broadcast_to(centres[:, :1], (7, 7)), rtol=1e-5)
        np.testing.assert_allclose(features[..., 1], np.broadcast_to(centres[:, 1], (7, 7)), rtol=1e-5)
        np.testing.assert_allclose(features[..., 2], 1, rtol=1e-5)


def test_gradients_are_finite_differences():
    maps, boxes = levels(2), np.concatenate([random_boxes(2, 40), EDGE_CASES])
    generator = np.random.default_rng(3)
    outer = np.float32(generator.normal(size=(len(boxes), 7, 7, CHANNELS)))
    gradients = jax.jit(jax.grad(lambda x: jnp.sum(roi_align(x, boxes, **SETTINGS) * outer)))(maps)
    assert all(np.isfinite(of).all() and np.any(of) for of in gradients)
    # The features are linear in the maps: a difference of any length is exact.
    directions = levels(4)
    change = np.vdot(outer, reference(directions, boxes))
    np.testing.assert_allclose(sum(map(np.vdot, gradients, directions)), change, rtol=1e-4)
    for level, cell in ((0, (3, 4, 1)), (1, (0, 11, 0)), (2, (3, 5, 2))):
        single = [np.zeros_like(of) for of in maps]
        single[level][cell] = 1
        np.testing.assert_allclose(
            gradients[level][cell], np.vdot(outer, reference(single, boxes)), atol=1e-3
        )


def test_a_batch_is_its_images_and_boxes_have_no_gradient():
    maps = [np.stack(of) for of in zip(levels(5), levels(6), strict=True)]
    boxes = np.stack([np.concatenate([random_boxes(seed, 40), EDGE_CASES]) for seed in (5, 6)])

    def total(x, y):
        return jnp.sum(jnp.square(jax.vmap(partial(roi_align, **SETTINGS))(x, y)))

    (of_maps, of_boxes) = jax.jit(jax.grad(total, argnums=(0, 1)))(maps, boxes)
    of_one = jax.jit(jax.grad(lambda x, y: jnp.sum(jnp.square(roi_align(x, y, **SETTINGS)))))
    for image in (0, 1):
        alone = of_one([of[image] for of in maps], boxes[image])
        for batched, single in zip(of_maps, alone, strict=True):
            np.testing.assert_allclose(batched[image], single, atol=1e-4)
    np.testing.assert_array_equal(of_boxes, 0)


def test_maps_of_half_precision_are_summed_in_float32():
    maps, boxes = [jnp.asarray(of, jnp.bfloat16) for of in levels(7)], random_boxes(7, 20)
    value = jax.jit(jax.value_and_grad(lambda x: jnp.sum(roi_align(x, boxes, **SETTINGS))))
    total, gradients = value(maps)
    expected, wide = value([of.astype(jnp.float32) for of in maps])
    np.testing.assert_allclose(total, expected, rtol=1e-4)
    for of, exact in zip(gradients, wide, strict=True):
        assert of.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.float32(of), exact, rtol=2**-8)


def test_no_number_is_no_crash():
    boxes = np.float32([[np.nan] * 4, [0, 0, np.inf, np.inf], [4, 4, 20, 20]])
    found = np.asarray(jax.jit(partial(roi_align, **SETTINGS))(levels(), boxes))
    assert np.isfinite(found[2]).all()
    with pytest.raises(ValueError, match="2 levels but 3 strides"):
        roi_align(levels()[:2], boxes, **SETTINGS)
