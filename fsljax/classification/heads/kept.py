"""Heads on disk: what a run learned of its classes, and what an application enrolled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fsljax.classification.heads import Head, new_head
from fsljax.classification.heads.learned import NearestClusters, SoftmaxLayer
from fsljax.classification.heads.unknown import Distances, Scale, checked_threshold, scale_of
from fsljax.data.labels import Label
from fsljax.training import saved_model
from fsljax.training.checkpoints import Model

KIND = "head"


def arrays_of(head: Head, kind: str, scale: Scale | None = None) -> dict[str, np.ndarray]:
    """What is to be kept of a head.

    Args:
      head: the head.
      kind: by which it is made anew: "", the network's own rule; "softmax", "clusters"; or a name of `HEADS`
        with the distance after a colon.
      scale: of its confidence, where it cannot be found anew from embeddings that are kept.
    """
    kept = {**head.arrays(), KIND: np.array(kind)} if kind else head.arrays()
    return kept if scale is None else {**kept, "scale": np.array(scale)}


class Kept:
    """What a file of classes held.

    Attributes:
      head: with its classes.
      kind: see `arrays_of`.
      unknown: the threshold, or None.
      scale: of the confidence, if it was kept.
    """

    def __init__(self, path: Path, model: Model, dim: int, own: Head):
        """Reads a file of classes of a network.

        Args:
          path: of the file.
          model: of the network.
          dim: of its embeddings.
          own: its own rule, without classes.

        Raises:
          UserError: if it cannot be read, or is of another network.
        """
        self.head, self.kind = own, ""
        self.unknown: float | None = None
        self.scale: Scale | None = None

        def restore(labels: list[Label], arrays: Mapping[str, np.ndarray]) -> None:
            self.kind = str(arrays[KIND]) if KIND in arrays else ""
            self.head = head_of_kind(self.kind) or own
            self.head.restore(labels, arrays)
            threshold = float(arrays["unknown"]) if "unknown" in arrays else float("nan")
            self.unknown = None if np.isnan(threshold) else checked_threshold(threshold)
            if "scale" in arrays:
                self.scale = Scale(*(float(value) for value in arrays["scale"]))

        saved_model.read_enrolled(path, model, dim, restore)


def head_of_kind(kind: str) -> Head | None:
    """An empty head; None of the network's own rule.

    Raises:
      UserError: if there is no such kind.
    """
    if not kind:
        return None
    if kind in ("softmax", "clusters"):
        return SoftmaxLayer() if kind == "softmax" else NearestClusters()
    name, _, distance = kind.partition(":")
    return new_head(name, distance=distance or "cosine")


def trained_scale(head: Head, embeddings: np.ndarray, labels: np.ndarray) -> Scale | None:
    """The scale of a head that keeps no embeddings, from those it was trained on.

    Args:
      head: with the classes.
      embeddings: `[n, dim]`.
      labels: int `[n]`, places of their classes.
    """
    distances = head.telling_unknown().compare(embeddings).distances.astype(np.float64)
    own = distances[np.arange(len(labels)), labels].copy()
    distances[np.arange(len(labels)), labels] = np.inf
    return scale_of(Distances(own, distances.min(axis=1), labels))
