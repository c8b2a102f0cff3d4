"""What methods of classification share, with the methods that use it, on easy pictures."""

from __future__ import annotations

from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax import methods
from fsljax.data.dataset import ImageDataset, Splits
from fsljax.errors import UserError
from fsljax.methods import magnet, repmet, softmax, triplet
from fsljax.training import devices
from fsljax.training.steps import on_device

CLASSES, SIDE = 6, 8
METHODS = [magnet, repmet, softmax, triplet]
SETTINGS = {"nearest_cluster", "nearest_neighbour"}


def pictures(each: int, seed: int) -> ImageDataset:
    """A bright bar at the row that is the class's own, under noise."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(CLASSES, dtype=np.int32), each))
    images = generator.integers(0, 90, (len(labels), SIDE, SIDE, 1), np.uint8)
    images[np.arange(len(labels)), labels] += 150
    return ImageDataset(
        images, labels, tuple(f"row {c}" for c in range(CLASSES)), labels, tuple(f"row {c}" for c in range(6))
    )


@pytest.fixture(scope="module")
def splits() -> Splits:
    return Splits(pictures(8, 0), pictures(4, 1), pictures(5, 2))


def make_config(module: ModuleType, **fields):
    config = module.default_config()
    config.data.image_size = SIDE
    config.network.update({"filters": 8, "blocks": 2})
    config.train.update({"clusters": 4, "examples": 2, "learning_rate": 1e-2, "steps": 60})
    if module is magnet:
        config.train.update({"clusters_per_class": 2, "refresh_every": 20})
    if module is repmet:
        config.loss.alpha = 0.0
        # Representatives stay where they were learned: running averages must be there too, in 60 steps.
        config.network.momentum = 0.9
        config.representatives.per_class = 2
    for name, value in fields.items():
        config.update_from_flattened_dict({name: value})
    return config


def trained(module: ModuleType, splits: Splits, steps: int = 60, **fields):
    method = methods.build(methods.check(make_config(module, **fields)), splits)
    state = jax.jit(method.init)(jax.random.key(0))
    data = jax.device_put(method.training_data(state.inference_variables()))
    step = devices.compile_steps(on_device(method), 1)
    metrics = []
    for number in range(steps):
        if method.refresh_every and number % method.refresh_every == 0:
            state = method.refresh(state, data)
        state, figures = step(state, data)
        metrics.append(figures)
    return method, state, metrics


@pytest.mark.parametrize("module", METHODS)
def test_training_lowers_the_loss_and_classifies_easy_pictures(module: ModuleType, splits: Splits):
    method, state, metrics = trained(module, splits)
    losses = [float(figures["loss"][0]) for figures in metrics]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    assert int(state.step) == 60
    variables = state.inference_variables()
    assert method.validate(variables)["accuracy"] > 0.9
    evaluation = method.evaluate(variables)
    assert set(evaluation.test) >= SETTINGS | {"hierarchy_recovery"}
    for setting, figures in evaluation.test.items():
        assert figures["accuracy"] > 0.9, setting
        assert figures["examples"] == len(evaluation.correct[setting]) == 30
        assert figures["accuracy"] == pytest.approx(evaluation.correct[setting].mean())
    assert 0 < evaluation.test["nearest_neighbour"]["map_at_r"] <= 1
    shown = ["Representatives", "Representatives in use"] if module is repmet else ["Clusters"]
    titles = [section.title for section in evaluation.sections]
    assert titles == ["Map of embeddings", "Confused classes", *shown]


@pytest.mark.parametrize("module", METHODS)
def test_a_run_repeats_itself_to_the_bit(module: ModuleType, splits: Splits):
    (_, once, _), (_, again, _) = (trained(module, splits, steps=25) for _ in range(2))
    same = jax.tree.map(
        np.array_equal,
        (once.params, once.batch_stats, once.method_state),
        (again.params, again.batch_stats, again.method_state),
    )
    assert all(jax.tree.leaves(same))


@pytest.mark.parametrize("module", METHODS)
def test_a_frozen_backbone_keeps_every_bit_and_its_head_learns(
    module: ModuleType, splits: Splits, monkeypatch: pytest.MonkeyPatch, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    frozen = {"network.trainable": "head", "network.embedding": (8,)}
    method, state, metrics = trained(module, splits, **frozen)
    first = jax.jit(method.init)(jax.random.key(0))
    assert jax.tree.all(jax.tree.map(np.array_equal, first.params["backbone"], state.params["backbone"]))
    assert not np.array_equal(first.params["head"]["0"]["kernel"], state.params["head"]["0"]["kernel"])
    assert np.isfinite([float(m["loss"][0]) for m in metrics]).all()
    network = method.task.embedder.network
    variables = state.inference_variables()
    part = method.task.part(variables, splits.test)
    whole = network.apply(variables, splits.test.images / np.float32(255), running_average=True)
    np.testing.assert_allclose(part.embeddings, whole, rtol=1e-4, atol=1e-5)


def test_changed_views_of_a_frozen_backbone_differ_and_testing_uses_the_plain_image(
    splits: Splits, monkeypatch: pytest.MonkeyPatch, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fields = {
        "network.trainable": "head",
        "network.embedding": (8,),
        "network.views": 3,
        "augment.shift": 2.0,
    }
    method = methods.build(methods.check(make_config(softmax, **fields)), splits)
    variables = jax.jit(method.init)(jax.random.key(0)).inference_variables()
    features = method.training_data(variables).inputs
    assert features.shape[:2] == (48, 3)
    assert not np.array_equal(features[:, 0], features[:, 1])
    assert method.task.embedder.inputs(variables, splits.test, training=False).shape[:2] == (30, 1)


def test_features_are_computed_once_for_all_heads_and_anew_for_another_backbone(
    splits: Splits, monkeypatch: pytest.MonkeyPatch, tmp_path, capsys
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def compute(seed: int, **fields) -> bool:
        fields = {"network.trainable": "head", "network.embedding": (8,), **fields}
        method = methods.build(methods.check(make_config(magnet, **fields)), splits)
        variables = jax.jit(method.init)(jax.random.key(seed)).inference_variables()
        method.training_data(variables)
        return "preparing features" in capsys.readouterr().err

    assert compute(0)
    assert not compute(0)
    assert not compute(0, **{"network.normalize": True, "network.feature_dropout": 0.5})
    assert compute(1)  # other weights
    assert compute(0, **{"network.input_mean": (0.5,)})


def test_dropped_features_are_other_ones_in_each_step_and_none_in_testing(
    splits: Splits, monkeypatch: pytest.MonkeyPatch, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fields = {"network.trainable": "head", "network.embedding": (8,), "network.feature_dropout": 0.5}
    method = methods.build(methods.check(make_config(magnet, **fields)), splits)
    state = jax.jit(method.init)(jax.random.key(0))
    inputs = jnp.asarray(method.training_data(state.inference_variables()).inputs[:5])
    embed = method.task.embedder.embed_for_training
    once, again = (
        embed(state.params, state.batch_stats, inputs, jax.random.key(seed), 0)[0] for seed in (0, 1)
    )
    assert not np.allclose(once, again)
    whole = method.task.embedder.embed(state.inference_variables(), inputs)
    many = [embed(state.params, state.batch_stats, inputs, jax.random.key(seed), 0)[0] for seed in range(400)]
    np.testing.assert_allclose(np.mean(many, axis=0), whole, atol=6 * np.std(many) / 20)


@pytest.mark.parametrize("frozen_statistics", [False, True])
def test_embeddings_are_where_training_puts_them(splits: Splits, frozen_statistics: bool):
    config = make_config(magnet, **{"network.frozen_statistics": frozen_statistics})
    embedder = methods.build(methods.check(config), splits).task.embedder
    state = jax.jit(embedder.init)(jax.random.key(0))
    variables, images = state.inference_variables(), np.tile(splits.train.images, (3, 1, 1, 1))
    found = embedder.embed_as_in_training(variables, images, jax.random.key(0))
    trained, _ = embedder.embed_for_training(
        state.params, state.batch_stats, jnp.asarray(images), jax.random.key(1), 0
    )
    # In two batches of 128 of the 144, whose statistics are nearly those of all.
    np.testing.assert_allclose(found, trained, atol=0.3 * float(jnp.std(trained)))
    tested = embedder.embed(variables, images)
    assert np.allclose(found, tested, atol=1e-4) == frozen_statistics


def test_training_on_both_parts_uses_both_and_validates_nothing(splits: Splits):
    method = methods.build(
        methods.check(make_config(magnet, **{"data.train_on": "train_and_validation"})), splits
    )
    state = jax.jit(method.init)(jax.random.key(0))
    assert len(method.training_data(state.inference_variables()).inputs) == 48 + 24
    assert method.validate(state.inference_variables()) == {}


@pytest.mark.parametrize(
    ("module", "fields", "message"),
    [
        (magnet, {"train.clusters": 12}, "as few as 10 clusters"),
        (magnet, {"train.examples": 1}, "config.train.examples is 1"),
        (magnet, {"train.refresh_every": 0}, "config.train.refresh_every"),
        (magnet, {"data.split_by": "classes"}, "config.data.split_by"),
        (softmax, {"loss.label_smoothing": 1.0}, "config.loss.label_smoothing"),
        (triplet, {"train.clusters": 7}, "there are 6 classes"),
        (triplet, {"network.views": 2}, "to the features of a frozen backbone"),
        (softmax, {"network.feature_dropout": 0.5}, "to the features of a frozen backbone"),
        (
            magnet,
            {"network.trainable": "head", "network.embedding": (8,), "augment.flip": True},
            "augmented views of each image",
        ),
        (magnet, {"eval.neighbours": 100}, "there are 48 training images"),
        (softmax, {"train.examples": 20}, "there are 48 images"),
        (triplet, {"loss.mining": "easy"}, "config.loss.mining is 'easy'"),
        (triplet, {"loss.margin": 0.0}, "config.loss.margin"),
        (repmet, {"loss.version": "v3"}, "config.loss.version is 'v3'"),
        (repmet, {"loss.sigma": 0.0}, "config.loss.sigma is 0.0"),
        (repmet, {"loss.squared": True}, "config.loss.squared is for the margin"),
        (repmet, {"representatives.per_class": 0}, "config.representatives.per_class is 0"),
        (repmet, {"representatives.start": "zeros"}, "config.representatives.start"),
        (repmet, {"train.batches": "sorted"}, "config.train.batches"),
        (repmet, {"train.clusters": 7}, "there are 6 classes"),
        (repmet, {"data.split_by": "classes"}, "5-way episodes need 5|20-way episodes|need 16 images"),
        (triplet, {"train.examples": 1}, "config.train.examples is 1"),
        (triplet, {"network.trainable": "head"}, "there is no head"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_compiled(
    module: ModuleType, fields: dict, message: str, splits: Splits
):
    with pytest.raises(UserError, match=message):
        methods.build(methods.check(make_config(module, **fields)), splits)


@pytest.mark.parametrize(
    ("module", "name"), [(magnet, "train.clusters_per_class"), (repmet, "representatives.per_class")]
)
def test_classes_with_fewer_images_than_clusters_are_told(
    module: ModuleType, name: str, splits: Splits, capsys
):
    section, field = name.split(".")
    config = make_config(module)
    most = int(splits.train.class_counts().max())
    for clusters, told in ((most, False), (most + 1, True)):
        config[section][field] = clusters
        methods.build(methods.check(config), splits)
        assert (f"fewer training images than config.{name} = {clusters}" in capsys.readouterr().err) == told
