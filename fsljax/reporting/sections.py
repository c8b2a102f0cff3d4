"""Sections of the report, each made from plain arrays and dicts.

A method adds one of its own by building a `Section` from any HTML. The page's style knows `table`,
`<div class="scroll">` (what may be wider than a telephone), `<div class="panels">` of `<figure>`, and the
colours `var(--ink)`, `var(--muted)`, `var(--line)`, `var(--series-1)` … `var(--series-8)`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import jinja2
import numpy as np
from markupsafe import Markup, escape

from fsljax.reporting import curves, embedding_map
from fsljax.reporting.embedding_map import Clusters
from fsljax.reporting.environment import describe_environment
from fsljax.reporting.pictures import are_drawings, data_uri
from fsljax.reporting.tables import MISSING, SETTING_NOTES, Results, make_table, setting_title

_THUMB_SIDE = 72


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
      title: heading, as plain text.
      html: trusted HTML; escape in it what comes from users.
      text_before: a sentence or two under the heading, as plain text.
    """

    title: str
    html: str
    text_before: str = ""


@dataclass(frozen=True)
class EpisodePicture:
    """A test episode and what was predicted in it.

    Attributes:
      support_images: uint8, or float in [0, 1], `[way, shot, h, w, c]`.
      support_names: one a class.
      query_images: `[q, h, w, c]`.
      query_labels: `[q]`, the class of each query, 0 … way − 1.
      predictions: `[q]`, the predicted class.
      remark: why this episode is shown, if not drawn at random.
    """

    support_images: np.ndarray
    support_names: Sequence[str]
    query_images: np.ndarray
    query_labels: np.ndarray
    predictions: np.ndarray
    remark: str = ""

    def __post_init__(self) -> None:
        way = len(self.support_images)
        queries = len(self.query_images)
        if len(self.support_names) != way:
            raise ValueError(f"{len(self.support_names)} names for an episode of {way} classes.")
        for name in ("query_labels", "predictions"):
            values = np.asarray(getattr(self, name))
            if values.shape != (queries,):
                raise ValueError(f"{name} must be [{queries}], one per query, not {list(values.shape)}.")
            if queries and not (values.min() >= 0 and values.max() < way):
                raise ValueError(f"{name} must lie between 0 and {way - 1}.")


def results_section(results: Results, published: Mapping[str, Mapping[str, float]] | None = None) -> Section:
    """The table of test results.

    Args:
      results: the content of `results.json`.
      published: `{SETTING: {source: fraction}}`, for columns beside ours.
    """
    test = results.get("test", {})
    if not test:
        return Section("Results", "<p>No test results yet.</p>")
    table = make_table(results, published)
    text = "Figures after ± are half the width of the 95 % interval of the mean."
    for name in test:
        if name in SETTING_NOTES:
            text += f" {setting_title(name).capitalize()}: {SETTING_NOTES[name]}."
    transductive = [name.endswith("_transductive") for name in test]
    if any(transductive):
        text += (
            " Transductive rows normalise each test episode by its own statistics, so they cannot be "
            "compared with the others."
        )
    rows = list(zip(table.rows, transductive, strict=True))
    return Section("Results", render("results", table=table, rows=rows, missing=MISSING), text)


def curves_section(history: Sequence[Mapping[str, float]]) -> Section:
    """Panels of all metrics over the steps of training.

    Args:
      history: rows such as `{"step": 100, "train/loss": 0.7, "learning_rate": 1e-3}`; any may be missing.
    """
    drawn = []
    for panel in curves.panels(history):
        scale = 100 if panel.is_fraction else 1
        keys = [
            (curve.name, index % 4 + 1, f"{scale * curve.last:.4g}")
            for index, curve in enumerate(panel.curves)
        ]
        drawn.append((panel.title, keys, curves.draw(panel)))
    if not drawn:
        return Section("Training", "<p>No training history was written.</p>")
    return Section(
        "Training", render("curves", panels=drawn), "The figure next to each name is the last value logged."
    )


def episodes_section(episodes: Sequence[EpisodePicture]) -> Section:
    """Test episodes, a row a class: what the model was shown, then its answers."""
    shown = []
    for episode in episodes:
        drawings = are_drawings(np.asarray(episode.query_images))
        labels, predictions = np.asarray(episode.query_labels), np.asarray(episode.predictions)

        def picture(image: np.ndarray, drawings: bool = drawings) -> str:
            return data_uri(image, side=_THUMB_SIDE, drawing=drawings)

        support = [[picture(image) for image in shots] for shots in episode.support_images]
        rows = []
        for label, name in enumerate(episode.support_names):
            answers = [
                {
                    "image": picture(episode.query_images[query]),
                    "right": bool(predictions[query] == label),
                    "predicted": str(episode.support_names[predictions[query]]),
                    "predicted_image": support[predictions[query]][0],
                }
                for query in np.flatnonzero(labels == label)
            ]
            rows.append({"name": str(name), "support": support[label], "answers": answers})
        shown.append(
            {
                "way": len(support),
                "shot": len(support[0]),
                "right": int((labels == predictions).sum()),
                "queries": len(labels),
                "drawings": drawings,
                "remark": episode.remark,
                "rows": rows,
            }
        )
    text = (
        "Each row is a class: first its support images, then its queries. ✓\N{NO-BREAK SPACE}marks a "
        "correct prediction; ✗\N{NO-BREAK SPACE}a wrong one, with the predicted class."
    )
    return Section("Test episodes", render("episodes", episodes=shown), text)


def embedding_map_section(
    embeddings: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    images: np.ndarray,
    *,
    max_points: int = 600,
    max_classes: int | None = None,
    clusters: Clusters | None = None,
    called: str = "cluster",
    classes_seen: bool = False,
) -> Section:
    """A t-SNE map of embeddings, with an example of each class and, where given, its clusters.

    Args:
      embeddings: `[n, dim]`.
      labels: `[n]`, indices into `class_names`.
      class_names: one a class.
      images: `[n, h, w, channel]`, what was embedded.
      max_points, max_classes: more are thinned out at random, by a fixed seed; by default 20 classes, or with
        clusters as many as there are colours, for shapes then distinguish the clusters of a class.
      clusters: of the training set; marks their centroids, and counts each image to its class's nearest.
      called: what the clusters are, "cluster" or "representative".
      classes_seen: the classes, though not the images, were seen in training, as those with clusters were.
    """
    embeddings, labels = np.asarray(embeddings), np.asarray(labels)
    if not len(embeddings) == len(labels) == len(images):
        raise ValueError(
            f"{len(embeddings)} embeddings, {len(labels)} labels and {len(images)} images: give one of each "
            "per example."
        )
    if len(embeddings) == 0 or not np.isfinite(embeddings).all():
        return Section("Map of embeddings", "<p>There are no finite embeddings to draw.</p>")
    if max_classes is None:
        max_classes = 20 if clusters is None else embedding_map.NUM_COLOURS
    chosen = embedding_map.subsample(labels, max_points=max_points, max_classes=max_classes)
    classes, drawings = embedding_map.draw_map(
        embeddings[chosen], labels[chosen], class_names, np.asarray(images[chosen]), clusters
    )
    html = render(
        "map",
        classes=classes,
        drawings=drawings,
        width=embedding_map.WIDTH,
        height=embedding_map.HEIGHT,
        thumb=embedding_map.THUMB,
        mark="centroid of a cluster" if called == "cluster" else called,
    )
    unseen = "" if classes_seen or clusters is not None else " never seen in training"
    text = (
        f"{len(chosen):,} images of {len(classes)} classes{unseen}, placed by t-SNE:"
        " neighbours on the map are neighbours in the embedding; directions and large distances mean nothing."
    )
    if clusters is not None:
        marks = "the centroids of the training set's clusters" if called == "cluster" else f"the {called}s"
        text += (
            f" Large marks with an outline are {marks}; each image has the shape of the nearest {called} of"
            " its class."
        )
    return Section("Map of embeddings", html, text)


def config_section(config: Mapping[str, object]) -> Section:
    """A config, nested as it is, one block for each part at its top."""
    scalars = {key: value for key, value in config.items() if not _is_nested(value)}
    blocks = [("", _flatten(scalars))] if scalars else []
    blocks += [(key, _flatten(value)) for key, value in config.items() if _is_nested(value)]
    return Section("Config", render("config", blocks=blocks))


def environment_section(
    environment: Mapping[str, str] | None = None, command: str | Sequence[str] | None = None
) -> Section:
    """What the run was made with, and how to make it again.

    Args:
      environment: names and versions; those of this process by default.
      command: the command line, as typed or as a list of arguments.
    """
    facts = describe_environment() if environment is None else environment
    if command is not None and not isinstance(command, str):
        command = shlex.join(command)
    rows = [(0, name, str(value)) for name, value in facts.items()]
    return Section("Environment", render("environment", blocks=[("", rows)], command=command))


def render(template: str, **values: object) -> str:
    """Fills one of the package's templates; everything put in is escaped."""
    return _templates().get_template(f"{template}.html.jinja").render(**values)


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fsljax.reporting", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    return environment


def _breakable(name: str) -> Markup:
    """A name, escaped, that may be broken into lines after its slashes and underscores."""
    return Markup(re.sub(r"([/_])", r"\1<wbr>", str(escape(name))))


def _is_nested(value: object) -> TypeGuard[Mapping[str, object]]:
    return hasattr(value, "items")


def _flatten(config: Mapping[str, object], depth: int = 0) -> list[tuple[int, str, str | None]]:
    """Rows of depth, key and value; a row without value heads the deeper rows under it."""
    rows: list[tuple[int, str, str | None]] = []
    for key, value in config.items():
        if _is_nested(value) and len(value):
            rows.append((depth, str(key), None))
            rows += _flatten(value, depth + 1)
        else:
            rows.append((depth, str(key), _readable(value)))
    return rows


def _readable(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) if value else MISSING
    if value is None or value == "" or value == {}:
        return MISSING
    return str(value)
