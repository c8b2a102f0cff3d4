"""Few-shot detection in episodes of classes that were never trained (Karlinsky et al., 2019, section 5).

A detector proposes regions in every scene once; each rule then names them by the episode's classes alone,
from the boxes of its support.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import logging

from fsljax.data.batches import batches_of
from fsljax.data.io.cache import cached_file
from fsljax.detection.config import Config
from fsljax.detection.data.episode_file import (
    DamagedEpisodesError,
    DetectionEpisodes,
    read_episodes,
    write_episodes,
)
from fsljax.detection.data.source import NovelImages
from fsljax.detection.data.structures import Detections, ImageBatch
from fsljax.detection.evaluation.authors_counter import Counts, pooled_ignoring_duplicates
from fsljax.detection.evaluation.average_precision import average_precision
from fsljax.detection.evaluation.baseline import load_baseline
from fsljax.detection.evaluation.episode_detections import (
    CEILING,
    DISTANCE,
    REPMET,
    VANILLA,
    Column,
    candidates_of,
    judged_detections,
    regions_of,
)
from fsljax.detection.evaluation.verdicts import (
    Verdict,
    Verdicts,
    coco_of_episode,
    half_width,
    resampled_pooled,
    resamples,
)
from fsljax.detection.model.enroll import enrollment_of
from fsljax.detection.model.inference import suppression_of
from fsljax.detection.model.trained import TrainedDetector
from fsljax.errors import UserError
from fsljax.evaluation.paired import bootstrap_ci95, paired_bootstrap
from fsljax.storage.paths import given_path, is_there

_WRITTEN = 500  # episodes of a file
_SECONDS_BETWEEN_LINES = 10.0


class ShownEpisode(NamedTuple):
    """The images of an episode, and what was detected in its queries by the first rule."""

    support: np.ndarray
    query: np.ndarray
    detections: Detections


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
    shown: ShownEpisode
    episodes: DetectionEpisodes


class _Collected(NamedTuple):
    """Of a rule, group by group: scores, labels, verdicts and counts, and COCO's figure of each episode."""

    detections: list[tuple[np.ndarray, ...]]
    coco: list[float]


def evaluate(detector: TrainedDetector, novel: NovelImages) -> Result:
    """Runs the episodes by every rule, shot and length of fine-tuning that the config asks for.

    Args:
      detector: that is tested.
      novel: the images of the episodes.

    Raises:
      UserError: if the episodes cannot be read or written, or there is no such baseline.
    """
    config, options = detector.config, detector.config.eval
    episodes = episodes_of(config, novel)
    detectors = {REPMET: detector}
    if options.baseline:
        detectors[DISTANCE] = replace(load_baseline(config), devices=detector.devices)
    columns = _columns(config)
    enrollment = enrollment_of(config)
    by_distance = replace(enrollment, sigma=options.distance_sigma, normalize=True)
    positives, suppression = _positives(episodes), suppression_of(options)
    collected = {column: _Collected([], []) for column in columns}
    shown, printed = None, time.monotonic()
    for numbers, count, support, query in _images(novel, episodes, options.distractors):
        regions = {
            name: regions_of(of_rule, support, query, novel.images_at_once, options.enrol.views)
            for name, of_rule in detectors.items()
        }
        for column in columns:
            name = DISTANCE if column.rule in (DISTANCE, VANILLA) else REPMET
            candidates = candidates_of(
                detectors[name],
                column,
                *regions[name],
                by_distance if column.rule == DISTANCE else enrollment,
            )
            detected, verdict, of_coco, counts = judged_detections(
                candidates, query.ground_truth, suppression
            )
            if shown is None:
                first: Detections = jax.tree.map(lambda part: np.asarray(part[0]), detected)
                shown = ShownEpisode(np.asarray(support.images[0]), np.asarray(query.images[0]), first)  # type: ignore[index]
            judged = (detected.scores, detected.labels, *verdict, *counts)
            flat = tuple(np.asarray(part)[:count].reshape(count, -1) for part in judged)
            collected[column].detections.append(flat)
            right, counted = (np.swapaxes(np.asarray(part), 2, 1) for part in of_coco)
            for place in range(count):
                at_ious = Verdict(*(part[place].reshape(part.shape[1], -1) for part in (right, counted)))
                collected[column].coco.append(
                    coco_of_episode(flat[0][place], flat[1][place], at_ious, positives[numbers[place]])
                )
        if time.monotonic() - printed > _SECONDS_BETWEEN_LINES:
            printed = time.monotonic()
            print(f"episode {numbers[count - 1] + 1} of {len(episodes)}", file=sys.stderr, flush=True)
    assert shown is not None
    joined = {column: _joined(parts, positives) for column, parts in collected.items()}
    verdicts = {column: of_column for column, (of_column, _) in joined.items()}
    figures = _figures(verdicts, {column: np.array(parts.coco) for column, parts in collected.items()})
    for column, (of_column, counts) in joined.items():
        figures[column]["ap50_pooled_ignoring_duplicates"] = pooled_ignoring_duplicates(
            of_column.scores, of_column.labels, counts, positives.sum(axis=0)
        )
    names = {column: column.setting(episodes.way, options.distractors) for column in columns}
    return Result(
        {names[column]: of_column for column, of_column in figures.items()},
        {names[column]: of_column for column, of_column in verdicts.items()},
        shown,
        episodes,
    )


def episodes_of(config: Config, novel: NovelImages) -> DetectionEpisodes:
    """The episodes of the config: read from their file, which is written where it is missing.

    Raises:
      UserError: if the file cannot be read or written, or holds fewer than are asked for.
    """
    options = config.eval
    if options.episodes_file:
        path = given_path(options.episodes_file, "config.eval.episodes_file")
    else:
        path = cached_file(f"detection_episodes-{novel.fingerprint[:16]}-{options.seed}.json")
    if not is_there(path):
        _write(path, config, novel)
    try:
        read = _read(path, config, novel)
    except DamagedEpisodesError as error:
        if options.episodes_file:
            raise
        logging.warning("%s They are made anew.", str(error).removesuffix(" Regenerate them."))
        _write(path, config, novel)
        read = _read(path, config, novel)
    return novel.in_pixels(read)


def _read(path: Path, config: Config, novel: NovelImages) -> DetectionEpisodes:
    options = config.eval
    return read_episodes(path, count=options.episodes, shots=max(options.shots), content=novel.content)


def _write(path: Path, config: Config, novel: NovelImages) -> None:
    print(f"writing the episodes to {path} …", file=sys.stderr)
    made = novel.make_episodes(max(_WRITTEN, config.eval.episodes), config.eval.seed)
    try:
        write_episodes(path, made)
    except OSError as error:
        raise UserError(
            f"The episodes cannot be written to {path} ({error.strerror or error}): give another "
            "--config.eval.episodes_file."
        ) from error


def _columns(config: Config) -> list[Column]:
    options = config.eval
    columns = [
        Column(rule, shots, epochs)
        for rule in ((REPMET, DISTANCE, VANILLA) if options.baseline else (REPMET,))
        for epochs in options.fine_tune_epochs
        for shots in options.shots
    ]
    return columns + [Column(CEILING, shots, 0) for shots in options.shots if options.ceiling]


def _images(
    novel: NovelImages, episodes: DetectionEpisodes, distractors: bool
) -> Iterator[tuple[np.ndarray, int, ImageBatch, ImageBatch]]:
    """Numbers `[g]` of a few episodes, how many of them are real, their supports and their queries."""
    for numbers, count in batches_of(len(episodes), novel.episodes_at_once):
        yield numbers, count, *novel.images(episodes, numbers, distractors)


def _positives(episodes: DetectionEpisodes) -> np.ndarray:
    """How many objects of each class of each episode are to be found, int `[episodes, way]`."""
    counted = np.asarray(episodes.ground_truth.non_difficult_mask())
    labels = np.asarray(episodes.ground_truth.labels)
    return np.stack([(counted & (labels == label)).sum((1, 2)) for label in range(episodes.way)]).T


def _joined(parts: _Collected, positives: np.ndarray) -> tuple[Verdicts, Counts]:
    """Of the detections of all episodes, `[episodes, queries · keep]`."""
    scores, labels, right, counted, *counts = (
        np.concatenate(column) for column in zip(*parts.detections, strict=True)
    )
    return Verdicts(scores, labels, right, counted, positives), Counts(*counts)


def _figures(
    verdicts: dict[Column, Verdicts], coco: dict[Column, np.ndarray]
) -> dict[Column, dict[str, float]]:
    """Figures of each column with their intervals; of a baseline also by how much RepMet is above it.

    `ap50_pooled` is by VOC's rule, by which further detections of an object are wrong.
    """
    count = len(next(iter(verdicts.values())).scores)
    times = resamples(count)
    pooled = {column: average_precision(of_column.pooled()) for column, of_column in verdicts.items()}
    samples = {column: resampled_pooled(of_column, times) for column, of_column in verdicts.items()}
    means = {column: of_column.mean_average_precisions() for column, of_column in verdicts.items()}
    figures = {}
    for column in verdicts:
        of_column: dict[str, float] = {
            "ap50_pooled": pooled[column],
            "ap50_pooled_ci95": half_width(samples[column]),
            "map50": float(means[column].mean()),
            "map50_ci95": bootstrap_ci95(means[column]),
            "map": float(coco[column].mean()),
            "map_ci95": bootstrap_ci95(coco[column]),
            "episodes": count,
        }
        repmet = replace(column, rule=REPMET)
        if column.rule in (DISTANCE, VANILLA):
            difference = paired_bootstrap(means[repmet], means[column])
            of_column |= {
                "ap50_pooled_below": pooled[repmet] - pooled[column],
                "ap50_pooled_below_ci95": half_width(samples[repmet] - samples[column]),
                "map50_below": difference.difference,
                "map50_below_ci95": (difference.upper - difference.lower) / 2,
            }
        figures[column] = of_column
    return figures
