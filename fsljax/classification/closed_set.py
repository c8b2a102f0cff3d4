"""Figures of the embeddings of classes that were trained on: clusters, neighbours, and the report of both."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import jax
import numpy as np

from fsljax.classification.config import ClosedSet
from fsljax.classification.embedder import Part
from fsljax.classification.heads import Head
from fsljax.classification.heads.kept import arrays_of, trained_scale
from fsljax.classification.heads.learned import NearestClusters
from fsljax.classification.report import cluster_gallery_section, confused_pairs_section
from fsljax.clustering import KMeansResult, kmeans_per_class
from fsljax.data.dataset import ImageDataset, spread_classes
from fsljax.data.labels import Label
from fsljax.errors import DivergedError
from fsljax.evaluation import metrics, nearest_cluster, retrieval
from fsljax.evaluation.paired import accuracy_and_ci95
from fsljax.reporting.embedding_map import Clusters
from fsljax.reporting.sections import Section, embedding_map_section
from fsljax.training.method import Evaluation, Learned

_CLASSES_ON_MAP = 20
_RESTARTS = 5


Report = Callable[[Part, Part, np.ndarray], list[Section]]
"""Sections of a training part, a test part and its predicted classes."""


def find_clusters(key: jax.Array, part: Part, clusters_per_class: int) -> KMeansResult:
    """k-means of each class's embeddings.

    Raises:
      DivergedError: if an embedding is not a finite number.
    """
    if not np.isfinite(part.embeddings).all():
        raise DivergedError(
            "The network's embeddings are no longer finite: the run stops, and earlier checkpoints are "
            "kept. Try a lower config.train.learning_rate."
        )
    with warnings.catch_warnings():  # of small classes, which the method names once
        warnings.simplefilter("ignore", UserWarning)
        return kmeans_per_class(
            key,
            part.embeddings,
            part.data.labels,
            num_classes=part.data.num_classes,
            clusters_per_class=clusters_per_class,
            num_restarts=_RESTARTS,
            devices=part.devices,
        )


def nearest_cluster_predictions(config: ClosedSet, clusters: KMeansResult, test: Part) -> np.ndarray:
    """Predicted classes int32 `[n]` of the test part, by the clusters of the training part."""
    return nearest_cluster.classify(
        test.embeddings,
        clusters.centroids,
        clusters.counts,
        _variance(clusters),
        num_nearest=config.eval.num_nearest,
    ).predictions


def _variance(clusters: KMeansResult) -> float:
    return float(np.sum(clusters.inertia)) / max(int(np.sum(clusters.counts)) - 1, 1)


def learned_by(head: Head, kind: str, train: Part) -> Learned:
    """What a run keeps of its classes: a rule, and how far training images lie from them."""
    scale = trained_scale(head, train.embeddings, train.data.labels)
    return Learned([str(name) for name in head.labels], arrays_of(head, kind, scale))


def evaluate(
    config: ClosedSet,
    train: Part,
    test: Part,
    *,
    published: dict[str, dict[str, float]],
    predictions: dict[str, np.ndarray] | None = None,
    report: Report | None = None,
    head: tuple[Head, str] | None = None,
) -> Evaluation:
    """Figures of the embeddings of a part of classes that were trained on.

    Args:
      config: of the experiment.
      train: the part whose clusters and neighbours decide.
      test: the part that is classified.
      published: figures of others, `{setting: {source: value}}`.
      predictions: the method's own, `{setting: classes [n]}`, to be reported first.
      report: what is shown instead of the training part's clusters.
      head: the method's own rule with the classes, and its kind; None: the training part's clusters.
    """
    labels = test.data.labels
    predicted_by = dict(predictions or {})
    clusters = evaluation_clusters(config, train)
    predicted_by["nearest_cluster"] = nearest_cluster_predictions(config, clusters, test)
    predicted_by["nearest_neighbour"] = retrieval.knn_predictions(
        test.embeddings, train.embeddings, train.data.labels,
        neighbours=config.eval.neighbours, devices=test.devices,
    )  # fmt: skip
    correct = {setting: predicted == labels for setting, predicted in predicted_by.items()}
    if test.data.fine_labels is not None:
        correct["hierarchy_recovery"] = _recovered(config, train, test)
    results = {}
    for setting, right in correct.items():
        accuracy, ci95 = accuracy_and_ci95(right)
        results[setting] = {"accuracy": accuracy, "ci95": ci95, "examples": len(right)}
    results["nearest_neighbour"] |= metrics.compute(
        config.eval.metrics, test.embeddings, labels, seed=config.eval.seed
    )
    if head is None:
        centroids, counts = np.asarray(clusters.centroids), np.asarray(clusters.counts)
        options = _variance(clusters), config.eval.num_nearest
        head = NearestClusters.of(class_labels(train.data), centroids, counts, *options), "clusters"
    report = report or partial(
        _cluster_sections, Clusters(np.asarray(clusters.centroids), np.asarray(clusters.counts))
    )
    chosen = np.flatnonzero(np.isin(labels, spread_classes(test.data.num_classes, _CLASSES_ON_MAP)))
    names, images = test.data.class_names, test.data.images
    return Evaluation(
        test=results,
        published=published,
        sections=report(train, test, next(iter(predicted_by.values()))),
        embeddings=test.embeddings[chosen],
        shown=ImageDataset(np.asarray(images[chosen]), labels[chosen], names),
        correct=correct,
        learned=learned_by(*head, train),
    )


def class_labels(data: ImageDataset) -> list[Label]:
    """Names of the classes, as labels."""
    return [str(name) for name in data.class_names]


def _cluster_sections(clusters: Clusters, train: Part, test: Part, predicted: np.ndarray) -> list[Section]:
    names, labels, images = test.data.class_names, test.data.labels, test.data.images
    return [
        embedding_map_section(test.embeddings, labels, names, images, clusters=clusters, classes_seen=True),
        confused_pairs_section(labels, predicted, names, images),
        cluster_gallery_section(train.embeddings, train.data.labels, names, train.data.images, clusters),
    ]


def evaluation_clusters(config: ClosedSet, train: Part) -> KMeansResult:
    """The clusters of the training part that classify, by `config.eval`."""
    return find_clusters(jax.random.key(config.eval.seed), train, config.eval.clusters_per_class)


def _recovered(config: ClosedSet, train: Part, test: Part) -> np.ndarray:
    """Whether the nearest training example is of the fine class, bool `[n]`."""
    fine, coarse = train.data.fine_labels, train.data.labels
    assert fine is not None and test.data.fine_labels is not None and test.data.fine_class_names is not None
    coarse_of_fine = np.zeros(len(test.data.fine_class_names), np.int32)
    coarse_of_fine[fine] = coarse
    return retrieval.hierarchy_recovery(
        test.embeddings,
        test.data.fine_labels,
        coarse_of_fine,
        train.embeddings,
        fine,
        neighbours=config.eval.neighbours,
        devices=test.devices,
    ).correct
