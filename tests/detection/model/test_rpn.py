"""Region proposals and their losses against loops over anchors in float64."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.detection.config import ProposalOptions
from fsljax.detection.model.rpn import ProposalHead, proposal_losses, propose, sizes_of_levels, smooth_l1
from fsljax.detection.ops.anchors import pyramid_anchors
from fsljax.detection.ops.boxes import encode, iou

OPTIONS = ProposalOptions(
    sizes=(8.0, 16.0), ratios=(0.5, 1.0), before_nms=20, keep=6, sampled=500, positive_fraction=1.0
)
ANCHORS = [pyramid_anchors(32, 32, (4 * 2**n,), ((OPTIONS.sizes[n],),), OPTIONS.ratios) for n in range(2)]
FLAT = np.concatenate(ANCHORS)
TRUTHS = np.array([[4.0, 4.0, 14.0, 12.0], [16.0, 10.0, 30.0, 28.0], [0, 0, 0, 0]], np.float32)
MASK = np.array([True, True, False])


def test_the_head_orders_its_outputs_as_anchors_are_ordered():
    # A place of a level that alone is lit answers at that place's anchors.
    head = ProposalHead(2)
    levels = [np.zeros((1, 8, 8, 3), np.float32), np.zeros((1, 4, 4, 3), np.float32)]
    variables = head.init(jax.random.key(0), levels)
    dark, _ = head.apply(variables, levels)
    levels[1][0, 2, 1] = 5.0
    lit, deltas = head.apply(variables, levels)
    assert [x.shape for x in (*lit, *deltas)] == [(1, 128), (1, 32), (1, 128, 4), (1, 32, 4)]
    np.testing.assert_array_equal(lit[0], dark[0])
    changed = np.flatnonzero(np.asarray(lit[1] != dark[1])[0])
    centres = (ANCHORS[1][changed, :2] + ANCHORS[1][changed, 2:]) / 2
    assert np.abs(centres - [20, 12]).max() <= 8  # the 3 × 3 window around it


def logits_and_deltas(images: int) -> tuple[list[jax.Array], list[jax.Array]]:
    keys = jax.random.split(jax.random.key(3), 4)
    logits = [jax.random.normal(keys[n], (images, len(ANCHORS[n]))) for n in range(2)]
    deltas = [0.2 * jax.random.normal(keys[n + 2], (images, len(ANCHORS[n]), 4)) for n in range(2)]
    return logits, deltas


def test_proposals_are_the_best_of_each_level_decoded_clipped_and_suppressed():
    logits, deltas = logits_and_deltas(2)
    heights = np.array([32.0, 20.0], np.float32)
    found = jax.jit(lambda h: propose(logits, deltas, ANCHORS, h, 32.0, OPTIONS))(heights)
    for image in range(2):
        candidates = []
        for level in range(2):
            order = np.argsort(-np.asarray(logits[level][image]), kind="stable")[: OPTIONS.before_nms]
            for place in order:
                dy, dx, dh, dw = np.asarray(deltas[level][image, place], np.float64)
                top, left, bottom, right = ANCHORS[level][place].astype(np.float64)
                h, w = bottom - top, right - left
                y, x = (top + bottom) / 2 + dy * h, (left + right) / 2 + dx * w
                h, w = h * np.exp(dh), w * np.exp(dw)
                box = np.array([y - h / 2, x - w / 2, y + h / 2, x + w / 2])
                box = np.clip(box, 0, [heights[image], 32, heights[image], 32])
                if min(box[2] - box[0], box[3] - box[1]) >= 1:
                    candidates.append((float(logits[level][image, place]), box))
        kept: list[np.ndarray] = []
        for _, box in sorted(candidates, key=lambda candidate: -candidate[0]):
            if len(kept) < OPTIONS.keep and (
                not kept or np.max(iou(jnp.asarray(box[None]), jnp.asarray(np.stack(kept)))) <= 0.7
            ):
                kept.append(box)
        np.testing.assert_allclose(found.boxes[image][found.valid[image]], np.stack(kept), atol=1e-3)
        assert np.all(np.diff(found.scores[image]) <= 0)


def test_proposals_have_no_gradient():
    logits, deltas = logits_and_deltas(1)

    def total(deltas: list[jax.Array]) -> jax.Array:
        return jnp.sum(propose(logits, deltas, ANCHORS, 32.0, 32.0, OPTIONS).boxes)

    assert all(np.all(np.asarray(g) == 0) for g in jax.grad(total)(deltas))


def test_losses_over_all_anchors_equal_those_of_a_loop():
    logits, deltas = (np.asarray(jnp.concatenate(x, axis=1)[0]) for x in logits_and_deltas(1))
    found = jax.jit(proposal_losses, static_argnums=6)(
        jax.random.key(0), logits, deltas, FLAT, TRUTHS, MASK, OPTIONS
    )
    overlap = np.asarray(iou(jnp.asarray(FLAT), jnp.asarray(TRUTHS[:2])), np.float64)
    best = (overlap == overlap.max(axis=0)).any(axis=1)
    objectness = boxes = 0.0
    count = 0
    for n in range(len(FLAT)):
        positive = overlap[n].max() >= 0.7 or best[n]
        if not positive and overlap[n].max() >= 0.3:
            continue
        count += 1
        objectness += np.log1p(np.exp(-logits[n] if positive else logits[n]))
        if positive:
            target = encode(jnp.asarray(TRUTHS[overlap[n].argmax()]), jnp.asarray(FLAT[n]))
            for error in np.abs(deltas[n] - np.asarray(target, np.float64)):
                boxes += error**2 * 4.5 if error < 1 / 9 else error - 1 / 18
    assert 0 < count < len(FLAT)
    np.testing.assert_allclose(found.objectness, objectness / count, rtol=1e-5)
    np.testing.assert_allclose(found.boxes, boxes / count, rtol=1e-5)


def test_an_image_without_truths_is_background():
    logits, deltas = (jnp.concatenate(x, axis=1)[0] for x in logits_and_deltas(1))
    nothing = np.zeros(3, bool)
    found = proposal_losses(jax.random.key(0), logits, deltas, FLAT, TRUTHS, nothing, OPTIONS)
    np.testing.assert_allclose(found.objectness, np.mean(np.log1p(np.exp(logits))), rtol=1e-5)
    assert found.boxes == 0


@pytest.mark.parametrize("beta", [1.0, 1 / 9])
def test_smooth_l1_is_quadratic_then_linear_and_both_meet(beta: float):
    errors = np.linspace(-2, 2, 41).reshape(-1, 1) * [1.0, 0.0, 0.0, 0.0]
    wanted = np.where(np.abs(errors) < beta, errors**2 / (2 * beta), np.abs(errors) - beta / 2).sum(axis=1)
    np.testing.assert_allclose(smooth_l1(jnp.asarray(errors), beta=beta), wanted, atol=1e-5)


def test_sizes_are_divided_evenly_among_levels():
    assert sizes_of_levels((8, 12.0, 16.0, 24.0), 2) == ((8.0, 12.0), (16.0, 24.0))
    with pytest.raises(ValueError, match="3 sizes cannot be divided among 2 levels"):
        sizes_of_levels((8.0, 16.0, 24.0), 2)


def test_levels_may_be_suppressed_by_themselves_and_weak_or_small_proposals_dropped():
    # The same box on both levels, and a sliver beside it on the first.
    anchors = [np.float32([[4, 4, 12, 12], [20, 20, 20.5, 30]]), np.float32([[4, 4, 12, 12]])]
    logits, deltas = (
        [jnp.array([[2.0, 1.0]]), jnp.array([[-3.0]])],
        [jnp.zeros((1, 2, 4)), jnp.zeros((1, 1, 4))],
    )

    def scores(**options) -> list[float]:
        found = propose(logits, deltas, anchors, 32.0, 32.0, replace(OPTIONS, **options))
        return [round(float(score), 2) for score in found.scores[0][found.valid[0]]]

    assert scores() == [0.88]
    assert scores(by_level=True) == [0.88, 0.05]
    assert scores(by_level=True, least_side=0.1) == [0.88, 0.73, 0.05]
    assert scores(by_level=True, score_threshold=0.1) == [0.88]


def test_the_head_may_have_several_convolutions():
    levels = [np.ones((1, 4, 4, 3), np.float32)]
    params = ProposalHead(2, convolutions=2).init(jax.random.key(0), levels)["params"]
    assert sorted(params) == ["changes", "objectness", "shared", "shared1"]
