"""Verdicts on detections of episodes, against the judge of single images and the exact bootstrap."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from fsljax.detection.data.structures import Detections, GroundTruth, ground_truth_of_image
from fsljax.detection.evaluation.average_precision import average_precision, coco_average_precision
from fsljax.detection.evaluation.judging import Judged, judge
from fsljax.detection.evaluation.verdicts import (
    Verdict,
    Verdicts,
    coco_of_episode,
    half_width,
    judge_image,
    judge_image_as_coco,
    resampled_pooled,
    resamples,
)

from .episode_oracles import pool, resampled_average_precisions

EPISODES, QUERIES, FOUND, TRUTHS, WAY = 12, 5, 20, 6, 3


@pytest.fixture(scope="module")
def drawn() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shape = (EPISODES, QUERIES)
    corners = rng.integers(0, 30, (*shape, TRUTHS, 2))
    truths = np.concatenate([corners, corners + rng.integers(10, 20, corners.shape)], axis=-1)
    near = rng.integers(0, TRUTHS, (*shape, FOUND))
    moved = np.take_along_axis(truths, near[..., None], axis=2) + rng.integers(-4, 5, (*shape, FOUND, 4))
    truth_labels = rng.integers(0, WAY, (*shape, TRUTHS))
    labels = np.where(
        rng.random(near.shape) < 0.7,
        np.take_along_axis(truth_labels, near, axis=2),
        rng.integers(0, WAY, near.shape),
    )
    return {
        "boxes": moved.astype(np.float32),
        "labels": labels,
        "valid": np.sort(rng.random(near.shape) < 0.9, axis=-1)[..., ::-1],
        "scores": -np.sort(-rng.random(near.shape), axis=-1),
        "truths": truths.astype(np.float32),
        "truth_labels": truth_labels,
        "mask": rng.random(truth_labels.shape) < 0.8,
        "difficult": rng.random(truth_labels.shape) < 0.2,
        "crowd": rng.random(truth_labels.shape) < 0.2,
    }


@pytest.fixture(scope="module")
def verdicts(drawn: dict[str, np.ndarray]) -> Verdicts:
    found = jax.vmap(jax.vmap(judge_image))(*padded(drawn))
    positives = np.stack(
        [
            np.bincount(labels[mask & ~difficult], minlength=WAY)
            for labels, mask, difficult in zip(
                drawn["truth_labels"], drawn["mask"], drawn["difficult"], strict=True
            )
        ]
    )
    flat = (EPISODES, -1)
    return Verdicts(
        drawn["scores"].reshape(flat),
        drawn["labels"].reshape(flat),
        np.asarray(found.right).reshape(flat),
        np.asarray(found.counted).reshape(flat),
        positives,
    )


def padded(drawn: dict[str, np.ndarray]) -> tuple[Detections, GroundTruth]:
    return (
        Detections(*(drawn[name] for name in ("boxes", "scores", "labels", "valid"))),
        GroundTruth(*(drawn[name] for name in ("truths", "truth_labels", "mask", "difficult"))),
    )


def images_of(drawn: dict[str, np.ndarray], number: int) -> tuple[list[Detections], list[GroundTruth]]:
    found, truths = [], []
    for query in range(QUERIES):
        at = number, query
        valid, mask = drawn["valid"][at], drawn["mask"][at]
        found.append(Detections(*(drawn[n][at][valid] for n in ("boxes", "scores", "labels"))))
        true = (drawn[n][at][mask] for n in ("truths", "truth_labels", "difficult"))
        truths.append(ground_truth_of_image(*true))
    return found, truths


def reference(drawn: dict[str, np.ndarray], number: int) -> Judged:
    return judge(*images_of(drawn, number), num_classes=WAY)


def test_verdicts_are_those_of_the_judge(drawn: dict[str, np.ndarray], verdicts: Verdicts):
    for number in range(EPISODES):
        expected, found = reference(drawn, number), verdicts.of_episode(number)
        assert 0 < expected.right.sum() < len(expected.right)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_cocos_figure_of_an_episode_is_that_of_its_images(drawn: dict[str, np.ndarray], verdicts: Verdicts):
    as_coco = jax.jit(jax.vmap(jax.vmap(judge_image_as_coco)))(*padded(drawn))
    for number in range(EPISODES):
        # `[queries, ious, detections]` as `[ious, queries · detections]`
        right, counted = (np.moveaxis(np.asarray(part[number]), 1, 0).reshape(10, -1) for part in as_coco)
        figure = coco_of_episode(
            verdicts.scores[number],
            verdicts.labels[number],
            Verdict(right, counted),
            verdicts.positives[number],
        )
        expected = coco_average_precision(*images_of(drawn, number), num_classes=WAY).ap
        assert figure == pytest.approx(expected, abs=1e-6)
        assert 0 < figure < 0.9


@pytest.mark.parametrize("rule", ["voc", "coco"])
def test_crowds_are_judged_as_on_the_host(drawn: dict[str, np.ndarray], rule: str):
    found, truth = padded(drawn)
    truth = truth._replace(crowd=drawn["crowd"], difficult=drawn["difficult"] & ~drawn["crowd"])
    compiled = judge_image if rule == "voc" else judge_image_as_coco
    verdict = jax.jit(jax.vmap(jax.vmap(compiled)))(found, truth)
    changed = 0
    for at in np.ndindex(EPISODES, QUERIES):
        of_image = (
            [Detections(*(None if p is None else p[at] for p in found))],
            [GroundTruth(*(p[at] for p in truth))],
        )
        valid, mask = of_image[0][0].valid, of_image[1][0].mask
        detections = Detections(*(p[valid] for p in of_image[0][0][:3]))
        there = GroundTruth(*(p[mask] for p in of_image[1][0]))
        judged = judge([detections], [there], num_classes=WAY, rule=rule)
        right, counted = (
            np.asarray(part[at]) if rule == "voc" else np.asarray(part[at][0]) for part in verdict
        )
        np.testing.assert_array_equal(judged.right, right[counted])
        np.testing.assert_array_equal(judged.scores, drawn["scores"][at][counted])
        without = judge([detections], [there._replace(crowd=None)], num_classes=WAY, rule=rule)
        changed += len(without.scores) != len(judged.scores)
    assert changed > 10


def test_coco_counts_the_first_hundred_of_a_class_in_an_image():
    box = np.array([[0, 0, 10, 10]], np.float32)
    detections = Detections(
        np.concatenate([np.repeat(box + 50, 100, axis=0), box, box]),
        np.linspace(1, 0, 102),
        np.array([0] * 101 + [1]),
        np.ones(102, bool),
    )
    truth = ground_truth_of_image(np.repeat(box, 2, axis=0), np.array([0, 1]))
    right, counted = judge_image_as_coco(detections, truth)
    assert np.flatnonzero(np.asarray(right[0])).tolist() == [101]
    assert np.flatnonzero(~np.asarray(counted[0])).tolist() == [100]


def test_the_pooled_figure_ranks_all_episodes_together(drawn: dict[str, np.ndarray], verdicts: Verdicts):
    expected = pool([reference(drawn, number) for number in range(EPISODES)])
    assert average_precision(verdicts.pooled()) == pytest.approx(average_precision(expected))


def test_the_mean_is_over_the_classes_of_an_episode(verdicts: Verdicts):
    right = np.array([[True, False, True]])
    one = Verdicts(
        np.array([[0.9, 0.8, 0.7]]), np.array([[0, 0, 1]]), right, np.ones_like(right), np.array([[2, 1, 0]])
    )
    # Class 0: one of two is found, by the first detection; class 1: the only one; class 2 has no truths.
    assert one.mean_average_precisions() == pytest.approx([(0.5 + 1) / 2])
    assert verdicts.mean_average_precisions().shape == (EPISODES,)


def test_pooling_ranks_the_images_of_all_parts_together(drawn: dict[str, np.ndarray]):
    parts = [reference(drawn, number) for number in range(4)]
    detections, truths = (
        [image for number in range(4) for image in images_of(drawn, number)[kind]] for kind in (0, 1)
    )
    together = judge(detections, truths, num_classes=WAY)
    pooled = pool(parts)
    for ours, whole in zip(pooled, together, strict=True):
        np.testing.assert_array_equal(ours, whole)
    pooled_figure = average_precision(pooled)
    assert pooled_figure != pytest.approx(np.mean([average_precision(part) for part in parts]))
    times = np.array([[1, 1, 1, 1], [0, 0, 0, 0]])
    np.testing.assert_allclose(resampled_average_precisions(parts, times), [pooled_figure, np.nan])


def test_the_bootstrap_agrees_with_the_exact_one(drawn: dict[str, np.ndarray], verdicts: Verdicts):
    times = resamples(EPISODES, count=200)
    assert (times.sum(axis=1) == EPISODES).all()
    exact = resampled_average_precisions([reference(drawn, n) for n in range(EPISODES)], times)
    found = resampled_pooled(verdicts, times)
    # There are fewer right detections here than steps of recall, so that each has a step of its own.
    np.testing.assert_allclose(found, exact, atol=0.01)
    assert half_width(found) == pytest.approx(half_width(exact), rel=0.05)
