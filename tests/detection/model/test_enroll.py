"""New classes from boxes: which regions represent them, and what fine-tuning changes."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.detection.config import Config, EnrollOptions, HeadOptions
from fsljax.detection.model.enroll import (
    Enrollment,
    Layer,
    Support,
    enroll,
    enrollment_of,
    representative_rows,
    scores_by_linear,
    scores_by_representatives,
)
from fsljax.detection.model.roi_head import repmet_scores
from fsljax.errors import UserError

WAY, SHOTS, P, HIDDEN, DIM = 3, 2, 8, 12, 6
OPTIONS = Enrollment(EnrollOptions(rate=0.02), sigma=0.5, scale=15.0, normalize=True)


def changed(**fields: Any) -> Enrollment:
    return dataclasses.replace(OPTIONS, options=dataclasses.replace(OPTIONS.options, **fields))


@pytest.fixture(scope="module")
def classes() -> np.ndarray:
    """Directions of the classes, and of background."""
    return np.random.default_rng(1).normal(size=(1 + WAY, HIDDEN)).astype(np.float32)


def regions(rng: np.random.Generator, classes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.maximum(classes[labels] + 0.7 * rng.normal(size=(*labels.shape, HIDDEN)), 0).astype(np.float32)


@pytest.fixture(scope="module")
def support(classes: np.ndarray) -> Support:
    rng = np.random.default_rng(0)
    box = np.array([10, 10, 30, 30], np.float32)
    boxes = np.tile(box, (WAY, SHOTS, P, 1))
    boxes[:, :, 1] += 1  # IoU 0.82
    boxes[:, :, 2] += 4  # IoU 0.47: neither the class nor background
    boxes[:, :, 3:] += 60
    labels = np.zeros((WAY, SHOTS, P), int)
    labels[:, :, :3] = 1 + np.arange(WAY)[:, None, None]
    valid = np.ones(labels.shape, bool)
    valid[:, :, -1] = False
    objectness = np.where(np.arange(P) < 3, 0.9, 0.0) * valid
    return Support(*map(jnp.asarray, (regions(rng, classes, labels), boxes, valid, objectness)))


@pytest.fixture(scope="module")
def queries(classes: np.ndarray) -> tuple[jax.Array, np.ndarray]:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 1 + WAY, 200)
    return jnp.asarray(regions(rng, classes, labels)), labels


@pytest.fixture(scope="module")
def layer() -> Layer:
    rng = np.random.default_rng(3)
    return Layer(jnp.asarray(rng.normal(size=(HIDDEN, DIM)), jnp.float32), jnp.zeros(DIM))


def test_the_support_box_and_the_nearest_regions_represent_a_class():
    boxes = jnp.array([[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 9], [0, 0, 10, 10], [50, 50, 60, 60]], float)
    valid = jnp.array([True, True, True, False, True])
    rows = representative_rows(boxes, valid, per_shot=2, overlap=0.7)
    assert rows.tolist() == [0, 2]
    assert representative_rows(boxes, valid, per_shot=4, overlap=0.85).tolist() == [0, 2, 0, 0]


def test_representatives_are_embeddings_of_the_chosen_regions(support: Support):
    found = enroll(support.features, support, OPTIONS.options)
    assert found.shape == (WAY, SHOTS * 2, HIDDEN)
    np.testing.assert_array_equal(found.reshape(WAY, SHOTS, 2, HIDDEN), support.features[:, :, :2])


def test_scores_are_those_of_the_representatives_alone(
    support: Support, queries: tuple[jax.Array, np.ndarray], layer: Layer
):
    def embed(x: jax.Array) -> np.ndarray:
        embedded = np.asarray(x, np.float64) @ np.asarray(layer.kernel)
        return embedded / np.linalg.norm(embedded, axis=-1, keepdims=True)

    representatives = embed(support.features[:, :, :2]).reshape(WAY, -1, DIM)
    expected = repmet_scores(jnp.asarray(embed(queries[0])), jnp.asarray(representatives), OPTIONS.sigma)
    found = scores_by_representatives(support, queries[0], layer, OPTIONS)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("learned", [True, False])
def test_fine_tuning_lowers_the_surprise_at_the_support(support: Support, layer: Layer, learned: bool):
    options = changed(layer=learned)
    labels = np.zeros((WAY, SHOTS, P), int)
    labels[:, :, :2] = 1 + np.arange(WAY)[:, None, None]
    counted = np.asarray(support.valid) & (np.arange(P) != 2)

    def surprise(epochs: int) -> float:
        scores = scores_by_representatives(support, support.features, layer, options, epochs=epochs)
        return float(
            -np.log(np.take_along_axis(np.asarray(scores), labels[..., None], axis=-1))[counted].mean()
        )

    assert surprise(5) < 0.95 * surprise(0)


def test_without_a_layer_features_are_compared_themselves(
    support: Support, queries: tuple[jax.Array, np.ndarray]
):
    scores = np.asarray(scores_by_representatives(support, queries[0], None, OPTIONS))
    named = queries[1] > 0
    assert (scores[named, 1:].argmax(axis=1) + 1 == queries[1][named]).mean() > 0.8


def test_in_the_space_of_features_the_embedding_is_left_out(
    support: Support, queries: tuple[jax.Array, np.ndarray], layer: Layer
):
    options = changed(space="features", layer=True)
    found = scores_by_representatives(support, queries[0], layer, options, epochs=1)
    expected = scores_by_representatives(support, queries[0], None, options, epochs=1)
    np.testing.assert_array_equal(found, expected)


def test_the_linear_layer_keeps_background_and_takes_imprinted_classes(
    support: Support, queries: tuple[jax.Array, np.ndarray], classes: np.ndarray
):
    rng = np.random.default_rng(4)
    kernel = np.concatenate([classes[:1].T, 2 * rng.normal(size=(HIDDEN, 20))], axis=1).astype(np.float32)
    trained = Layer(jnp.asarray(kernel), jnp.asarray(rng.normal(size=21), jnp.float32))
    scores = np.asarray(scores_by_linear(support, queries[0], trained, OPTIONS))
    assert scores.shape == (200, 1 + WAY)
    logits = np.log(scores)
    background = queries[0] @ kernel[:, 0] + trained.bias[0]
    chosen = np.asarray(support.features[1, :, :2], np.float64).reshape(-1, HIDDEN)
    mean = (chosen / np.linalg.norm(chosen, axis=1, keepdims=True)).mean(axis=0)
    weights = np.linalg.norm(kernel[:, 1:], axis=0).mean() * mean / np.linalg.norm(mean)
    second = queries[0] @ weights + trained.bias[1:].mean()
    np.testing.assert_allclose(logits[:, 2] - logits[:, 0], second - background, atol=1e-3)
    tuned = scores_by_linear(support, queries[0], trained, OPTIONS, epochs=5)

    def right(scores: np.ndarray) -> float:
        return float((scores.argmax(axis=1) == queries[1]).mean())

    assert right(np.asarray(tuned)) >= right(scores)


def test_a_detector_with_boxes_of_trained_classes_alone_enrols_none():
    config = Config(head=HeadOptions(kind="linear", class_boxes=True))
    with pytest.raises(UserError, match="cannot predict boxes for new classes"):
        enrollment_of(config)
    assert (
        enrollment_of(dataclasses.replace(config, head=HeadOptions(class_boxes=True))).sigma
        == config.loss.sigma
    )
