"""Metrics of embeddings of labelled examples: each a module of this package, found by its name.

A module `fsljax.evaluation.metrics.NAME` has `compute(embeddings, labels, *, seed) -> dict[str, float]`, with
the keys of `results.json`; a metric of one's own is a module anywhere, named by its dotted name.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np

from fsljax.config.modules import find
from fsljax.errors import UserError


def check(names: Sequence[str]) -> None:
    """Raises a UserError if there is no metric of one of these names."""
    for name in names:
        _find(name)


def _find(name: str) -> ModuleType:
    return find("fsljax.evaluation.metrics", name, field="eval.metrics", needs=("compute",))


def compute(
    names: Sequence[str], embeddings: np.ndarray, labels: np.ndarray, *, seed: int
) -> dict[str, float]:
    """Figures of several metrics, in their order.

    Args:
      names: of modules, `config.eval.metrics`.
      embeddings: `[n, dim]`.
      labels: `[n]`, classes from 0.
      seed: of what is random in a metric.

    Returns:
      By their names in `results.json`: fractions, M with `M_ci95`, half the width of its 95 % interval, where
      it is known. Metrics that these examples cannot have are left out.

    Raises:
      UserError: there is no such metric, or two have a figure of the same name.
    """
    figures: dict[str, float] = {}
    for name in names:
        computed = _find(name).compute(embeddings, labels, seed=seed)
        twice = sorted(figures.keys() & computed.keys())
        if twice:
            raise UserError(
                f"The metric {name!r} gives {', '.join(twice)}, as another of config.eval.metrics does: "
                "leave one of them out."
            )
        figures |= computed
    return figures
