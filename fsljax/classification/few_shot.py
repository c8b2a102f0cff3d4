"""Evaluation in episodes of classes that were never trained, by any rule that names queries by a support."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.classification.config import FewShotEval, FewShotValidation
from fsljax.classification.embedder import Part
from fsljax.classification.episode_file import check_writable, read_episodes, write_episodes
from fsljax.classification.episodes import check_setting, class_groups, sample
from fsljax.config import Data
from fsljax.data.dataset import FixedEpisodes, ImageDataset, spread_classes
from fsljax.data.samplers.episodes import Episodes
from fsljax.errors import UserError
from fsljax.evaluation import episodic
from fsljax.evaluation.episodic import Classify, Setting
from fsljax.evaluation.transductive import transductive_accuracies
from fsljax.reporting.sections import EpisodePicture, Section, embedding_map_section, episodes_section
from fsljax.storage.paths import given_path
from fsljax.training.method import OF_EPISODES, Evaluation

_EPISODES_SHOWN = 2  # and the hardest of those that are looked through
_EPISODES_LOOKED_THROUGH = 100
_CLASSES_ON_MAP = 20

FixedByName = Mapping[str, FixedEpisodes]
"""Episodes that a data set comes with, by the names of their settings."""

Rules = Mapping[str, Classify | None]
"""Ways to name queries by a support, by the suffix of the setting's name; None: the nearest prototype."""


class _EpisodeSet(NamedTuple):
    """Episodes of a setting, their shot, and what one of them is called."""

    episodes: Episodes
    shot: int
    unit: str


class FewShot(Protocol):
    """Configs with episodes."""

    @property
    def data(self) -> Data: ...

    @property
    def validation(self) -> FewShotValidation: ...

    @property
    def eval(self) -> FewShotEval: ...


def check(options: FewShotEval) -> None:
    """Raises a UserError for fields that cannot go together."""
    if options.read_episodes and options.write_episodes:
        raise UserError(
            "config.eval.read_episodes and config.eval.write_episodes are both given: give only one."
        )


def check_parts(
    config: FewShot, validation: ImageDataset, test: ImageDataset, fixed: FixedByName = MappingProxyType({})
) -> None:
    """Raises a UserError for episodes that the data cannot give, or that cannot be read or written."""
    if config.data.train_on == "train":
        setting = _validation_setting(config.validation)
        check_setting(validation, setting, part="validation", where="validation")
        share = config.validation.within_alphabet
        class_groups(validation, setting.way, share, part="validation", where="validation")
    if fixed:
        for name in ("read_episodes", "write_episodes"):
            if getattr(config.eval, name):
                raise UserError(
                    f"config.eval.{name} is given, but {config.data.name} comes with its own episodes: "
                    "leave it empty."
                )
        return
    for setting in test_settings(config.eval):
        check_setting(test, setting)
    # Before hours of training, not after them.
    if config.eval.read_episodes:
        test_episodes(config.eval, test)
    if config.eval.write_episodes:
        check_writable(given_path(config.eval.write_episodes, "config.eval.write_episodes"))


def test_settings(options: FewShotEval) -> list[Setting]:
    """Every way with every shot."""
    return [Setting(way, shot, options.queries) for way in options.ways for shot in options.shots]


def test_episodes(options: FewShotEval, test: ImageDataset) -> dict[Setting, Episodes]:
    """The episodes of every test setting: drawn by `options.seed`, or read from a file."""
    if options.read_episodes:
        return read_episodes(given_path(options.read_episodes, "config.eval.read_episodes"), test)
    key = jax.random.key(options.seed)
    episodes = {
        setting: sample(setting.key(key), test, setting, options.episodes)
        for setting in test_settings(options)
    }
    if options.write_episodes:
        write_episodes(given_path(options.write_episodes, "config.eval.write_episodes"), test, episodes)
    return episodes


def validation_accuracy(
    options: FewShotValidation,
    validation: Part,
    classify: Classify | None = None,
    *,
    distance: str = "squared_euclidean",
) -> float:
    """Mean accuracy over the validation episodes, always the same ones."""
    setting = _validation_setting(options)
    episodes = sample(
        jax.random.key(0),
        validation.data,
        setting,
        options.episodes,
        within_alphabet=options.within_alphabet,
    )
    accuracies = episodic.episode_accuracies(
        validation.embeddings,
        episodes,
        shot=setting.shot,
        distance=distance,
        classify=classify,
        devices=validation.devices,
    )
    return float(np.mean(accuracies))


def evaluate(
    options: FewShotEval,
    test: Part,
    rules: Rules,
    *,
    distance: str = "squared_euclidean",
    published: dict[str, dict[str, float]] | None = None,
    embed_episodes: Callable[[np.ndarray | jax.Array], jax.Array] | None = None,
    fixed: FixedByName = MappingProxyType({}),
) -> Evaluation:
    """Figures in every setting, with a few episodes and a map of a few classes.

    Args:
      options: of the episodes.
      test: the part and its embeddings, by running averages.
      rules: the first is shown.
      distance: of prototypes.
      published: figures of others, `{setting: {source: value}}`.
      embed_episodes: embeds the images of whole episodes by their own statistics
        (`fsljax.evaluation.transductive`), for transductive figures of prototypes; None: of `test`.
      fixed: episodes that the data set comes with: they take the place of those that `options` describe.
    """
    if fixed:
        sets = {
            name: _EpisodeSet(_fixed(given, test.data), given.shot, given.unit)
            for name, given in fixed.items()
        }
    else:
        sets = {
            setting.name: _EpisodeSet(drawn, setting.shot, "episode")
            for setting, drawn in test_episodes(options, test.data).items()
        }
    results = {}
    per_episode: dict[str, np.ndarray] = {}
    devices = test.devices
    for name, (drawn, shot, unit) in sets.items():
        if embed_episodes is not None:
            accuracies = transductive_accuracies(
                embed_episodes, test.data.images, drawn, shot=shot, distance=distance, devices=devices
            )
            results[f"{name}_transductive"] = _figures(accuracies, drawn, shot, unit)
            per_episode |= _for_pairs(f"{name}_transductive", accuracies, drawn)
            continue
        for suffix, classify in rules.items():
            accuracies = episodic.episode_accuracies(
                test.embeddings, drawn, shot=shot, distance=distance, classify=classify, devices=devices
            )
            results[name + suffix] = _figures(accuracies, drawn, shot, unit)
            per_episode |= _for_pairs(name + suffix, accuracies, drawn)
    labels, names = test.data.labels, test.data.class_names
    chosen = np.flatnonzero(np.isin(labels, spread_classes(test.data.num_classes, _CLASSES_ON_MAP)))
    shown = ImageDataset(np.asarray(test.data.images[chosen]), labels[chosen], names)
    return Evaluation(
        test=results,
        published=published or {},
        sections=[
            _pictures(test, next(iter(sets.values())), next(iter(rules.values())), distance),
            embedding_map_section(test.embeddings[chosen], shown.labels, names, shown.images),
        ],
        embeddings=test.embeddings[chosen],
        shown=shown,
        correct=per_episode,
    )


def _for_pairs(name: str, accuracies: np.ndarray, drawn: Episodes) -> dict[str, np.ndarray]:
    """What a comparison with other runs on the same episodes needs."""
    images = np.ascontiguousarray(drawn.images, np.int64)
    which = hashlib.sha256(repr(images.shape).encode() + images.tobytes()).hexdigest()
    return {name: np.asarray(accuracies, np.float64), name + OF_EPISODES: np.array(which)}


def _fixed(given: FixedEpisodes, test: ImageDataset) -> Episodes:
    return Episodes(test.labels[given.images[..., 0]], given.images)


def _figures(accuracies: np.ndarray, drawn: Episodes, shot: int, unit: str) -> dict[str, float]:
    mean, ci95 = episodic.mean_and_ci95(accuracies)
    interval = {"ci95": ci95} if np.isfinite(ci95) else {}  # of a single episode there is none
    if unit == "episode":
        return {"accuracy": mean, **interval, "episodes": len(accuracies)}
    error = {"error": 1 - mean} | {f"error_{name}": value for name, value in interval.items()}
    count, way, images = drawn.images.shape
    decisions = count * way * (images - shot)
    return {"accuracy": mean, **interval, **error, "decisions": decisions, f"{unit}s": count}


def _pictures(test: Part, episodes: _EpisodeSet, classify: Classify | None, distance: str) -> Section:
    """The first episodes, and the hardest of those that are looked through."""
    drawn, shot, unit = episodes
    first = Episodes(drawn.classes[:_EPISODES_LOOKED_THROUGH], drawn.images[:_EPISODES_LOOKED_THROUGH])
    accuracies = episodic.episode_accuracies(
        test.embeddings, first, shot=shot, distance=distance, classify=classify
    )
    remarks = dict.fromkeys(range(min(_EPISODES_SHOWN, len(first.images))), "")
    remarks[int(np.argmin(accuracies))] = f"the hardest of the first {len(first.images)} {unit}s"
    # Distances between points don't change when all move; angles at the origin do.
    may_move = distance == "squared_euclidean"
    centred = test.embeddings - test.embeddings.mean(axis=0) * may_move
    pictures = []
    for index, remark in remarks.items():
        rows = np.asarray(drawn.images[index])
        predicted, _ = episodic.predict(
            jnp.asarray(centred[rows]), shot=shot, distance=distance, classify=classify
        )
        names = [test.data.class_names[label] for label in np.asarray(drawn.classes[index])]
        pictures.append(_picture(test.data, rows, names, shot, np.asarray(predicted), remark))
    return episodes_section(pictures)


def _picture(
    test: ImageDataset, rows: np.ndarray, names: Sequence[str], shot: int, predicted: np.ndarray, remark: str
) -> EpisodePicture:
    way, queries = predicted.shape
    return EpisodePicture(
        support_images=test.images[rows[:, :shot]],
        support_names=names,
        query_images=test.images[rows[:, shot:].reshape(-1)],
        query_labels=np.repeat(np.arange(way), queries),
        predictions=predicted.reshape(-1),
        remark=remark,
    )


def _validation_setting(options: FewShotValidation) -> Setting:
    return Setting(options.way, options.shot, options.queries)
