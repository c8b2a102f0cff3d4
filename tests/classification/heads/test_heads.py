"""Heads: what they are by definition, and what they say of embeddings without themselves."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from fsljax.classification.heads import HEADS, new_head
from fsljax.classification.heads.common import left_out, left_out_classes
from fsljax.classification.heads.regression import fit_regression
from fsljax.classification.heads.unknown import (
    auroc,
    calibrated,
    confidence,
    left_out_distances,
    scale_of,
    share_of_further,
)
from fsljax.errors import UserError

CLASSES, SHOTS, DIM = 6, 5, 32


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    """Embeddings `[n, dim]` without negative values, as of ReLU, and their classes."""
    generator = np.random.default_rng(0)
    means = generator.gamma(0.5, size=(2 * CLASSES, DIM))
    labels = np.repeat(np.arange(2 * CLASSES), 3 * SHOTS)
    return (means[labels] * generator.gamma(4.0, 0.25, (len(labels), DIM))).astype(np.float32), labels


def filled(name: str, rows: tuple[np.ndarray, np.ndarray], **options):
    head = new_head(name, **options)
    for label in range(CLASSES):
        head.add([f"c{label}"] * SHOTS, rows[0][rows[1] == label][:SHOTS])
    return head


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def support_and_queries(rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    embeddings, labels = rows
    support = np.stack([embeddings[labels == label][:SHOTS] for label in range(CLASSES)]).astype(np.float64)
    queries = np.concatenate([embeddings[labels == label][SHOTS:] for label in range(CLASSES)])
    return support, queries.astype(np.float64), np.repeat(np.arange(CLASSES), 2 * SHOTS)


@pytest.mark.parametrize("name", HEADS)
def test_they_name_embeddings_and_say_how_likely(name: str, rows):
    _, queries, labels = support_and_queries(rows)
    compared = filled(name, rows).compare(queries.astype(np.float32))
    assert np.mean(compared.predictions == labels) > 0.9
    np.testing.assert_array_equal(compared.probabilities.argmax(axis=1), compared.predictions)
    np.testing.assert_allclose(compared.probabilities.sum(axis=1), 1, atol=1e-5)
    likelihood = np.mean(np.log(compared.probabilities[np.arange(len(labels)), labels]))
    assert likelihood > np.log(0.5)  # neither overconfident nor level


def test_prototypes_are_the_means_of_unit_length_by_cosine(rows):
    support, queries, _ = support_and_queries(rows)
    expected = 1 - unit(queries) @ unit(unit(support).mean(axis=1)).T
    distances = filled("prototype", rows).compare(queries.astype(np.float32)).distances
    np.testing.assert_allclose(distances, expected, atol=1e-6)


def test_prototypes_by_squared_distances_are_plain_means(rows):
    support, queries, _ = support_and_queries(rows)
    expected = ((queries[:, None] - support.mean(axis=1)) ** 2).sum(axis=-1)
    head = filled("prototype", rows, distance="squared_euclidean")
    np.testing.assert_allclose(head.compare(queries.astype(np.float32)).distances, expected, rtol=1e-4)


def test_centred_means(rows):
    support, queries, _ = support_and_queries(rows)
    mean = unit(support).reshape(-1, DIM).mean(axis=0)
    means = unit(unit(support) - mean).mean(axis=1)
    expected = ((unit(unit(queries) - mean)[:, None] - means) ** 2).sum(axis=-1)
    np.testing.assert_allclose(
        filled("centered", rows).compare(queries.astype(np.float32)).distances, expected, atol=1e-5
    )


def test_representatives_give_soft_posteriors(rows):
    support, queries, _ = support_and_queries(rows)
    head = filled("representatives", rows)
    sigma = head.fitted().sigma
    mean = unit(support).reshape(-1, DIM).mean(axis=0)
    squares = ((unit(unit(queries) - mean)[:, None, None] - unit(unit(support) - mean)) ** 2).sum(axis=-1)
    weights = np.exp(-squares / (2 * sigma**2)).sum(axis=2)
    compared = head.compare(queries.astype(np.float32))
    np.testing.assert_allclose(
        compared.probabilities, weights / weights.sum(axis=1, keepdims=True), atol=1e-4
    )


@pytest.mark.parametrize("count", [12, 300])
def test_the_regression_is_that_of_scikit_learn(count: int):
    generator = np.random.default_rng(1)
    labels = np.arange(count) % 4
    means = generator.normal(size=(4, 40))
    data = unit(means[labels] + generator.normal(size=(count, 40))).astype(np.float32)
    data -= data.mean(axis=0)
    weights, bias = fit_regression(data, labels, penalty=0.02)
    ours = data @ weights + bias
    ours = np.exp(ours) / np.exp(ours).sum(axis=1, keepdims=True)
    with_one = np.concatenate([data, np.ones((count, 1))], axis=1)  # the bias is penalised as any weight
    theirs = LogisticRegression(C=1 / 0.02, fit_intercept=False, tol=1e-10, max_iter=5000).fit(
        with_one, labels
    )
    np.testing.assert_allclose(ours, theirs.predict_proba(with_one), atol=2e-3)


@pytest.mark.parametrize("name", HEADS)
def test_a_class_that_is_added_and_forgotten_leaves_no_trace(name: str, rows):
    head = filled(name, rows)
    queries = rows[0][::7]
    before = head.compare(queries)
    other = head.copy()
    other.add(["new"] * 3, rows[0][-3:])
    assert other.compare(queries).probabilities.shape[1] == CLASSES + 1
    other.forget("new")
    np.testing.assert_allclose(other.compare(queries).probabilities, before.probabilities, atol=1e-5)
    np.testing.assert_array_equal(head.compare(queries).probabilities, before.probabilities)


@pytest.mark.parametrize("name", HEADS)
def test_kept_and_restored_they_say_the_same(name: str, rows):
    head, again = filled(name, rows), new_head(name)
    again.restore(head.labels, head.arrays())
    np.testing.assert_allclose(
        again.compare(rows[0]).probabilities, head.compare(rows[0]).probabilities, atol=1e-6
    )


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("classes, shots", [(1, 1), (1, 4), (2, 1), (3, 1)])
def test_few_images_are_enough_to_answer(name: str, classes: int, shots: int, rows):
    head = new_head(name)
    for label in range(classes):
        head.add([label] * shots, rows[0][rows[1] == label][:shots])
    compared = head.compare(rows[0][:9])
    assert np.isfinite(compared.probabilities).all() and np.isfinite(compared.distances).all()
    if classes > 1:
        queries = np.stack([rows[0][rows[1] == label][0] for label in range(classes)])
        assert head.compare(queries).predictions.tolist() == list(range(classes))


def test_what_an_embedding_is_without_itself(rows):
    """By hand: the prototype of its class is the mean of the others."""
    support, _, _ = support_and_queries(rows)
    without = left_out(filled("prototype", rows))
    others = unit(unit(support)[2, [0, 1, 2, 4]].mean(axis=0))
    row = 2 * SHOTS + 3
    assert without.distances[row, 2] == pytest.approx(1 - unit(support[2, 3]) @ others, abs=1e-6)
    assert without.told.all() and without.labels.tolist() == np.repeat(np.arange(CLASSES), SHOTS).tolist()


def test_what_an_embedding_is_without_its_class(rows):
    support, _, _ = support_and_queries(rows)
    expected = 1 - unit(support[1]) @ unit(unit(np.delete(support, 1, axis=0)).mean(axis=1)).T
    nearest, classes = left_out_classes(filled("prototype", rows))
    assert classes.tolist() == np.repeat(np.arange(CLASSES), SHOTS).tolist()
    np.testing.assert_allclose(nearest[SHOTS : 2 * SHOTS], expected.min(axis=1), atol=1e-6)


@pytest.mark.parametrize("name", HEADS)
def test_confidence_tells_known_from_unknown(name: str, rows):
    head = filled(name, rows)
    scale = scale_of(left_out_distances(head))
    _, queries, _ = support_and_queries(rows)
    known = confidence(head, scale, queries.astype(np.float32))
    unknown = confidence(head, scale, rows[0][rows[1] >= CLASSES])
    assert np.median(unknown) < 0.5 < np.median(known)
    assert auroc(known, unknown) > 0.9
    calibration = calibrated(known, unknown, share_of_further(unknown, None, 0.1))
    assert calibration.false_accept == pytest.approx(0.1)
    assert np.mean(unknown >= calibration.threshold) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("classes, size, spread", [(20, 5, 1.0), (15, 10, 0.7), (30, 3, 0.0)])
def test_a_threshold_accepts_what_was_wanted_of_further_classes(classes: int, size: int, spread: float):
    """Of values that are alike within a class: in the mean over many draws, to two points."""
    generator = np.random.default_rng(5)

    def drawn(count: int) -> np.ndarray:
        return spread * generator.normal(size=(count, 1)) + generator.normal(size=(count, size))

    beyond = []
    for _ in range(1500):
        values = drawn(classes)
        share = share_of_further(values.ravel(), np.repeat(np.arange(classes), size), 0.05)
        assert share.expected >= 0.05 - 1e-9 and share.level > 0
        beyond.append(np.mean(drawn(20) <= np.quantile(values, share.level)))
    assert np.mean(beyond) == pytest.approx(0.05, abs=0.02)


def test_the_area_under_the_curve_is_that_of_scikit_learn():
    generator = np.random.default_rng(2)
    known, unknown = generator.integers(0, 9, 50) + 2, generator.integers(0, 9, 70)
    truth = [1] * 50 + [0] * 70
    assert auroc(known, unknown) == pytest.approx(roc_auc_score(truth, [*known, *unknown]))


def test_what_cannot_be_is_told():
    with pytest.raises(UserError, match="head is 'nearest'; it can be 'prototype'"):
        new_head("nearest")
    with pytest.raises(UserError, match="distance is 'l1'"):
        new_head("prototype", distance="l1")
