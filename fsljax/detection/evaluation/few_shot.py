"""Few-shot detection in episodes of untrained classes (Karlinsky et al., 2019, section 5).

A detector proposes regions in every scene once; each rule then classifies them among the episode's classes
only, from the boxes of its support.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import logging

from fsljax.data.io.cache import cached_file
from fsljax.detection.config import Config
from fsljax.detection.data.episode_file import (
    SHOTS_IN_EPISODES,
    DamagedEpisodesError,
    DetectionEpisodes,
    read_episodes,
    write_episodes,
)
from fsljax.detection.data.source import DetectionData, NovelImages
from fsljax.detection.data.structures import Detections
from fsljax.detection.evaluation.baseline import load_baseline
from fsljax.detection.evaluation.episode_detections import (
    CEILING,
    DISTANCE,
    REPMET,
    VANILLA,
    Column,
    candidates_of,
    enrollments_of,
    judged_detections,
)
from fsljax.detection.evaluation.episode_figures import Collected, count_objects, figures_of, positives_of
from fsljax.detection.evaluation.episode_regions import regions_of_episodes
from fsljax.detection.evaluation.known_classes import known_of_rules, with_trained
from fsljax.detection.evaluation.proposal_recall import Found, found_objects, recall_figures
from fsljax.detection.evaluation.verdicts import Verdicts
from fsljax.detection.model.inference import suppression_of
from fsljax.detection.model.trained import TrainedDetector
from fsljax.errors import UserError
from fsljax.storage.paths import given_path, is_there

_WRITTEN = 500  # episodes of a file
_SHAPE = {"way": 5, "shots": SHOTS_IN_EPISODES, "queries_per_class": 10}
_SECONDS_BETWEEN_LINES = 10.0


class ShownEpisode(NamedTuple):
    """The images of an episode, and the detections in its queries by the first rule."""

    support: np.ndarray
    query: np.ndarray
    detections: Detections


class Result(NamedTuple):
    """Results of the episodes.

    Attributes:
      test: metrics of each setting.
      verdicts: verdicts of each setting.
      shown: the first episode.
      episodes: the episodes that were run.
      proposals: recall of the objects by proposals.
    """

    test: dict[str, dict[str, float]]
    verdicts: dict[str, Verdicts]
    shown: ShownEpisode
    episodes: DetectionEpisodes
    proposals: dict[str, float]


def evaluate(detector: TrainedDetector, novel: NovelImages, data: DetectionData | None = None) -> Result:
    """Runs the episodes for every rule, shot and number of fine-tuning epochs of the config.

    Args:
      detector: the detector to test.
      novel: the images of the episodes.
      data: the data it was trained on, for `eval.base_classes` only.

    Raises:
      UserError: if the episodes cannot be read or written, or there is no such baseline.
    """
    config, options = detector.config, detector.config.eval
    episodes = episodes_of(config, novel)
    detectors = {REPMET: detector}
    if options.baseline:
        detectors[DISTANCE] = replace(load_baseline(config), devices=detector.devices)
    columns = _columns(config)
    enrollments = enrollments_of(config)
    known = {}
    if options.base_classes:
        assert data is not None, "the trained classes compete: their data must be given"
        known = known_of_rules(detectors, data, enrollments)
    suppression, proposals = suppression_of(options), detector.network.options.proposals.keep
    collected = {column: Collected([], []) for column in columns}
    positives, of_trained = positives_of(episodes), []
    shown, found, printed = None, Found(), time.monotonic()
    at_once = regions_of_episodes(
        detectors,
        novel,
        episodes,
        distractors=options.distractors,
        views=options.enrol.views,
        fine_tuned=any(options.fine_tune_epochs),
    )
    for numbers, count, of_queries, regions in at_once:
        found |= found_objects(episodes, numbers, regions[REPMET][1], proposals)
        truth = of_queries
        if options.base_classes:
            trained = novel.trained_objects(episodes, numbers)
            truth = with_trained(truth, trained, episodes.way)
            of_trained.append(count_objects(trained, detector.classes, len(numbers))[:count])
        for column in columns:
            name = DISTANCE if column.rule in (DISTANCE, VANILLA) else REPMET
            candidates = candidates_of(
                detectors[name],
                column,
                *regions[name],
                enrollments[column.rule],
                known.get(column.rule) if column.generalized else None,
            )
            judged = judged_detections(candidates, truth if column.generalized else of_queries, suppression)
            if shown is None:
                first: Detections = jax.tree.map(lambda part: np.asarray(part[0]), judged[0])
                support, query = novel.images(episodes, numbers, options.distractors)
                shown = ShownEpisode(np.asarray(support.images[0]), np.asarray(query.images[0]), first)  # type: ignore[index]
            collected[column].add(judged, positives[numbers[:count]])
        if time.monotonic() - printed > _SECONDS_BETWEEN_LINES:
            printed = time.monotonic()
            print(f"episode {numbers[count - 1] + 1} of {len(episodes)}", file=sys.stderr, flush=True)
    assert shown is not None
    verdicts, figures = figures_of(collected, positives, np.concatenate(of_trained) if of_trained else None)
    names = {column: column.setting(episodes.way, options.distractors) for column in columns}
    return Result(
        {names[column]: of_column for column, of_column in figures.items()},
        {names[column]: of_column for column, of_column in verdicts.items()},
        shown,
        episodes,
        recall_figures(found),
    )


def episodes_of(config: Config, novel: NovelImages) -> DetectionEpisodes:
    """The episodes of the config: read from their file, which is written if missing.

    Raises:
      UserError: if the file cannot be read or written, or contains fewer episodes than requested.
    """
    options = config.eval
    if options.episodes_file:
        path = given_path(options.episodes_file, "config.eval.episodes_file")
    else:
        shape = "".join(f"-{name}{count}" for name, count in _shape(config).items())
        path = cached_file(f"detection_episodes-{novel.fingerprint[:16]}-{options.seed}{shape}.json")
    if not is_there(path):
        _write(path, config, novel)
    try:
        read = _read(path, config, novel)
    except DamagedEpisodesError as error:
        if options.episodes_file:
            raise
        logging.warning("%s Regenerating them.", str(error).removesuffix(" Regenerate them."))
        _write(path, config, novel)
        read = _read(path, config, novel)
    return novel.in_pixels(read)


def _read(path: Path, config: Config, novel: NovelImages) -> DetectionEpisodes:
    options = config.eval
    return read_episodes(path, count=options.episodes, shots=max(options.shots), content=novel.content)


def _shape(config: Config) -> dict[str, int]:
    """What of made episodes is not as ever: names and numbers as `make_episodes` takes them."""
    options = config.eval
    asked = {"way": options.way, "shots": options.supports, "queries_per_class": options.queries}
    return {name: count for name, count in asked.items() if count != _SHAPE[name]}


def _write(path: Path, config: Config, novel: NovelImages) -> None:
    print(f"writing the episodes to {path} …", file=sys.stderr)
    made = novel.make_episodes(max(_WRITTEN, config.eval.episodes), config.eval.seed, **_shape(config))
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
    ceilings = [Column(CEILING, shots, 0) for shots in options.shots if options.ceiling]
    generalized = [replace(column, generalized=True) for column in columns if options.base_classes]
    return columns + ceilings + generalized
