"""Prototypical networks: episodes, steps and evaluation, on pictures small enough to check by hand."""

from __future__ import annotations

import math
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from fsljax import methods
from fsljax.classification import few_shot
from fsljax.data.dataset import ImageDataset, Splits
from fsljax.errors import UserError
from fsljax.losses import prototypical_loss
from fsljax.methods import protonet
from fsljax.methods.protonet import ProtoNet
from fsljax.training import devices
from fsljax.training.state import TrainState
from fsljax.training.steps import on_device

IMAGES_A_CLASS = 6


def make_config(**fields: Any) -> ConfigDict:
    config = protonet.default_config()
    config.data.image_size = 8
    config.network.update({"filters": 4, "blocks": 2, "momentum": 0.5})
    config.train.update({"steps": 100, "way": 4, "shot": 1, "queries": 2, "schedule": "constant"})
    config.train.learning_rate = 0.01
    config.validation.update({"way": 3, "queries": 3, "episodes": 30})
    config.eval.update({"ways": (3,), "shots": (1, 2), "queries": 3, "episodes": 50})
    config.update_from_flattened_dict(fields)
    return config


def pictures(classes: range, noise: float) -> ImageDataset:
    """Each class is a blurred pattern of its own; its images differ by noise."""
    generator = np.random.default_rng(classes.start)
    patterns = np.kron(generator.uniform(60, 195, (len(classes), 1, 4, 4)), np.ones((1, 1, 2, 2)))
    images = patterns + noise * generator.normal(size=(len(classes), IMAGES_A_CLASS, 8, 8))
    return ImageDataset(
        images=np.uint8(np.clip(images, 0, 255)).reshape(-1, 8, 8, 1),
        labels=np.repeat(np.arange(len(classes), dtype=np.int32), IMAGES_A_CLASS),
        class_names=tuple(f"class{number}" for number in classes),
    )


@pytest.fixture(scope="module")
def splits() -> Splits:
    return Splits(pictures(range(8), 10), pictures(range(8, 12), 10), pictures(range(12, 17), 60))


def start(config: ConfigDict, splits: Splits) -> tuple[ProtoNet, TrainState]:
    method = methods.build(methods.check(config), splits)
    return method, jax.jit(method.init)(jax.random.key(config.seed))


@pytest.fixture(scope="module")
def started(splits: Splits) -> tuple[ProtoNet, TrainState]:
    """What the default config gives."""
    return start(make_config(), splits)


def episodes_of(splits: Splits, episodes: int, way: int, drawn: int) -> jax.Array:
    """Images `[episodes, way, drawn, 8, 8, 1]` in [0, 1]."""
    generator = np.random.default_rng(3)
    by_class = splits.train.images.reshape(-1, IMAGES_A_CLASS, 8, 8, 1)
    chosen = [by_class[generator.permutation(len(by_class))[:way], :drawn] for _ in range(episodes)]
    return jnp.asarray(np.stack(chosen), jnp.float32) / 255


def loss_of(
    method: ProtoNet, params: Any, batch_stats: Any, images: jax.Array
) -> tuple[jax.Array, tuple[Any, jax.Array]]:
    """Loss, new batch statistics and accuracy of images `[episodes, way, drawn, 8, 8, 1]` in [0, 1]."""
    embeddings, changed = method.embedder.embed_for_training(
        params,
        batch_stats,
        255 * images.reshape(-1, *images.shape[3:]),
        jax.random.key(0),
        0,
        episodes=len(images),
    )
    loss, accuracy = method.loss(embeddings.reshape(*images.shape[:3], -1))
    return loss, (changed, accuracy)


def assert_close(ours: Any, wanted: Any, tolerance: float = 1e-5) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=tolerance), ours, wanted)


def assert_same(ours: Any, wanted: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, ours, wanted)


def test_several_episodes_give_the_mean_of_their_losses_gradients_and_running_averages(
    splits: Splits, started
):
    method, state = started
    images = episodes_of(splits, episodes=3, way=4, drawn=3)
    loss_and_gradients = jax.jit(jax.value_and_grad(partial(loss_of, method), has_aux=True))
    together = loss_and_gradients(state.params, state.batch_stats, images)
    one_by_one = [loss_and_gradients(state.params, state.batch_stats, images[i : i + 1]) for i in range(3)]
    losses = [float(loss) for (loss, _), _ in one_by_one]
    assert len(set(losses)) == 3
    assert_close(together, jax.tree.map(lambda *values: np.mean(values, axis=0), *one_by_one))


@pytest.mark.parametrize("distance", ["squared_euclidean", "cosine"])
def test_turns_of_support_give_the_mean_loss_of_rolled_episodes(splits: Splits, distance: str):
    config = make_config(**{"train.support_turns": 3, "loss.distance": distance, "loss.temperature": 0.5})
    method, state = start(config, splits)
    images = episodes_of(splits, episodes=2, way=4, drawn=3)
    loss, (_, accuracy) = jax.jit(partial(loss_of, method))(state.params, state.batch_stats, images)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    embeddings = method.embedder.network.apply(
        variables, images.reshape(2, 12, 8, 8, 1), running_average=False
    )
    outputs = [
        prototypical_loss(rolled[:, :1], rolled[:, 1:], distance=distance, temperature=0.5)
        for episode in embeddings.reshape(2, 4, 3, -1)
        for rolled in (np.roll(episode, -turn, axis=1) for turn in range(3))
    ]
    assert float(loss) == pytest.approx(np.mean([output.loss for output in outputs]), rel=1e-4)
    assert float(accuracy) == pytest.approx(np.mean([output.accuracy for output in outputs]))


def test_one_turn_is_the_published_loss(splits: Splits, started):
    method, state = started
    images = episodes_of(splits, episodes=1, way=4, drawn=3)
    loss, _ = jax.jit(partial(loss_of, method))(state.params, state.batch_stats, images)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    embeddings = method.embedder.network.apply(variables, images.reshape(12, 8, 8, 1), running_average=False)
    embeddings = embeddings.reshape(4, 3, -1)
    published = prototypical_loss(embeddings[:, :1], embeddings[:, 1:])
    assert float(loss) == pytest.approx(float(published.loss), rel=1e-4)


def test_a_step_is_the_same_each_time_and_the_next_draws_another_episode(splits: Splits):
    method, state = start(make_config(**{"augment.shift": 1.0}), splits)
    data = jax.device_put(method.training_data(state.inference_variables()))
    step = jax.jit(on_device(method))
    once, again = step(state, data), step(state, data)
    assert_same(
        (once[0].params, once[0].batch_stats, once[1]), (again[0].params, again[0].batch_stats, again[1])
    )
    _, later = step(state.replace(step=state.step + 1), data)
    assert float(later["loss"]) != float(once[1]["loss"])


@pytest.mark.parametrize("fields", [{}, {"train.episodes_per_step": 2, "train.support_turns": 3}])
def test_training_lowers_the_loss_on_easy_pictures(splits: Splits, fields: dict[str, int]):
    method, state = start(make_config(**fields), splits)
    data = jax.device_put(method.training_data(state.inference_variables()))
    step = jax.jit(on_device(method))
    before = method.validate(state.inference_variables())["accuracy"]
    metrics = []
    for _ in range(100):
        state, figures = step(state, data)
        metrics.append(figures)
    losses = [float(figures["loss"]) for figures in metrics]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    assert np.mean([float(figures["accuracy"]) for figures in metrics[-10:]]) > 0.9
    assert int(state.step) == 100
    assert method.validate(state.inference_variables())["accuracy"] >= before


def test_averaged_parameters_follow_the_trained_ones(splits: Splits, started):
    method, state = start(make_config(**{"train.ema": 0.75}), splits)
    assert_same(state.ema_params, state.params)
    data = jax.device_put(method.training_data(state.inference_variables()))
    after, _ = jax.jit(on_device(method))(state, data)
    expected = jax.tree.map(lambda old, new: 0.75 * old + 0.25 * new, state.ema_params, after.params)
    assert_close(after.ema_params, expected, tolerance=1e-7)
    assert after.inference_variables()["params"] is after.ema_params
    assert started[1].ema_params is None


def test_several_steps_in_one_call_are_the_same_steps_one_by_one(splits: Splits):
    # Not by Adam, which makes a whole step of the rounding of a gradient near zero.
    method, state = start(make_config(**{"train.optimizer": "sgd"}), splits)
    data = jax.device_put(method.training_data(state.inference_variables()))
    one, three = (devices.compile_steps(on_device(method), count) for count in (1, 3))
    together, metrics = three(jax.tree.map(jnp.copy, state), data)
    single, losses = jax.tree.map(jnp.copy, state), []
    for _ in range(3):
        single, last = one(single, data)
        losses.append(float(last["loss"][0]))
    np.testing.assert_allclose(metrics["loss"], losses, rtol=1e-4)
    assert_close(together.inference_variables(), single.inference_variables(), tolerance=1e-4)


def test_embeddings_are_those_of_the_network_by_running_averages(splits: Splits, started):
    method, state = started
    variables = state.inference_variables()
    embeddings = method.embedder.embed(variables, splits.test.images)
    expected = method.embedder.network.apply(
        variables, splits.test.images / np.float32(255), running_average=True
    )
    np.testing.assert_allclose(embeddings, expected, rtol=1e-4, atol=1e-5)


def nearest_prototype_accuracy(embeddings: np.ndarray, shot: int, distance: str) -> float:
    """The share of queries of one episode `[way, shot + queries, dim]` nearest to their own prototype."""
    embeddings = np.asarray(embeddings, np.float64)
    prototypes, right = embeddings[:, :shot].mean(axis=1), []
    for own, queries in enumerate(embeddings[:, shot:]):
        for query in queries:
            if distance == "cosine":
                lengths = np.linalg.norm(prototypes, axis=1) * np.linalg.norm(query)
                far = 1 - prototypes @ query / lengths
            else:
                far = ((prototypes - query) ** 2).sum(axis=1)
            right.append(far.argmin() == own)
    return float(np.mean(right))


@pytest.mark.parametrize("distance", ["squared_euclidean", "cosine"])
@pytest.mark.parametrize("batch_statistics", ["running", "episode"])
def test_evaluation_is_a_plain_loop_over_episodes(splits: Splits, batch_statistics: str, distance: str):
    config = make_config(**{"eval.batch_statistics": batch_statistics, "loss.distance": distance})
    method, state = start(config, splits)
    # Running averages unlike any episode's own statistics.
    state = state.replace(batch_stats=jax.tree.map(lambda leaf: leaf + 0.2, state.batch_stats))
    variables = state.inference_variables()
    evaluation = method.evaluate(variables)
    suffix = "_transductive" if batch_statistics == "episode" else ""
    assert set(evaluation.test) == {f"3way_1shot{suffix}", f"3way_2shot{suffix}"}

    network = jax.jit(method.embedder.network.apply, static_argnames="running_average")
    for setting, drawn in few_shot.test_episodes(method.config.eval, method.splits.test).items():
        accuracies = []
        for rows in drawn.images:
            images = splits.test.images[rows.reshape(-1)] / np.float32(255)
            embeddings = network(variables, images, running_average=batch_statistics == "running")
            episode = embeddings.reshape(*rows.shape, -1)
            accuracies.append(nearest_prototype_accuracy(episode, setting.shot, distance))
        result = evaluation.test[setting.name + suffix]
        assert result["episodes"] == len(accuracies) == 50
        assert result["accuracy"] == pytest.approx(np.mean(accuracies), abs=1e-6)
        assert result["ci95"] == pytest.approx(1.96 * np.std(accuracies, ddof=1) / math.sqrt(50), rel=1e-5)
        assert 1 / 3 < result["accuracy"] < 1  # neither chance nor so easy that nothing is told apart


def test_evaluation_shows_images_of_test_classes_with_their_embeddings(splits: Splits, started):
    method, state = started
    evaluation = method.evaluate(state.inference_variables())
    assert evaluation.shown.class_names == splits.test.class_names
    np.testing.assert_array_equal(evaluation.shown.images, splits.test.images)
    np.testing.assert_array_equal(
        evaluation.embeddings, method.embedder.embed(state.inference_variables(), splits.test.images)
    )
    assert [section.title for section in evaluation.sections] == ["Test episodes", "Map of embeddings"]


def test_the_hardest_of_the_first_episodes_is_shown_beside_two_drawn_at_random(splits: Splits, started):
    method, state = started
    page = method.evaluate(state.inference_variables()).sections[0].html
    assert page.count("3-way 1-shot") in (2, 3)  # it may be one of the two
    assert page.count("the hardest of the first 50 episodes") == 1


def test_published_figures_are_those_of_the_four_settings(started):
    method, state = started
    evaluation = method.evaluate(state.inference_variables())
    assert set(evaluation.published) == {"5way_1shot", "5way_5shot", "20way_1shot", "20way_5shot"}


def test_test_episodes_are_those_of_the_seed(splits: Splits):
    def drawn(seed: int) -> list[np.ndarray]:
        method = methods.build(methods.check(make_config(**{"eval.seed": seed})), splits)
        return [
            episodes.images
            for episodes in few_shot.test_episodes(method.config.eval, method.splits.test).values()
        ]

    first, again, other = drawn(0), drawn(0), drawn(1)
    assert [images.shape for images in first] == [(50, 3, 4), (50, 3, 5)]
    assert_same(first, again)
    assert all((a != b).any() for a, b in zip(first, other, strict=True))
    one_shot, two_shot = (images[:, :, 0] for images in first)
    assert (one_shot != two_shot).any()  # settings are drawn independently


def test_training_on_train_and_validation_uses_both_and_validates_nothing(splits: Splits):
    method, state = start(make_config(**{"data.train_on": "train_and_validation"}), splits)
    data = method.training_data(state.inference_variables())
    assert len(data.index.table.counts) == 12
    assert len(data.inputs) == 12 * IMAGES_A_CLASS
    assert method.validate(state.inference_variables()) == {}


def test_training_on_train_alone_never_sees_validation(splits: Splits):
    method, state = start(make_config(), splits)
    data = method.training_data(state.inference_variables())
    np.testing.assert_array_equal(data.inputs, splits.train.images)
    assert len(data.index.table.counts) == 8


@pytest.mark.parametrize("embedding", [(), (8,)], ids=["features", "head"])
def test_a_frozen_backbone_is_embedded_once_and_its_features_give_episodes(
    splits: Splits, embedding: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fields = {"network.trainable": "head", "network.embedding": embedding}
    method, state = start(make_config(**fields), splits)
    variables = state.inference_variables()
    data = jax.device_put(method.training_data(variables))
    assert data.inputs.shape == (8 * IMAGES_A_CLASS, 1, 16)
    after, figures = jax.jit(on_device(method))(state, data)
    assert_same(after.params["backbone"], state.params["backbone"])
    assert np.isfinite(figures["loss"])
    evaluation = method.evaluate(after.inference_variables())
    plain_features = method.embedder.network.apply(
        variables, splits.test.images / np.float32(255), running_average=True, method="features"
    )
    if not embedding:
        np.testing.assert_allclose(evaluation.embeddings, plain_features, rtol=1e-4, atol=1e-5)
    else:
        before, trained = (jax.tree.leaves(s.params["head"]) for s in (state, after))
        assert any(np.any(a != b) for a, b in zip(before, trained, strict=True))
    assert evaluation.test["3way_2shot"]["accuracy"] > 0.4
    assert len(list((tmp_path / "fsljax").glob("features-*"))) == 2


def test_features_have_no_statistics_of_an_episode():
    fields = {"network.trainable": "head", "eval.batch_statistics": "episode"}
    with pytest.raises(UserError, match="a frozen backbone's features have no episode statistics"):
        methods.check(make_config(**fields))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss.distance", "manhattan"),
        ("loss.temperature", 0.0),
        ("loss.temperature", float("nan")),
        ("eval.batch_statistics", "batch"),
        ("train.way", 1),
        ("validation.way", 1),
        ("eval.ways", (5, 1)),
        ("eval.ways", ()),
        ("eval.shots", (1, 0)),
        ("eval.shots", ()),
        ("eval.seed", -1),
        *((f"train.{name}", 0) for name in ("shot", "queries", "episodes_per_step", "support_turns")),
        *((f"validation.{name}", 0) for name in ("shot", "queries", "episodes")),
        *((f"eval.{name}", 0) for name in ("queries", "episodes")),
        ("train.support_turns", 7),
        ("network.views", 3),
        ("train.steps", 0),
        ("network.name", "resnet"),
        ("data.image_size", 8),
    ],
)
def test_a_value_that_cannot_work_is_named_in_a_sentence(name: str, value: object):
    config = protonet.default_config()
    methods.check(config)
    config.update_from_flattened_dict({name: value})
    with pytest.raises(UserError) as caught:
        methods.check(config)
    shown = attrgetter(name)(config)
    assert str(caught.value).startswith((f"config.{name} is {shown}", f"config.{name} is {shown!r}",
                                         f"config.{name} is empty"))  # fmt: skip
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("train.way", 9, r"9-way.*training split has 8: lower config\.train\.way to 8"),
        ("validation.way", 5, r"5-way.*validation split has 4: lower config\.validation\.way to 4"),
        ("eval.ways", (3, 6), r"6-way.*test split has 5: lower config\.eval\.ways to 5"),
        (
            "train.queries",
            6,
            r"need 7 images.*training split has 6: lower config\.train\.shot or config\.train",
        ),
        ("validation.shot", 4, r"need 7 images.*validation split has 6: lower config\.validation\.shot"),
        (
            "eval.shots",
            (1, 4),
            r"need 7 images.*'class12' in the test split has 6: lower config\.eval\.shots",
        ),
    ],
)
def test_episodes_that_the_data_cannot_give_are_refused_before_training(
    splits: Splits, name: str, value: object, sentence: str
):
    with pytest.raises(UserError, match=sentence):
        methods.build(methods.check(make_config(**{name: value})), splits)


def test_validation_episodes_need_not_fit_where_validation_is_trained_on(splits: Splits):
    fields = {"data.train_on": "train_and_validation", "validation.way": 50, "train.way": 12}
    methods.build(methods.check(make_config(**fields)), splits)
