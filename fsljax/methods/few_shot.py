"""Evaluation in episodes of classes that were never trained, by any rule that names queries by a support."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fsljax.config import check_at_least, check_seeds, check_whole
from fsljax.data.dataset import ImageDataset, spread_classes
from fsljax.data.episodes import Episodes
from fsljax.errors import UserError
from fsljax.evaluation import episodic
from fsljax.evaluation.episodic import Classify, Setting
from fsljax.methods import Evaluation
from fsljax.methods.fine_grained_evaluation import Part
from fsljax.reporting.sections import EpisodePicture, Section, embedding_map_section, episodes_section

VALIDATION = {"way": 5, "shot": 1, "queries": 15, "episodes": 1000}
EVALUATION = {
    "ways": (5, 20),
    "shots": (1, 5),
    "queries": 15,
    "episodes": 10_000,
    "read_episodes": "",  # a file written by an earlier run
    "write_episodes": "",
}

_EPISODES_SHOWN = 2  # and the hardest of those that are looked through
_EPISODES_LOOKED_THROUGH = 100
_CLASSES_ON_MAP = 20


def check(config: ConfigDict) -> None:
    """Raises a UserError for values of `config.validation` and `config.eval` that cannot work."""
    check_at_least(config, 2, "validation.way", "eval.ways")
    check_at_least(
        config, 1,
        "validation.shot", "validation.queries", "validation.episodes",
        "eval.shots", "eval.queries", "eval.episodes",
    )  # fmt: skip
    check_whole(config, "eval.ways", "eval.shots")
    check_seeds(config, "eval.seed")
    if config.eval.read_episodes and config.eval.write_episodes:
        raise UserError("config.eval.read_episodes and config.eval.write_episodes are both given: give one.")


def check_parts(config: ConfigDict, validation: ImageDataset, test: ImageDataset) -> None:
    """Raises a UserError for episodes that the data cannot give, or that cannot be read or written."""
    if config.data.train_on == "train":
        episodic.check_setting(validation, _validation_setting(config), part="validation", where="validation")
    for setting in test_settings(config):
        episodic.check_setting(test, setting)
    # Before hours of training, not after them.
    if config.eval.read_episodes:
        test_episodes(config, test)
    if config.eval.write_episodes:
        episodic.check_writable(Path(config.eval.write_episodes).expanduser())


def test_settings(config: ConfigDict) -> list[Setting]:
    """Every way with every shot of `config.eval`."""
    return [Setting(way, shot, config.eval.queries) for way in config.eval.ways for shot in config.eval.shots]


def test_episodes(config: ConfigDict, test: ImageDataset) -> dict[Setting, Episodes]:
    """The episodes of every test setting: drawn by `eval.seed`, or read from a file."""
    options = config.eval
    if options.read_episodes:
        return episodic.read_episodes(Path(options.read_episodes).expanduser(), test)
    key = jax.random.key(options.seed)
    episodes = {
        setting: episodic.sample(setting.key(key), test, setting, options.episodes)
        for setting in test_settings(config)
    }
    if options.write_episodes:
        episodic.write_episodes(Path(options.write_episodes).expanduser(), test, episodes)
    return episodes


def validation_accuracy(
    config: ConfigDict, validation: ImageDataset, embeddings: np.ndarray, classify: Classify
) -> float:
    """Mean accuracy over the validation episodes, always the same ones."""
    setting = _validation_setting(config)
    episodes = episodic.sample(jax.random.key(0), validation, setting, config.validation.episodes)
    return float(
        np.mean(
            episodic.episode_accuracies(embeddings, episodes, shot=setting.shot, classify=classify)
        )
    )  # fmt: skip


def results(
    embeddings: np.ndarray, episodes: dict[Setting, Episodes], rules: dict[str, Classify]
) -> dict[str, dict[str, float]]:
    """Accuracy in every setting.

    Args:
      embeddings: `[n, dim]`, that episodes point to.
      episodes: of each setting.
      rules: by the suffix of the setting's name, such as "" and "_ft5".

    Returns:
      `{setting: {metric: value}}`, as in `results.json`.
    """
    found = {}
    for setting, drawn in episodes.items():
        for suffix, classify in rules.items():
            accuracies = episodic.episode_accuracies(embeddings, drawn, shot=setting.shot, classify=classify)
            mean, ci95 = episodic.mean_and_ci95(accuracies)
            interval = {"ci95": ci95} if np.isfinite(ci95) else {}  # of a single episode there is none
            found[setting.name + suffix] = {"accuracy": mean, **interval, "episodes": len(accuracies)}
    return found


def evaluate(config: ConfigDict, test: Part, rules: dict[str, Classify]) -> Evaluation:
    """Figures in every setting, with a few episodes and a map of a few classes.

    Args:
      config: of the experiment.
      test: the part and its embeddings.
      rules: by the suffix of the setting's name, such as "" and "_ft5"; the first is shown.
    """
    episodes = test_episodes(config, test.data)
    labels, names = test.data.labels, test.data.class_names
    chosen = np.flatnonzero(np.isin(labels, spread_classes(test.data.num_classes, _CLASSES_ON_MAP)))
    embeddings, images = test.embeddings[chosen], np.asarray(test.data.images[chosen])
    return Evaluation(
        test=results(test.embeddings, episodes, rules),
        published={},
        sections=[
            pictures(test.embeddings, episodes, test.data, next(iter(rules.values()))),
            embedding_map_section(embeddings, labels[chosen], names, images),
        ],
        embeddings=embeddings,
        shown=ImageDataset(images, labels[chosen], names),
    )


def pictures(
    embeddings: np.ndarray, episodes: dict[Setting, Episodes], test: ImageDataset, classify: Classify
) -> Section:
    """A few episodes of the first setting, and the hardest of the first hundred, with what was predicted."""
    setting, drawn = next(iter(episodes.items()))
    first = Episodes(drawn.classes[:_EPISODES_LOOKED_THROUGH], drawn.images[:_EPISODES_LOOKED_THROUGH])
    accuracies = episodic.episode_accuracies(embeddings, first, shot=setting.shot, classify=classify)
    remarks = dict.fromkeys(range(min(_EPISODES_SHOWN, len(first.images))), "")
    remarks[int(np.argmin(accuracies))] = f"the hardest of the first {len(first.images)} episodes"
    centred = embeddings - embeddings.mean(axis=0)
    return episodes_section(
        [
            _picture(centred, drawn, index, setting, test, classify, remark)
            for index, remark in remarks.items()
        ]
    )


def _picture(
    embeddings: np.ndarray,
    episodes: Episodes,
    index: int,
    setting: Setting,
    test: ImageDataset,
    classify: Classify,
    remark: str,
) -> EpisodePicture:
    rows = np.asarray(episodes.images[index])
    names: Sequence[str] = [test.class_names[label] for label in np.asarray(episodes.classes[index])]
    predicted, _ = episodic.predict(jnp.asarray(embeddings[rows]), shot=setting.shot, classify=classify)
    way, queries = predicted.shape
    return EpisodePicture(
        support_images=np.asarray(test.images[rows[:, : setting.shot].reshape(-1)]).reshape(
            way, setting.shot, *test.images.shape[1:]
        ),
        support_names=names,
        query_images=np.asarray(test.images[rows[:, setting.shot :].reshape(-1)]),
        query_labels=np.repeat(np.arange(way), queries),
        predictions=np.asarray(predicted).reshape(-1),
        remark=remark,
    )


def _validation_setting(config: ConfigDict) -> Setting:
    return Setting(config.validation.way, config.validation.shot, config.validation.queries)
