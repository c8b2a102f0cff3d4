"""Few-shot detection in episodes of classes that were never trained (Karlinsky et al., 2019, section 5).

A detector finds regions in every scene once; each rule then names them by the episode's classes alone, from
the boxes of its support.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from fsljax.config import (
    check_at_least,
    check_choice,
    check_share,
    check_whole,
    dataclass_fields,
    dataclass_from,
)
from fsljax.data.io.cache import cache_folder
from fsljax.detection.data.episode_file import Episodes, read_episodes, write_episodes
from fsljax.detection.data.novel import EpisodeImages, NovelImages
from fsljax.detection.evaluation.average_precision import ImageDetections, ImageTruths, average_precision
from fsljax.detection.evaluation.episode_detections import (
    CEILING,
    DISTANCE,
    REPMET,
    VANILLA,
    Column,
    Finder,
    Found,
    candidates_of,
    found_in,
    regions_of,
    truths_of,
)
from fsljax.detection.evaluation.verdicts import Verdicts, half_width, resampled_pooled, resamples
from fsljax.detection.model.enroll import SPACES, EnrolOptions
from fsljax.detection.report.detections import DetectionPicture, precision_recall_section
from fsljax.detection.report.episode import SupportPicture, episode_section
from fsljax.errors import UserError
from fsljax.evaluation.paired import bootstrap_ci95, paired_bootstrap
from fsljax.reporting.sections import Section
from fsljax.reporting.tables import setting_title
from fsljax.training.method import Evaluation

if TYPE_CHECKING:
    from fsljax.methods.repmet_detector import RepMetDetector

EVALUATION = {
    "episodes": 500,  # the first ones of the file; 0: none are run
    "shots": (1,),  # of 1 to 10; several are run on the same regions
    "fine_tune_epochs": (0,),
    "distractors": False,  # queries with other novel characters, too, in settings of their own
    "ceiling": False,  # the same with the true boxes instead of proposals
    "baseline": "",  # workdir of a detector with a linear head, by which the baselines are run
    "distance_sigma": 0.9,  # σ of the baseline by distances, at which it is best
    "episodes_file": "",  # written where it is missing; "": in the cache folder
    # Its σ of 0 is the trained one: new classes lie further from their representatives than trained ones.
    "enrol": dataclass_fields(EnrolOptions, sigma=0.0, scale=None, normalize=None),
}
# AP50 pooled: ImageNet-LOC, its 5-way episodes of 214 animals; other images and classes than ours.
PUBLISHED: dict[str, dict[str, float]] = {}

_WRITTEN = 500  # episodes of a file
_SUPPORTS_SHOWN = 2  # of a class
_QUERIES_SHOWN = 10
_CURVES = 8
_SECONDS_BETWEEN_LINES = 10.0


def check(config: ConfigDict) -> None:
    """Raises a UserError for values of `config.eval` that cannot work."""
    check_at_least(
        config,
        0,
        "eval.episodes",
        "eval.fine_tune_epochs",
        "eval.enrol.rate",
        "eval.enrol.sigma",
        "eval.enrol.alpha",
        "eval.enrol.embedding",
    )
    check_at_least(config, 1, "eval.shots", "eval.enrol.per_shot")
    check_whole(config, "eval.shots", "eval.fine_tune_epochs")
    check_choice(config, "eval.enrol.space", SPACES)
    check_share(config, "eval.enrol.positive_fraction", "eval.enrol.overlap")
    if not config.eval.distance_sigma > 0:
        raise UserError(f"config.eval.distance_sigma is {config.eval.distance_sigma}; it must be above 0.")
    if config.eval.baseline and config.eval.episodes:
        # Told before an hour's training rather than after it.
        _check_baseline(config, Path(config.eval.baseline).expanduser())


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


def with_episodes(method: RepMetDetector, variables: dict[str, Any], evaluation: Evaluation) -> Evaluation:
    """An evaluation on trained classes, and before it that in episodes of others.

    A linear head has no new classes of its own: it is evaluated as the baseline of a detector by RepMet.
    """
    config, novel = method.config, method.data.novel_images
    if config.head.kind != "repmet" or novel is None or not config.eval.episodes:
        return evaluation
    result = evaluate(method, novel, variables)
    return evaluation._replace(
        test={**result.test, **evaluation.test},
        sections=[*_sections(config, result), *evaluation.sections],
    )


def evaluate(method: RepMetDetector, novel: NovelImages, variables: dict[str, Any]) -> Result:
    """Runs the episodes by every rule, shot and length of fine-tuning that the config asks for.

    Args:
      method: a detector.
      novel: the images of the episodes.
      variables: of the detector.

    Raises:
      UserError: if the episodes cannot be read or written, or there is no such baseline.
    """
    config, options = method.config, method.config.eval
    episodes = episodes_of(config, novel)
    finders = {REPMET: Finder(method.test_network, variables)}
    if options.baseline:
        finders[DISTANCE] = _baseline(Path(options.baseline).expanduser())
    columns = [
        Column(rule, shots, epochs)
        for rule in ((REPMET, DISTANCE, VANILLA) if options.baseline else (REPMET,))
        for epochs in options.fine_tune_epochs
        for shots in options.shots
    ]
    if options.ceiling:
        columns += [Column(CEILING, shots, 0) for shots in options.shots]
    trained = enrol_options(config)
    enrol = trained, replace(trained, sigma=options.distance_sigma, normalize=True)
    found: dict[Column, list[tuple[np.ndarray, ...]]] = {column: [] for column in columns}
    shown, told = None, time.monotonic()
    for numbers, images in _images(novel, episodes, options.distractors):
        regions = {
            name: regions_of(finder, episodes, numbers, images, novel.at_once)
            for name, finder in finders.items()
        }
        truths = truths_of(episodes, numbers)
        for column in columns:
            name = DISTANCE if column.rule in (DISTANCE, VANILLA) else REPMET
            candidates = candidates_of(finders[name], column, *regions[name], enrol[column.rule == DISTANCE])
            seen = found_in(candidates, truths, iou_threshold=options.iou_threshold, keep=options.keep)
            if shown is None:
                of_first: Found = jax.tree.map(lambda of: np.asarray(of[0]), seen)
                shown = EpisodeFound(np.asarray(images.support[0]), np.asarray(images.query[0]), of_first)
            kept = len(np.unique(numbers))  # the last group is filled up
            judged = (seen.scores, seen.labels, seen.right, seen.counted)
            found[column].append(tuple(np.asarray(of)[:kept].reshape(kept, -1) for of in judged))
        if time.monotonic() - told > _SECONDS_BETWEEN_LINES:
            told = time.monotonic()
            print(f"episode {numbers[-1] + 1} of {len(episodes)}", file=sys.stderr, flush=True)
    assert shown is not None
    verdicts = {column: _verdicts(parts, episodes) for column, parts in found.items()}
    names = {column: column.setting(episodes.way, options.distractors) for column in columns}
    return Result(
        {names[column]: figures for column, figures in _figures(verdicts).items()},
        {names[column]: of for column, of in verdicts.items()},
        shown,
        episodes,
    )


def episodes_of(config: ConfigDict, novel: NovelImages) -> Episodes:
    """The episodes of the config: read from their file, which is written where it is missing.

    Raises:
      UserError: if the file cannot be read or written, or holds fewer than are asked for.
    """
    options = config.eval
    path = Path(options.episodes_file).expanduser()
    if not options.episodes_file:
        path = cache_folder() / f"detection_episodes-{novel.told[:16]}-{options.seed}.json"
    if not path.exists():
        print(f"writing the episodes to {path} …", file=sys.stderr)
        made = novel.make_episodes(max(_WRITTEN, options.episodes), options.seed)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_episodes(path, made)
        except OSError as error:
            raise UserError(
                f"The episodes cannot be written to {path} ({error.strerror or error}): give another "
                "--config.eval.episodes_file."
            ) from error
    read = read_episodes(path, count=options.episodes, shots=max(options.shots), content=novel.content)
    return novel.as_seen(read)


def enrol_options(config: ConfigDict) -> EnrolOptions:
    """How a detector's new classes are enrolled: as it was trained, and as `config.eval.enrol` says."""
    loss = config.loss
    return dataclass_from(
        EnrolOptions,
        config.eval.enrol,
        sigma=config.eval.enrol.sigma or loss.sigma,
        scale=loss.scale,
        normalize=config.head.normalize,
    )


def _images(
    novel: NovelImages, episodes: Episodes, distractors: bool
) -> Iterator[tuple[np.ndarray, EpisodeImages]]:
    """Numbers `[g]` of a few episodes, and their images."""
    for start in range(0, len(episodes), novel.together):
        numbers = np.minimum(np.arange(start, start + novel.together), len(episodes) - 1)
        yield numbers, novel.images(episodes, numbers, distractors)


def _verdicts(parts: list[tuple[np.ndarray, ...]], episodes: Episodes) -> Verdicts:
    """Of the detections of all episodes, `[episodes, queries · keep]`."""
    scores, labels, right, judged = (np.concatenate(of) for of in zip(*parts, strict=True))
    counted = episodes.mask & ~episodes.difficult
    positives = np.stack(
        [(counted & (episodes.labels == label)).sum((1, 2)) for label in range(episodes.way)]
    )
    return Verdicts(scores, labels, right, judged, positives.T)


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
        ours = replace(column, rule=REPMET)
        if column.rule in (DISTANCE, VANILLA):
            difference = paired_bootstrap(means[ours], means[column])
            own |= {
                "ap50_pooled_below": pooled[ours] - pooled[column],
                "ap50_pooled_below_ci95": half_width(samples[ours] - samples[column]),
                "map50_below": difference.difference,
                "map50_below_ci95": (difference.upper - difference.lower) / 2,
            }
        figures[column] = own
    return figures


def _check_baseline(config: ConfigDict, folder: Path) -> None:
    from fsljax.detection.trained import read_config

    stored = read_config(folder)
    if stored.head.kind != "linear" and not stored.loss.linear:
        raise UserError(
            f"The detector in {folder} has no linear head, which the baselines need: train one with "
            "--config.head.kind=linear --config.loss.linear=0.0."
        )
    for name in ("image_size", "channels"):
        if stored.data[name] != config.data[name]:
            raise UserError(
                f"The detector in {folder} was trained with data.{name} {stored.data[name]}, this one "
                f"with {config.data[name]}: give a baseline of the same data."
            )


def _baseline(folder: Path) -> Finder:
    """The detector with a linear head in a workdir, which `check` looked at."""
    from fsljax.detection.trained import load

    stored = load(folder)
    return Finder(stored.network, jax.device_put(stored.variables))


def _sections(config: ConfigDict, result: Result) -> list[Section]:
    """The first episode, as RepMet saw it, and precision over recall of every setting."""
    episodes, shown = result.episodes, result.shown
    names = [episodes.class_names[label] for label in episodes.classes[0]]
    supports = [
        SupportPicture(shown.support[label, shot], episodes.support_boxes[0, label, shot], name)
        for label, name in enumerate(names)
        for shot in range(min(config.eval.shots[0], _SUPPORTS_SHOWN))
    ]
    queries = np.linspace(0, len(shown.query) - 1, _QUERIES_SHOWN).astype(int)
    pictures = [_picture(shown, episodes, int(query)) for query in queries]
    curves = {setting_title(name): of.pooled() for name, of in list(result.verdicts.items())[:_CURVES]}
    return [
        episode_section(supports, pictures, names),
        replace(precision_recall_section(curves), title="Precision and recall on new classes"),
    ]


def _picture(shown: EpisodeFound, episodes: Episodes, query: int) -> DetectionPicture:
    found = jax.tree.map(lambda of: of[query], shown.found)
    valid, mask = found.scores > 0, episodes.mask[0, query]
    return DetectionPicture(
        shown.query[query],
        ImageDetections(found.boxes[valid], found.scores[valid], found.labels[valid].astype(int)),
        ImageTruths(episodes.boxes[0, query][mask], episodes.labels[0, query][mask]),
    )
