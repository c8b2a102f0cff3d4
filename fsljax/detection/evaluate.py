"""The test of a detector, with its report: on trained classes, and before that in episodes of new ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fsljax.detection.config import Config
from fsljax.detection.data.annotations.readable import check_readable
from fsljax.detection.data.novel_photographs import NovelPhotographs
from fsljax.detection.data.photographs import Photographs
from fsljax.detection.data.source import DetectionData
from fsljax.detection.data.structures import Detections, ground_truth_of_image
from fsljax.detection.evaluation import base_classes, few_shot, novel_split
from fsljax.detection.evaluation.base_classes import BaseResult
from fsljax.detection.evaluation.baseline import load_baseline
from fsljax.detection.evaluation.few_shot import Result
from fsljax.detection.evaluation.split_figures import PUBLISHED
from fsljax.detection.model.trained import TrainedDetector
from fsljax.detection.report.detections import DetectionPicture, detections_section, precision_recall_section
from fsljax.detection.report.episode import SupportPicture, episode_section
from fsljax.reporting.sections import Section, embedding_map_section
from fsljax.reporting.tables import setting_title
from fsljax.training.method import Evaluation

_SUPPORTS_SHOWN = 2  # of a class
_QUERIES_SHOWN = 10
_CURVES = 8


def evaluate(detector: TrainedDetector, data: DetectionData) -> Evaluation:
    """Figures and parts of the report.

    A linear head has no new classes of its own: it is evaluated as the baseline of a detector by RepMet.

    Raises:
      UserError: if the episodes cannot be read or written, or there is no such baseline.
    """
    results = base_classes.evaluate(detector, data)
    embeddings, boxes_shown = base_classes.embedded_boxes(detector, data)
    test = {setting: result.figures(detector.config.eval.least_boxes) for setting, result in results.items()}
    sections = [
        precision_recall_section({name: result.judged for name, result in results.items()}),
        detections_section(_pictures(results["base"]), data.class_names),
        embedding_map_section(
            embeddings, boxes_shown.labels, boxes_shown.class_names, boxes_shown.images, classes_seen=True
        ),
    ]
    config, novel = detector.config, data.novel_images
    if config.head.kind == "repmet" and novel is not None and config.eval.episodes:
        result = few_shot.evaluate(detector, novel, data)
        test = {**result.test, "proposals": result.proposals, **test}
        sections = [*few_shot_sections(config, result), *sections]
    published = {}
    if config.head.kind == "repmet" and config.eval.novel_shots:
        test = {**novel_split.evaluate(detector, novel, data), **test}
        published = PUBLISHED.get(config.name, {})
    return Evaluation(
        test=test, published=published, sections=sections, embeddings=embeddings, shown=boxes_shown
    )


def check(config: Config, data: DetectionData) -> None:
    """Raises a UserError, before a training, if the test that the config asks for cannot be run on the data.

    Episodes are read, or made and written; the baseline is loaded; photographs are read.
    """
    novel, options = data.novel_images, config.eval
    if config.head.kind == "repmet":
        if options.episodes and novel is not None:
            episodes = few_shot.episodes_of(config, novel)
            if isinstance(novel, NovelPhotographs):
                novel.images(episodes, [0], options.distractors)
                check_readable(novel.data, novel.rows_of(episodes))
        if options.novel_shots:
            novel_split.check_split(config, novel)
            assert isinstance(novel, NovelPhotographs)
            check_readable(novel.data)
        if options.baseline and (options.episodes or options.novel_shots):
            load_baseline(config)
    if isinstance(data, Photographs):
        check_readable(data.train)
        check_readable(data.test, range(min(options.images, len(data.test))))


def few_shot_sections(config: Config, result: Result) -> list[Section]:
    """The first episode, as RepMet saw it, and precision over recall of every setting."""
    episodes, shown = result.episodes, result.shown
    names = [episodes.class_names[label] for label in episodes.classes[0]]
    supports = [
        SupportPicture(shown.support[label, shot], episodes.support_boxes[0, label, shot], name)
        for label, name in enumerate(names)
        for shot in range(min(config.eval.shots[0], _SUPPORTS_SHOWN))
    ]
    queries = np.linspace(0, len(shown.query) - 1, _QUERIES_SHOWN).astype(int)
    pictures = [_query_picture(result, int(query)) for query in queries]
    verdicts = list(result.verdicts.items())[:_CURVES]
    curves = {setting_title(name): of_setting.pooled() for name, of_setting in verdicts}
    return [
        episode_section(supports, pictures, names),
        replace(precision_recall_section(curves), title="Precision and recall on new classes"),
    ]


def _pictures(result: BaseResult) -> list[DetectionPicture]:
    count = len(result.images)
    return [
        DetectionPicture(*shown)
        for shown in zip(result.images, result.detections[:count], result.ground_truth[:count], strict=True)
    ]


def _query_picture(result: Result, query: int) -> DetectionPicture:
    boxes, scores, labels = (np.asarray(part[query]) for part in result.shown.detections[:3])
    valid, truth = scores > 0, result.episodes.ground_truth
    mask = np.asarray(truth.mask[0, query])
    difficult, crowd = (
        None if part is None else np.asarray(part[0, query])[mask] for part in (truth.difficult, truth.crowd)
    )
    return DetectionPicture(
        result.shown.query[query],
        Detections(boxes[valid], scores[valid], labels[valid].astype(int)),
        ground_truth_of_image(
            np.asarray(truth.boxes[0, query])[mask],
            np.asarray(truth.labels[0, query])[mask],
            difficult,
            crowd,
        ),
    )
