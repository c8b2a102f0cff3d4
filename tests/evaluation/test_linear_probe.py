"""Baselines on frozen features, against float64 formulas and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from fsljax.errors import UserError
from fsljax.evaluation import linear_probe
from fsljax.evaluation.linear_probe import fit_logistic_regression, nearest_class_mean

few_examples = settings(max_examples=10, deadline=None)


def features(
    count: int = 300, *, classes: int = 8, dim: int = 16, noise: float = 1.2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes, the same ones whatever the seed."""
    centres = np.random.default_rng(99).normal(size=(classes, dim))
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(count) % classes)
    return (centres[labels] + noise * generator.normal(size=(count, dim))).astype(np.float32), labels


def at_length(x: np.ndarray, length: float = 1.0) -> np.ndarray:
    return length * np.float64(x) / np.linalg.norm(np.float64(x), axis=1, keepdims=True)


def objective(weights: np.ndarray, bias: np.ndarray, x: np.ndarray, y: np.ndarray, c: float) -> float:
    """The mean objective in float64, of features as they are given."""
    logits = x @ np.float64(weights) + np.float64(bias)
    logits = logits - logits.max(axis=1, keepdims=True)
    cross_entropy = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y]
    return cross_entropy.mean() + np.sum(np.float64(weights) ** 2) / (2 * c * len(y))


def reference_means(x: np.ndarray, y: np.ndarray, queries: np.ndarray) -> np.ndarray:
    present = np.unique(y)
    means = np.stack([at_length(x)[y == label].mean(axis=0) for label in present])
    return present[((at_length(queries)[:, None] - means) ** 2).sum(-1).argmin(axis=1)]


def test_the_nearest_class_mean_is_that_of_the_formula():
    (x, y), (queries, labels) = features(), features(2500, seed=1)
    expected = reference_means(x, y, queries)
    assert 0.5 < np.mean(expected == labels) < 0.97
    np.testing.assert_array_equal(nearest_class_mean(x, y, queries, num_classes=8), expected)


def test_a_class_without_examples_is_never_predicted():
    (x, y), (queries, _) = features(), features(seed=1)
    kept = ~np.isin(y, (0, 3))
    means = nearest_class_mean(x[kept], y[kept], queries, num_classes=10)
    np.testing.assert_array_equal(means, reference_means(x[kept], y[kept], queries))
    probe = fit_logistic_regression(x[kept], y[kept], num_classes=10)
    assert set(probe.predict(queries)) == {1, 2, 4, 5, 6, 7}
    assert np.isfinite(probe.weights).all() and np.isfinite(probe.loss)
    assert not probe.weights[:, [0, 3, 8, 9]].any()
    compact = np.searchsorted(np.unique(y[kept]), y[kept])
    alone = fit_logistic_regression(x[kept], compact, num_classes=6)
    assert probe.loss == pytest.approx(alone.loss, rel=1e-5)


def test_equal_means_are_decided_for_the_lower_class():
    x = np.tile(np.eye(3)[:1], (6, 1))
    y = np.array([2, 1, 2, 1, 2, 1])
    np.testing.assert_array_equal(nearest_class_mean(x, y, np.eye(3), num_classes=4), [1, 1, 1])


@few_examples
@given(seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e3))
def test_neither_length_nor_order_of_features_changes_the_nearest_mean(seed: int, scale: float):
    (x, y), (queries, _) = features(seed=seed % 100), features(50, seed=seed)
    order = np.random.default_rng(seed).permutation(len(x))
    before = nearest_class_mean(x, y, queries, num_classes=8)
    after = nearest_class_mean(scale * x[order], y[order], queries * 3, num_classes=8)
    assert np.mean(before == after) >= 0.98  # rounding may decide otherwise of two equally near


@pytest.mark.parametrize("c", [0.01, 3.0, 100.0])
def test_logistic_regression_reaches_the_minimum(c: float):
    """As found by SciPy in float64."""
    x, y = features(120, classes=4, dim=5)
    long = at_length(x, 10)
    probe = fit_logistic_regression(x, y, num_classes=4, c=c)

    def of_vector(vector: np.ndarray) -> float:
        return objective(vector[:20].reshape(5, 4), vector[20:], long, y, c)

    best = scipy.optimize.minimize(of_vector, np.zeros(24), method="BFGS", options={"gtol": 1e-7})
    assert probe.gradient < 1e-6
    assert 0 < probe.iterations < 1000
    reached = objective(probe.weights, probe.bias, long, y, c)
    assert reached == pytest.approx(best.fun, rel=1e-5)
    assert probe.loss == pytest.approx(reached, rel=1e-5)
    predicted = (long @ np.float64(probe.weights) + probe.bias).argmax(axis=1)
    np.testing.assert_array_equal(probe.predict(x), predicted)


@pytest.mark.parametrize(("noise", "dim"), [(1.5, 64), (3.0, 64), (1.5, 8)])
def test_logistic_regression_is_that_of_scikit_learn(noise: float, dim: int):
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = features(500, classes=20, dim=dim, noise=noise)
    queries, labels = features(4000, classes=20, dim=dim, noise=noise, seed=1)
    peer = linear_model.LogisticRegression(C=3.0, max_iter=2000, tol=1e-6).fit(at_length(x, 10), y)
    ours = fit_logistic_regression(x, y, num_classes=20, c=3.0)
    theirs = objective(peer.coef_.T, peer.intercept_, at_length(x, 10), y, 3.0)
    assert ours.loss == pytest.approx(theirs, rel=1e-4)
    predicted, expected = ours.predict(queries), peer.predict(at_length(queries, 10))
    assert 0.2 < np.mean(expected == labels) < 1
    assert np.mean(predicted == expected) > 0.995


def test_what_is_fitted_can_be_told_apart_and_is_the_same_every_time():
    x, y = features(noise=0.3)
    probe = fit_logistic_regression(x, y, num_classes=8, c=1e4)
    np.testing.assert_array_equal(probe.predict(x), y)
    again = fit_logistic_regression(x, y, num_classes=8, c=1e4)
    np.testing.assert_array_equal(again.weights, probe.weights)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e12])
def test_features_that_tell_nothing_give_the_commonest_class(value: float):
    x, y = np.full((50, 6), value), np.array([0] * 10 + [1] * 25 + [2] * 15)
    probe = fit_logistic_regression(x, y, num_classes=3)
    np.testing.assert_array_equal(probe.predict(x), np.ones(50))
    shares = np.array([0.2, 0.5, 0.3])
    assert probe.loss == pytest.approx(-np.sum(shares * np.log(shares)), rel=1e-3)
    np.testing.assert_array_equal(nearest_class_mean(x, y, x, num_classes=3), np.zeros(50))


def test_predictions_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch):
    x, y = features()
    probe = fit_logistic_regression(x, y, num_classes=8)
    whole = probe.predict(x), nearest_class_mean(x, y, x, num_classes=8)
    monkeypatch.setattr(linear_probe, "_ROWS_A_BLOCK", 77)
    np.testing.assert_array_equal(probe.predict(x), whole[0])
    np.testing.assert_array_equal(nearest_class_mean(x, y, x, num_classes=8), whole[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.full((300, 16), np.inf)}, "300 of the 300 features"),
        ({"labels": np.zeros(4, int)}, "each of 300 rows"),
        ({"num_classes": 3}, "The labels range from 0 to 7; they must be 0 to 2"),
        ({"labels": np.zeros(300, int)}, "all are of one"),
        ({"c": 0.0}, "c is 0.0; it must be above 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_words(change: dict, message: str):
    x, y = features()
    with pytest.raises(UserError, match=message):
        fit_logistic_regression(**({"features": x, "labels": y, "num_classes": 8} | change))


def test_queries_of_another_network_are_refused():
    x, y = features()
    with pytest.raises(UserError, match=r"queries \[300, 9\]: both must come from the same network"):
        nearest_class_mean(x, y, x[:, :9], num_classes=8)
    probe = fit_logistic_regression(x, y, num_classes=8)
    with pytest.raises(UserError, match=r"features are \[300, 9\]; this regression was fitted on rows of 16"):
        probe.predict(x[:, :9])
