"""Agreement of clusters with classes: two labelings of the same examples, up to renaming."""

from __future__ import annotations

import numpy as np

from fsljax.errors import UserError


def normalized_mutual_information(first: np.ndarray, second: np.ndarray) -> float:
    """Normalised mutual information of two labelings, 2 I(A; B) / (H(A) + H(B)).

    Symmetric; 0 if the labelings are independent, 1 if each determines the other (including two labelings
    with a single label each). Arithmetic normalisation as in Manning, Raghavan and Schütze, Introduction to
    Information Retrieval (2008), section 16.3, as is usual in metric-learning papers.

    Args:
      first: `[n]`, such as the cluster of each example.
      second: `[n]`, such as its class.

    Returns:
      A value in [0, 1].

    Raises:
      UserError: if the two have different lengths, are not of rank 1, or are empty, or a label is neither a
        name nor a finite number.
    """
    rows, columns, joint = _contingency(first, second)
    total = float(joint.sum())
    of_first: np.ndarray = np.bincount(rows, weights=joint)
    of_second: np.ndarray = np.bincount(columns, weights=joint)
    expected = of_first[rows] * of_second[columns] / total
    information = np.sum(joint * np.log(joint / expected)) / total
    entropies = _entropy(of_first) + _entropy(of_second)
    return float(np.clip(2 * information / entropies, 0, 1)) if entropies > 0 else 1.0


def purity(clusters: np.ndarray, classes: np.ndarray) -> float:
    """Fraction of examples that belong to the most frequent class of their cluster.

    It increases with the number of clusters, up to 1 if each example is its own cluster: compare it only at
    equal numbers of clusters.

    Args:
      clusters: `[n]`.
      classes: `[n]`.

    Returns:
      A value in (0, 1].

    Raises:
      UserError: if the two have different lengths, are not of rank 1, or are empty, or a label is neither a
        name nor a finite number.
    """
    rows, _, joint = _contingency(clusters, classes)
    commonest = np.zeros(rows.max() + 1)
    np.maximum.at(commonest, rows, joint)
    return float(commonest.sum()) / float(joint.sum())


def _contingency(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of labels that occur, each as row and column, and how many examples have each."""
    first, second = _labels(first), _labels(second)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise UserError(
            f"The labelings are {list(first.shape)} and {list(second.shape)}; each must be [n], with one "
            "label for each of the same examples."
        )
    _, rows = np.unique(first, return_inverse=True)
    names, columns = np.unique(second, return_inverse=True)
    pairs, joint = np.unique(rows.astype(np.int64) * len(names) + columns, return_counts=True)
    return pairs // len(names), pairs % len(names), np.asarray(joint, np.float64)


def _labels(given: np.ndarray) -> np.ndarray:
    """Labels as they are: NaN, which equals nothing, would make a cluster of its own of those without one."""
    labels = np.asarray(given)
    if labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels.flat):
        return labels
    if labels.dtype.kind in "biuUS" or (labels.dtype.kind == "f" and np.isfinite(labels).all()):
        return labels
    raise UserError(
        f"The labels of a labeling {labels.dtype} {list(labels.shape)} are not all names or finite numbers: "
        "leave out the examples that have no label."
    )


def _entropy(counts: np.ndarray) -> float:
    shares = counts / counts.sum()
    return float(-np.sum(shares * np.log(shares)))
