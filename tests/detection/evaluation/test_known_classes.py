"""Episodes in which the trained classes compete, and how many objects are among the proposals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.config import plain
from fsljax.detection.config import Config
from fsljax.detection.data.structures import Detections, GroundTruth, ground_truth_of_image
from fsljax.detection.evaluation import few_shot as few_shot_detection
from fsljax.detection.evaluation.average_precision import class_average_precisions
from fsljax.detection.evaluation.episode_detections import enrollments_of, regions_of
from fsljax.detection.evaluation.episode_figures import _trained_figures
from fsljax.detection.evaluation.few_shot import Result
from fsljax.detection.evaluation.judging import judge
from fsljax.detection.evaluation.known_classes import (
    known_by_features,
    known_by_representatives,
    known_of_rules,
    with_trained,
)
from fsljax.detection.evaluation.verdicts import Verdicts, judge_image
from fsljax.detection.model.enroll import Known, Layer, Support, scores_by_linear, scores_by_representatives
from fsljax.detection.model.inference import detections, suppression_of
from fsljax.detection.model.regions import examine
from fsljax.detection.model.roi_head import repmet_scores
from fsljax.detection.ops.boxes import iou
from fsljax.distances import normalize
from fsljax.errors import UserError
from fsljax.methods.repmet_detector import RepMetDetector
from fsljax.storage.json_files import write_json
from fsljax.training.checkpoints import Checkpoints, Model

from .colours import BASE, make_method, write_colours

Variables = dict[str, Any]
look = jax.jit(examine, static_argnums=0)


@pytest.fixture(scope="module", autouse=True)
def few_written() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(few_shot_detection, "_WRITTEN", 2)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_colours(tmp_path_factory.mktemp("colours") / "voc")
    write_linear(folder / "linear", make_method(folder, head="linear"))
    return folder


def write_linear(folder: Path, method: RepMetDetector) -> None:
    folder.mkdir()
    write_json(folder / "config.json", plain(method.config))
    Checkpoints(folder).write_model(Model(3, jax.device_get(variables_of(method))), None)


def columns_of(folder: Path) -> dict[str, Any]:
    return {"fine_tune_epochs": (0, 1), "baseline": str(folder / "linear"), "shots": (1,)}


_VARIABLES: dict[tuple[str, int], Variables] = {}


def variables_of(method: RepMetDetector) -> Variables:
    """Those of a detector that was never trained, made once."""
    key = method.config.head.kind, method.classes
    if key not in _VARIABLES:
        _VARIABLES[key] = dict(jax.jit(method.init)(jax.random.key(0)).inference_variables())
    return _VARIABLES[key]


def run(method: RepMetDetector) -> Result:
    novel = method.data.novel_images
    assert novel is not None
    return few_shot_detection.evaluate(method.trained(variables_of(method)), novel, method.data)


@pytest.fixture(scope="module")
def method(folder: Path) -> RepMetDetector:
    return make_method(folder, base_classes=True, **columns_of(folder))


@pytest.fixture(scope="module")
def result(method: RepMetDetector) -> Result:
    return run(method)


def test_every_rule_has_a_setting_in_which_trained_classes_compete(result: Result):
    columns = [f"5way_1shot_ft{epochs}" for epochs in (0, 1)]
    alone = [column + rule for rule in ("", "_distance", "_vanilla") for column in columns]
    assert list(result.test) == [*alone, *(f"{name}_generalized" for name in alone)]
    for name in alone:
        generalized = result.test[f"{name}_generalized"]
        assert generalized["map50"] <= result.test[name]["map50"] + 0.2
        assert 0 <= generalized["map50_base"] <= 1 and generalized["map50_base_ci95"] >= 0
        assert "map50_base" not in result.test[name]


def test_settings_without_trained_classes_are_as_ever(folder: Path, method: RepMetDetector, result: Result):
    before = run(make_method(folder, **columns_of(folder)))
    assert before.test == {name: result.test[name] for name in before.test}
    assert before.proposals == result.proposals


def test_an_episode_s_verdicts_are_those_of_all_classes_judged_at_once(
    method: RepMetDetector, result: Result
):
    detector, novel = method.trained(variables_of(method)), method.data.novel_images
    assert novel is not None
    episodes = few_shot_detection.episodes_of(method.config, novel)
    support, query = novel.images(episodes, [0], False)
    truth = with_trained(query.ground_truth, novel.trained_objects(episodes, [0]), 5)
    assert sorted(np.unique(np.asarray(truth.labels)[np.asarray(truth.mask)])) == list(range(5 + len(BASE)))
    enrollment = enrollments_of(method.config)[""]
    of_support, seen = regions_of(detector, support, query, novel.images_at_once)
    first = jax.tree.map(lambda part: part[0, :, :1], of_support)
    known = known_by_representatives(detector, method.data, enrollment)
    layer, given = detector.layer("embedding"), truth.boxes.shape[2] - 1
    found, truths = [], list(GroundTruth(*(None if p is None else p[0] for p in truth)).of_images())
    for place in range(10):
        features = seen.features[0, place, given:]
        scores = scores_by_representatives(first, features, layer, enrollment, known=known)
        one = detections(
            seen.refined[0, place, given:],
            seen.valid[0, place, given:],
            scores,
            suppression_of(method.config.eval),
        )
        kept = np.asarray(one.valid)
        found.append(Detections(*(np.asarray(part)[kept] for part in one[:3])))
    expected = judge(found, truths, num_classes=5 + len(BASE))
    verdicts = result.verdicts["5way_1shot_ft0_generalized"].of_episode(0)
    new = expected.labels < 5
    np.testing.assert_allclose(verdicts.scores, expected.scores[new], atol=1e-5)
    assert verdicts.right.sum() == expected.right[new].sum() > 0
    assert verdicts.positives.tolist() == expected.positives[:5].tolist() == [2] * 5


def test_known_classes_share_the_softmax_with_new_ones():
    random = np.random.default_rng(0)
    support = Support(
        *(
            jnp.asarray(part, jnp.float32)
            for part in (random.normal(size=(3, 1, 4, 8)), np.ones((3, 1, 4, 4)))
        ),
        jnp.ones((3, 1, 4), bool),
        jnp.ones((3, 1, 4)),
    )
    queries = jnp.asarray(random.normal(size=(6, 8)), jnp.float32)
    config = Config()
    enrollment = enrollments_of(config)[""]
    known = known_of(random, sigma=enrollment.sigma)
    scores = scores_by_representatives(support, queries, None, enrollment, known=known)
    own = normalize(support.features[:, :, 0])
    own = jnp.concatenate([own, own], axis=1)
    everything = jnp.concatenate([own, known.representatives])
    expected = repmet_scores(normalize(queries), everything, enrollment.sigma, enrollment.scale)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    # A σ of their own changes their scores.
    wider = scores_by_representatives(
        support, queries, None, enrollment, known=known._replace(sigma=2 * enrollment.sigma)
    )
    assert (np.asarray(wider)[:, 4:].sum(axis=1) > np.asarray(scores)[:, 4:].sum(axis=1)).all()
    layer = Layer(
        jnp.asarray(random.normal(size=(8, 5)), jnp.float32), jnp.asarray(random.normal(size=5), jnp.float32)
    )
    alone = np.asarray(scores_by_linear(support, queries, layer, enrollment))
    both = np.asarray(scores_by_linear(support, queries, layer, enrollment, known=known))
    assert both.shape == (6, 1 + 3 + 2)
    np.testing.assert_allclose(both[:, :4] / both[:, :4].sum(axis=1, keepdims=True), alone, atol=1e-6)
    # Trained classes are imprinted, too: the direction of their mean, of the trained classes' mean length.
    means = normalize(known.representatives.mean(axis=1))
    weights = np.linalg.norm(layer.kernel[:, 1:], axis=0).mean() * np.asarray(means).T
    background = np.asarray(queries @ layer.kernel[:, 0] + layer.bias[0])
    expected = np.asarray(queries) @ weights + np.mean(layer.bias[1:]) - background[:, None]
    np.testing.assert_allclose(np.log(both[:, 4:]) - np.log(both[:, :1]), expected, atol=1e-4)


def test_a_class_of_which_nothing_is_known_never_wins():
    random = np.random.default_rng(1)
    features = jnp.abs(jnp.asarray(random.normal(size=(3, 1, 4, 8)), jnp.float32))
    support = Support(features, jnp.ones((3, 1, 4, 4)), jnp.ones((3, 1, 4), bool), jnp.ones((3, 1, 4)))
    queries = jnp.abs(jnp.asarray(random.normal(size=(6, 8)), jnp.float32))
    layer = Layer(jnp.asarray(random.normal(size=(8, 3)), jnp.float32), jnp.zeros(3))
    enrollment = enrollments_of(Config())[""]
    known = known_of(random, enrollment.sigma)._replace(there=jnp.array([True, False]))
    for epochs in (0, 1):
        linear = scores_by_linear(support, queries, layer, enrollment, epochs=epochs, known=known)
        by_distance = scores_by_representatives(
            support, queries, None, enrollment, epochs=epochs, known=known
        )
        assert np.isfinite(linear).all() and np.isfinite(by_distance).all()
        assert (np.asarray(linear)[:, 5] == 0).all() and (np.asarray(linear)[:, 4] > 0).all()
        # e⁰ against the e¹⁵ that the sum holds at least: as a class far from everything.
        assert (np.asarray(by_distance)[:, 5] <= np.asarray(by_distance)[:, 1:].min(axis=1)).all()


def known_of(random: np.random.Generator, sigma: float) -> Known:
    return Known(normalize(jnp.asarray(random.normal(size=(2, 2, 8)), jnp.float32)), sigma)


def test_among_features_trained_classes_are_the_means_of_their_boxes(folder: Path):
    method = make_method(folder, enrol={"space": "features", "sigma": 0.85})
    detector = method.trained(variables_of(method))
    enrollment = enrollments_of(method.config)[""]
    known = known_by_features(detector, method.data, enrollment)
    points: dict[int, list[np.ndarray]] = {}
    for batch in method.data.test_images(1000, 0, training=True):
        truth = batch.ground_truth
        seen = look(detector.network, detector.network_variables, batch.images, truth.boxes, truth.mask)
        columns = (normalize(seen.features), truth.labels, truth.non_difficult_mask())
        for features, labels, mask in zip(*map(np.asarray, columns), strict=True):
            for row in np.flatnonzero(mask):
                points.setdefault(int(labels[row]), []).append(features[row])
    expected = normalize(jnp.asarray([np.mean(points[label], axis=0) for label in range(len(BASE))]))
    np.testing.assert_allclose(known.representatives[:, 0], expected, atol=1e-5)
    assert known.sigma == 0.85
    of_rule = known_by_representatives(detector, method.data, enrollment)
    assert of_rule.representatives.shape == (3, 2, 64)
    plain = make_method(folder)
    trained = plain.trained(variables_of(plain))
    by_embedding = known_by_representatives(trained, plain.data, enrollments_of(plain.config)[""])
    np.testing.assert_array_equal(by_embedding.representatives, trained.representatives)
    assert by_embedding.sigma == plain.config.loss.sigma


def test_a_baseline_of_other_classes_cannot_compete(method: RepMetDetector):
    detector = method.trained(variables_of(method))
    detectors = {"": detector, "distance": replace(detector, classes=2)}
    with pytest.raises(UserError, match=r"was trained on 2 classes and this detector on 3"):
        known_of_rules(detectors, method.data, enrollments_of(method.config))


def test_a_baseline_of_other_novel_classes_is_refused_before_training(folder: Path, tmp_path: Path):
    write_json(tmp_path / "config.json", plain(make_method(folder, head="linear").config))
    fields = {"baseline": str(tmp_path), "data": {"base": ("red", "green")}}
    make_method(folder, **fields)
    with pytest.raises(
        UserError, match=r"was trained with data\.base \(\), this one with \('red', 'green'\)"
    ):
        make_method(folder, base_classes=True, **fields)


def test_recall_counts_every_object_once_whatever_the_shots(method: RepMetDetector, result: Result):
    detector, novel = method.trained(variables_of(method)), method.data.novel_images
    assert novel is not None
    episodes = few_shot_detection.episodes_of(method.config, novel)
    found: dict[tuple, bool] = {}
    for number in range(2):
        support, query = novel.images(episodes, [number], False)
        _, seen = regions_of(detector, support, query, novel.images_at_once)
        truth = query.ground_truth
        given = truth.boxes.shape[2]
        for place, name in enumerate(episodes.query[number]):
            boxes, valid = seen.boxes[0, place, given:], np.asarray(seen.valid[0, place, given:])
            near = (np.asarray(iou(boxes, truth.boxes[0, place])) >= 0.5) & valid[:, None]
            for row in np.flatnonzero(truth.mask[0, place]):
                box = tuple(np.asarray(truth.boxes[0, place, row]).tolist())
                found[name, box] = bool(near[:, row].any())
    assert result.proposals["objects"] == len(found) < 2 * 10 + 1
    assert result.proposals["recall_at_100"] == result.proposals["recall"] == np.mean(list(found.values()))
    assert result.proposals["recall"] > 0


def test_trained_objects_are_those_of_the_annotation(method: RepMetDetector):
    novel = method.data.novel_images
    assert novel is not None
    episodes = few_shot_detection.episodes_of(method.config, novel)
    truth = novel.trained_objects(episodes, [0, 1])
    assert truth is not None
    assert np.asarray(truth.mask).sum(axis=2).tolist() == [[1] * 10] * 2
    for episode, query in np.ndindex(2, 10):
        number = int(str(episodes.query[episode, query])[-1])
        assert method.data.class_names[truth.labels[episode, query, 0]] == list(BASE)[number % len(BASE)]
        y0, x0, y1, x1 = np.asarray(truth.boxes[episode, query, 0])
        assert y1 - y0 == pytest.approx(12) and x1 - x0 == pytest.approx(12)  # 18 of 48 pixels


def test_base_objects_are_judged_as_by_the_judge_of_images():
    """Figures of trained classes are the mean over episodes that have any."""
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 9, 10]], np.float32)
    truth = ground_truth_of_image(boxes[:2], np.array([1, 0]))
    found = Detections(boxes, np.array([0.9, 0.8, 0.7], np.float32), np.array([1, 0, 1]))
    verdict = judge_image(found, truth)
    first = [np.asarray(part)[None] for part in (found.scores, found.labels, verdict.right, verdict.counted)]
    empty = [np.zeros_like(part) for part in first]
    both = [np.concatenate(pair) for pair in zip(first, empty, strict=True)]
    verdicts = Verdicts(*both, np.array([[1, 1], [0, 0]]))
    expected = np.nanmean(class_average_precisions(judge([found], [truth], num_classes=2)))
    assert _trained_figures(verdicts)["map50_base"] == pytest.approx(expected)
