"""Agreement of labelings, against the formulas over their table of counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsljax.errors import UserError
from fsljax.evaluation.agreement import normalized_mutual_information, purity

few_examples = settings(max_examples=30, deadline=None)
BOTH = (normalized_mutual_information, purity)


def labelings(seed: int, *, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    classes = generator.integers(0, 6, count)
    noisy = generator.random(count) < 0.3
    return np.where(noisy, generator.integers(0, 9, count), classes // 2), classes


def reference_nmi(first: np.ndarray, second: np.ndarray) -> float:
    """From the definitions, one pair of labels at a time."""
    information, entropies = 0.0, 0.0
    for a in set(first):
        for b in set(second):
            both = np.mean((first == a) & (second == b))
            if both > 0:
                information += both * np.log(both / (np.mean(first == a) * np.mean(second == b)))
    for labels in (first, second):
        entropies -= sum(np.mean(labels == a) * np.log(np.mean(labels == a)) for a in set(labels))
    return information / (entropies / 2)


def reference_purity(clusters: np.ndarray, classes: np.ndarray) -> float:
    return sum(max(np.bincount(classes[clusters == a])) for a in set(clusters)) / len(classes)


@pytest.mark.parametrize("seed", range(5))
def test_equal_their_formulas(seed: int):
    clusters, classes = labelings(seed)
    expected = reference_nmi(clusters, classes)
    assert 0.3 < expected < 0.9
    assert normalized_mutual_information(clusters, classes) == pytest.approx(expected, rel=1e-12)
    assert purity(clusters, classes) == pytest.approx(reference_purity(clusters, classes), rel=1e-12)


def test_nmi_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    for seed in range(3):
        clusters, classes = labelings(seed)
        expected = metrics.normalized_mutual_info_score(classes, clusters)
        assert normalized_mutual_information(clusters, classes) == pytest.approx(expected, rel=1e-9)


def test_a_table_worked_by_hand():
    """Clusters 0 0 0 1 1 1 of classes 0 0 1 1 1 1: H = ln 2 and 0.6365, I = 0.3183."""
    clusters, classes = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 1, 1])
    assert normalized_mutual_information(clusters, classes) == pytest.approx(0.47870, abs=1e-5)
    assert purity(clusters, classes) == pytest.approx(5 / 6)


def test_the_same_partition_under_other_names_agrees_wholly():
    _, classes = labelings(0)
    names = np.array([70, -3, 8, 12, 5, 6])[classes]
    assert normalized_mutual_information(names, classes) == pytest.approx(1, abs=1e-12)
    assert normalized_mutual_information(names.astype(str), classes) == pytest.approx(1, abs=1e-12)
    assert purity(names, classes) == 1


def test_one_cluster_tells_nothing_and_one_cluster_of_one_class_leaves_nothing_to_tell():
    _, classes = labelings(0)
    one = np.zeros_like(classes)
    assert normalized_mutual_information(one, classes) == 0
    assert purity(one, classes) == np.bincount(classes).max() / len(classes)
    assert normalized_mutual_information(one, one) == purity(one, one) == 1


def test_a_cluster_for_each_example_is_pure_but_agrees_only_in_part():
    _, classes = labelings(0)
    each = np.arange(len(classes))
    assert purity(each, classes) == 1
    assert normalized_mutual_information(each, classes) == pytest.approx(reference_nmi(each, classes))
    assert normalized_mutual_information(each, classes) < 0.6


def test_unrelated_labelings_agree_hardly():
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, 5, (2, 20_000))
    assert 0 <= normalized_mutual_information(first, second) < 0.002
    assert 0.2 < purity(first, second) < 0.23


@pytest.mark.parametrize("measure", BOTH)
@few_examples
@given(seed=st.integers(0, 2**31))
def test_the_order_of_examples_and_the_names_of_labels_do_not_matter(measure, seed: int):
    clusters, classes = labelings(seed, count=40)
    generator = np.random.default_rng(seed)
    order = generator.permutation(40)
    renamed = generator.permutation(9)[clusters[order]], generator.permutation(6)[classes[order]]
    assert measure(*renamed) == pytest.approx(measure(clusters, classes), rel=1e-12)
    assert 0 <= measure(clusters, classes) <= 1
    assert normalized_mutual_information(classes, clusters) == pytest.approx(
        normalized_mutual_information(clusters, classes), rel=1e-12
    )


@pytest.mark.parametrize("measure", BOTH)
@pytest.mark.parametrize("shapes", [((3,), (4,)), ((0,), (0,)), ((2, 2), (2, 2))])
def test_what_is_no_pair_of_labelings_is_refused(measure, shapes: tuple):
    with pytest.raises(UserError, match=r"The labelings are \["):
        measure(*(np.zeros(shape, int) for shape in shapes))


@pytest.mark.parametrize("figure", [normalized_mutual_information, purity])
@pytest.mark.parametrize(
    "labels",
    [
        np.full(4, np.nan),
        np.array([0, 1, np.inf, 1]),
        np.array([0, 1, None, 1]),
        np.array([0, 1, "a", np.nan], object),
        np.zeros(4, complex),
    ],
)
def test_what_is_no_label_is_refused(figure, labels: np.ndarray):
    for pair in ((labels, np.arange(4)), (np.arange(4), labels)):
        with pytest.raises(UserError, match="not all names or finite numbers"):
            figure(*pair)


@pytest.mark.parametrize("labels", [[7, 7, 2**32 + 7, 2**32 + 7], ["a", "a", "b", "b"], [0.5, 0.5, 1.5, 1.5]])
def test_labels_may_bear_any_names(labels: list):
    assert normalized_mutual_information(np.array(labels), np.array([0, 0, 1, 1])) == 1
    assert purity(np.array(labels, object if isinstance(labels[0], str) else None), np.arange(4) // 2) == 1
