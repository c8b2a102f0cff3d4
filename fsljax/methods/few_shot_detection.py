"""Few-shot detection in episodes of classes that were never trained (Karlinsky et al., 2019, section 5).

A detector finds regions in every scene once; each rule then names them by the episode's classes alone, from
the boxes of its support.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fsljax.config import check_at_least, check_share, check_whole, dataclass_fields, dataclass_from
from fsljax.data import scene_episodes
from fsljax.data.cache import cache_folder
from fsljax.data.detection_episodes import Episodes, read_episodes, write_episodes
from fsljax.data.scene_drawings import SceneDrawings
from fsljax.detection.detections import detections
from fsljax.detection.detector import Detector
from fsljax.detection.enrol import (
    EnrolOptions,
    Layer,
    Support,
    scores_by_linear,
    scores_by_representatives,
)
from fsljax.detection.given import Examined, examine
from fsljax.errors import UserError
from fsljax.evaluation.paired import bootstrap_ci95, paired_bootstrap
from fsljax.evaluation.average_precision import average_precision
from fsljax.evaluation.verdicts import Verdicts, half_width, judge_image, resampled_pooled, resamples

if TYPE_CHECKING:
    from fsljax.methods.repmet_detector import RepMetDetector

EVALUATION = {
    "episodes": 500,  # the first ones of the file; 0: none are run
    "shots": (1,),  # of 1 to 10; several are run on the same regions
    "fine_tune_epochs": (0,),
    "distractors": False,  # queries with other novel characters, too, in settings of their own
    "ceiling": False,  # the same with the true boxes instead of proposals
    "baseline": "",  # workdir of a detector with a linear head, by which the baselines are run
    "distance_sigma": 0.5,  # σ of the baseline by distances
    "episodes_file": "",  # written where it is missing; "": in the cache folder
    "enrol": dataclass_fields(
        EnrolOptions, sigma=None, scale=None, alpha=None, embedding=None, normalize=None
    ),
}
# AP50 pooled: ImageNet-LOC, its 5-way episodes of 214 animals; other images and classes than ours.
PUBLISHED: dict[str, dict[str, float]] = {}

_WRITTEN = 500  # episodes of a file
_TOGETHER = 5  # episodes that are enrolled at once
_REPMET, _DISTANCE, _VANILLA, _CEILING = "", "distance", "vanilla", "ceiling"


def check(config: ConfigDict) -> None:
    """Raises a UserError for values of `config.eval` that cannot work."""
    check_at_least(config, 0, "eval.episodes", "eval.fine_tune_epochs", "eval.enrol.rate")
    check_at_least(config, 1, "eval.shots", "eval.enrol.per_shot")
    check_whole(config, "eval.shots", "eval.fine_tune_epochs")
    check_share(config, "eval.enrol.positive_fraction", "eval.enrol.overlap")
    if not config.eval.distance_sigma > 0:
        raise UserError(f"config.eval.distance_sigma is {config.eval.distance_sigma}; it must be above 0.")


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


class Truths(NamedTuple):
    """Of the queries: boxes `[…, t, 4]`, labels, mask and difficult `[…, t]`."""

    boxes: jax.Array
    labels: jax.Array
    mask: jax.Array
    difficult: jax.Array


class Found(NamedTuple):
    """Detections of queries `[…, keep]`, best first, and which are right and are counted."""

    boxes: jax.Array
    scores: jax.Array
    labels: jax.Array
    right: jax.Array
    counted: jax.Array


class EpisodeFound(NamedTuple):
    """The images of an episode, and what was found in its queries by the first rule."""

    support: np.ndarray
    query: np.ndarray
    found: Found


class Result(NamedTuple):
    """What came out.

    Attributes:
      test: figures of each setting.
      verdicts: of each setting.
      shown: the first episode.
      episodes: that were run.
    """

    test: dict[str, dict[str, float]]
    verdicts: dict[str, Verdicts]
    shown: EpisodeFound
    episodes: Episodes


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


def evaluate(method: RepMetDetector, variables: dict[str, Any]) -> Result:
    """Runs the episodes by every rule, shot and length of fine-tuning that the config asks for.

    Raises:
      UserError: if the episodes cannot be read or written, or there is no such baseline.
    """
    config, options = method.config, method.config.eval
    drawings = method.data.drawings
    episodes = scenes_of(config, drawings)
    finders = {_REPMET: Finder(method.test_network, variables)}
    if options.baseline:
        finders[_DISTANCE] = _baseline(config, Path(options.baseline).expanduser())
    columns = [
        Column(rule, shots, epochs)
        for rule in ((_REPMET, _DISTANCE, _VANILLA) if options.baseline else (_REPMET,))
        for epochs in options.fine_tune_epochs
        for shots in options.shots
    ]
    if options.ceiling:
        columns += [Column(_CEILING, shots, 0) for shots in options.shots]
    found: dict[Column, list[Found]] = {column: [] for column in columns}
    shown = None
    for numbers, images in _images(drawings, episodes, options.distractors):
        regions = {name: _regions(finder, episodes, numbers, *images) for name, finder in finders.items()}
        truths = _truths(episodes, numbers)
        for column in columns:
            name = _DISTANCE if column.rule in (_DISTANCE, _VANILLA) else _REPMET
            candidates = _candidates(config, finders[name], column, *regions[name])
            seen = _found(*candidates, truths, iou_threshold=options.iou_threshold, keep=options.keep)
            first = jax.device_get(seen if shown is None else seen._replace(boxes=np.zeros(len(numbers))))
            if shown is None:
                shown = EpisodeFound(*(np.asarray(of[0]) for of in images), jax.tree.map(lambda of: of[0], first))
            kept = len(np.unique(numbers))  # the last group is filled up
            found[column].append(jax.tree.map(lambda of, kept=kept: of[:kept], first))
    assert shown is not None
    verdicts = {column: _verdicts(parts, episodes) for column, parts in found.items()}
    names = {column: column.setting(episodes.way, options.distractors) for column in columns}
    return Result(
        {names[column]: figures for column, figures in _figures(verdicts).items()},
        {names[column]: of for column, of in verdicts.items()},
        shown,
        episodes,
    )


def scenes_of(config: ConfigDict, drawings: SceneDrawings) -> Episodes:
    """The episodes of the config: read from their file, which is written where it is missing.

    Raises:
      UserError: if the file cannot be read or written, or holds fewer than are asked for.
    """
    from fsljax.data.scenes import SceneOptions

    options = config.eval
    scenes = dataclass_from(SceneOptions, config.scenes)
    content = scene_episodes.content_of(drawings)
    path = Path(options.episodes_file).expanduser()
    if not options.episodes_file:
        told = hashlib.sha256(f"{content} {scenes}".encode()).hexdigest()[:16]
        path = cache_folder() / f"detection_episodes-{told}-{options.seed}.json"
    if not path.exists():
        print(f"writing the episodes to {path} …", file=sys.stderr)
        made = scene_episodes.make_episodes(
            drawings, count=max(_WRITTEN, options.episodes), seed=options.seed, options=scenes
        )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_episodes(path, made)
        except OSError as error:
            raise UserError(
                f"The episodes cannot be written to {path} ({error.strerror or error}): give another "
                "--config.eval.episodes_file."
            ) from error
    return read_episodes(path, count=options.episodes, shots=max(options.shots), content=content)


def enrol_options(config: ConfigDict) -> EnrolOptions:
    """How a detector's new classes are enrolled: as it was trained, and as `config.eval.enrol` says."""
    loss = config.loss
    return dataclass_from(
        EnrolOptions,
        config.eval.enrol,
        sigma=loss.sigma,
        scale=loss.scale,
        alpha=loss.alpha,
        embedding=loss.embedding,
        normalize=config.head.normalize,
    )


def _images(
    drawings: SceneDrawings, episodes: Episodes, distractors: bool
) -> Iterator[tuple[np.ndarray, tuple[jax.Array, jax.Array]]]:
    """Numbers `[g]` of a few episodes, and their images: supports and queries `[g, …]`."""
    for start in range(0, len(episodes), _TOGETHER):
        numbers = np.minimum(np.arange(start, start + _TOGETHER), len(episodes) - 1)
        drawn = [
            scene_episodes.draw_episode(drawings, episodes, int(number), distractors=distractors)
            for number in numbers
        ]
        yield numbers, (jnp.stack([of.support for of in drawn]), jnp.stack([of.query for of in drawn]))


def _truths(episodes: Episodes, numbers: np.ndarray) -> Truths:
    return Truths(*(of[numbers] for of in (episodes.boxes, episodes.labels, episodes.mask, episodes.difficult)))


def _regions(
    finder: Finder, episodes: Episodes, numbers: np.ndarray, support: jax.Array, query: jax.Array
) -> tuple[Support, Examined]:
    """The regions of supports `[g, way, shots, …]` and of queries `[g, q, …]`, with the boxes that are known."""
    see = partial(_examine, finder.network)
    boxes = episodes.support_boxes[numbers][..., None, :]
    of_support = _each(see, finder.variables, support, boxes, np.ones(boxes.shape[:-1], bool))
    truths = _truths(episodes, numbers)
    of_query = _each(see, finder.variables, query, truths.boxes, truths.mask)
    return Support(of_support.features, of_support.boxes, of_support.valid), of_query


def _each(see: Any, variables: Any, images: jax.Array, given: np.ndarray, mask: np.ndarray) -> Examined:
    """One episode after another: a batch of all would outgrow the processor's caches."""
    around = images.shape[1:-3]
    flat = (-1, *images.shape[-3:]), (-1, *given.shape[-2:]), (-1, mask.shape[-1])
    seen = [
        see(variables, *(jnp.asarray(of).reshape(shape) for of, shape in zip(one, flat, strict=True)))
        for one in zip(images, given, mask, strict=True)
    ]
    stacked = jax.tree.map(lambda *of: jnp.stack(of), *seen)
    return jax.tree.map(lambda of: of.reshape(len(images), *around, *of.shape[2:]), stacked)


@partial(jax.jit, static_argnums=0)
def _examine(network: Detector, *rest: Any) -> Examined:
    return examine(network, *rest)


class _Candidates(NamedTuple):
    """Of queries: boxes `[g, q, p, 4]`, valid `[g, q, p]`, scores `[g, q, p, 1 + way]`."""

    boxes: jax.Array
    valid: jax.Array
    scores: jax.Array


def _candidates(
    config: ConfigDict, finder: Finder, column: Column, support: Support, queries: Examined
) -> _Candidates:
    """The regions of queries, scored by the first supports of each class."""
    known = queries.boxes.shape[2] - finder.network.options.proposals.keep
    if column.rule == _CEILING:
        boxes, rows = queries.boxes[:, :, :known], slice(None, known)
    else:
        boxes, rows = queries.refined[:, :, known:], slice(known, None)
    options = enrol_options(config)
    layer = None
    if column.rule == _DISTANCE:
        options = replace(options, sigma=config.eval.distance_sigma, normalize=True)
    else:
        layer = finder.layer("linear" if column.rule == _VANILLA else "embedding")
    few = jax.tree.map(lambda of: of[:, :, : column.shots], support)
    rule = scores_by_linear if column.rule == _VANILLA else scores_by_representatives
    scores = _scores(few, queries.features[:, :, rows], layer, rule, options, column.epochs)
    return _Candidates(boxes, queries.valid[:, :, rows], scores)


@partial(jax.jit, static_argnames=("rule", "options", "epochs"))
def _scores(
    support: Support, features: jax.Array, layer: Layer | None, rule: Any, options: EnrolOptions, epochs: int
) -> jax.Array:
    score = partial(rule, options=options, epochs=epochs)
    return jax.vmap(lambda support, features: score(support, features, layer))(support, features)


@partial(jax.jit, static_argnames=("iou_threshold", "keep"))
def _found(
    boxes: jax.Array, valid: jax.Array, scores: jax.Array, truths: Truths, *, iou_threshold: float, keep: int
) -> Found:
    def of_query(boxes: jax.Array, valid: jax.Array, scores: jax.Array, truths: Truths) -> Found:
        found = detections(boxes, valid, scores, iou_threshold=iou_threshold, keep=keep)
        verdict = judge_image(found.boxes, found.labels, found.valid, *truths)
        return Found(found.boxes, found.scores, found.labels.astype(jnp.int8), *verdict)

    return jax.vmap(jax.vmap(of_query))(boxes, valid, scores, truths)


def _verdicts(parts: list[Found], episodes: Episodes) -> Verdicts:
    """Of the detections of all episodes, `[episodes, queries · keep]`."""
    _, *held = (np.concatenate(of) for of in zip(*parts, strict=True))
    counted = episodes.mask & ~episodes.difficult
    positives = np.stack([(counted & (episodes.labels == label)).sum((1, 2)) for label in range(episodes.way)])
    return Verdicts(*(of.reshape(len(episodes), -1) for of in held), positives.T)


def _figures(verdicts: dict[Column, Verdicts]) -> dict[Column, dict[str, float]]:
    """Figures of each column with their intervals; of a baseline also by how much RepMet is above it."""
    count = len(next(iter(verdicts.values())).scores)
    times = resamples(count)
    pooled = {column: average_precision(of.pooled()) for column, of in verdicts.items()}
    samples = {column: resampled_pooled(of, times) for column, of in verdicts.items()}
    means = {column: of.mean_average_precisions() for column, of in verdicts.items()}
    figures = {}
    for column in verdicts:
        own: dict[str, float] = {
            "ap50_pooled": pooled[column],
            "ap50_pooled_ci95": half_width(samples[column]),
            "map50": float(means[column].mean()),
            "map50_ci95": bootstrap_ci95(means[column]),
            "episodes": count,
        }
        ours = replace(column, rule=_REPMET)
        if column.rule in (_DISTANCE, _VANILLA):
            difference = paired_bootstrap(means[ours], means[column])
            own |= {
                "ap50_pooled_below": pooled[ours] - pooled[column],
                "ap50_pooled_below_ci95": half_width(samples[ours] - samples[column]),
                "map50_below": difference.difference,
                "map50_below_ci95": (difference.upper - difference.lower) / 2,
            }
        figures[column] = own
    return figures


def _baseline(config: ConfigDict, folder: Path) -> Finder:
    """The detector with a linear head in a workdir."""
    from fsljax.methods.stored_detector import load

    stored = load(folder)
    if "linear" not in stored.variables["params"]["head"]:
        raise UserError(
            f"The detector in {folder} has no linear head, which the baselines need: train one with "
            "--config.head.kind=linear."
        )
    for name in ("image_size", "channels"):
        if stored.config.data[name] != config.data[name]:
            raise UserError(
                f"The detector in {folder} was trained with data.{name} {stored.config.data[name]}, this one "
                f"with {config.data[name]}: give a baseline of the same data."
            )
    return Finder(stored.network, jax.device_put(stored.variables))
