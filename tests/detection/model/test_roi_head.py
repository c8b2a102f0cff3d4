"""The head's scores against their formulas in float64, and the regions it learns from."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.detection.config import RoIOptions
from fsljax.detection.model.roi_head import RoIHead, repmet_scores, roi_targets, squared_distances
from fsljax.detection.ops.boxes import iou

RNG = np.random.default_rng(0)


def unit(*shape: int) -> np.ndarray:
    x = RNG.normal(size=shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_scores_are_the_softmax_of_the_posteriors_and_the_background():
    embeddings, representatives = unit(2, 3, 8), unit(4, 2, 8)
    embeddings[0, 0] = representatives[1, 1]
    found = jax.jit(repmet_scores)(embeddings, representatives, 0.5)
    squares = np.sum((embeddings[..., None, None, :] - representatives) ** 2, axis=-1)
    p = np.exp(-squares / (2 * 0.5**2)).max(axis=-1)
    logits = 15 * np.concatenate([1 - p.max(axis=-1, keepdims=True), p], axis=-1)
    wanted = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    assert np.argmax(found[0, 0]) == 1 + 1


def test_distances_are_never_negative_and_have_finite_gradients_at_a_representative():
    x = unit(64, 32).astype(np.float32)
    found = np.asarray(squared_distances(x, x[:, None]))
    assert found.min() >= 0
    np.testing.assert_allclose(np.diagonal(found[..., 0]), 0, atol=1e-6)
    gradient = jax.grad(lambda x: jnp.sum(repmet_scores(x, x[:, None], 0.5)[:, 0]))(jnp.asarray(x))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("normalize", [True, False])
def test_the_head_is_dense_layers_on_all_places_of_a_region(normalize: bool):
    head = RoIHead(hidden=16, dim=4, classes=3, normalize=normalize)

    def everything(head: RoIHead, pooled: jax.Array) -> tuple[jax.Array, ...]:
        roi = head(pooled)
        return head.embed(roi), head.box_changes(roi), head.linear_logits(roi)

    pooled = RNG.normal(size=(2, 5, 3, 3, 2)).astype(np.float32)
    variables = head.init(jax.random.key(0), pooled, method=everything)
    embedded, changes, logits = head.apply(variables, pooled, method=everything)
    params: Any = jax.tree.map(lambda x: np.asarray(x, np.float64), variables["params"])

    def dense(name: str, x: np.ndarray) -> np.ndarray:
        return x @ params[name]["kernel"] + params[name]["bias"]

    roi = np.maximum(dense("hidden1", np.maximum(dense("hidden0", pooled.reshape(2, 5, 18)), 0)), 0)
    wanted = dense("embedding", roi)
    if normalize:
        wanted /= np.linalg.norm(wanted, axis=-1, keepdims=True)
    np.testing.assert_allclose(embedded, wanted, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(changes, dense("changes", roi), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(logits, dense("linear", roi), rtol=1e-4, atol=1e-6)


def test_linear_scores_are_refused_in_words_where_there_are_none():
    with pytest.raises(ValueError, match="classes=0"):
        RoIHead(2, 2).init(jax.random.key(0), jnp.zeros((1, 2)), method="linear_logits")


TRUTHS = np.array([[10, 10, 30, 30], [40, 40, 60, 50], [0, 0, 0, 0]], np.float32)
LABELS = np.array([7, 0, 0])
MASK = np.array([True, True, False])
PROPOSALS = np.array(
    [[12, 12, 32, 32], [0, 0, 5, 5], [41, 40, 60, 50], [10, 10, 30, 30], [10, 25, 30, 45]], np.float32
)


def draw(options: RoIOptions, valid: np.ndarray, mask: np.ndarray, seed: int = 0) -> Any:
    return jax.jit(roi_targets, static_argnums=6)(
        jax.random.key(seed), PROPOSALS, valid, TRUTHS, LABELS, mask, options
    )


def test_regions_are_proposals_truths_and_regions_around_these_with_their_classes():
    options = RoIOptions(sampled=40, positive_fraction=0.5, jittered=3)
    valid = np.array([True, True, True, False, True])
    found = jax.tree.map(np.asarray, draw(options, valid, MASK))
    boxes, labels = found.boxes[found.valid], found.labels[found.valid]
    overlaps = np.asarray(iou(jnp.asarray(boxes), jnp.asarray(TRUTHS[:2])))
    wanted = np.where(overlaps.max(axis=1) >= 0.5, 1 + LABELS[:2][overlaps.argmax(axis=1)], 0)
    np.testing.assert_array_equal(labels, wanted)
    np.testing.assert_array_equal(found.true_boxes[found.valid], TRUTHS[overlaps.argmax(axis=1)])
    # Two truths, three regions around each, and two of the four valid proposals are positive.
    assert (labels > 0).sum() == 2 + 6 + 2
    assert (labels == 0).sum() == 2
    around = overlaps.max(axis=1)[labels > 0]
    assert (around < 1).any() and (around >= 0.6).all()
    assert (labels[: (labels > 0).sum()] > 0).all(), "positives come first"


def test_no_more_than_the_share_is_positive_and_padding_is_never_drawn():
    options = RoIOptions(sampled=8, positive_fraction=0.25, jittered=2)
    for seed in range(5):
        found = jax.tree.map(np.asarray, draw(options, np.ones(5, bool), MASK, seed))
        assert (found.labels > 0).sum() == 2
        assert not (found.valid & (found.boxes == 0).all(axis=1)).any()


def test_an_image_without_truths_gives_background_alone():
    found = draw(RoIOptions(sampled=8, jittered=2), np.ones(5, bool), np.zeros(3, bool))
    assert found.valid.sum() == 5 and not found.labels.any()
