"""Confidence intervals of metrics over test examples, and of the difference of two methods on them.

Resampling is seeded with NumPy: the same examples, in any order, give the same interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fsljax.errors import UserError
from fsljax.evaluation.arrays import is_real

_NUMBERS_A_CHUNK = 4_000_000


class PairedDifference(NamedTuple):
    """Result of `paired_bootstrap`.

    Attributes:
      difference: mean of ours minus mean of theirs.
      lower, upper: ends of its 95 % interval.
    """

    difference: float
    lower: float
    upper: float


def accuracy_and_ci95(correct: np.ndarray) -> tuple[float, float]:
    """Accuracy over examples, and the half-width of its 95 % interval: 1.96 √(p (1 − p) / n).

    The normal approximation of the binomial: it is 0 if all examples are correct or all are wrong.

    Args:
      correct: `[n]`, whether each example was classified correctly.

    Raises:
      UserError: if there are no examples, or values other than 0 and 1.
    """
    values = _values(correct, "answers")
    if not np.isin(values, (0, 1)).all():
        raise UserError("The answers are not all right or wrong: give True or False for each example.")
    accuracy = float(values.mean())
    return accuracy, float(1.96 * np.sqrt(accuracy * (1 - accuracy) / len(values)))


def bootstrap_ci95(values: np.ndarray, *, resamples: int = 10_000, seed: int = 0) -> float:
    """Half-width of the 95 % bootstrap interval of the mean of a metric over examples.

    Args:
      values: `[n]`, such as the average precision of each query.
      resamples: number of times n examples are drawn with replacement.
      seed: random seed.

    Returns:
      Half the distance between the 2.5th and 97.5th percentiles of the resampled means.

    Raises:
      UserError: if there are no values, one is not finite, or `resamples` is below 1.
    """
    lower, upper = _interval(_means(_values(values, "values"), resamples, seed))
    return (upper - lower) / 2


def paired_bootstrap(
    ours: np.ndarray | Sequence[np.ndarray],
    theirs: np.ndarray | Sequence[np.ndarray],
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> PairedDifference:
    """Difference of two methods on the same examples or episodes, pooled over seeds, with its 95 % interval.

    Examples are drawn with replacement, each with its mean results over seeds for both methods: several seeds
    make the result of an example more precise, but do not add examples.

    Args:
      ours: `[n]`, or `[seeds, n]`: whether each example was classified correctly, or the accuracy of each
        episode.
      theirs: likewise for the other method, on the same examples in the same order; its number of seeds may
        differ.
      resamples: number of times n examples are drawn.
      seed: random seed.

    Returns:
      Difference of means, and the 2.5th and 97.5th percentiles of the resampled differences.

    Raises:
      UserError: if the numbers of examples differ, there are no examples, or a value is not finite.
    """
    our_means, their_means = _over_seeds(ours), _over_seeds(theirs)
    if our_means.shape != their_means.shape:
        raise UserError(
            f"The methods were tested on {len(our_means):,} and {len(their_means):,} examples: "
            "compare them on the same ones."
        )
    differences = our_means - their_means
    lower, upper = _interval(_means(differences, resamples, seed))
    return PairedDifference(float(differences.mean()), lower, upper)


def _over_seeds(results: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    try:
        rows = np.atleast_2d(np.asarray(results, np.float64))
    except ValueError:  # rows of different lengths
        raise UserError("The seeds of a method were tested on different numbers of examples.") from None
    if rows.ndim != 2:
        raise UserError(f"Results of a method are {list(rows.shape)}; they must be [n] or [seeds, n].")
    return _values(rows.mean(axis=0), "results")


def _values(values: np.ndarray, name: str) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 1 or not len(values) or not is_real(values) or not np.isfinite(values).all():
        raise UserError(f"The {name} must be [n], one finite number for each of 1 or more examples.")
    return values.astype(np.float64)


def _means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Mean of each resample, `[resamples]`.

    How often each distinct value is drawn has a multinomial distribution: for right and wrong answers that is
    two numbers a resample rather than n. Where most values are distinct, drawing them is faster.
    """
    if resamples < 1:
        raise UserError(f"resamples is {resamples}; an interval needs 1 or more.")
    distinct, counts = np.unique(values, return_counts=True)
    count = len(values)
    generator = np.random.default_rng(seed)
    few = 10 * len(distinct) < count
    chunk = max(1, _NUMBERS_A_CHUNK // (len(distinct) if few else count))
    ordered = np.sort(values)
    parts = []
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        if few:
            parts.append(generator.multinomial(count, counts / count, size=rows) @ distinct / count)
        else:
            parts.append(ordered[generator.integers(0, count, (rows, count), dtype=np.int32)].mean(axis=1))
    return np.concatenate(parts)


def _interval(figures: np.ndarray) -> tuple[float, float]:
    lower, upper = np.percentile(figures, (2.5, 97.5))
    return float(lower), float(upper)
