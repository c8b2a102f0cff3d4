"""Detections in the queries of few-shot episodes, by several rules on the same regions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.detection.data.episode_file import Episodes
from fsljax.detection.data.novel import EpisodeImages
from fsljax.detection.data.truths import Truths
from fsljax.detection.evaluation.verdicts import judge_image
from fsljax.detection.model.detector import Detector
from fsljax.detection.model.enroll import (
    EnrolOptions,
    Layer,
    Support,
    scores_by_linear,
    scores_by_representatives,
)
from fsljax.detection.model.inference import detections
from fsljax.detection.model.regions import Examined, examine

REPMET, DISTANCE, VANILLA, CEILING = "", "distance", "vanilla", "ceiling"


@dataclass(frozen=True)
class Column:
    """A rule, from so many shots, after so many epochs of fine-tuning."""

    rule: str
    shots: int
    epochs: int

    def setting(self, way: int, distractors: bool) -> str:
        """Its name in `results.json`."""
        parts = ["distractors"] * distractors + [self.rule] * bool(self.rule)
        return "_".join([f"{way}way", f"{self.shots}shot", f"ft{self.epochs}", *parts])


class Found(NamedTuple):
    """Detections of queries `[…, keep]`, best first, and which are right and are counted."""

    boxes: jax.Array
    scores: jax.Array
    labels: jax.Array
    right: jax.Array
    counted: jax.Array


@dataclass(frozen=True)
class Finder:
    """A trained detector and what its rules need of it.

    Attributes:
      network: that proposes as many regions as are looked at in tests.
      variables: of it.
    """

    network: Detector
    variables: Any

    def layer(self, name: str) -> Layer:
        """A linear layer of the head: "embedding" or "linear"."""
        held = self.variables["params"]["head"][name]
        return Layer(held["kernel"], held["bias"])


def truths_of(episodes: Episodes, numbers: np.ndarray) -> Truths:
    """Of the queries of some episodes."""
    held = (episodes.boxes, episodes.labels, episodes.mask, episodes.difficult)
    return Truths(*(jnp.asarray(of[numbers]) for of in held))


def regions_of(
    finder: Finder, episodes: Episodes, numbers: np.ndarray, images: EpisodeImages, at_once: int | None
) -> tuple[Support, Examined]:
    """The regions of supports and queries, with the boxes that are known.

    Args:
      finder: of the regions.
      episodes: whose boxes are known.
      numbers: of `g` episodes.
      images: of these.
      at_once: images that are looked at together; None: all of an episode.
    """
    see = partial(_examine, finder.network)
    boxes = episodes.support_boxes[numbers][..., None, :]
    mask = np.ones(boxes.shape[:-1], bool)
    of_support = _each(see, finder.variables, images.support, boxes, mask, images.support_sizes, at_once)
    truths = truths_of(episodes, numbers)
    of_query = _each(
        see, finder.variables, images.query, truths.boxes, truths.mask, images.query_sizes, at_once
    )
    kept = Support(of_support.features, of_support.boxes, of_support.valid, of_support.objectness)
    return kept, of_query


def _each(
    see: Any, variables: Any, images: jax.Array, given: Any, mask: Any, sizes: Any, at_once: int | None
) -> Examined:
    """One episode after another, or fewer images: a batch of all would outgrow the processor's caches."""
    around = images.shape[:-3]
    ends = () if sizes is None else (sizes[..., 0], sizes[..., 1])
    flat = [jnp.asarray(of).reshape(-1, *of.shape[len(around) :]) for of in (images, given, mask, *ends)]
    count, of_episode = len(flat[0]), len(flat[0]) // len(images)
    batch = of_episode if at_once is None else min(at_once, of_episode)
    seen = []
    for start in range(0, count, batch):
        rows = np.minimum(np.arange(start, start + batch), count - 1)
        seen.append(see(variables, *(of[rows] for of in flat)))
    joined = jax.tree.map(lambda *of: jnp.concatenate(of)[:count], *seen)
    return jax.tree.map(lambda of: of.reshape(*around, *of.shape[1:]), joined)


@partial(jax.jit, static_argnums=0)
def _examine(network: Detector, *rest: Any) -> Examined:
    return examine(network, *rest)


class Candidates(NamedTuple):
    """Of queries: boxes `[g, q, p, 4]`, valid `[g, q, p]`, scores `[g, q, p, 1 + way]`."""

    boxes: jax.Array
    valid: jax.Array
    scores: jax.Array


def candidates_of(
    finder: Finder, column: Column, support: Support, queries: Examined, options: EnrolOptions
) -> Candidates:
    """The regions of queries, scored by the first supports of each class.

    The ceiling takes the true boxes, which come first, for proposals.
    """
    known = queries.boxes.shape[2] - finder.network.options.proposals.keep
    if column.rule == CEILING:
        boxes, rows = queries.boxes[:, :, :known], slice(None, known)
    else:
        boxes, rows = queries.refined[:, :, known:], slice(known, None)
    layer = None
    if column.rule != DISTANCE:
        layer = finder.layer("linear" if column.rule == VANILLA else "embedding")
    few = jax.tree.map(lambda of: of[:, :, : column.shots], support)
    rule = scores_by_linear if column.rule == VANILLA else scores_by_representatives
    scores = _scores(few, queries.features[:, :, rows], layer, rule, options, column.epochs)
    return Candidates(boxes, queries.valid[:, :, rows], scores)


@partial(jax.jit, static_argnames=("rule", "options", "epochs"))
def _scores(
    support: Support,
    features: jax.Array,
    layer: Layer | None,
    rule: Callable[..., jax.Array],
    options: EnrolOptions,
    epochs: int,
) -> jax.Array:
    score = partial(rule, options=options, epochs=epochs)
    return jax.vmap(lambda support, features: score(support, features, layer))(support, features)


@partial(jax.jit, static_argnames=("iou_threshold", "keep"))
def found_in(candidates: Candidates, truths: Truths, *, iou_threshold: float, keep: int) -> Found:
    """The detections of queries after suppression class by class, and which of them are right."""

    def of_query(candidates: Candidates, truths: Truths) -> Found:
        assert truths.difficult is not None
        found = detections(*candidates, iou_threshold=iou_threshold, keep=keep)
        verdict = judge_image(
            found.boxes,
            found.labels,
            found.valid,
            truths.boxes,
            truths.labels,
            truths.mask,
            truths.difficult,
        )
        return Found(found.boxes, found.scores, found.labels.astype(jnp.int8), *verdict)

    return jax.vmap(jax.vmap(of_query))(candidates, truths)
