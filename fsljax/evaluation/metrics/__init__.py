"""Metrics of embeddings of labelled examples, one module each, found by name.

A module `fsljax.evaluation.metrics.NAME` has `compute(embeddings, labels, *, seed) -> dict[str, float]`,
whose keys appear in `results.json`. Your own metric can be a module anywhere, given by its dotted name.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np

from fsljax.config.modules import find
from fsljax.errors import UserError


def check(names: Sequence[str]) -> None:
    """Raises a UserError if one of these names is not a metric."""
    for name in names:
        _find(name)


def _find(name: str) -> ModuleType:
    return find("fsljax.evaluation.metrics", name, field="eval.metrics", needs=("compute",))


def compute(
    names: Sequence[str], embeddings: np.ndarray, labels: np.ndarray, *, seed: int
) -> dict[str, float]:
    """Computes several metrics, in order.

    Args:
      names: names of modules, as in `config.eval.metrics`.
      embeddings: `[n, dim]`.
      labels: `[n]`, classes from 0.
      seed: random seed for metrics that use one.

    Returns:
      Values by their names in `results.json`, as fractions: M, and `M_ci95`, the half-width of its 95 %
      interval, if known. Metrics that are undefined for these examples are omitted.

    Raises:
      UserError: if there is no such metric, or two metrics return a value of the same name.
    """
    figures: dict[str, float] = {}
    for name in names:
        computed = _find(name).compute(embeddings, labels, seed=seed)
        twice = sorted(figures.keys() & computed.keys())
        if twice:
            raise UserError(
                f"The metric {name!r} gives {', '.join(twice)}, which another of config.eval.metrics gives "
                "too: remove one of them."
            )
        figures |= computed
    return figures
