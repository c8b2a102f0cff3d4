"""Prototypical networks on episodes within an alphabet, and on the episodes that a data set comes with."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from fsljax import methods
from fsljax.data.dataset import FixedEpisodes, ImageDataset, Splits
from fsljax.data.hierarchy import groups
from fsljax.errors import UserError
from fsljax.methods import protonet
from fsljax.reporting.tables import headline, results_table

IMAGES_A_CLASS = 4
ALPHABETS = {"Latin": 5, "Greek": 3, "Thai": 4}


def make_config(**fields: Any) -> ConfigDict:
    config = protonet.default_config()
    config.data.update({"name": "omniglot_lake", "image_size": 8})
    config.network.update({"filters": 4, "blocks": 2})
    config.train.update({"steps": 10, "way": 4, "shot": 1, "queries": 2, "within_alphabet": 1.0})
    config.validation.update({"way": 3, "queries": 2, "episodes": 40, "within_alphabet": 1.0})
    config.update_from_flattened_dict(fields)
    return config


def pictures(names: list[str], images_a_class: int, noise: float = 10) -> ImageDataset:
    generator = np.random.default_rng(len(names))
    patterns = np.kron(generator.uniform(60, 195, (len(names), 1, 4, 4)), np.ones((1, 1, 2, 2)))
    images = patterns + noise * generator.normal(size=(len(names), images_a_class, 8, 8))
    return ImageDataset(
        images=np.uint8(np.clip(images, 0, 255)).reshape(-1, 8, 8, 1),
        labels=np.repeat(np.arange(len(names), dtype=np.int32), images_a_class),
        class_names=tuple(names),
    )


def characters(alphabets: dict[str, int]) -> list[str]:
    return [f"{name}/character{n:02}" for name, count in alphabets.items() for n in range(1, count + 1)]


@pytest.fixture(scope="module")
def splits() -> Splits:
    runs = [f"run{run:02}/class{label:02}" for run in range(1, 4) for label in range(1, 6)]
    rows = np.arange(2 * len(runs), dtype=np.int32).reshape(3, 5, 2)
    return Splits(
        pictures(characters(ALPHABETS), IMAGES_A_CLASS),
        pictures(characters({"Hebrew": 3}), IMAGES_A_CLASS),
        pictures(runs, 2, noise=60),
        episodes={"lake_one_shot": FixedEpisodes(rows, shot=1, unit="run")},
    )


def started(config: ConfigDict, splits: Splits):
    method = methods.build(methods.check(config), splits)
    return method, jax.jit(method.init)(jax.random.key(0))


def test_training_draws_episodes_of_an_alphabet_that_is_large_enough(splits):
    method, state = started(make_config(**{"train.episodes_per_step": 64}), splits)
    index = method.training_data(state.inference_variables()).index
    batch = method.draw(state, index)
    names = np.array(groups(splits.train.class_names))[splits.train.labels[np.asarray(batch.rows)]]
    assert set(names[:, 0, 0]) == {"Latin", "Thai"}
    assert (names == names[:, :1, :1]).all()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"train.way": 6}, r"no alphabet of the training split has 6 classes: 'Latin' has the most, 5"),
        ({"validation.way": 4}, r"4-way episodes need 4 classes, but the validation split has 3"),
        ({"eval.write_episodes": "x"}, r"omniglot_lake comes with its own episodes"),
    ],
)
def test_episodes_that_cannot_be_given_are_refused_before_training(splits, fields, sentence):
    with pytest.raises(UserError, match=sentence):
        started(make_config(**fields), splits)


def test_classes_without_groups_are_named(splits):
    plain = pictures([f"class{number}" for number in range(6)], IMAGES_A_CLASS)
    with pytest.raises(UserError, match=r"config\.train\.within_alphabet is 1, but .*'class0'.* GROUP/CLASS"):
        started(make_config(), Splits(plain, splits.validation, splits.test, episodes=splits.episodes))


def test_the_runs_are_decided_by_the_nearest_training_image(splits):
    method, state = started(make_config(), splits)
    variables = state.inference_variables()
    evaluation = method.evaluate(variables)
    embeddings = method.embedder.embed(variables, splits.test.images).astype(float).reshape(3, 5, 2, -1)
    far = ((embeddings[:, :, None, 1] - embeddings[:, None, :, 0]) ** 2).sum(-1)
    accuracies = (far.argmin(-1) == np.arange(5)).mean(-1)
    assert 0 < accuracies.mean() < 1
    figures = evaluation.test["lake_one_shot"]
    assert figures["accuracy"] == pytest.approx(accuracies.mean())
    assert figures["error"] == pytest.approx(1 - accuracies.mean())
    assert figures["ci95"] == pytest.approx(1.96 * accuracies.std(ddof=1) / np.sqrt(3))
    assert figures["error_ci95"] == figures["ci95"]
    assert (figures["decisions"], figures["runs"]) == (15, 3)
    assert evaluation.published["lake_one_shot"]["RCN"] == 0.927
    table = results_table({"test": evaluation.test}, evaluation.published)
    assert {"lake", "decisions", "runs", "BPL", "error,"} <= set(table.split())
    assert "on classes never seen" in headline({"test": evaluation.test})


def test_an_image_is_embedded_by_its_views_whatever_stands_beside_it(splits):
    config = make_config(**{"augment.rotation": 20.0, "augment.shift": 1.0, "eval.views": 3})
    method, state = started(config, splits)
    variables, images = state.inference_variables(), splits.test.images
    together = method.embedder.embed_views(variables, images, 3, 0.5)
    alone = method.embedder.embed_views(variables, images[4:5], 3, 0.5)
    np.testing.assert_allclose(together[4:5], alone, rtol=1e-4, atol=1e-5)
    plain = method.embedder.embed(variables, images)
    np.testing.assert_array_equal(method.embedder.embed_views(variables, images, 0, 0.5), plain)
    assert np.abs(together - plain).max() > 1e-3


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"eval.views": 2}, r"config\.augment does not move images"),
        ({"eval.views": 2, "eval.batch_statistics": "episode"}, "embedded with running averages"),
        ({"class_augment.flip": True}, r"config\.class_augment moves and bends"),
        ({"data.symmetries": 3}, r"config\.data\.symmetries"),
        ({"data.background": "small3"}, r"config\.data\.background"),
        ({"train.within_alphabet": 1.5}, r"config\.train\.within_alphabet"),
    ],
)
def test_fields_that_cannot_go_together_are_refused(fields, sentence):
    with pytest.raises(UserError, match=sentence):
        methods.check(make_config(**fields))


def test_moved_classes_change_what_is_learned(splits):
    states = []
    for fields in ({}, {"class_augment.rotation": 30.0}):
        method, state = started(make_config(**fields), splits)
        data = method.training_data(state.inference_variables())
        batch = method.draw(state, data.index)
        state, metrics = method.learn(state, batch, data.inputs[np.asarray(batch.rows)])
        assert np.isfinite(metrics["loss"])
        states.append(np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(state.params)]))
    assert np.abs(states[0] - states[1]).max() > 1e-4
