"""Figures over few-shot episodes, with their intervals, of every rule that was run on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from fsljax.detection.data.episode_file import DetectionEpisodes
from fsljax.detection.data.structures import Detections, GroundTruth
from fsljax.detection.evaluation.authors_counter import Counts, pooled_ignoring_duplicates
from fsljax.detection.evaluation.average_precision import average_precision
from fsljax.detection.evaluation.episode_detections import DISTANCE, REPMET, VANILLA, Column
from fsljax.detection.evaluation.verdicts import (
    Verdict,
    Verdicts,
    coco_of_episode,
    half_width,
    resampled_pooled,
    resamples,
)
from fsljax.evaluation.paired import bootstrap_ci95, paired_bootstrap


class Collected(NamedTuple):
    """Of a rule, group by group: scores, labels, verdicts and counts, and COCO's figure of each episode."""

    detections: list[tuple[np.ndarray, ...]]
    coco: list[float]

    def add(self, judged: tuple[Detections, Verdict, Verdict, Counts], positives: np.ndarray) -> None:
        """Takes the first episodes of a group, as many as there are rows of `positives` `[count, way]`.

        COCO's figure and the counts are of new classes alone, whatever else competes.
        """
        detected, verdict, of_coco, counts = judged
        count, way = positives.shape
        columns = (detected.scores, detected.labels, *verdict, *counts)
        scores, labels, right, counted, *times = (
            np.asarray(part)[:count].reshape(count, -1) for part in columns
        )
        new = labels < way
        self.detections.append((scores, labels, right, counted, *(part * new for part in times)))
        right_at, counted_at = (np.swapaxes(np.asarray(part), 2, 1) for part in of_coco)
        for place in range(count):
            at_ious = Verdict(
                right_at[place].reshape(right_at.shape[1], -1),
                counted_at[place].reshape(counted_at.shape[1], -1) & new[place],
            )
            self.coco.append(coco_of_episode(scores[place], labels[place], at_ious, positives[place]))


def positives_of(episodes: DetectionEpisodes) -> np.ndarray:
    """How many objects of each class of each episode are to be found, int `[episodes, way]`."""
    return count_objects(episodes.ground_truth, episodes.way, len(episodes))


def count_objects(truth: GroundTruth | None, classes: int, episodes: int) -> np.ndarray:
    """How many objects `[episodes, queries, t]` of each class are to be found, int `[episodes, classes]`."""
    if truth is None:
        return np.zeros((episodes, classes), int)
    episode, *_ = at = np.nonzero(np.asarray(truth.non_difficult_mask()))
    numbers = episode * classes + np.asarray(truth.labels)[at]
    return np.bincount(numbers, minlength=episodes * classes).reshape(episodes, classes)


def figures_of(
    collected: Mapping[Column, Collected], positives: np.ndarray, of_trained: np.ndarray | None
) -> tuple[dict[Column, Verdicts], dict[Column, dict[str, float]]]:
    """Verdicts on the detections of new classes, and their figures; where trained ones compete, those's too.

    Args:
      collected: of each rule.
      positives: int `[episodes, way]`, objects of new classes.
      of_trained: int `[episodes, classes]`, objects of trained ones; None where they never compete.
    """
    verdicts, trained, counts = {}, {}, {}
    for column, parts in collected.items():
        scores, labels, right, counted, *of_column = (
            np.concatenate(part) for part in zip(*parts.detections, strict=True)
        )
        counts[column] = Counts(*of_column)
        verdicts[column] = Verdicts(scores, labels, right, counted, positives)
        if column.generalized:
            new, way = labels < positives.shape[1], positives.shape[1]
            verdicts[column] = verdicts[column]._replace(counted=counted & new)
            assert of_trained is not None
            trained[column] = Verdicts(scores, labels - way, right, counted & ~new, of_trained)
    figures = _figures(verdicts, {column: np.array(parts.coco) for column, parts in collected.items()})
    for column, of_rule in verdicts.items():
        figures[column]["ap50_pooled_ignoring_duplicates"] = pooled_ignoring_duplicates(
            of_rule.scores, of_rule.labels, counts[column], positives.sum(axis=0)
        )
    for column, of_rule in trained.items():
        figures[column] |= _trained_figures(of_rule)
    return verdicts, figures


def _trained_figures(verdicts: Verdicts) -> dict[str, float]:
    """The mean average precision over the trained classes that are there, of the episodes that have any."""
    rows = np.flatnonzero(verdicts.positives.sum(axis=1))
    if not len(rows):
        return {}
    means = Verdicts(*(part[rows] for part in verdicts)).mean_average_precisions()
    return {"map50_base": float(means.mean()), "map50_base_ci95": bootstrap_ci95(means)}


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
