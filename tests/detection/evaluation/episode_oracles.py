"""Figures over episodes as they are defined, image by image and part by part: slow, and plain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fsljax.detection.evaluation.judging import Judged


def pool(parts: Sequence[Judged]) -> Judged:
    """Ranks the detections of all parts together, as if of one set of images with the classes of all.

    Args:
      parts: of the same number of classes, one for each episode.
    """
    scores, labels, right = (np.concatenate(column) for column in list(zip(*parts, strict=True))[:3])
    order = np.argsort(-scores, kind="stable")
    positives = np.sum([part.positives for part in parts], axis=0)
    return Judged(scores[order], labels[order], right[order], positives)


def resampled_average_precisions(parts: Sequence[Judged], times: np.ndarray) -> np.ndarray:
    """Pooled average precisions of samples of the parts, for a bootstrap.

    Args:
      parts: one for each episode.
      times: int `[samples, parts]`, how often each part is in each sample.

    Returns:
      `[samples]`; NaN for an empty one.
    """
    order = np.argsort(-np.concatenate([part.scores for part in parts]), kind="stable")
    right = np.concatenate([part.right for part in parts])[order]
    number = np.repeat(np.arange(len(parts)), [len(part.scores) for part in parts])[order]
    positives = times @ np.array([part.positives.sum() for part in parts])
    figures = np.full(len(times), np.nan)
    for sample in np.flatnonzero(positives):
        counts = times[sample][number]
        ranked, hits = np.cumsum(counts), np.cumsum(counts * right)
        precision, recall = hits / np.maximum(ranked, 1), hits / positives[sample]
        best = np.maximum.accumulate(precision[::-1])[::-1]
        figures[sample] = np.sum(np.diff(recall, prepend=0.0) * best)
    return figures
