"""Episodes of the classes of a pool of photographs, as many ways, shots and queries as these can give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fsljax.classification.heads.episodes import RULES
from fsljax.classification.photographs.pool import Pool
from fsljax.data.samplers.episodes import Episodes
from fsljax.errors import first_few
from fsljax.evaluation import episodic
from fsljax.evaluation.episodic import Setting
from fsljax.parallel.devices import ONE, Devices

Figures = dict[str, dict[str, float]]


class Possible(NamedTuple):
    """A setting, and the classes that have photographs enough for it.

    Attributes:
      setting: of the episodes.
      classes: int `[classes]`.
      episodes: how many.
    """

    setting: Setting
    classes: np.ndarray
    episodes: int


def possible_settings(
    pool: Pool,
    *,
    ways: Sequence[int],
    shots: Sequence[int],
    queries: int,
    episodes: int,
    all_way_episodes: int,
    apart: bool,
) -> tuple[list[Possible], list[str]]:
    """What a pool can give of every way with every shot.

    Args:
      pool: of photographs.
      ways: classes of an episode; 0: all that have photographs enough. Lowered to these.
      shots: support photographs of a class; left out where fewer than two classes have one more than that.
      queries: of a class, at most.
      episodes, all_way_episodes: how many, the second where all classes take part.
      apart: queries are held-out photographs, and supports are not.

    Returns:
      The settings, each once, and sentences on what was lowered or left out.
    """
    held_out = np.bincount(pool.labels[pool.held_out], minlength=pool.classes)
    others = np.bincount(pool.labels[~pool.held_out], minlength=pool.classes)
    found: dict[str, Possible] = {}
    sentences = []
    for shot in shots:
        left = np.where(others >= shot, held_out, 0) if apart else held_out + others - shot
        classes = np.flatnonzero(left > 0)
        needed = f"{shot} photograph{'s' * (shot > 1)} and another as a query"
        if len(classes) < 2:
            sentences.append(f"No {shot}-shot episodes: fewer than two classes have {needed}.")
            continue
        if len(classes) < pool.classes:
            short = [pool.class_names[label] for label in np.flatnonzero(left <= 0)]
            sentences.append(
                f"{shot}-shot episodes use {len(classes)} of the {pool.classes} classes, those with "
                f"{needed}; skipped: {first_few(short)}."
            )
        asked = min(queries, int(np.min(left[classes])))
        for way in ways:
            lowered = min(way or len(classes), len(classes))
            setting = Setting(lowered, shot, asked)
            number = episodes if lowered < len(classes) else all_way_episodes
            found.setdefault(setting.name, Possible(setting, classes, number))
    too_many = [way for way in ways if way > pool.classes]
    if too_many:
        sentences.append(
            f"There are {pool.classes} classes: episodes are {pool.classes}-way instead of {too_many[0]}-way."
        )
    return list(found.values()), sentences


def draw(pool: Pool, possible: Possible, *, seed: int, apart: bool) -> Episodes:
    """Episodes of a setting, the same ones for the same photographs.

    Args:
      pool: of photographs.
      possible: the setting.
      seed: of the drawing.
      apart: as of `possible_settings`.
    """
    setting, classes, count = possible
    way, shot, queries = setting.way, setting.shot, setting.queries
    random = np.random.default_rng((seed, way, shot, queries))
    rows = [np.flatnonzero(pool.labels == label) for label in range(pool.classes)]
    kept = [of_class[~pool.held_out[of_class]] for of_class in rows]
    tested = [of_class[pool.held_out[of_class]] for of_class in rows]
    chosen = np.stack([random.permutation(classes)[:way] for _ in range(count)])
    images = np.empty((count, way, shot + queries), np.int32)
    for episode, labels in enumerate(chosen):
        for place, label in enumerate(labels):
            if apart:
                support = random.permutation(kept[label])[:shot]
                drawn = np.concatenate([support, random.permutation(tested[label])[:queries]])
            else:
                drawn = random.permutation(rows[label])[: shot + queries]
            images[episode, place] = drawn
    return Episodes(chosen.astype(np.int32), images)


def figures(
    pool: Pool,
    drawn: Sequence[tuple[Setting, Episodes]],
    heads: Sequence[str],
    devices: Devices = ONE,
) -> Figures:
    """Accuracy of each head in each setting, `{"5way_1shot_logistic": {"accuracy", "ci95", "episodes"}}`.

    Devices share the episodes.

    With one support photograph a class, the representatives of all classes are their means.
    """
    results: Figures = {}
    for setting, episodes in drawn:
        for head in heads:
            rule = RULES["centered" if head == "representatives" and setting.shot == 1 else head]
            # Of a rule of one's own "cosine" says that embeddings stay where they are.
            accuracies = episodic.episode_accuracies(
                pool.embeddings,
                episodes,
                shot=setting.shot,
                distance="cosine",
                classify=rule,
                devices=devices,
            )
            mean, ci95 = episodic.mean_and_ci95(accuracies)
            interval = {"ci95": ci95} if np.isfinite(ci95) else {}
            results[f"{setting.name}_{head}"] = {"accuracy": mean, **interval, "episodes": len(accuracies)}
    return results
