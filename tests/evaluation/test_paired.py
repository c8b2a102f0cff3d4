"""Intervals: their formulas, their coverage, and what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsljax.errors import UserError
from fsljax.evaluation import paired
from fsljax.evaluation.paired import (
    PairedDifference,
    accuracy_and_ci95,
    bootstrap_ci95,
    paired_bootstrap,
)

few_examples = settings(max_examples=20, deadline=None)


def answers(count: int = 500, *, seeds: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Right and wrong answers of two methods, whose errors lie with the same hard examples."""
    generator = np.random.default_rng(seed)
    ease = generator.beta(2, 1, count)
    return generator.random((seeds, count)) < ease, generator.random((seeds, count)) < 0.9 * ease


def reference(differences: np.ndarray, resamples: int = 4000) -> tuple[float, float]:
    """Examples drawn one by one."""
    generator = np.random.default_rng(1)
    means = [generator.choice(differences, len(differences)).mean() for _ in range(resamples)]
    return tuple(np.percentile(means, (2.5, 97.5)))


def test_the_interval_of_an_accuracy_is_the_binomials():
    correct = np.array([True] * 75 + [False] * 25)
    accuracy, half_width = accuracy_and_ci95(correct)
    assert accuracy == 0.75
    assert half_width == pytest.approx(1.96 * np.sqrt(0.75 * 0.25 / 100), rel=1e-12)
    assert accuracy_and_ci95(np.ones(5)) == (1.0, 0.0)
    assert accuracy_and_ci95(np.zeros(1)) == (0.0, 0.0)


def test_95_of_100_intervals_of_an_accuracy_cover_it():
    drawn = np.random.default_rng(0).random((2000, 400)) < 0.8
    covered = [abs(mean - 0.8) <= ci95 for mean, ci95 in map(accuracy_and_ci95, drawn)]
    assert 0.93 < np.mean(covered) < 0.97


def test_the_bootstrap_of_a_mean_has_the_width_of_its_standard_error():
    values = np.random.default_rng(0).gamma(2, size=900)
    expected = 1.96 * values.std() / np.sqrt(900)
    assert bootstrap_ci95(values) == pytest.approx(expected, rel=0.03)
    correct = values > 1
    assert bootstrap_ci95(correct) == pytest.approx(accuracy_and_ci95(correct)[1], rel=0.03)
    assert bootstrap_ci95(np.full(10, 0.1)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("levels", [3, 5000])
def test_few_and_many_distinct_values_are_drawn_alike(levels: int):
    values = np.random.default_rng(0).integers(0, levels, 3000) / levels
    assert bootstrap_ci95(values) == pytest.approx(1.96 * values.std() / np.sqrt(3000), rel=0.03)
    found = paired_bootstrap(values, np.zeros(3000))
    assert (found.lower + found.upper) / 2 == pytest.approx(values.mean(), rel=1e-3)


def test_examples_are_drawn_with_all_their_seeds():
    ours, theirs = answers()
    found = paired_bootstrap(ours, theirs)
    differences = ours.mean(axis=0) - theirs.mean(axis=0)
    assert found.difference == pytest.approx(ours.mean() - theirs.mean(), rel=1e-12)
    np.testing.assert_allclose((found.lower, found.upper), reference(differences), atol=0.002)
    assert found.lower > 0
    back = paired_bootstrap(theirs, ours)
    assert back.upper < 0
    assert back.difference == -found.difference


def test_seeds_of_one_run_copied_do_not_narrow_the_interval():
    ours, theirs = answers(seeds=1)
    once = paired_bootstrap(ours[0], theirs[0])
    copied = paired_bootstrap(np.repeat(ours, 5, axis=0), np.repeat(theirs, 2, axis=0))
    assert copied == pytest.approx(once, rel=1e-9)


def test_pairing_narrows_the_interval_of_methods_that_fail_at_the_same_examples():
    ours, theirs = answers(2000, seeds=20)
    found = paired_bootstrap(ours, theirs)
    unpaired = np.hypot(bootstrap_ci95(ours.mean(axis=0)), bootstrap_ci95(theirs.mean(axis=0)))
    assert (found.upper - found.lower) / 2 < 0.6 * unpaired


def test_of_100_comparisons_of_equal_methods_about_5_exclude_0():
    excluded = []
    for seed in range(400):
        drawn = np.random.default_rng(seed).random((2, 150)) < 0.7
        found = paired_bootstrap(*drawn, resamples=1000)
        excluded.append(found.lower > 0 or found.upper < 0)
    assert 0.02 < np.mean(excluded) < 0.09


def test_accuracies_of_episodes_are_compared_as_well():
    generator = np.random.default_rng(0)
    difficulty = generator.normal(0.8, 0.1, 1000)
    ours, theirs = difficulty + 0.01, difficulty + generator.normal(0, 0.02, 1000)
    found = paired_bootstrap(ours, theirs)
    np.testing.assert_allclose((found.lower, found.upper), reference(ours - theirs), atol=3e-4)
    assert found.lower > 0


@few_examples
@given(seed=st.integers(0, 2**31))
def test_the_order_of_examples_and_the_memory_used_change_nothing(seed: int):
    ours, theirs = answers(60, seed=seed)
    order = np.random.default_rng(seed).permutation(60)
    found = paired_bootstrap(ours, theirs, resamples=200)
    in_order = paired_bootstrap(ours[:, order], theirs[:, order], resamples=200)
    assert in_order == pytest.approx(found, rel=1e-9, abs=1e-12)
    assert found.lower <= found.difference <= found.upper
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paired, "_NUMBERS_A_CHUNK", 70)
        in_parts = paired_bootstrap(ours, theirs, resamples=200)
    assert in_parts == pytest.approx(found, rel=1e-9, abs=1e-12)


def test_the_seed_decides_what_is_drawn():
    given = answers()
    assert paired_bootstrap(*given) == paired_bootstrap(*given)
    assert paired_bootstrap(*given) != paired_bootstrap(*given, seed=1)


def test_methods_that_agree_everywhere_differ_by_nothing():
    ours, _ = answers()
    assert paired_bootstrap(ours, ours) == PairedDifference(0, 0, 0)
    one = paired_bootstrap(np.array([1]), np.array([0]))
    assert one == PairedDifference(1, 1, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: accuracy_and_ci95(np.array([0.5, 1])), "not all right or wrong"),
        (lambda: accuracy_and_ci95(np.array([])), r"The answers must be \[n\]"),
        (lambda: bootstrap_ci95(np.array([1, np.nan])), "The values must be .* finite"),
        (lambda: bootstrap_ci95(np.ones((2, 2))), r"The values must be \[n\]"),
        (lambda: paired_bootstrap(np.ones(3), np.ones(4)), "tested on 3 and 4 examples"),
        (lambda: paired_bootstrap([np.ones(3), np.ones(4)], np.ones(4)), "different numbers of examples"),
        (lambda: paired_bootstrap(np.ones((2, 2, 2)), np.ones(2)), r"\[2, 2, 2\]; they must be \[n\]"),
        (lambda: paired_bootstrap(np.ones((2, 0)), np.ones((2, 0))), "of 1 or more examples"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_words(call, message: str):
    with pytest.raises(UserError, match=message):
        call()


@pytest.mark.parametrize("values", [["a", "b"], [1j, 0], [None, 1], [np.nan, 1], []])
def test_what_is_no_number_has_no_interval(values: list):
    for figure in (accuracy_and_ci95, bootstrap_ci95):
        with pytest.raises(UserError, match="one finite number"):
            figure(np.array(values))
    with pytest.raises(UserError, match="resamples is 0"):
        bootstrap_ci95(np.ones(3), resamples=0)
