"""Neighbours, Recall@K, MAP@R and hierarchy recovery, against plain loops in float64."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fsljax.errors import UserError
from fsljax.evaluation import neighbours as neighbours_of
from fsljax.evaluation.retrieval import hierarchy_recovery, knn_predictions, nearest_neighbours, retrieve

few_examples = settings(max_examples=15, deadline=None)


def examples(count: int = 60, *, classes: int = 7, dim: int = 4, seed: int = 0, offset: float = 0.0):
    """Overlapping classes of different sizes, the same classes whatever the seed."""
    centres = np.random.default_rng(99).normal(size=(classes, dim))
    generator = np.random.default_rng(seed)
    labels = np.minimum(generator.integers(0, classes, count), generator.integers(0, classes, count))
    return (offset + centres[labels] + generator.normal(size=(count, dim))).astype(np.float32), labels


def reference_order(queries: np.ndarray, gallery: np.ndarray | None) -> list[np.ndarray]:
    """Every query's neighbours, by distance, then by index."""
    others = np.float64(queries if gallery is None else gallery)
    orders = []
    for index, query in enumerate(np.float64(queries)):
        order = np.argsort(np.sum((others - query) ** 2, axis=1), kind="stable")
        orders.append(order[order != index] if gallery is None else order)
    return orders


def reference_knn(orders: list[np.ndarray], labels: np.ndarray, neighbours: int) -> list[int]:
    predictions = []
    for order in orders:
        voters = list(labels[order[:neighbours]])
        most = max(voters.count(label) for label in voters)
        predictions.append(next(label for label in voters if voters.count(label) == most))
    return predictions


def reference_precision(orders: list[np.ndarray], labels: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """NaN for a query that has no answer."""
    figures = []
    for order, label in zip(orders, labels, strict=True):
        relevant = answers[order] == label
        total = relevant.sum()
        parts = [relevant[: i + 1].mean() for i in range(total) if relevant[i]]
        figures.append(sum(parts) / total if total else np.nan)
    return np.array(figures)


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("count", [1, 5, 59])
def test_neighbours_among_the_others_come_in_the_order_of_their_distance(count: int, offset: float):
    embeddings, _ = examples(offset=offset)
    expected = [order[:count] for order in reference_order(embeddings, None)]
    np.testing.assert_array_equal(nearest_neighbours(embeddings, count=count), expected)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_neighbours_in_a_gallery_come_in_the_order_of_their_distance(offset: float):
    queries, _ = examples(offset=offset)
    gallery, _ = examples(45, seed=1, offset=offset)
    expected = [order[:45] for order in reference_order(queries, gallery)]
    np.testing.assert_array_equal(nearest_neighbours(queries, gallery, count=45), expected)
    far = nearest_neighbours(np.full((1, 4), 1e16), gallery, count=45)
    np.testing.assert_array_equal(np.sort(far[0]), np.arange(45))


def test_a_query_that_stands_in_the_gallery_too_finds_itself():
    queries, _ = examples()
    np.testing.assert_array_equal(nearest_neighbours(queries, queries, count=1)[:, 0], np.arange(60))


def test_points_nearer_than_the_product_can_tell_are_ordered_by_their_differences():
    """Two far groups: products there are 1e8, and neighbours a thousandth apart."""
    generator = np.random.default_rng(0)
    groups = np.repeat([[1e4, 0.0], [-1e4, 0.0]], 8, axis=0)
    embeddings = (groups + [[0.0, 1.0]] * generator.permutation(16)[:, None] * 1e-3).astype(np.float32)
    expected = [order[:7] for order in reference_order(embeddings, None)]
    np.testing.assert_array_equal(nearest_neighbours(embeddings, count=7), expected)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e4])
def test_equal_points_come_in_the_order_of_their_index(value: float):
    equal = np.full((40, 3), value, np.float32)
    expected = [[i for i in range(40) if i != own][:5] for own in range(40)]
    np.testing.assert_array_equal(nearest_neighbours(equal, count=5), expected)
    np.testing.assert_array_equal(nearest_neighbours(equal, equal, count=5), [list(range(5))] * 40)


@pytest.mark.parametrize("floats", [1, 3000, 10_000])
def test_the_last_block_may_be_partly_filled(floats: int, monkeypatch: pytest.MonkeyPatch):
    embeddings, labels = examples()
    neighbours, whole = nearest_neighbours(embeddings, count=9), retrieve(embeddings, labels)
    monkeypatch.setattr(neighbours_of, "_FLOATS_A_BLOCK", floats)
    np.testing.assert_array_equal(nearest_neighbours(embeddings, count=9), neighbours)
    in_parts = retrieve(embeddings, labels)
    np.testing.assert_array_equal(in_parts.average_precision_at_r, whole.average_precision_at_r)
    np.testing.assert_array_equal(in_parts.recall_at[2], whole.recall_at[2])


@pytest.mark.parametrize("neighbours", [1, 2, 5, 20])
def test_the_commonest_class_among_the_neighbours_is_predicted(neighbours: int):
    queries, labels = examples()
    gallery, answers = examples(45, seed=1)
    alone = reference_knn(reference_order(queries, None), labels, neighbours)
    np.testing.assert_array_equal(knn_predictions(queries, None, labels, neighbours=neighbours), alone)
    expected = reference_knn(reference_order(queries, gallery), answers, neighbours)
    np.testing.assert_array_equal(knn_predictions(queries, gallery, answers, neighbours=neighbours), expected)
    assert 0.2 < np.mean(np.array(expected) == labels) < 0.9


def test_of_equally_common_classes_that_of_the_nearest_is_predicted():
    gallery = np.array([[1.0], [2.0], [3.0], [4.0], [5.0]])
    predicted = partial(knn_predictions, np.zeros((1, 1)), gallery, np.array([4, 2, 2, 4, 0]))
    assert [int(predicted(neighbours=n)[0]) for n in (1, 2, 3, 4, 5)] == [4, 4, 2, 4, 4]


def test_recall_and_average_precision_equal_their_formulas():
    queries, labels = examples()
    gallery, answers = examples(45, seed=1)
    for others, classes in ((None, None), (gallery, answers)):
        orders = reference_order(queries, others)
        known = labels if classes is None else classes
        precision = reference_precision(orders, labels, known)
        found = retrieve(queries, labels, others, classes)
        np.testing.assert_array_equal(found.answerable, np.flatnonzero(np.isfinite(precision)))
        np.testing.assert_allclose(found.average_precision_at_r, precision[found.answerable], rtol=1e-12)
        for k in (1, 2, 4, 8):
            recall = [label in known[order[:k]] for order, label in zip(orders, labels, strict=True)]
            np.testing.assert_array_equal(found.recall_at[k], np.array(recall)[found.answerable])


def test_queries_without_an_answer_are_left_out():
    embeddings = np.arange(5.0)[:, None]
    found = retrieve(embeddings, np.array([0, 7, 0, 3, 3]), at=(1, 2))
    np.testing.assert_array_equal(found.answerable, [0, 2, 3, 4])
    # The nearest of 0 is 1, of 2 is 1 (the lower of two), of 3 is 2 (likewise), of 4 is 3.
    np.testing.assert_array_equal(found.recall_at[1], [False, False, False, True])
    np.testing.assert_array_equal(found.recall_at[2], [True, False, True, True])
    np.testing.assert_array_equal(found.average_precision_at_r, [0, 0, 0, 1])


def test_precision_at_r_counts_only_the_first_r_places():
    """R = 3: right, wrong, right, then a right one too late: (1/1 + 2/3) / 3."""
    gallery = np.arange(1.0, 6.0)[:, None]
    found = retrieve(np.zeros((1, 1)), np.array([1]), gallery, np.array([1, 0, 1, 1, 0]), at=(1,))
    np.testing.assert_allclose(found.average_precision_at_r, [(1 + 2 / 3) / 3])


def test_one_class_is_always_found():
    embeddings, _ = examples()
    figures = retrieve(embeddings, np.zeros(60, int)).figures()
    assert figures["map_at_r"] == figures["recall_at_1"] == 1
    assert figures["map_at_r_ci95"] == figures["recall_at_1_ci95"] == 0


def test_figures_bear_the_names_of_results_with_their_intervals():
    embeddings, labels = examples(400)
    found = retrieve(embeddings, labels)
    figures = found.figures()
    names = [f"recall_at_{k}" for k in (1, 2, 4, 8)] + ["map_at_r"]
    assert set(figures) == {*names, *(f"{name}_ci95" for name in names)}
    assert figures["recall_at_4"] == found.recall_at[4].mean()
    precision = found.average_precision_at_r
    assert figures["map_at_r"] == precision.mean()
    assert figures["map_at_r_ci95"] == pytest.approx(1.96 * precision.std() / np.sqrt(400), rel=0.05)


def test_fine_classes_are_recovered_or_at_least_their_coarse_ones():
    queries, fine = examples(80, classes=8)
    gallery, answers = examples(50, classes=8, seed=1)
    coarse_of_fine = np.arange(8) // 2
    for others, known in ((None, fine), (gallery, answers)):
        expected = np.array(reference_knn(reference_order(queries, others), known, 3))
        told = None if others is None else answers
        found = hierarchy_recovery(queries, fine, coarse_of_fine, others, told, neighbours=3)
        np.testing.assert_array_equal(found.predictions, expected)
        np.testing.assert_array_equal(found.correct, expected == fine)
        np.testing.assert_array_equal(found.coarse_correct, expected // 2 == fine // 2)
        assert found.correct.mean() < found.coarse_correct.mean() < 1


def test_an_embedding_that_collapses_coarse_classes_recovers_the_fine_ones_by_chance_alone():
    coarse_of_fine = np.arange(10) // 2
    fine = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 60))
    collapsed = np.eye(5)[coarse_of_fine[fine]] + 1e-3 * np.random.default_rng(1).normal(size=(600, 5))
    found = hierarchy_recovery(collapsed, fine, coarse_of_fine)
    assert found.coarse_correct.all()
    assert 0.42 < found.correct.mean() < 0.56


@pytest.mark.parametrize("ids", [(0, 2**32), (2**62, 2**62 + 1), (3, 2**31)])
def test_labels_may_be_ids_of_64_bits(ids: tuple[int, int]):
    embeddings = np.array([[0.0, 0], [0, 1], [9, 9], [9, 8]], np.float32)
    labels = np.repeat(ids, 2)
    np.testing.assert_array_equal(knn_predictions(embeddings, None, labels), labels)
    np.testing.assert_array_equal(knn_predictions(embeddings, None, labels.astype(np.uint64)), labels)
    assert retrieve(embeddings, labels, at=(1,)).figures()["map_at_r"] == 1
    apart = retrieve(embeddings, labels, embeddings, np.repeat(ids[::-1], 2), at=(1,))
    assert apart.figures()["recall_at_1"] == 0


@few_examples
@given(seed=st.integers(0, 2**31), offset=st.integers(-1000, 1000))
def test_moving_all_and_permuting_the_gallery_change_no_figure(seed: int, offset: int):
    (queries, labels), (gallery, answers) = examples(seed=seed), examples(45, seed=seed + 1)
    # Whole numbers are moved without rounding.
    queries, gallery = np.round(100 * queries), np.round(100 * gallery)
    before = retrieve(queries, labels, gallery, answers)
    order = np.random.default_rng(seed).permutation(45)
    distances = np.sum((queries[:, None] - gallery) ** 2, axis=-1)
    assume(all(len(np.unique(row)) == 45 for row in distances))
    after = retrieve(queries + offset, labels, gallery[order] + offset, answers[order])
    np.testing.assert_array_equal(after.answerable, before.answerable)
    np.testing.assert_allclose(after.average_precision_at_r, before.average_precision_at_r, rtol=1e-12)
    for k, found in before.recall_at.items():
        np.testing.assert_array_equal(after.recall_at[k], found)


def test_bfloat16_is_compared_in_float32():
    embeddings = jnp.asarray(examples()[0], jnp.bfloat16)
    expected = [order[:5] for order in reference_order(np.asarray(embeddings, np.float32), None)]
    np.testing.assert_array_equal(nearest_neighbours(embeddings, count=5), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: nearest_neighbours(x, count=60), "each query has 59: ask for 1 to 59"),
        (lambda x, y: nearest_neighbours(x, x[:3], count=4), "each query has 3"),
        (lambda x, y: nearest_neighbours(x, count=0), "0 nearest neighbours"),
        (lambda x, y: nearest_neighbours(x, x[:, :2], count=1), r"gallery's \[60, 2\]: .* the same network"),
        (lambda x, y: nearest_neighbours(x * np.nan, count=1), "60 of the 60 embeddings"),
        (lambda x, y: knn_predictions(x, x[:9], y), "gallery's labels are .* each of 9 rows"),
        (lambda x, y: retrieve(x, y, x), "without its labels: give gallery_labels"),
        (lambda x, y: retrieve(x, np.arange(60)), "nothing to retrieve"),
        (lambda x, y: retrieve(x, y, at=(1, 70)), "70 nearest neighbours were requested"),
        (lambda x, y: hierarchy_recovery(x, y, np.arange(3)), "fine labels range from 0 to"),
        (lambda x, y: hierarchy_recovery(x, y, np.arange(9), x), "give gallery_fine_labels"),
    ],
)
def test_what_cannot_be_retrieved_is_refused_in_words(call, message: str):
    with pytest.raises(UserError, match=message):
        call(*examples())


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak as Linux tells it")
def test_33_000_queries_among_themselves_take_less_than_a_gigabyte():
    program = """
from pathlib import Path
import numpy as np
from fsljax.evaluation.retrieval import retrieve
generator = np.random.default_rng(0)
labels = generator.integers(0, 1650, 33_000)
centres = generator.standard_normal((1650, 64), np.float32)
embeddings = centres[labels] + generator.standard_normal((33_000, 64), np.float32)
print(retrieve(embeddings, labels).recall_at[1].mean())
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) / 2**20)  # getrusage's peak would be that of the tests' process, too
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    recall, gigabytes = map(float, done.stdout.split())
    assert recall > 0.9
    assert gigabytes < 1
