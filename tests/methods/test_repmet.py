"""RepMet runs from their config to their report: on classes that were trained, and on those that were not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from fsljax import methods
from fsljax.api import Classifier
from fsljax.classification import few_shot
from fsljax.classification.episode_file import read_episodes
from fsljax.data.dataset import ImageDataset, Splits
from fsljax.errors import UserError
from fsljax.experiment import run
from fsljax.methods import repmet, softmax
from fsljax.training import devices
from fsljax.training.checkpoints import Checkpoints
from fsljax.training.logs import read_history
from fsljax.training.steps import on_device

STEPS, SIGMA = 45, 2.0
DIVISIONS = ["examples", "classes"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen classes of 16 pictures, each one of two patterns of its class under noise."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for number in range(15):
        (root / f"class{number:02}").mkdir()
        patterns = np.kron(generator.uniform(size=(2, 4, 4)), np.ones((1, 4, 4)))
        for picture in range(16):
            noisy = np.clip(patterns[picture % 2] + 0.1 * generator.normal(size=(16, 16)), 0, 1)
            Image.fromarray(np.uint8(255 * noisy)).save(root / f"class{number:02}" / f"{picture}.png")
    return root


def make_config(folder: Path, division: str = "examples", **fields) -> ConfigDict:
    config = repmet.default_config()
    config.name = "tiny"
    config.data.update({"name": "folder", "path": str(folder), "image_size": 16, "split_by": division})
    config.data.fractions = (0.4, 0.3, 0.3)
    config.network.update({"filters": 8, "blocks": 3, "momentum": 0.7})
    config.train.update({"steps": STEPS, "clusters": 4, "examples": 3, "learning_rate": 5e-3})
    config.train.log_every = 5
    config.augment.shift = 1.0
    config.checkpoint.every = 15
    config.loss.sigma = SIGMA
    config.network.normalize = config.representatives.normalize = False
    config.representatives.update({"per_class": 2, "reset_every": 10, "reset_until": 20})
    config.validation.update({"way": 3, "shot": 1, "queries": 5, "episodes": 30})
    config.eval.update({"ways": (3, 4), "shots": (1, 4), "queries": 5, "episodes": 60})
    config.update_from_flattened_dict(fields)
    return config


@pytest.fixture(scope="module", params=DIVISIONS)
def finished(request, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    workdir = tmp_path_factory.mktemp("finished")
    run(make_config(folder, request.param), mode="train_and_evaluate", folder=workdir)
    return request.param, workdir


def last_state(config: ConfigDict, workdir: Path):
    typed = methods.check(config)
    method = methods.build(typed, methods.load(typed))
    return Checkpoints(workdir).restore_last(jax.jit(method.init)(jax.random.key(config.seed)))


def test_a_run_leaves_its_results_report_and_curves(finished: tuple[str, Path]):
    division, workdir = finished
    results = json.loads((workdir / "results.json").read_text())["test"]
    page = (workdir / "report.html").read_text()
    if division == "classes":
        assert set(results) == {"3way_1shot", "3way_4shot", "4way_1shot", "4way_4shot"}
        assert "Test episodes" in page
    else:
        assert set(results) == {
            "soft_posterior", "hard_posterior", "nearest_representative", "nearest_cluster",
            "nearest_neighbour",
        }  # fmt: skip
        assert next(iter(results)) == "soft_posterior"
        assert "Representatives in use" in page
        with np.load(workdir / "correct.npz") as correct:
            np.testing.assert_array_equal(correct["hard_posterior"], correct["nearest_representative"])
    for setting, figures in results.items():
        # Of a class's two patterns one support shows one.
        assert figures["accuracy"] > (0.4 if "1shot" in setting else 0.8 if "shot" in setting else 0.5), (
            setting
        )
    history = read_history(workdir)
    movement = [row["train/movement"] for row in history if "train/movement" in row]
    assert movement[0] > 0 and np.isfinite(movement).all()
    assert movement[2] < movement[1]  # it began anew in step 10
    assert movement[-1] > movement[4]


def started(folder: Path, division: str = "examples", **fields):
    method = methods.build(
        typed := methods.check(make_config(folder, division, **fields)), methods.load(typed)
    )
    state = jax.jit(method.init)(jax.random.key(0))
    return method, state, jax.device_put(method.training_data(state.inference_variables()))


def step_by_step(method, state, inputs, steps: int):
    step = devices.compile_steps(on_device(method), 1)
    for number in range(steps):
        if method.refresh_every and number % method.refresh_every == 0:
            state = method.refresh(state, inputs)
        state, metrics = step(state, inputs)
    return state, metrics


def test_they_begin_at_the_clusters_of_their_class_and_are_forgotten_by_the_optimiser(folder: Path):
    method, state, inputs = started(folder, **{"train.ema": 0.5})
    state, _ = step_by_step(method, state, inputs, 7)
    with_moments = state.replace(step=jnp.int32(10))
    state = method.refresh(with_moments, inputs)
    shuffle_key = jax.random.split(jax.random.fold_in(with_moments.step_key(), 2))[0]
    embeddings = method.task.embedder.embed_as_in_training(
        with_moments.inference_variables(), inputs.inputs, shuffle_key
    )
    held = np.asarray(state.params["representatives"])
    labels = np.asarray(inputs.index.labels)
    own = ((embeddings[:, None] - held[labels]) ** 2).sum(-1)
    for label, centres in enumerate(held):
        nearest = own[labels == label].argmin(axis=1)
        for j in range(2):
            mean = embeddings[labels == label][nearest == j].mean(axis=0)
            np.testing.assert_allclose(centres[j], mean, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(held, state.ema_params["representatives"])
    np.testing.assert_array_equal(held, state.method_state)
    moments = state.opt_state[0][0]
    assert not np.any(moments.mu["representatives"]) and not np.any(moments.nu["representatives"])
    assert np.any(moments.mu["block_0"]["kernel"])
    later = method.refresh(state.replace(step=jnp.int32(20)), inputs)
    np.testing.assert_array_equal(later.params["representatives"], held)


def test_a_random_start_has_unit_length_and_is_not_clustered(folder: Path):
    method, state, _ = started(
        folder, **{"representatives.start": "random", "representatives.reset_until": 0}
    )
    assert method.refresh_every == 0
    np.testing.assert_allclose(np.linalg.norm(state.params["representatives"], axis=-1), 1, rtol=1e-5)


def test_a_class_of_fewer_images_than_representatives_gets_its_first_cluster_again():
    images = np.random.default_rng(0).integers(0, 255, (9, 8, 8, 1), np.uint8)
    part = ImageDataset(images, np.array([0, 1, 1, 1, 1, 1, 2, 2, 2], np.int32), ("a", "b", "c"))
    config = repmet.default_config()
    config.data.image_size = 8
    config.network.update({"filters": 4, "blocks": 2})
    config.train.update({"clusters": 2, "examples": 2})
    method = methods.build(methods.check(config), Splits(part, part, part))
    state = jax.jit(method.init)(jax.random.key(0))
    inputs = jax.device_put(method.training_data(state.inference_variables()))
    held = np.asarray(method.refresh(state, inputs).params["representatives"])
    np.testing.assert_array_equal(held[0], np.stack([held[0, 0]] * 3))
    assert len(np.unique(held[1], axis=0)) == 3


@pytest.mark.parametrize("batches", repmet.BATCHES)
def test_batches_are_of_distinct_classes_or_shuffled(folder: Path, batches: str):
    method, state, inputs = started(folder, **{"train.batches": batches})
    seen = []
    for step in range(4):
        batch = jax.jit(method.draw)(state.replace(step=jnp.int32(step)), inputs.index)
        np.testing.assert_array_equal(np.asarray(inputs.index.labels)[batch.rows], batch.labels)
        counts = np.bincount(batch.labels)
        assert len(batch.rows) == 12
        if batches == "classes":
            assert set(counts[counts > 0]) == {3} and (counts > 0).sum() == 4
        seen += batch.rows.tolist()
    if batches == "shuffled":
        assert len(set(seen)) == len(seen)


def test_representatives_have_a_learning_rate_of_their_own(folder: Path):
    fields = {"representatives.rate": 4.0, "representatives.learn_sigma": True, "augment.shift": 0.0}
    fields["representatives.reset_until"] = 0
    method, state, inputs = started(folder, **fields)
    plain_method, plain_state, _ = started(folder, **fields | {"representatives.rate": 1.0})
    moved, _ = step_by_step(method, state, inputs, 1)
    plain, figures = step_by_step(plain_method, plain_state, inputs, 1)
    own, as_others = (s.params["representatives"] - s.method_state for s in (moved, plain))
    np.testing.assert_allclose(own, 4 * np.asarray(as_others), rtol=1e-3, atol=1e-6)
    assert float(jnp.max(jnp.abs(as_others))) > 1e-3
    np.testing.assert_array_equal(moved.params["block_0"]["kernel"], plain.params["block_0"]["kernel"])
    assert figures["sigma"] != pytest.approx(SIGMA, abs=1e-4)
    assert figures["sigma"] == pytest.approx(SIGMA, abs=0.05)


@pytest.mark.slow
def test_unit_length_is_that_of_embeddings_and_representatives(folder: Path):
    fields = {"network.normalize": True, "representatives.normalize": True, "loss.version": "margin"}
    method, state, inputs = started(folder, **fields)
    state, metrics = step_by_step(method, state, inputs, 2)
    held = method._representatives(state.params)
    np.testing.assert_allclose(np.linalg.norm(held, axis=-1), 1, rtol=1e-5)
    assert 0 <= float(metrics["loss"][0]) < 3


def test_merged_classes_tell_the_purity_of_their_representatives():
    generator = np.random.default_rng(0)
    fine = np.repeat(np.arange(4, dtype=np.int32), 12)
    images = generator.integers(0, 60, (48, 8, 8, 1), np.uint8)
    images[np.arange(48), 2 * fine] += 180
    names = tuple(f"row {c}" for c in range(4))
    part = ImageDataset(images, fine // 2, ("low", "high"), fine, names)
    for k, at_least, at_most in ((1, 0.5, 0.5), (2, 0.9, 1.0)):
        config = repmet.default_config()
        config.data.image_size = 8
        config.network.update({"filters": 8, "blocks": 2, "momentum": 0.7})
        config.train.update({"clusters": 2, "examples": 4, "steps": 30, "learning_rate": 1e-2})
        config.representatives.update({"per_class": k, "reset_every": 10, "reset_until": 30})
        method = methods.build(methods.check(config), Splits(part, part, part))
        state = jax.jit(method.init)(jax.random.key(0))
        inputs = jax.device_put(method.training_data(state.inference_variables()))
        state, _ = step_by_step(method, state, inputs, 30)
        found = method.evaluate(state.inference_variables()).test["nearest_representative"]["purity"]
        assert at_least <= found <= at_most


def test_new_classes_are_enrolled_fine_tuned_saved_and_loaded(
    finished: tuple[str, Path], folder: Path, tmp_path: Path
):
    _, workdir = finished
    paths = sorted(folder.glob("*/*.png"))
    few = [path for path in paths if path.stem in ("0", "1", "2", "3")]
    rest = [path for path in paths if path.stem in ("8", "9")]

    def right(classifier: Classifier) -> float:
        return float(np.mean(classifier.predict(rest) == [path.parent.name for path in rest]))

    names = [path.parent.name for path in few]
    all_kept = Classifier.load(workdir).enroll(few, names)
    two_kept = Classifier.load(workdir, representatives=2).enroll(few, names)
    assert right(all_kept) > 0.4 and right(two_kept) > 0.4
    tuned = Classifier.load(workdir, representatives=2).enroll(
        few, names, fine_tune_steps=5, fine_tune_rate=0.5
    )
    before, after = two_kept.predict_proba(rest), tuned.predict_proba(rest)
    assert np.abs(before - after).max() > 1e-4
    np.testing.assert_array_equal(two_kept.embed(rest), tuned.embed(rest))
    tuned.save(tmp_path / "saved")
    again = Classifier.load(tmp_path / "saved")
    assert again.classes == tuned.classes
    np.testing.assert_array_equal(again.predict_proba(rest), after)
    np.testing.assert_array_equal(again.background(rest), tuned.background(rest))
    np.testing.assert_array_equal(again.confidence(rest), tuned.confidence(rest))
    again.enroll(rest[:1], "more").forget(names[0]).save(tmp_path / "saved")
    third = Classifier.load(tmp_path / "saved")
    assert "more" in third.classes and names[0] not in third.classes
    assert third.predict(rest[:1], unknown=0.0).tolist() == ["more"]


def test_probabilities_of_enrolled_classes_are_soft_posteriors(finished: tuple[str, Path], folder: Path):
    paths = sorted(folder.glob("class0[0-2]/*.png"))
    classifier = Classifier.load(finished[1], classes=False)
    names = [path.parent.name for path in paths]
    classifier.enroll(paths[:20], names[:20]).enroll(paths[40:44], names[40:44])
    supports = classifier.embed([*paths[:20], *paths[40:44]]).astype(np.float64)
    of = np.array([*names[:20], *names[40:44]])
    rows = classifier.embed(paths).astype(np.float64)
    p = np.exp(-((rows[:, None] - supports) ** 2).sum(-1) / (2 * SIGMA**2))
    of_class = np.stack([p[:, of == name].sum(axis=1) for name in classifier.classes], axis=1)
    usable = of_class.sum(axis=1) > 1e-30
    assert usable.mean() > 0.4
    expected = of_class / of_class.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(classifier.predict_proba(paths)[usable], expected[usable], atol=1e-3)
    np.testing.assert_allclose(classifier.background(paths), 1 - p.max(axis=1), atol=1e-3)


def test_fine_tuned_episodes_are_a_setting_of_their_own_and_can_be_kept(folder: Path, tmp_path: Path):
    file = tmp_path / "episodes.npz"
    fields = {"eval.fine_tune_steps": 3, "eval.support_representatives": 2, "eval.write_episodes": str(file)}
    fields |= {"eval.ways": (4,), "eval.shots": (4,)}
    method, state, _ = started(folder, "classes", **fields)
    found = method.evaluate(state.inference_variables()).test
    assert set(found) == {"4way_4shot", "4way_4shot_ft3"}
    assert all(figures["episodes"] == 60 and "ci95" in figures for figures in found.values())
    again, _, _ = started(folder, "classes", **{"eval.read_episodes": str(file)})
    kept = read_episodes(file, method.task.splits.test)
    assert {setting.name for setting in kept} == {"4way_4shot"}
    assert set(again.evaluate(state.inference_variables()).test) == {"4way_4shot"}


def test_episodes_of_unseen_classes_equal_a_plain_loop(folder: Path):
    method, state, _ = started(folder, "classes", **{"eval.shots": (4,), "eval.ways": (3,)})
    variables = state.inference_variables()
    found = method.evaluate(variables).test["3way_4shot"]["accuracy"]
    test = method.task.splits.test
    embeddings = method.task.part(variables, test).embeddings.astype(np.float64)
    (drawn,) = few_shot.test_episodes(method.config.eval, test).values()
    accuracies = []
    for rows in drawn.images:
        episode = embeddings[rows]
        right = []
        for own, queries in enumerate(episode[:, 4:]):
            for query in queries:
                logs = -((query - episode[:, :4]) ** 2).sum(-1) / (2 * SIGMA**2)
                right.append(np.exp(logs - logs.max()).sum(axis=1).argmax() == own)
        accuracies.append(np.mean(right))
    assert found == pytest.approx(np.mean(accuracies), abs=2e-3)


@pytest.mark.slow
def test_training_starts_from_a_softmax_network_and_clusters_its_embeddings(folder: Path, tmp_path: Path):
    first = softmax.default_config()
    first.update({"name": "first"})
    for section in ("data", "network", "augment"):
        first[section].update(make_config(folder)[section])
    first.train.update({"steps": 2, "clusters": 4, "examples": 3})
    run(first, mode="train", folder=tmp_path / "softmax")
    config = make_config(folder, **{"network.init_from": str(tmp_path / "softmax"), "train.steps": 1})
    config.train.learning_rate = 1e-12
    run(config, mode="train", folder=tmp_path / "repmet")
    before = Checkpoints(tmp_path / "softmax").restore_model().variables["params"]
    after = Checkpoints(tmp_path / "repmet").restore_model().variables["params"]
    assert set(after) - set(before) == {"representatives"}
    np.testing.assert_allclose(after["block_0"]["kernel"], before["block_0"]["kernel"], atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"eval.ways": (3, 7)}, r"7-way episodes need 7 classes, but the test split has"),
        ({"validation.shot": 12}, r"need 17 images per class"),
        ({"eval.support_rule": "mean"}, r"config\.eval\.support_rule is 'mean'"),
        ({"eval.fine_tune_steps": -1}, r"config\.eval\.fine_tune_steps is -1"),
        ({"eval.episodes": 0}, r"config\.eval\.episodes is 0"),
    ],
)
def test_episodes_that_cannot_be_are_refused_before_training(folder: Path, fields: dict, sentence: str):
    config = make_config(folder, "classes", **fields)
    with pytest.raises(UserError, match=sentence):
        typed = methods.check(config)
        methods.build(typed, methods.load(typed))


def test_a_label_outside_the_classes_is_told_before_anything_is_compiled():
    part = ImageDataset(
        np.zeros((30, 28, 28, 1), np.uint8), np.arange(30, dtype=np.int32) % 3, ("a", "b", "c")
    )
    wrong = ImageDataset(part.images, np.where(part.labels == 2, 3, part.labels), ("a", "b", "c"))
    config = repmet.default_config()
    config.train.update({"clusters": 2, "examples": 2})
    methods.build(methods.check(config), Splits(part, part, part))
    with pytest.raises(UserError, match=re.escape("labels range from 0 to 3; they must be 0 to 2")):
        methods.build(methods.check(config), Splits(wrong, part, part))
