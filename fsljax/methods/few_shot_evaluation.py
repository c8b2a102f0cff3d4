"""Figures of the embeddings of classes never seen in training: accuracy over episodes, and their report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fsljax.data.dataset import ImageDataset, spread_classes
from fsljax.data.episodes import Episodes
from fsljax.evaluation import episodic
from fsljax.evaluation.episodic import Setting
from fsljax.evaluation.transductive import transductive_accuracies
from fsljax.methods import Evaluation
from fsljax.reporting.sections import EpisodePicture, embedding_map_section, episodes_section

_EPISODES_SHOWN = 2  # and the hardest of those that are looked through
_EPISODES_LOOKED_THROUGH = 100
_CLASSES_ON_MAP = 20


def test_settings(config: ConfigDict) -> list[Setting]:
    """Every way with every shot of `config.eval`."""
    return [Setting(way, shot, config.eval.queries) for way in config.eval.ways for shot in config.eval.shots]


def test_episodes(config: ConfigDict, test: ImageDataset) -> dict[Setting, Episodes]:
    """The episodes of every test setting: drawn by `eval.seed`, or read from a file.

    Raises:
      UserError: if the file cannot be read or written, or the data cannot give such episodes.
    """
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


def evaluate(
    config: ConfigDict,
    test: ImageDataset,
    embeddings: np.ndarray,
    episodes: dict[Setting, Episodes],
    *,
    published: dict[str, dict[str, float]],
    embed_episodes: Callable[[np.ndarray], jax.Array] | None = None,
) -> Evaluation:
    """Figures on the test part.

    Args:
      config: of the experiment.
      test: the part.
      embeddings: `[n, dim]`, of its images by running averages.
      episodes: of each setting.
      published: figures of others, `{setting: {source: value}}`.
      embed_episodes: embeds the images of whole episodes by their own statistics
        (`fsljax.evaluation.transductive`), for transductive figures; None: figures of `embeddings`.
    """
    results = {}
    for setting, drawn in episodes.items():
        if embed_episodes is not None:
            accuracies = transductive_accuracies(
                embed_episodes, test.images, drawn, shot=setting.shot, distance=config.loss.distance
            )
        else:
            accuracies = _accuracies(config, embeddings, drawn, setting.shot)
        mean, ci95 = episodic.mean_and_ci95(accuracies)
        name = setting.name + ("_transductive" if embed_episodes is not None else "")
        interval = {"ci95": ci95} if np.isfinite(ci95) else {}  # of a single episode there is none
        results[name] = {"accuracy": mean, **interval, "episodes": len(accuracies)}
    chosen = np.flatnonzero(np.isin(test.labels, spread_classes(test.num_classes, _CLASSES_ON_MAP)))
    shown = ImageDataset(test.images[chosen], test.labels[chosen], test.class_names)
    return Evaluation(
        test=results,
        published=published,
        sections=[
            episodes_section(_pictures(config, test, embeddings, episodes)),
            embedding_map_section(embeddings[chosen], shown.labels, shown.class_names, shown.images),
        ],
        embeddings=embeddings[chosen],
        shown=shown,
    )


def _accuracies(config: ConfigDict, embeddings: np.ndarray, episodes: Episodes, shot: int) -> np.ndarray:
    return episodic.episode_accuracies(embeddings, episodes, shot=shot, distance=config.loss.distance)


def _pictures(
    config: ConfigDict, test: ImageDataset, embeddings: np.ndarray, episodes: dict[Setting, Episodes]
) -> list[EpisodePicture]:
    """The first episodes of the first setting, and the hardest of those that are looked through."""
    setting, drawn = next(iter(episodes.items()))
    first = Episodes(drawn.classes[:_EPISODES_LOOKED_THROUGH], drawn.images[:_EPISODES_LOOKED_THROUGH])
    hardest = int(np.argmin(_accuracies(config, embeddings, first, setting.shot)))
    remarks = dict.fromkeys(range(min(_EPISODES_SHOWN, len(first.images))), "")
    remarks[hardest] = f"the hardest of the first {len(first.images)} episodes"
    # Distances between points don't change when all move; angles at the origin do.
    may_move = config.loss.distance == "squared_euclidean"
    centred = embeddings - embeddings.mean(axis=0) * may_move
    pictures = []
    for index, remark in remarks.items():
        rows, classes = drawn.images[index], drawn.classes[index]
        predicted, _ = episodic.predict(
            jnp.asarray(centred[rows]), shot=setting.shot, distance=config.loss.distance
        )
        way, queries = predicted.shape
        pictures.append(
            EpisodePicture(
                support_images=test.images[rows[:, : setting.shot]],
                support_names=[test.class_names[c] for c in classes],
                query_images=test.images[rows[:, setting.shot :].reshape(-1)],
                query_labels=np.repeat(np.arange(way), queries),
                predictions=np.asarray(predicted).reshape(-1),
                remark=remark,
            )
        )
    return pictures
