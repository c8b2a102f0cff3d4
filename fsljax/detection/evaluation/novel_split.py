"""The published protocol of few-shot detection: k boxes per novel class, and a whole test split.

New and trained classes compete in every image (Kang et al., 2019, https://arxiv.org/abs/1812.01866; Wang et
al., 2020, https://arxiv.org/abs/2003.06957); the mean average precision of the novel ones is nAP.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from fsljax.data.batches import batches_of
from fsljax.detection.config import Config, Eval
from fsljax.detection.data.annotations.shots import Shots, check_enough, draw_shots, read_shots
from fsljax.detection.data.novel_photographs import NovelPhotographs
from fsljax.detection.data.photograph_batches import load_batch, scaled_ground_truth
from fsljax.detection.data.source import DetectionData
from fsljax.detection.data.structures import Detections, GroundTruth, ImageBatch
from fsljax.detection.evaluation.baseline import load_baseline
from fsljax.detection.evaluation.episode_detections import (
    DISTANCE,
    REPMET,
    VANILLA,
    enrollments_of,
    examine_all,
    first_shots,
    support_of,
)
from fsljax.detection.evaluation.known_classes import known_of_rules
from fsljax.detection.evaluation.split_figures import figures_of_seeds, split_figures
from fsljax.detection.model.enroll import (
    Enrolled,
    Enrollment,
    Known,
    Layer,
    Support,
    enrolled,
    imprinted,
    scores_by_enrolled,
)
from fsljax.detection.model.inference import Suppression, detections, suppression_of, weighted
from fsljax.detection.model.regions import Examined
from fsljax.detection.model.trained import TrainedDetector
from fsljax.errors import UserError

_IMAGES = 8  # that are looked at together
_SECONDS_BETWEEN_LINES = 10.0


class _Run(NamedTuple):
    """New classes of one rule, from so many shots of a seed, after so many epochs of fine-tuning."""

    rule: str
    shots: int
    epochs: int
    seed: int

    @property
    def setting(self) -> str:
        """Name of the setting in `results.json`, the same for every seed."""
        return "_".join([f"novel_{self.shots}shot_ft{self.epochs}", *filter(None, [self.rule])])


def check_split(config: Config, novel: object) -> None:
    """Raises a UserError before training if the protocol cannot be run on the data."""
    photographs = _photographs(novel)
    assert photographs.shots is not None
    for shots in config.eval.novel_shots:
        if config.eval.shots_file:
            for seed in config.eval.seeds:
                read_shots(config.eval.shots_file, photographs.shots, shots, seed)
        else:
            check_enough(photographs.shots, shots)


def evaluate(detector: TrainedDetector, novel: object, data: DetectionData) -> dict[str, dict[str, float]]:
    """Metrics for each number of shots, fine-tuning epochs and rule: means over seeds, with intervals.

    Args:
      detector: a detector with representatives.
      novel: images of the test split, and the boxes of new classes in the training split.
      data: the data that the detector was trained on.

    Raises:
      UserError: if the data or the lists are incomplete, or there is no such baseline.
    """
    config, photographs = detector.config, _photographs(novel)
    detectors = {REPMET: detector}
    if config.eval.baseline:
        detectors[DISTANCE] = replace(load_baseline(config), devices=detector.devices)
    enrollments = enrollments_of(config)
    known = known_of_rules(detectors, data, enrollments)
    classes = _enrolled_classes(detectors, photographs, enrollments, known)
    suppression = suppression_of(config.eval, score_threshold=config.eval.score_threshold)
    found: dict[_Run, list[Detections]] = {run: [] for run in classes}
    truths: list[GroundTruth] = []
    printed = time.monotonic()
    for batch, truth in _test_images(photographs):
        truths += truth
        if time.monotonic() - printed > _SECONDS_BETWEEN_LINES:
            printed = time.monotonic()
            print(f"image {len(truths)} of {len(photographs.data)}", file=sys.stderr, flush=True)
        looked = {
            name: jax.tree.map(lambda part: part[0], examine_all(of_rule, batch, _IMAGES))
            for name, of_rule in detectors.items()
        }
        for run, of_run in classes.items():
            name = REPMET if run.rule == REPMET else DISTANCE
            layer = detectors[name].layer("embedding") if run.rule == REPMET else None
            seen = _detected(
                of_run,
                looked[name],
                layer,
                known.get(run.rule),
                enrollments[run.rule],
                suppression,
                config.eval,
            )
            found[run] += list(jax.device_get(seen).of_images())[: len(truth)]
    way = photographs.data.num_classes
    names = way + detector.classes
    figures = {
        run: split_figures(of_run, truths, way, names, config.eval.novel_rule)
        for run, of_run in found.items()
    }
    by_setting: dict[str, list[dict[str, float]]] = {}
    for run, of_seed in figures.items():
        by_setting.setdefault(run.setting, []).append(of_seed)
    return {
        setting: {**figures_of_seeds(of_seeds), "examples": len(truths), "runs": len(of_seeds)}
        for setting, of_seeds in by_setting.items()
    }


def _photographs(novel: object) -> NovelPhotographs:
    if not isinstance(novel, NovelPhotographs):
        raise UserError(
            "config.eval.novel_shots needs photographs with novel classes: name these in config.data.novel, "
            'or turn it off with --config.eval.novel_shots="()".'
        )
    for part, what in (
        (novel.shots, "boxes of all novel classes"),
        (novel.known, "boxes of the trained classes"),
    ):
        if part is None:
            split = "training" if part is novel.shots else "test"
            raise UserError(
                f"config.eval.novel_shots needs boxes in both splits, but the {split} split does not have "
                f"{what}: give splits that are annotated with both, or turn it off with "
                '--config.eval.novel_shots="()".'
            )
    return novel


def _enrolled_classes(
    detectors: dict[str, TrainedDetector],
    novel: NovelPhotographs,
    enrollments: dict[str, Enrollment],
    known: dict[str, Known],
) -> dict[_Run, Enrolled | Layer]:
    """The new classes of every run; the regions of a seed's photographs are looked at once."""
    config = detectors[REPMET].config
    options, rules = config.eval, (REPMET, DISTANCE, VANILLA) if config.eval.baseline else (REPMET,)
    classes: dict[_Run, Enrolled | Layer] = {}
    for seed in options.seeds:
        for shots, given in _given(config, novel, seed):
            supports = {
                name: support_of(detector, given, _IMAGES, options.enrol.views)
                for name, detector in detectors.items()
            }
            for rule in rules:
                name = REPMET if rule == REPMET else DISTANCE
                layer = detectors[name].layer("linear" if rule == VANILLA else "embedding")
                for epochs, few in itertools.product(options.fine_tune_epochs, shots):
                    support = first_shots(supports[name], few)
                    classes[_Run(rule, few, epochs, seed)] = _learned(
                        jax.tree.map(lambda part: part[0], support),
                        None if rule == DISTANCE else layer,
                        known.get(rule),
                        enrollments[rule],
                        epochs,
                        linear=rule == VANILLA,
                    )
            print(f"enrolled {max(shots)} shots of seed {seed}", file=sys.stderr, flush=True)
    return classes


def _given(
    config: Config, novel: NovelPhotographs, seed: int
) -> Iterator[tuple[tuple[int, ...], ImageBatch]]:
    """Numbers of shots, and the photographs with a box each of which their supports are the first."""
    assert novel.shots is not None
    options = config.eval
    if not options.shots_file:
        drawn = draw_shots(novel.shots, max(options.novel_shots), seed)
        yield options.novel_shots, _supports(novel, drawn)
        return
    for shots in options.novel_shots:
        yield (shots,), _supports(novel, read_shots(options.shots_file, novel.shots, shots, seed))


def _supports(novel: NovelPhotographs, shots: Shots) -> ImageBatch:
    """Images `[1, way, shots, …]`, and the one box that is given in each."""
    assert novel.shots is not None
    data, sizing = novel.shots, novel.sizing
    batch = load_batch(data, sizing.buckets()[0], shots.rows.reshape(-1), sizing)
    scales = np.array([sizing.scale(data.sizes[row].tolist()) for row in shots.rows.flat], np.float32)
    around = (1, *shots.rows.shape)
    boxes = shots.boxes.reshape(-1, 4) * np.tile(scales, 2)
    labels = np.broadcast_to(np.arange(len(shots.rows))[:, None, None], (*around, 1))
    images, sizes = np.asarray(batch.images, np.float32) / 255, np.asarray(batch.sizes)
    return ImageBatch(
        images.reshape(*around, *images.shape[1:]),
        GroundTruth(boxes.reshape(*around, 1, 4), labels, np.ones((*around, 1), bool)),
        sizes.reshape(*around, 2),
    )


@partial(jax.jit, static_argnames=("enrollment", "epochs", "linear"))
def _learned(
    support: Support,
    layer: Layer | None,
    known: Known | None,
    enrollment: Enrollment,
    epochs: int,
    *,
    linear: bool,
) -> Enrolled | Layer:
    if linear:
        assert layer is not None
        return imprinted(support, layer, enrollment, epochs=epochs, known=known)
    return enrolled(support, layer, enrollment, epochs=epochs, known=known)


@partial(jax.jit, static_argnames=("enrollment", "suppression", "options"))
def _detected(
    classes: Enrolled | Layer,
    seen: Examined,
    layer: Layer | None,
    known: Known | None,
    enrollment: Enrollment,
    suppression: Suppression,
    options: Eval,
) -> Detections:
    """Detections of new and trained classes, `[b, keep]`."""
    if isinstance(classes, Layer):
        scores = jax.nn.softmax(classes(seen.compared), axis=-1)
    else:
        scores = scores_by_enrolled(classes, seen.compared, layer, enrollment, known)
    scores = weighted(scores, seen.objectness, seen.quality, options)
    return jax.vmap(partial(detections, suppression=suppression))(seen.refined, seen.valid, scores)


def _test_images(novel: NovelPhotographs) -> Iterator[tuple[ImageBatch, list[GroundTruth]]]:
    """The images of the test split `[1, b, …]`, without boxes, and the objects of both kinds in each."""
    way = novel.data.num_classes
    assert novel.known is not None
    for rows, count in batches_of(len(novel.data), min(_IMAGES, len(novel.data))):
        batch = load_batch(novel.data, novel.sizing.buckets()[0], rows, novel.sizing)
        none = np.zeros((1, len(rows), 0), bool)
        no_boxes = GroundTruth(np.zeros((*none.shape, 4), np.float32), none, none)
        images, sizes = np.asarray(batch.images, np.float32) / 255, np.asarray(batch.sizes)
        truths = [
            _both(new, trained, way)
            for new, trained in zip(
                batch.ground_truth.of_images(),
                scaled_ground_truth(novel.known, rows, novel.sizing).of_images(),
                strict=True,
            )
        ]
        yield ImageBatch(images[None], no_boxes, sizes[None]), truths[:count]


def _both(new: GroundTruth, trained: GroundTruth, way: int) -> GroundTruth:
    """The objects of an image; labels of trained classes begin at `way`."""
    parts = {}
    for name in GroundTruth._fields:
        pair = [getattr(new, name), getattr(trained, name)]
        if name == "labels":
            pair[1] = pair[1] + way
        there = any(part is not None for part in pair)
        filled = [
            np.zeros(len(truth.mask), bool) if part is None else part
            for part, truth in zip(pair, (new, trained), strict=True)
        ]
        parts[name] = np.concatenate(filled) if there else None
    return GroundTruth(**parts)  # type: ignore[arg-type]
