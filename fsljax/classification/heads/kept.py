"""Storage of heads: classes learned by a run, or enrolled by an application."""

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
    """The arrays to store of a head.

    Args:
      head: the head.
      kind: how to restore it: "", the network's own rule; "softmax", "clusters"; or a name of `HEADS`, with
        the distance after a colon.
      scale: scale of its confidence, if it cannot be recomputed from stored embeddings.
    """
    kept = {**head.arrays(), KIND: np.array(kind)} if kind else head.arrays()
    return kept if scale is None else {**kept, "scale": np.array(scale)}


class Kept:
    """The contents of a file of classes.

    Attributes:
      head: head with its classes.
      kind: see `arrays_of`.
      unknown: the threshold, or None.
      scale: scale of the confidence, if it was stored.
    """

    def __init__(self, path: Path, model: Model, dim: int, own: Head):
        """Reads a file of classes of a network.

        Args:
          path: path of the file.
          model: model of the network.
          dim: dimension of its embeddings.
          own: head with its own rule, without classes.

        Raises:
          UserError: if it cannot be read, or belongs to a different network.
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
    """An empty head; None for the network's own rule.

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
    """The scale of a head that keeps no embeddings, from its training embeddings.

    Args:
      head: head with the classes.
      embeddings: `[n, dim]`.
      labels: int `[n]`, indices of their classes.
    """
    distances = head.telling_unknown().compare(embeddings).distances.astype(np.float64)
    own = distances[np.arange(len(labels)), labels].copy()
    distances[np.arange(len(labels)), labels] = np.inf
    return scale_of(Distances(own, distances.min(axis=1), labels))
