"""Metrics are found by the names of their modules."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest

from fsljax.clustering import kmeans
from fsljax.errors import UserError
from fsljax.evaluation import metrics
from fsljax.evaluation.agreement import normalized_mutual_information
from fsljax.evaluation.retrieval import retrieve

CLASSES, EACH, DIM = 5, 6, 8


@pytest.fixture
def labels() -> np.ndarray:
    return np.repeat(np.arange(CLASSES), EACH)


@pytest.fixture
def embeddings(labels: np.ndarray) -> np.ndarray:
    generator = np.random.default_rng(0)
    means = generator.normal(size=(CLASSES, DIM))
    return np.float32(means[labels] + 0.5 * generator.normal(size=(len(labels), DIM)))


def test_figures_are_those_of_the_functions_they_come_from(embeddings: np.ndarray, labels: np.ndarray):
    figures = metrics.compute(("retrieval", "nmi"), embeddings, labels, seed=3)
    clusters = kmeans(jax.random.key(3), embeddings, CLASSES)
    assert figures == retrieve(embeddings, labels, at=(1, 2, 4, 8)).figures() | {
        "nmi": normalized_mutual_information(np.asarray(clusters.assignments), labels)
    }
    assert list(figures) == [
        "recall_at_1", "recall_at_1_ci95", "recall_at_2", "recall_at_2_ci95", "recall_at_4",
        "recall_at_4_ci95", "recall_at_8", "recall_at_8_ci95", "map_at_r", "map_at_r_ci95", "nmi",
    ]  # fmt: skip
    assert metrics.compute((), embeddings, labels, seed=3) == {}


def test_recall_is_asked_for_no_further_than_there_are_neighbours(embeddings: np.ndarray):
    figures = metrics.compute(("retrieval",), embeddings[:4], np.array([0, 0, 1, 1]), seed=0)
    assert {name for name in figures if not name.endswith("_ci95")} == {
        "recall_at_1", "recall_at_2", "map_at_r",
    }  # fmt: skip


def test_clusters_are_as_many_as_classes_that_are_present(embeddings: np.ndarray, labels: np.ndarray):
    gaps = metrics.compute(("nmi",), embeddings, 3 * labels, seed=0)
    assert gaps == metrics.compute(("nmi",), embeddings, labels, seed=0)


def test_examples_that_are_alone_in_their_class_have_no_figures(embeddings: np.ndarray):
    assert metrics.compute(("retrieval", "nmi"), embeddings[:CLASSES], np.arange(CLASSES), seed=0) == {}


def test_an_unknown_metric_is_answered_with_the_nearest(embeddings: np.ndarray, labels: np.ndarray):
    with pytest.raises(UserError, match=r"config.eval.metrics is 'retreival'.*Did you mean retrieval\?"):
        metrics.compute(("retreival",), embeddings, labels, seed=0)


def test_a_metric_of_ones_own_is_named_by_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embeddings: np.ndarray, labels: np.ndarray
):
    (tmp_path / "mymetrics").mkdir()
    (tmp_path / "mymetrics" / "spread.py").write_text(
        "def compute(embeddings, labels, *, seed):\n    return {'spread': float(embeddings.std())}\n"
    )
    (tmp_path / "mymetrics" / "unfinished.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert metrics.compute(("mymetrics.spread",), embeddings, labels, seed=0) == {
        "spread": float(embeddings.std())
    }
    with pytest.raises(UserError, match=r"mymetrics.unfinished.* defines no compute"):
        metrics.compute(("mymetrics.unfinished",), embeddings, labels, seed=0)
    with pytest.raises(UserError, match=r"'mymetrics.spread' gives spread, which another"):
        metrics.compute(("mymetrics.spread", "mymetrics.spread"), embeddings, labels, seed=0)
