"""Methods beside each other, as text: errors with intervals, and paired differences."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fsljax.evaluation.paired import bootstrap_ci95, paired_bootstrap
from fsljax.reporting.tables import MISSING, aligned


@dataclass(frozen=True)
class Compared:
    """A method of a comparison.

    Attributes:
      name: as shown.
      setting: of `results.json`.
      correct: bool `[seeds, examples]`, which test examples it classified correctly.
      beside: another figure, a fraction.
    """

    name: str
    setting: str
    correct: np.ndarray
    beside: float | None = None


def comparison(methods: Sequence[Compared], beside: str = "") -> str:
    """Error of each method, and how far the last is from each other one.

    Args:
      methods: on the same examples.
      beside: name of the other figure; empty where there is none.
    """
    last = methods[-1]
    title = [f"{beside.replace('_', ' ')}, %"] if beside else []
    rows = [["method", "setting", "error, %", "by seed", *title, f"{last.name} better by, points"]]
    for method in methods:
        correct = method.correct
        ci95 = bootstrap_ci95(correct.mean(axis=0))
        rows.append(
            [
                method.name,
                method.setting.replace("_", " "),
                f"{100 * (1 - correct.mean()):.2f} ± {100 * ci95:.2f}",
                " ".join(f"{100 * (1 - of_seed.mean()):.2f}" for of_seed in correct),
                *([MISSING if method.beside is None else f"{100 * method.beside:.2f}"] if beside else []),
                MISSING if method is last else _difference(last.correct, correct),
            ]
        )
    return aligned(rows)


def _difference(ours: np.ndarray, theirs: np.ndarray) -> str:
    paired = paired_bootstrap(ours, theirs)
    return f"{100 * paired.difference:+.2f} ({100 * paired.lower:+.2f} … {100 * paired.upper:+.2f})"


def detection_comparison(
    test: Mapping[str, Mapping[str, float]], shots: Sequence[int], epochs: Sequence[int]
) -> str:
    """RepMet and its baselines, and how far it is above them; then what belongs to RepMet alone.

    Args:
      test: figures of `results.json`, by setting.
      shots: of the episodes.
      epochs: of fine-tuning; every pair of both is a row.
    """
    return "\n\n".join(_of_metric(metric, test, shots, epochs) for metric in ("ap50_pooled", "map50"))


def _of_metric(
    metric: str, test: Mapping[str, Mapping[str, float]], shots: Sequence[int], epochs: Sequence[int]
) -> str:
    def cell(setting: str, name: str) -> str:
        figures = test.get(setting, {})
        if name not in figures:
            return MISSING
        return f"{100 * figures[name]:.1f} ± {100 * figures[f'{name}_ci95']:.1f}"

    header = [f"{metric}, %", "RepMet"]
    for baseline in ("distance", "vanilla"):
        header += [baseline, "RepMet above by"]
    rows = [[*header, "with distractors", "ceiling"]]
    for trained, shot in itertools.product(epochs, shots):
        setting = f"5way_{shot}shot_ft{trained}"
        row = [f"{shot}-shot" + (f", {trained} epochs" if trained else ""), cell(setting, metric)]
        for baseline in ("distance", "vanilla"):
            row += [cell(f"{setting}_{baseline}", metric), cell(f"{setting}_{baseline}", f"{metric}_below")]
        rows.append([*row, *(cell(f"{setting}_{more}", metric) for more in ("distractors", "ceiling"))])
    return aligned(rows)
