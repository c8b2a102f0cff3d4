"""The content of `results.json` as rows of text, for the terminal and for the report."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fsljax.deprecated import names_of

Results = Mapping[str, Any]
"""The content of `results.json`: `{"test": {SETTING: {METRIC: fraction, "ci95": fraction, …}}, …}`."""

MISSING = "–"
_OF_UNSEEN_CLASSES = ("lake_one_shot",)
_METRIC_TITLES = {
    "accuracy": "accuracy",
    "ap50_pooled": "AP50, pooled",
    "ap50_pooled_ignoring_duplicates": "AP50, pooled, duplicates ignored",
    "ap50_pooled_below": "below RepMet, pooled",
    "auroc": "AUROC",
    "false_accept": "unknown accepted",
    "true_accept": "known accepted",
    "map": "mAP",
    "map50": "mAP50",
    "map50_base": "mAP50, base classes",
    "map50_below": "below RepMet, mAP50",
    "nap": "nAP",
    "nap50": "nAP50",
    "nap50_11point": "nAP50, 11 points",
    "nap75": "nAP75",
    "bap": "bAP",
    "bap50": "bAP50",
    "bap50_11point": "bAP50, 11 points",
    "map_at_r": "MAP@R",
    "nmi": "NMI",
}
_COUNTS = ("episodes", "examples", "decisions", "runs")
SETTING_NOTES = {
    "nearest_cluster": "the most likely class, from the distances to the training set's nearest clusters",
    "nearest_neighbour": "from the nearest images in the embedding, without clusters",
    "lake_one_shot": (
        "decisions among 20 characters of one alphabet from one drawing of each; the interval is over runs"
    ),
    "hierarchy_recovery": (
        "classes were merged for training, and the original ones are predicted from the nearest images"
    ),
}


@dataclass(frozen=True)
class ResultsTable:
    """Cells ready to be shown; the first column names the setting, the others hold numbers.

    Attributes:
      header: one title a column.
      rows: cells, `MISSING` where there is no figure.
      first_published: index of the first column with figures of others; `len(header)` if there are none.
    """

    header: list[str]
    rows: list[list[str]]
    first_published: int


def setting_title(name: str) -> str:
    """`5way_1shot_transductive` → `5-way 1-shot, transductive`; elsewhere underscores become spaces."""
    episode = _episode(name)
    if episode is None:
        return name.replace("_", " ")
    way, shot, rest = episode.groups()
    return f"{way}-way {shot}-shot" + (f", {rest.replace('_', ' ')}" if rest else "")


def _episode(name: str) -> re.Match[str] | None:
    return re.fullmatch(r"(\d+)way_(\d+)shot(?:_(.+))?", name)


def metric_title(name: str) -> str:
    """`recall_at_1` → `recall@1`; names that have no better form only lose their underscores."""
    rank = re.fullmatch(r"(.+)_at_(\d+)", name)
    if rank:
        return f"{metric_title(rank[1])}@{rank[2]}"
    return _METRIC_TITLES.get(name, name.replace("_", " "))


def per_cent(value: float | None, half_width: float | None = None) -> str:
    """A fraction as per cent with two decimals and, where known, half its 95 % interval: `98.91 ± 0.03`."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{100 * value:.2f}"
    return text + _interval(half_width)


def headline(
    results: Results,
    setting: str | None = None,
    remark: str | None = None,
) -> str:
    """The result in one line: `98.91 % ± 0.03 5-way 1-shot on classes never seen in training`.

    Args:
      results: the content of `results.json`.
      setting: which row to take; the first by default.
      remark: what the figure was measured on; None: unseen classes for episodes, else unseen images.
    """
    test = results.get("test", {})
    if not test:
        return "No test results yet"
    name = next(iter(test)) if setting is None else setting
    if remark is None:
        of_classes = _episode(name) or name in _OF_UNSEEN_CLASSES
        remark = f"on {'classes' if of_classes else 'images'} never seen in training"
    metric = next((m for m in _metrics({name: test[name]})), None)
    if metric is None:
        return f"{setting_title(name)} {remark}"
    value, half_width = test[name][metric], test[name].get(_interval_key(metric))
    figure = f"{per_cent(value)} %{_interval(half_width)}"
    what = "" if metric == "accuracy" else f"{metric_title(metric)}, "
    return f"{figure} {what}{setting_title(name)} {remark}".strip()


def make_table(results: Results, published: Mapping[str, Mapping[str, float]] | None = None) -> ResultsTable:
    """Turns `results.json` into cells.

    Args:
      results: `{"test": {SETTING: {METRIC: fraction, "ci95": fraction, "episodes": count, ...}}, ...}`.
      published: `{SETTING: {source: fraction}}`, figures of others to stand beside ours.
    """
    test: Mapping[str, Mapping[str, float]] = results.get("test", {})
    published = published or {}
    metrics = _metrics(test)
    counts = [c for c in _COUNTS if any(c in row for row in test.values())]
    sources = list(dict.fromkeys(source for name in test for source in published.get(name, {})))
    header = ["setting", *(f"{metric_title(m)}, %" for m in metrics), *counts, *sources]
    rows = []
    for name, row in test.items():
        ours = [per_cent(row.get(m), row.get(_interval_key(m))) for m in metrics]
        numbers = [f"{row[c]:,}" if c in row else MISSING for c in counts]
        theirs = [per_cent(published.get(name, {}).get(source)) for source in sources]
        rows.append([setting_title(name), *ours, *numbers, *theirs])
    return ResultsTable(header, rows, first_published=1 + len(metrics) + len(counts))


def results_table(results: Results, published: Mapping[str, Mapping[str, float]] | None = None) -> str:
    """The table of results in aligned columns for a terminal; arguments as for `make_table`."""
    table = make_table(results, published)
    return aligned([table.header, *table.rows], numbers=True)


def aligned(rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    """Columns of text, a rule under the first row.

    Args:
      rows: cells, as many in each.
      numbers: all but the first column stand to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    justify = [str.ljust, *[str.rjust if numbers else str.ljust] * (len(widths) - 1)]
    lines = [
        "  ".join(place(cell, width) for place, cell, width in zip(justify, row, widths, strict=True))
        for row in rows
    ]
    lines.insert(1, "  ".join("─" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def _interval(half_width: float | None) -> str:
    """What follows a figure; nothing where the interval is not known, as for a single episode."""
    return "" if half_width is None or not math.isfinite(half_width) else f" ± {100 * half_width:.2f}"


def _interval_key(metric: str) -> str:
    return "ci95" if metric == "accuracy" else f"{metric}_ci95"


def _metrics(test: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Names of fractions in the order of their first appearance, accuracy before all others."""
    names = dict.fromkeys(
        name
        for row in test.values()
        for name, value in row.items()
        if isinstance(value, float) and name != "ci95" and not name.endswith("_ci95") and name not in _COUNTS
    )
    return sorted(names, key=lambda name: name != "accuracy")


__getattr__ = names_of(__name__)
