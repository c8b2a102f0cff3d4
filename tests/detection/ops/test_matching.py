"""Matching, sampling and the choice of hard examples, against their definitions."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.detection.ops.matching import hardest, match, sample


def reference(iou, truth_mask, high, low, best_anchor_of_each):
    labels, truth = [], []
    real = np.flatnonzero(truth_mask)
    for row in iou:
        best = max(real, key=lambda index: row[index], default=0)
        value = row[best] if len(real) else 0.0
        label = 1 if value >= high else 0 if value < low or not len(real) else -1
        if best_anchor_of_each and any(row[i] > 0 and row[i] == iou[:, i].max() for i in real):
            label = 1
        labels.append(label)
        truth.append(best if value > 0 else 0)
    return labels, truth


@pytest.mark.parametrize("best_anchor_of_each", [True, False])
def test_match_is_its_definition(best_anchor_of_each):
    matching = jax.jit(partial(match, high=0.7, low=0.3, best_anchor_of_each=best_anchor_of_each))
    generator = np.random.default_rng(0)
    forced = 0
    for truths in (0, 1, 3, 5):
        # Tenths, so that anchors tie and values lie on the thresholds.
        iou = np.float32(generator.integers(0, 8, (40, 5)) / 10) * (generator.random((40, 5)) < 0.5)
        iou = iou.astype(np.float32)
        iou[:, 0] = np.minimum(iou[:, 0], np.float32(0.4))  # no anchor would be positive for this one
        mask = np.arange(5) < truths
        labels, truth = reference(iou, mask, np.float32(0.7), np.float32(0.3), best_anchor_of_each)
        found = matching(iou, mask)
        np.testing.assert_array_equal(found.labels, labels)
        np.testing.assert_array_equal(found.truth, truth)
        forced += np.sum((found.labels == 1) & (np.where(mask, iou, 0).max(axis=1) < 0.7))
    assert (forced > 0) == best_anchor_of_each


def test_no_truths_make_all_negative():
    for truths in (0, 2):
        found = match(jnp.full((3, truths), 0.9), jnp.zeros(truths, bool), high=0.5, low=0.0)
        np.testing.assert_array_equal(found.labels, [0, 0, 0])
        np.testing.assert_array_equal(found.truth, [0, 0, 0])
    with pytest.raises(ValueError, match="low must not be above high"):
        match(jnp.zeros((3, 2)), jnp.ones(2, bool), high=0.3, low=0.7)


@pytest.mark.parametrize(
    ("positives", "negatives", "of_each"),
    [(20, 60, (4, 12)), (2, 60, (2, 14)), (20, 5, (4, 5)), (0, 3, (0, 3)), (0, 0, (0, 0))],
)
def test_sample_draws_what_there_is(positives, negatives, of_each):
    labels = np.full(100, -1)
    where = np.random.default_rng(1).permutation(100)
    labels[where[:positives]] = 1
    labels[where[positives : positives + negatives]] = 0
    drawing = jax.jit(jax.vmap(partial(sample, count=16, positive_fraction=0.25), in_axes=(0, None)))
    drawn = drawing(jax.random.split(jax.random.key(0), 50), labels)
    times = np.zeros(100)
    for indices, valid in zip(np.asarray(drawn.indices), np.asarray(drawn.valid), strict=True):
        chosen = indices[valid]
        assert len(set(chosen)) == len(chosen) == sum(of_each)
        assert list(labels[chosen]) == [1] * of_each[0] + [0] * of_each[1]
        times[chosen] += 1
    if positives == 20:
        assert (times[labels == 1] > 0).all()  # 4 of 20, 50 times: none is left out but once in 3,000 runs


def test_sample_of_few_and_without_positives():
    few = sample(jax.random.key(0), jnp.array([0, 1, -1]), 5, 0.5)
    assert list(np.asarray(few.indices)[np.asarray(few.valid)]) == [1, 0]
    none = sample(jax.random.key(0), jnp.array([0, 1, 0, 0]), 2, 0.0)
    assert np.asarray(none.valid).all()
    assert not np.isin(1, none.indices)


@pytest.mark.parametrize("count", [0, 3, 20, 60])
def test_hardest_are_the_largest_losses(count):
    generator = np.random.default_rng(2)
    losses = np.float32(generator.integers(0, 6, 50))
    valid = generator.random(50) < 0.6
    order = sorted(np.flatnonzero(valid), key=lambda index: (-losses[index], index))
    expected = np.isin(np.arange(50), order[:count])
    np.testing.assert_array_equal(hardest(losses, valid, count), expected)
    gradient = jax.grad(lambda x: jnp.sum(jnp.where(hardest(x, valid, count), x, 0)))(losses)
    np.testing.assert_array_equal(gradient, expected)
