"""Sections of the report of a classification into known classes, made from plain arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fsljax.classification.embedder import Part
from fsljax.classification.representatives import counts_in_use
from fsljax.reporting.embedding_map import Clusters
from fsljax.reporting.pictures import are_drawings, data_uri
from fsljax.reporting.sections import Section, embedding_map_section, render

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
            f"{len(labels)} labels, {len(predictions)} predictions and {len(images)} images: give one of "
            "each per example."
        )
    title = "Confused classes"
    wrong = np.flatnonzero(labels != predictions)
    if not len(wrong):
        return Section(title, "<p>No image was misclassified.</p>")
    both = np.sort(np.stack([labels[wrong], predictions[wrong]], axis=1), axis=1)
    pairs, totals = np.unique(both, axis=0, return_counts=True)
    worst = np.argsort(-totals, kind="stable")[:max_pairs]
    drawings = are_drawings(np.asarray(images[:100]))
    shown = []
    for (first, second), total in zip(pairs[worst], totals[worst], strict=True):
        members = [
            {
                "name": str(class_names[label]),
                "image": _example(label, labels, predictions, images, drawings),
                "errors": int(((labels == label) & (predictions == other)).sum()),
                "count": int((labels == label).sum()),
            }
            for label, other in ((first, second), (second, first))
        ]
        shown.append({"members": members, "total": int(total)})
    text = (
        f"{len(wrong):,} of {len(labels):,} images were misclassified; these pairs of classes make up "
        f"{100 * totals[worst].sum() / len(wrong):.0f} % of the errors."
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
    called: str = "cluster",
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
      called: "cluster", or "representative": those exist that are the nearest to no image too.
      max_classes: how many classes.
      max_images: how many images of each cluster.

    Raises:
      ValueError: if there is not one embedding, label and image of each.
    """
    embeddings, labels = np.asarray(embeddings), np.asarray(labels)
    if not len(embeddings) == len(labels) == len(images):
        raise ValueError(
            f"{len(embeddings)} embeddings, {len(labels)} labels and {len(images)} images: give one of each "
            "per example."
        )
    counts = np.asarray(clusters.counts)
    exists = (counts > 0) | (called == "representative")
    clustered = np.flatnonzero(exists.any(axis=1))
    title = f"{called.capitalize()}s"
    if not len(clustered) or not np.isfinite(embeddings).all():
        return Section(title, f"<p>There are no finite {called}s to show.</p>")
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
        for cluster in np.flatnonzero(exists[label]):
            rows_of_cluster = members[nearest == cluster]
            far = np.sum(
                (embeddings[rows_of_cluster] - np.float64(clusters.centroids[label][cluster])) ** 2, axis=1
            )
            rows.append(
                {
                    "count": int(counts[label, cluster]),
                    "loss": "" if losses is None else f"{losses[label, cluster]:.3g}",
                    "images": [
                        data_uri(images[i], side=_THUMB_SIDE, drawing=drawings)
                        for i in rows_of_cluster[np.argsort(far, kind="stable")[:max_images]]
                    ],
                }
            )
        shown.append({"name": str(class_names[label]), "rows": rows})
    place = "its centroid" if called == "cluster" else "it"
    text = f"The {called}s of {which}, each with the images nearest to {place}."
    return Section(title, render("gallery", classes=shown, drawings=drawings, called=called), text)


def representatives_in_use_section(
    counts: np.ndarray, class_names: Sequence[str], *, max_classes: int = 200
) -> Section:
    """How many representatives of each class are the nearest to an image of it.

    Args:
      counts: `[classes, k]`, training images whose nearest representative of their class each is.
      class_names: one a class.
      max_classes: how many are listed by name, those with the fewest in use first.
    """
    counts = np.asarray(counts)
    used = (counts > 0).sum(axis=1)
    summary = [(number, int((used == number).sum())) for number in range(counts.shape[1], -1, -1)]
    rows = [
        (str(class_names[label]), int(used[label]), ", ".join(f"{n:,}" for n in -np.sort(-counts[label])))
        for label in np.argsort(used, kind="stable")[:max_classes]
    ]
    text = (
        f"{int(used.sum()):,} of {counts.size:,} representatives are the nearest of their class to at least "
        "one training image; the numbers of each class say to how many."
    )
    return Section("Representatives in use", render("usage", summary=summary, rows=rows), text)


def report_sections(
    representatives: np.ndarray, train: Part, test: Part, predictions: np.ndarray
) -> list[Section]:
    """What a report shows of representatives that were trained.

    Args:
      representatives: `[classes, k, dim]`.
      train, test: the parts.
      predictions: of the test part, int `[n]`.
    """
    everywhere = _existing(representatives)
    nearest = everywhere.nearest(train.embeddings, train.data.labels)
    counts = counts_in_use(nearest, train.data.labels, everywhere.counts.shape)
    names, labels, images = test.data.class_names, test.data.labels, test.data.images
    used = Clusters(everywhere.centroids, counts)
    return [
        embedding_map_section(
            test.embeddings, labels, names, images, clusters=everywhere, called="representative"
        ),
        confused_pairs_section(labels, predictions, names, images),
        cluster_gallery_section(
            train.embeddings, train.data.labels, names, train.data.images, used, called="representative"
        ),
        representatives_in_use_section(counts, names),
    ]


def _existing(representatives: np.ndarray) -> Clusters:
    """Representatives as clusters, all of which exist."""
    return Clusters(representatives, np.ones(representatives.shape[:2], int))


def _example(
    label: int, labels: np.ndarray, predictions: np.ndarray, images: np.ndarray, drawings: bool
) -> str:
    """The image that stands for a class; empty where there is none."""
    members = np.flatnonzero(labels == label)
    right = members[predictions[members] == label]
    for index in [*right[:1], *members[:1]]:
        return data_uri(images[index], side=_THUMB_SIDE, drawing=drawings)
    return ""
