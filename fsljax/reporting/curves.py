"""Training curves as SVG that takes its colours from the page."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fsljax.reporting.tables import metric_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_POINTS = 1000
_ROUND = (1, 2, 2.5, 5, 10)
_ORDER = ("loss", "accuracy")
_LAST = ("learning_rate", "steps_per_second")
_SCHEDULED = ("learning_rate",)  # without noise, so nothing to smooth
# Colours that stand for variables of the page's style, so that one drawing serves light and dark.
_PLACEHOLDERS = {
    "#010101": "var(--muted)",
    "#020202": "var(--line)",
    "#030301": "var(--series-1)",
    "#030302": "var(--series-2)",
    "#030303": "var(--series-3)",
    "#030304": "var(--series-4)",
}
_MUTED, _LINE, *_SERIES = _PLACEHOLDERS


@dataclass(frozen=True)
class Curve:
    """One line of a panel.

    Attributes:
      name: `train`, `validation`, … or the empty string where the metric has no such prefix.
      steps, values: float64 `[points]`, at most `MAX_POINTS`.
      last: the last value as it was logged.
      marked: whether each point is drawn.
    """

    name: str
    steps: np.ndarray
    values: np.ndarray
    last: float
    marked: bool


@dataclass(frozen=True)
class Panel:
    """Curves of one metric; `is_fraction` says that they are shown in per cent."""

    metric: str
    curves: list[Curve]

    @property
    def is_fraction(self) -> bool:
        return re.search(r"accuracy|recall|precision|(^|_)m?ap\d*(_|$)", self.metric) is not None

    @property
    def title(self) -> str:
        if self.is_fraction:
            return f"{metric_title(self.metric)}, %"
        return self.metric.replace("_", " ")


def panels(history: Sequence[Mapping[str, float]]) -> list[Panel]:
    """Groups the metrics of a history by what follows their prefix: `train/loss` and `validation/loss`
    share a panel. Loss and accuracy come first, learning rate and speed last."""
    keys = list(dict.fromkeys(key for row in history for key in row if key != "step"))
    by_metric: dict[str, list[Curve]] = {}
    for key in keys:
        prefix, _, metric = key.rpartition("/")
        points = np.array([(row["step"], row[key]) for row in history if row.get(key) is not None], float)
        if len(points) == 0 or not np.isfinite(points[:, 1]).any():
            continue
        points = points[np.argsort(points[:, 0], kind="stable")]
        steps, values = decimate(points[:, 0], points[:, 1])
        marked = len(steps) <= 10 or (prefix not in ("", "train") and len(steps) <= 60)
        by_metric.setdefault(metric, []).append(Curve(prefix, steps, values, float(points[-1, 1]), marked))

    def place(metric: str) -> int:
        if metric in _ORDER:
            return _ORDER.index(metric)
        return 100 + _LAST.index(metric) if metric in _LAST else 50

    return [Panel(metric, by_metric[metric]) for metric in sorted(by_metric, key=place)]


def decimate(
    steps: np.ndarray, values: np.ndarray, max_points: int = MAX_POINTS
) -> tuple[np.ndarray, np.ndarray]:
    """Means of equal groups of neighbours, so that `[n]` points become at most `max_points`.

    Values that are not finite are left out of the means; a group of them alone leaves a gap.
    """
    values = np.where(np.isfinite(values), values, np.nan)
    group = -(-len(steps) // max_points)
    if group <= 1:
        return steps, values
    starts = np.arange(0, len(steps), group)
    known = np.isfinite(values)
    counts = np.add.reduceat(known.astype(float), starts)
    sums = np.add.reduceat(np.where(known, values, 0), starts)
    lengths = np.diff(np.append(starts, len(steps)))
    with np.errstate(invalid="ignore"):
        return np.add.reduceat(steps, starts) / lengths, sums / counts


def draw(panel: Panel) -> str:
    """The panel as an SVG element to stand inside an HTML page, without title or legend."""
    # Where a report is drawn: half a second that no training need wait for.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    figure = Figure(figsize=(4.2, 2.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    scale = 100 if panel.is_fraction else 1
    for index, curve in enumerate(panel.curves):
        colour = _SERIES[index % len(_SERIES)]
        values = scale * curve.values
        if not curve.marked and len(values) > 60 and panel.metric not in _SCHEDULED:
            axes.plot(curve.steps, values, color=colour, linewidth=0.8, alpha=0.3)
            values = _smooth(values)
        axes.plot(
            curve.steps,
            values,
            color=colour,
            linewidth=1.7,
            marker="o" if curve.marked else None,
            markersize=3.5,
            solid_joinstyle="round",
        )
    lowest = min(np.nanmin(curve.values) for curve in panel.curves)
    highest = max(np.nanmax(curve.values) for curve in panel.curves)
    if lowest > 0 and highest > 50 * lowest and not panel.is_fraction:
        axes.set_yscale("log")
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=_ROUND))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    steps = np.concatenate([curve.steps for curve in panel.curves])
    if steps.min() == steps.max():
        axes.set_xlim(steps[0] - 1, steps[0] + 1)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=_ROUND, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("step", color=_MUTED, fontsize=9)
    axes.tick_params(which="both", length=0, colors=_MUTED, labelsize=9)
    axes.grid(axis="y", color=_LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_LINE)
    return _inline_svg(figure, prefix=re.sub(r"\W+", "-", panel.metric))


def _smooth(values: np.ndarray) -> np.ndarray:
    """Centred running means over a fiftieth of the curve, shorter at its ends."""
    half = max(1, len(values) // 100)
    known = np.isfinite(values)
    kernel = np.ones(2 * half + 1)
    sums = np.convolve(np.where(known, values, 0), kernel, "same")
    counts = np.convolve(known.astype(float), kernel, "same")
    return np.where(known, sums / np.maximum(counts, 1), np.nan)


def _inline_svg(figure: Figure, prefix: str) -> str:
    import matplotlib as mpl

    stream = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:xmlns(?::xlink)?|version)="[^"]*"', "", svg)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    # Several drawings share the page, and their identifiers must not meet.
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    for placeholder, variable in _PLACEHOLDERS.items():
        svg = svg.replace(placeholder, variable)
    return svg.strip()
