"""Classification by representatives, against its formulas in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.classification.representatives import (
    RULES,
    SupportRule,
    classify,
    compare,
    counts_in_use,
    fine_tuned,
    of_support,
)
from fsljax.errors import UserError
from fsljax.losses import repmet_loss

CLASSES, K, DIM = 6, 3, 4


def problem(seed: int = 0, *, count: int = 40, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    representatives = scale * generator.normal(size=(CLASSES, K, DIM))
    embeddings = scale * 1.2 * generator.normal(size=(count, DIM))
    return np.float32(embeddings), np.float32(representatives)


def probabilities(embeddings: np.ndarray, representatives: np.ndarray, sigma: float) -> np.ndarray:
    """p_ij in float64, `[n, classes, k]`."""
    difference = np.float64(embeddings)[:, None, None] - np.float64(representatives)
    return np.exp(-np.sum(difference**2, axis=-1) / (2 * sigma**2))


@pytest.mark.parametrize("sigma", [0.3, 1.0, 4.0])
def test_posteriors_background_and_predictions_equal_their_formulas(sigma: float):
    embeddings, representatives = problem()
    p = probabilities(embeddings, representatives, sigma)
    for found in (
        classify(embeddings, representatives, sigma=sigma),
        jax.jit(compare)(embeddings, representatives, sigma=sigma),
    ):
        soft = p.sum(axis=2) / p.sum(axis=(1, 2))[:, None]
        np.testing.assert_allclose(found.soft_posteriors, soft, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found.hard_posteriors, p.max(axis=2), rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(found.background, 1 - p.max(axis=(1, 2)), rtol=1e-4, atol=1e-6)
        assert found.predictions["soft_posterior"].tolist() == soft.argmax(axis=1).tolist()
        for rule in ("hard_posterior", "nearest_representative"):
            assert found.predictions[rule].tolist() == p.max(axis=2).argmax(axis=1).tolist()
        assert found.nearest.tolist() == (p.reshape(len(p), -1).argmax(axis=1) % K).tolist()
    assert (soft.argmax(axis=1) != p.max(axis=2).argmax(axis=1)).any() == (sigma > 0.9)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_hard_posterior_and_nearest_representative_agree_where_every_p_underflows(scale: float):
    embeddings, representatives = problem(count=500, scale=scale)
    found = classify(embeddings, representatives, sigma=scale / 100)
    assert (found.hard_posteriors.max(axis=1) == 0).mean() > 0.9
    assert (found.background == 1).mean() > 0.9
    squares = np.sum((np.float64(embeddings)[:, None, None] - representatives) ** 2, axis=-1)
    expected = squares.min(axis=2).argmin(axis=1)
    for rule in RULES:
        np.testing.assert_array_equal(found.predictions[rule], expected)
    assert np.isfinite(found.soft_posteriors).all()
    np.testing.assert_allclose(found.soft_posteriors.sum(axis=1), 1, rtol=1e-5)


def test_of_two_level_classes_every_rule_names_the_lower():
    representatives = np.float32([[[9.0]], [[-1.0]], [[1.0]]])
    found = classify(np.zeros((1, 1)), representatives, sigma=1e-3)
    assert {rule: int(labels[0]) for rule, labels in found.predictions.items()} == dict.fromkeys(RULES, 1)


def test_a_representative_that_does_not_exist_counts_for_nothing():
    embeddings, representatives = problem()
    exists = np.ones((CLASSES, K), bool)
    exists[0] = False
    exists[1, 2] = False
    holed = np.where(exists[..., None], representatives, np.nan).astype(np.float32)
    holed[~exists] = 0
    found = classify(embeddings, holed, sigma=1.0, exists=exists)
    p = probabilities(embeddings, representatives, 1.0) * exists
    np.testing.assert_allclose(
        found.soft_posteriors, p.sum(axis=2) / p.sum(axis=(1, 2))[:, None], rtol=1e-4, atol=1e-6
    )
    for labels in found.predictions.values():
        assert (labels != 0).all()


def test_many_blocks_give_what_one_gives(monkeypatch: pytest.MonkeyPatch):
    embeddings, representatives = problem()
    whole = classify(embeddings, representatives, sigma=1.0)
    monkeypatch.setattr("fsljax.classification.heads.comparison._FLOATS_A_BLOCK", 7 * CLASSES * K)
    parts = classify(embeddings, representatives, sigma=1.0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), whole, parts)


def test_a_support_is_its_own_representatives_or_is_meaned_or_clustered():
    generator = np.random.default_rng(0)
    modes = 10 * generator.normal(size=(4, 2, 1, DIM))
    support = np.float32((modes + 0.1 * generator.normal(size=(4, 2, 3, DIM))).reshape(4, 6, DIM))
    for many in (0, 6, 9):
        np.testing.assert_array_equal(of_support(support, many), support)
    np.testing.assert_allclose(of_support(support, 1)[:, 0], support.mean(axis=1), rtol=1e-5)
    two = np.asarray(jax.jit(of_support, static_argnums=1)(support, 2))
    means = support.reshape(4, 2, 3, DIM).mean(axis=2)
    for found, wanted in zip(two, means, strict=True):
        order = np.argsort(found[:, 0]), np.argsort(wanted[:, 0])
        np.testing.assert_allclose(found[order[0]], wanted[order[1]], rtol=1e-4, atol=1e-4)


def test_one_mean_a_class_names_queries_as_prototypes_do():
    generator = np.random.default_rng(0)
    support, queries = generator.normal(size=(5, 3, DIM)), generator.normal(size=(5, 7, DIM))
    squares = np.sum((queries.reshape(-1, 1, DIM) - support.mean(axis=1)) ** 2, axis=-1)
    found = SupportRule(sigma=0.5, representatives=1)(jnp.asarray(support), jnp.asarray(queries))
    assert found.tolist() == squares.argmin(axis=1).reshape(5, 7).tolist()


@pytest.mark.parametrize("version", ["v1", "v2", "margin"])
@pytest.mark.parametrize("scale", [1e-2, 1e2])
def test_fine_tuning_lowers_the_loss_of_the_support_whatever_the_scale(version: str, scale: float):
    embeddings, representatives = problem(scale=scale)
    labels = np.random.default_rng(1).integers(0, CLASSES, len(embeddings))
    options = {"sigma": scale, "version": version, "alpha": 1.0 if version != "margin" else scale}
    rate = 0.02 if version != "margin" else 0.02 / scale
    learned = fine_tuned(representatives, embeddings, labels, steps=20, rate=rate, **options)
    before, after = (
        repmet_loss(embeddings, labels, where, **options).loss for where in (representatives, learned)
    )
    assert after < 0.95 * before
    none = fine_tuned(representatives, embeddings, labels, steps=0, rate=rate, **options)
    np.testing.assert_array_equal(none, representatives)


def test_a_step_of_fine_tuning_goes_down_the_gradient_of_the_sum():
    embeddings, representatives = problem(count=5)
    labels = np.arange(5)
    moved = fine_tuned(representatives, embeddings, labels, steps=1, rate=0.1, sigma=0.7)
    p = probabilities(embeddings, representatives, 0.7)
    share = p / p.sum(axis=(1, 2), keepdims=True)
    own = np.arange(CLASSES) == labels[:, None]
    of_own = np.where(own[..., None], p, 0)
    of_own /= of_own.sum(axis=(1, 2), keepdims=True)
    # ∂ℓ/∂R_ij = (share of all − share of own class) · (E − R_ij) / σ²
    pull = (of_own - share)[..., None] * (np.float64(embeddings)[:, None, None] - representatives)
    np.testing.assert_allclose(moved, representatives + 0.1 * pull.sum(axis=0), rtol=1e-4, atol=1e-5)


def test_the_representatives_in_use_are_counted():
    counts = counts_in_use(np.array([0, 2, 2, 1]), np.array([0, 0, 0, 1]), (3, 3))
    assert counts.tolist() == [[1, 0, 2], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"embeddings": np.zeros(3)}, r"The embeddings are \[3\]"),
        ({"embeddings": np.full((2, DIM), np.nan)}, "not finite"),
        ({"representatives": np.zeros((CLASSES, DIM))}, r"must be \[classes, k, 4\]"),
        ({"representatives": np.zeros((CLASSES, 0, DIM))}, "1 or more of each"),
        ({"representatives": np.zeros((CLASSES, K, DIM + 1))}, r"must be \[classes, k, 4\]"),
        ({"representatives": np.full((CLASSES, K, DIM), np.inf)}, "representatives have values that are not"),
        ({"exists": np.zeros((CLASSES, K), bool)}, "0 representatives"),
        ({"exists": np.ones((CLASSES, 1), bool)}, r"exists is \[6, 1\]"),
        ({"sigma": 0.0}, "sigma is 0.0"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(change: dict, sentence: str):
    embeddings, representatives = problem()
    given = {"embeddings": embeddings, "representatives": representatives, "sigma": 1.0} | change
    with pytest.raises(UserError, match=sentence):
        classify(given.pop("embeddings"), given.pop("representatives"), **given)
