"""RepMet's detector as a method: steps on small scenes of three drawn shapes, evaluation, bad configs."""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from fsljax import methods
from fsljax.detection.config import SceneOptions
from fsljax.detection.data.scenes.composition import Drawings
from fsljax.detection.data.scenes.drawings import SceneDrawings
from fsljax.detection.data.sets.scenes import Scenes
from fsljax.detection.data.structures import GroundTruth, ImageBatch
from fsljax.detection.evaluation.base_classes import clustered, detect_known
from fsljax.errors import UserError
from fsljax.methods import repmet_detector
from fsljax.methods.repmet_detector import RepMetDetector
from fsljax.training.steps import on_device, placed

NAMES = ("cross", "ring", "bars")


def drawings() -> SceneDrawings:
    """A cross, a ring and two bars, each drawn several times with thicker or thinner strokes."""
    rows, columns = np.mgrid[-31.5:32, -31.5:32]
    shapes = []
    for width in range(3, 10):
        ring = np.abs(np.hypot(rows, columns) - 20) < width
        cross = ((np.abs(rows) < width) | (np.abs(columns) < width)) & (
            np.maximum(*np.abs((rows, columns))) < 26
        )
        bars = (np.abs(np.abs(rows) - 16) < width) & (np.abs(columns) < 24)
        shapes.append([cross, ring, bars])
    images = 255 * np.array(shapes, np.uint8).swapaxes(0, 1)
    base, test = Drawings(jnp.asarray(images[:, :5])), Drawings(jnp.asarray(images[:, 5:]))
    return SceneDrawings(base, test, base, NAMES, NAMES)


def make_config(**fields: Any) -> ConfigDict:
    config = repmet_detector.default_config()
    config.name = "small"
    config.data.image_size = config.scenes.size = 32
    config.scenes.update({"characters": (1, 2), "sides": (12.0, 18.0), "fragments": (1, 2)})
    config.network.update({"name": "scene_net", "momentum": 0.9})
    config.pyramid.update({"channels": 8, "extra_levels": 0})
    config.proposals.update({"sizes": (10.0, 14.0, 18.0), "sampled": 32, "before_nms": 32})
    config.proposals.update({"keep": 12, "keep_in_test": 12})
    config.rois.update({"sampled": 12, "positive_fraction": 0.5, "jittered": 1, "output_size": 4})
    config.rois.update({"canonical_size": 1e4, "canonical_level": 0})
    config.head.update({"hidden": 32, "dim": 8})
    config.representatives.update({"per_class": 2, "rate": 10.0})
    config.train.update({"images": 4, "steps": 60, "learning_rate": 3e-3})
    config.eval.update({"images": 16, "classes": 2, "episodes": 0})
    for name, value in fields.items():
        section, field = name.split("__")
        config[section][field] = value
    return config


def make_method(**fields: Any) -> RepMetDetector:
    config = make_config(**fields)
    options = SceneOptions(size=32, characters=(1, 2), sides=(12.0, 18.0), fragments=(1, 2))
    method = methods.build(methods.check(config), Scenes(drawings(), options))
    assert isinstance(method, RepMetDetector)
    return method


@pytest.fixture(scope="module")
def trained() -> tuple[RepMetDetector, Any, list[dict[str, float]]]:
    method = make_method()
    state = jax.jit(method.init)(jax.random.key(0))
    data = placed(method.training_data({}), 1.0)
    step = jax.jit(on_device(method), donate_argnums=0)
    history = []
    for _ in range(60):
        state, figures = step(state, data)
        history.append(jax.device_get(figures))
    return method, state, history


def mean(history: list[dict[str, float]], name: str) -> float:
    return float(np.mean([figures[name] for figures in history]))


def test_training_lowers_the_loss_and_finds_the_shapes(trained: Any):
    _, _, history = trained
    assert mean(history[-10:], "loss") < 0.7 * mean(history[:10], "loss")
    assert mean(history[-10:], "recall") > mean(history[:10], "recall")
    assert all(np.isfinite(list(figures.values())).all() for figures in history)


def test_a_step_is_the_same_by_its_key_and_number_alone(trained: Any):
    method, state, _ = trained
    data = placed(method.training_data({}), 1.0)
    first, second = (jax.jit(method.draw)(state, data.index) for _ in range(2))
    np.testing.assert_array_equal(first.images, second.images)
    later = jax.jit(method.draw)(state.replace(step=state.step + 1), data.index)
    assert np.any(later.images != first.images)


def test_representatives_move_and_have_length_1_where_they_are_compared(trained: Any):
    method, state, _ = trained
    representatives = method.trained(state.inference_variables()).representatives
    assert representatives is not None and representatives.shape == (3, 2, 8)
    np.testing.assert_allclose(np.linalg.norm(representatives, axis=-1), 1, rtol=1e-5)
    at_start = jax.jit(method.init)(jax.random.key(0)).params["representatives"]
    moved = np.linalg.norm(state.params["representatives"] - at_start, axis=-1)
    # Of a class's representatives those move that are nearest to one of its regions.
    assert moved.max(axis=1).min() > 0.1


def test_evaluation_has_figures_of_all_classes_and_of_a_few_and_parts_of_a_report(trained: Any):
    method, state, _ = trained
    evaluation = method.evaluate(state.inference_variables())
    assert list(evaluation.test) == ["base", "base_2_classes"]
    for setting, figures in evaluation.test.items():
        assert 0 <= figures["map50"] <= 1 and 0 <= figures["ap50_agnostic"] <= 1
        assert 0 <= figures["map"] <= 1
        assert figures["examples"] == 16
        assert figures["classes"] == (3 if setting == "base" else 2)
    assert evaluation.test["base"]["ap50_agnostic"] > 0.2
    assert len(evaluation.embeddings) == len(evaluation.shown) == len(evaluation.shown.images)
    titles = [section.title for section in evaluation.sections]
    assert titles == ["Precision and recall", "Detections", "Map of embeddings"]
    assert "<rect" in evaluation.sections[1].html


def test_of_a_few_classes_no_other_is_detected(trained: Any):
    method, state, _ = trained
    detector = method.trained(state.inference_variables())
    result = detect_known(detector, method.data, 16, seed=0, classes=np.array([0, 2]))
    assert set(result.judged.labels.tolist()) <= {0, 2}
    assert result.judged.positives[1] == 0


def test_soft_suppression_is_an_option_of_evaluation(trained: Any):
    method, state, _ = trained
    hard = method.trained(state.inference_variables())
    soft = replace(hard, config=replace(hard.config, eval=replace(hard.config.eval, suppression="soft")))
    by_hard, by_soft = (detect_known(detector, method.data, 16, seed=0) for detector in (hard, soft))
    assert len(by_soft.judged.scores) > len(by_hard.judged.scores)
    assert by_soft.judged.scores[0] == by_hard.judged.scores[0]


def test_validation_is_on_drawings_that_were_not_trained_on_unless_all_are_trained(trained: Any):
    method, state, _ = trained
    assert list(method.validate(state.inference_variables())) == ["map50", "ap50_agnostic"]
    everything = RepMetDetector(
        methods.check(make_config(data__train_on="train_and_validation")), method.data
    )
    assert everything.validate(state.inference_variables()) == {}


def test_resetting_puts_representatives_at_the_embeddings_of_their_class(trained: Any):
    _, state, _ = trained
    method = make_method(representatives__reset_until=100, representatives__reset_images=32)
    data = placed(method.training_data({}), 1.0)
    later = method.refresh(state, data)
    key = jax.random.fold_in(state.step_key(), 2)
    batches = list(method.data.training_images(key, data, 32))
    detector = method.trained(state.inference_variables())
    embeddings = np.concatenate(
        [np.asarray(detector.embed_boxes(batch.images, batch.ground_truth.boxes)) for batch in batches]
    )
    labels = np.concatenate([np.asarray(batch.ground_truth.labels) for batch in batches])
    mask = np.concatenate([np.asarray(batch.ground_truth.mask) for batch in batches])
    for label in range(3):
        of_class = embeddings[mask & (labels == label)]
        representatives = later.params["representatives"][label]
        assert representatives.min() >= of_class.min() - 1e-5
        assert representatives.max() <= of_class.max() + 1e-5
    for path, leaf in jax.tree_util.tree_leaves_with_path(later.opt_state):
        if any(getattr(part, "key", None) == "representatives" for part in path):
            assert not np.any(leaf)
    unchanged = make_method(representatives__reset_until=10).refresh(state, data)
    np.testing.assert_array_equal(unchanged.params["representatives"], state.params["representatives"])


def test_a_class_that_does_not_appear_keeps_its_representatives():
    before = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    truth = GroundTruth(
        jnp.zeros((1, 4, 4)), jnp.array([[0, 0, 2, 1]]), jnp.array([[True, True, True, False]])
    )
    batch = ImageBatch(jnp.zeros((1, 4, 4, 1)), truth)
    points = jnp.array([[[1.0, 0], [0, 1], [5, 5], [9, 9]]])
    after = clustered(jax.random.key(0), [batch], lambda *_: points, before)
    assert sorted(after[0].tolist()) == [[0, 1], [1, 0]]
    np.testing.assert_array_equal(after[1], before[1])
    np.testing.assert_array_equal(after[2], [[5, 5], [5, 5]])


def test_a_linear_head_has_no_representatives_and_scores_its_classes():
    method = make_method(head__kind="linear")
    state = jax.jit(method.init)(jax.random.key(0))
    assert "representatives" not in state.params and method.refresh_every == 0
    batch = next(method.data.test_images(4, 0))
    detector = method.trained(state.inference_variables())
    regions = detector.propose_regions(batch.images)
    everything = np.asarray(detector.scores(regions))
    some = np.asarray(detector.scores(regions, np.array([0, 2])))
    kept = everything[..., [0, 1, 3]]
    np.testing.assert_allclose(some, kept / kept.sum(axis=-1, keepdims=True), rtol=1e-4)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("proposals__sizes", (8.0, 16.0), "2 anchor sizes for 3 levels"),
        ("rois__low", 0.9, "low must not exceed high"),
        ("rois__positive_fraction", 0.0, "above 0"),
        ("loss__sigma", 0.0, "above 0"),
        ("loss__version", "v3", "can be"),
        ("head__kind", "cosine", "can be 'repmet', 'linear'"),
        ("data__channels", 3, "grey"),
        ("data__image_size", 40, "same value"),
        ("network__name", "conv4", "can be"),
        ("scenes__size", 48, "same value"),
        ("data__drawings", "mnist", "can be"),
        ("train__images", 0, "1 or more"),
        ("data__name", "cocoa", r"no module fsljax\.detection\.data\.sets\.cocoa\. Did you mean coco\?"),
        ("eval__iou_threshold", float("nan"), "must be from 0 to 1"),
        ("eval__suppression", "none", "can be 'hard', 'soft'"),
        ("proposals__ratios", (), "it needs at least one number"),
        ("proposals__ratios", (-1.0, 2.0), "above 0"),
        ("scenes__sides", (18.0, 12.0), "the first number must not exceed the second"),
        ("scenes__characters", (0, 0), "needs one or more"),
        ("scenes__noise", (0.1,), "must hold 2 numbers"),
        ("augment__zoom", (0.5, 2.0), "are for photographs"),
        ("augment__brightness", 0.1, "are for photographs"),
        ("augment__zoom", (2.0, 0.5), "the first number must not exceed the second"),
        ("augment__rotation", 10.0, "photographs with boxes are changed by zoom"),
        ("train__repeat_threshold", 0.1, "are for photographs"),
    ],
)
def test_what_cannot_be_is_told_before_data_are_loaded(field: str, value: Any, told: str):
    config = make_config(**{field: value})
    np.testing.assert_equal(attrgetter(field.replace("__", "."))(config), value)  # NaN is NaN
    with pytest.raises(UserError, match=told):
        methods.check(config)


def test_a_linear_head_beside_a_linear_loss_is_refused():
    with pytest.raises(UserError, match="set it to 0"):
        methods.check(make_config(head__kind="linear", loss__linear=1.0))
