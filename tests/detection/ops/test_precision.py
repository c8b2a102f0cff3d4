"""Boxes of 16 bits are computed in float32; and of none at all nothing is kept."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.detection.model.inference import Suppression, detections
from fsljax.detection.ops.boxes import area, clip, decode, encode, iou
from fsljax.detection.ops.matching import hardest, match, sample
from fsljax.detection.ops.nms import nms, soft_nms
from fsljax.detection.ops.roi_align import roi_align

HALVES = [jnp.float16, jnp.bfloat16]
PYRAMID = {"strides": (16, 32), "canonical_size": 224.0, "canonical_level": 1}


def boxes(kind: type, count: int = 40) -> jax.Array:
    """Up to 800 pixels a side, with areas far beyond 65,504."""
    generator = np.random.default_rng(0)
    starts = generator.uniform(0, 400, (count, 2))
    return jnp.asarray(np.concatenate([starts, starts + generator.uniform(1, 800, (count, 2))], 1), kind)


@pytest.mark.parametrize("kind", HALVES)
def test_boxes_of_16_bits_are_measured_as_the_same_ones_in_float32(kind: type):
    half = boxes(kind)
    single = half.astype(jnp.float32)
    for measure in (area, lambda b: iou(b, b), lambda b: encode(b, b[::-1]), lambda b: clip(b, 70_000, 600)):
        found, expected = measure(half), measure(single)
        assert found.dtype == jnp.float32
        np.testing.assert_array_equal(found, expected)
        assert np.isfinite(np.asarray(found)).all()
    deltas = jnp.full((40, 4), 2.0, kind)
    np.testing.assert_array_equal(decode(deltas, half), decode(deltas.astype(jnp.float32), single))


@pytest.mark.parametrize("kind", HALVES)
def test_boxes_of_16_bits_are_suppressed_as_the_same_ones_in_float32(kind: type):
    half, scores = boxes(kind), jnp.linspace(1, 0.1, 40).astype(kind)
    single = half.astype(jnp.float32), scores.astype(jnp.float32)
    kept = nms(half, scores, iou_threshold=0.3, keep=40)
    assert 1 < kept.valid.sum() < 40
    np.testing.assert_array_equal(kept.indices, nms(*single, iou_threshold=0.3, keep=40).indices)
    soft, expected = soft_nms(half, scores, keep=40), soft_nms(*single, keep=40)
    np.testing.assert_array_equal(soft.indices, expected.indices)
    np.testing.assert_array_equal(soft.scores, expected.scores)
    twice = jnp.array([[0, 0, 400, 400], [0, 0, 400, 396]]).astype(kind)
    assert nms(twice, jnp.array([0.9, 0.8]).astype(kind), iou_threshold=0.5, keep=2).valid.sum() == 1


@pytest.mark.parametrize("kind", HALVES)
def test_features_and_matches_of_16_bits_are_those_of_float32(kind: type):
    half = boxes(kind)
    levels = [jnp.linspace(0, 1, 3 * side * side).reshape(side, side, 3).astype(kind) for side in (64, 32)]
    single = [level.astype(jnp.float32) for level in levels]
    found = roi_align(levels, half, **PYRAMID)
    np.testing.assert_array_equal(found, roi_align(single, half.astype(jnp.float32), **PYRAMID))
    overlaps = iou(half, half[:3]).astype(kind)
    mask = jnp.ones(3, bool)
    matched, expected = (match(given, mask, high=0.5, low=0.3) for given in (overlaps, np.float32(overlaps)))
    np.testing.assert_array_equal(matched.labels, expected.labels)


def test_of_no_boxes_nothing_is_kept_and_no_feature_made():
    none, nothing = jnp.zeros((0, 4)), jnp.zeros(0)
    assert not nms(none, nothing, iou_threshold=0.5, keep=3).valid.any()
    assert not soft_nms(none, nothing, keep=3).valid.any()
    assert iou(none, boxes(jnp.float32)).shape == (0, 40)
    assert roi_align([jnp.ones((8, 8, 2)), jnp.ones((4, 4, 2))], none, **PYRAMID).shape == (0, 7, 7, 2)
    for anchors, truths in ((5, 0), (0, 0), (0, 3)):
        matched = match(jnp.zeros((anchors, truths)), jnp.ones(truths, bool), high=0.7, low=0.3)
        np.testing.assert_array_equal(matched.labels, np.zeros(anchors))
    assert not sample(jax.random.key(0), jnp.zeros(0, int), 4, 0.5).valid.any()
    assert not hardest(nothing, jnp.zeros(0, bool), 3).any()


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("regions", "classes"), [(0, 3), (0, 1), (0, 0), (5, 0)])
def test_of_no_regions_or_classes_there_are_no_detections(regions: int, classes: int, soft: bool):
    found = detections(
        jnp.ones((regions, 4)), jnp.ones(regions, bool), jnp.ones((regions, 1 + classes)),
        Suppression(0.3, 4, soft=soft),
    )  # fmt: skip
    assert found.boxes.shape == (4, 4) and found.labels.dtype == jnp.int32
    assert not found.valid.any() and not found.scores.any() and not found.boxes.any()
