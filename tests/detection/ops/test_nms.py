"""Suppression against greedy loops in float64."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.detection.ops.nms import nms, soft_nms

COUNT = 200  # several blocks, the last one not full
KEEP = 60


def crowd(seed: int, *, offset: float = 0.0, distinct_scores: int | None = None):
    """Boxes in groups, their scores, and labels; whole pixels, so that overlaps are exact in float32."""
    generator = np.random.default_rng(seed)
    centres = generator.integers(20, 180, (25, 2))[generator.integers(0, 25, COUNT)]
    centres = centres + generator.integers(-6, 7, (COUNT, 2))
    half = generator.integers(5, 20, (COUNT, 2))
    boxes = np.float32(np.concatenate([centres - half, centres + half], axis=1)) + np.float32(offset)
    scores = np.float32(generator.random(COUNT))
    if distinct_scores is not None:
        scores = np.float32(generator.integers(0, distinct_scores, COUNT) / 8)
    return boxes, scores, generator.integers(0, 3, COUNT)


def overlap(a, b) -> float:
    a, b = np.float64(a), np.float64(b)
    height, width = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if height <= 0 or width <= 0:
        return 0.0
    shared = height * width
    return shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared)


def greedy(boxes, scores, threshold, *, mask=None, labels=None) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        alike = kept if labels is None else [i for i in kept if labels[i] == labels[index]]
        if mask is not None and not mask[index]:
            continue
        if all(overlap(boxes[index], boxes[i]) <= threshold for i in alike):
            kept.append(index)
    return kept


def softly(boxes, scores, method, threshold, sigma, least, *, mask, labels) -> tuple[list[int], list[float]]:
    scores, kept, values = np.float64(scores), [], []
    left = [i for i in range(len(boxes)) if mask[i]]
    while left:
        best = max(left, key=lambda i: (scores[i], -i))
        if scores[best] < least:
            break
        kept.append(best)
        values.append(scores[best])
        left.remove(best)
        for i in left:
            if labels is None or labels[i] == labels[best]:
                iou = overlap(boxes[i], boxes[best])
                if method == "gaussian":
                    scores[i] *= np.exp(-(iou**2) / sigma)
                elif iou > threshold:
                    scores[i] *= 1 - iou
    return kept, values


suppress = jax.jit(partial(nms, keep=KEEP), static_argnames="iou_threshold")


def chosen(kept) -> list[int]:
    valid = np.asarray(kept.valid)
    assert not np.diff(valid.astype(int)).max(initial=0) > 0  # those that are valid come first
    assert not np.asarray(kept.indices)[~valid].any()
    return list(np.asarray(kept.indices)[valid])


@pytest.mark.parametrize("distinct_scores", [None, 3, 1])
@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_nms_is_the_greedy_loop(threshold, distinct_scores):
    for seed, offset in ((0, 0), (1, 100_000)):
        boxes, scores, labels = crowd(seed, offset=offset, distinct_scores=distinct_scores)
        mask = np.random.default_rng(seed).random(COUNT) < 0.8
        for given in ({}, {"mask": mask}, {"mask": mask, "labels": labels}):
            expected = greedy(boxes, scores, threshold, **given)
            found = suppress(boxes, scores, iou_threshold=threshold, **given)
            assert chosen(found) == expected[:KEEP]
            if given == {}:
                assert (len(expected) > KEEP) == (threshold > 0)  # both ends of the loop are met


def test_overlap_at_the_threshold_is_kept():
    boxes = np.float32([[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 4.9]])
    scores = np.float32([0.9, 0.8, 0.7])
    assert chosen(jax.jit(partial(nms, iou_threshold=0.5, keep=3))(boxes, scores)) == [0, 1]


def test_long_chains_of_overlaps():
    steps = np.arange(COUNT, dtype=np.float32)[:, None] * np.float32([0, 4, 0, 4])
    boxes = np.float32([0, 0, 10, 10]) + steps  # each overlaps with the next two
    found = suppress(boxes, -np.arange(COUNT, dtype=np.float32), iou_threshold=0.2)
    assert chosen(found) == list(range(0, COUNT, 2))[:KEEP]


def test_few_boxes_none_and_boxes_without_area():
    boxes = np.float32([[5, 5, 5, 9], [5, 5, 5, 9], [0, 0, 9, 9], [0, 0, 9, 9], [4, 4, 2, 2]])
    scores = np.float32([0.5, 0.5, 0.4, np.nan, 0.6])
    hard = jax.jit(partial(nms, iou_threshold=0.5, keep=8))
    gently = jax.jit(partial(soft_nms, keep=8))
    everything, nothing = np.ones(5, bool), np.zeros(5, bool)
    found = hard(boxes, scores, mask=everything)
    assert found.indices.shape == found.valid.shape == (8,)
    assert chosen(found) == [4, 0, 1, 2]
    assert chosen(hard(boxes, scores, mask=nothing)) == []
    no_boxes = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    assert chosen(jax.jit(partial(nms, iou_threshold=0.5, keep=2))(*no_boxes)) == []
    assert chosen(soft_nms(*no_boxes, keep=2)) == []
    soft = gently(boxes, scores, mask=everything)
    assert chosen(soft) == [4, 0, 1, 2]
    np.testing.assert_allclose(soft.scores, [0.6, 0.5, 0.5, 0.4, 0, 0, 0, 0])
    assert chosen(gently(boxes, scores, mask=nothing)) == []


def test_a_batch_is_its_images():
    batch = [crowd(seed) for seed in (3, 4, 5)]
    masks = np.array([[True] * COUNT, [False] * COUNT, [True] * 100 + [False] * 100])
    boxes, scores, labels = map(np.stack, zip(*batch, strict=True))
    call = partial(nms, iou_threshold=0.3, keep=KEEP)
    found = jax.jit(jax.vmap(lambda b, s, m, c: call(b, s, mask=m, labels=c)))(boxes, scores, masks, labels)
    for image in range(3):
        expected = greedy(boxes[image], scores[image], 0.3, mask=masks[image], labels=labels[image])
        assert chosen(jax.tree.map(lambda of, i=image: of[i], found)) == expected[:KEEP]


@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_soft_nms_is_the_loop(method):
    settings = {"method": method, "iou_threshold": 0.3, "sigma": 0.5, "score_threshold": 0.05}
    call = jax.jit(partial(soft_nms, keep=COUNT, **settings))
    for seed in (6, 7):
        boxes, scores, labels = crowd(seed)
        mask = np.random.default_rng(seed).random(COUNT) < 0.8
        for of_class in (None, labels):
            kept, values = softly(boxes, scores, method, 0.3, 0.5, 0.05, mask=mask, labels=of_class)
            found = call(boxes, scores, mask=mask, labels=of_class)
            assert chosen(found) == kept
            np.testing.assert_allclose(np.asarray(found.scores)[: len(values)], values, rtol=1e-4)
            assert 0 < len(kept) < mask.sum()  # some fell below the least score


def test_soft_nms_of_equal_boxes():
    found = soft_nms(jnp.ones((4, 4)) * jnp.arange(4), jnp.array([0.2, 0.4, 0.4, 0.3]), keep=4)
    assert chosen(found) == [1]
    found = soft_nms(
        jnp.ones((3, 4)) * jnp.arange(4), jnp.array([0.2, 0.4, 0.3]), method="gaussian", sigma=0.5, keep=3
    )
    assert chosen(found) == [1, 2, 0]
    np.testing.assert_allclose(found.scores, [0.4, 0.3 * np.exp(-2), 0.2 * np.exp(-4)], rtol=1e-5)


def test_soft_nms_of_ties_and_unknown_methods():
    boxes, scores, _ = crowd(8, distinct_scores=1)
    kept, _ = softly(boxes, scores, "linear", 2.0, 0.5, 0.0, mask=np.ones(COUNT, bool), labels=None)
    assert chosen(soft_nms(boxes, scores, iou_threshold=2.0, score_threshold=0.0, keep=20)) == kept[:20]
    with pytest.raises(ValueError, match="'linear' or 'gaussian'"):
        soft_nms(boxes, scores, method="hard", keep=2)


def test_choices_are_constant_near_a_point_and_have_no_gradient():
    boxes, scores, _ = crowd(9)
    nudged = boxes + np.float32(np.random.default_rng(0).normal(size=boxes.shape) * 1e-4)
    threshold = 0.41237  # no pair of these lies near it
    assert chosen(suppress(boxes, scores, iou_threshold=threshold)) == chosen(
        suppress(nudged, scores, iou_threshold=threshold)
    )

    def sum_of_chosen(call, boxes, scores):
        picked = call(boxes, scores).indices
        return jnp.sum(boxes[picked]), picked

    for call in (partial(nms, iou_threshold=threshold, keep=9), partial(soft_nms, keep=9)):
        gradient, picked = jax.jit(jax.grad(partial(sum_of_chosen, call), has_aux=True))(boxes, scores)
        np.testing.assert_array_equal(gradient, np.isin(np.arange(COUNT), picked)[:, None] * np.ones(4))
