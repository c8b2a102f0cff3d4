"""Sections of the report of a classification into known classes, made from plain arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fsljax.reporting.embedding_map import Clusters
from fsljax.reporting.pictures import are_drawings, data_uri
from fsljax.reporting.sections import Section, render

_THUMB_SIDE = 72


def confused_pairs_section(
    labels: np.ndarray,
    predictions: np.ndarray,
    class_names: Sequence[str],
    images: np.ndarray,
    *,
    max_pairs: int = 10,
) -> Section:
    """The pairs of classes that are taken for each other most often, with an example of each class.

    Args:
      labels: `[n]`, indices into `class_names`.
      predictions: `[n]`, the same.
      class_names: one a class.
      images: `[n, h, w, channel]`, what was classified; a class is shown by the first of its images that was
        classified rightly, else by its first.
      max_pairs: how many pairs; of pairs with as many errors those of lower classes.

    Raises:
      ValueError: if there is not one label, prediction and image of each.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if not len(labels) == len(predictions) == len(images):
        raise ValueError(
            f"{len(labels)} labels, {len(predictions)} predictions and {len(images)} images: one of each."
        )
    title = "Confused classes"
    wrong = np.flatnonzero(labels != predictions)
    if not len(wrong):
        return Section(title, "<p>No image was taken for another class.</p>")
    both = np.sort(np.stack([labels[wrong], predictions[wrong]], axis=1), axis=1)
    pairs, totals = np.unique(both, axis=0, return_counts=True)
    worst = np.argsort(-totals, kind="stable")[:max_pairs]
    drawings = are_drawings(np.asarray(images[:100]))
    shown = []
    for (first, second), total in zip(pairs[worst], totals[worst], strict=True):
        members = [
            {
                "name": str(class_names[own]),
                "image": _example(own, labels, predictions, images, drawings),
                "errors": int(((labels == own) & (predictions == other)).sum()),
                "count": int((labels == own).sum()),
            }
            for own, other in ((first, second), (second, first))
        ]
        shown.append({"members": members, "total": int(total)})
    text = (
        f"{len(wrong):,} of {len(labels):,} images were taken for another class;"
        f" these pairs make up {100 * totals[worst].sum() / len(wrong):.0f} % of the errors."
    )
    return Section(title, render("confusions", pairs=shown, drawings=drawings), text)


def cluster_gallery_section(
    embeddings: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    images: np.ndarray,
    clusters: Clusters,
    *,
    losses: np.ndarray | None = None,
    max_classes: int = 4,
    max_images: int = 8,
) -> Section:
    """The clusters of a few classes, each by the images nearest to its centroid.

    Args:
      embeddings: `[n, dim]`, best of the training set, whose clusters they are.
      labels: `[n]`, indices into `class_names`.
      class_names: one a class.
      images: `[n, h, w, channel]`, what was embedded.
      clusters: several a class.
      losses: `[classes, k]`, the mean loss of each cluster; with them the classes are those whose clusters
        have the highest, else they are spread evenly over all.
      max_classes: how many classes.
      max_images: how many images of each cluster.

    Raises:
      ValueError: if there is not one embedding, label and image of each.
    """
    embeddings, labels = np.asarray(embeddings), np.asarray(labels)
    if not len(embeddings) == len(labels) == len(images):
        raise ValueError(
            f"{len(embeddings)} embeddings, {len(labels)} labels and {len(images)} images: one of each."
        )
    counts = np.asarray(clusters.counts)
    clustered = np.flatnonzero((counts > 0).any(axis=1))
    title = "Clusters"
    if not len(clustered) or not np.isfinite(embeddings).all():
        return Section(title, "<p>There are no finite clusters to show.</p>")
    if losses is None:
        chosen = clustered[np.unique(np.linspace(0, len(clustered) - 1, max_classes).astype(int))]
        which = "a few classes"
    else:
        losses = np.asarray(losses)
        highest = np.where(counts > 0, losses, -np.inf)[clustered].max(axis=1)
        chosen = clustered[np.argsort(-highest, kind="stable")[:max_classes]]
        which = "the classes whose clusters have the highest loss"
    drawings = are_drawings(np.asarray(images[:100]))
    shown = []
    for label in chosen:
        members = np.flatnonzero(labels == label)
        nearest = clusters.nearest(embeddings[members], labels[members])
        rows = []
        for cluster in np.flatnonzero(counts[label] > 0):
            own = members[nearest == cluster]
            far = np.sum((embeddings[own] - np.float64(clusters.centroids[label][cluster])) ** 2, axis=1)
            rows.append(
                {
                    "count": int(counts[label, cluster]),
                    "loss": "" if losses is None else f"{losses[label, cluster]:.3g}",
                    "images": [
                        data_uri(images[i], side=_THUMB_SIDE, drawing=drawings)
                        for i in own[np.argsort(far, kind="stable")[:max_images]]
                    ],
                }
            )
        shown.append({"name": str(class_names[label]), "rows": rows})
    text = f"The clusters of {which}, each with the images nearest to its centroid."
    return Section(title, render("gallery", classes=shown, drawings=drawings), text)


def _example(
    label: int, labels: np.ndarray, predictions: np.ndarray, images: np.ndarray, drawings: bool
) -> str:
    """The image that stands for a class; empty where there is none."""
    own = np.flatnonzero(labels == label)
    right = own[predictions[own] == label]
    for index in [*right[:1], *own[:1]]:
        return data_uri(images[index], side=_THUMB_SIDE, drawing=drawings)
    return ""
