"""Few-shot detection in episodes of six drawn shapes, by networks that were never trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from fsljax import methods
from fsljax.config import plain
from fsljax.detection.config import SceneOptions
from fsljax.detection.data.scenes.composition import Drawings
from fsljax.detection.data.scenes.drawings import SceneDrawings
from fsljax.detection.data.sets.scenes import Scenes
from fsljax.detection.data.structures import Detections, ground_truth_of_image
from fsljax.detection.evaluate import few_shot_sections
from fsljax.detection.evaluation import few_shot as few_shot_detection
from fsljax.detection.evaluation.few_shot import Result
from fsljax.detection.evaluation.judging import judge
from fsljax.detection.model.enroll import enrollment_of
from fsljax.errors import UserError
from fsljax.methods import repmet_detector
from fsljax.methods.repmet_detector import RepMetDetector
from fsljax.reporting.sections import Section
from fsljax.storage.json_files import write_json
from fsljax.training.checkpoints import Checkpoints, Model

SIDE = 32
NAMES = ("cross", "ring", "bars", "square", "wedge", "dots")
Variables = dict[str, Any]


def drawings() -> SceneDrawings:
    rows, columns = np.mgrid[-31.5:32, -31.5:32]
    shapes = []
    for width in (4, 6, 8):
        high, wide = np.abs(rows), np.abs(columns)
        within = np.maximum(high, wide) < 26
        shapes.append(
            [
                ((high < width) | (wide < width)) & within,
                np.abs(np.hypot(rows, columns) - 20) < width,
                (np.abs(high - 16) < width) & (wide < 24),
                within & (np.maximum(high, wide) > 26 - 2 * width),
                within & (rows > columns) & (rows - columns < 4 * width),
                np.hypot(high - 16, wide - 16) < 2 * width,
            ]
        )
    ink = Drawings(jnp.asarray(255 * np.array(shapes, np.uint8).swapaxes(0, 1)))
    return SceneDrawings(ink, ink, ink, NAMES, NAMES)


def make_method(folder: Path, **fields: Any) -> RepMetDetector:
    config = repmet_detector.default_config()
    config.name = "small"
    config.data.image_size = config.scenes.size = SIDE
    config.scenes.update({"characters": (1, 2), "sides": (12.0, 18.0), "fragments": (1, 2)})
    config.network.update({"name": "scene_net"})
    config.pyramid.update({"channels": 8, "extra_levels": 0})
    config.proposals.update({"sizes": (10.0, 14.0, 18.0), "before_nms": 32, "keep": 12, "keep_in_test": 12})
    config.rois.update({"output_size": 4, "canonical_size": 1e4, "canonical_level": 0})
    config.head.update({"hidden": 16, "dim": 8})
    config.eval.update({"episodes": 3, "keep": 20, "episodes_file": str(folder / "episodes.json")})
    for name, value in fields.items():
        section: ConfigDict = config
        *path, field = name.split("__")
        for part in path:
            section = section[part]
        section[field] = value
    options = SceneOptions(size=SIDE, characters=(1, 2), sides=(12.0, 18.0), fragments=(1, 2))
    return RepMetDetector(methods.check(config), Scenes(drawings(), options))


def variables_of(method: RepMetDetector) -> Variables:
    state = jax.jit(method.init)(jax.random.key(0))
    return dict(state.inference_variables())


def run(method: RepMetDetector, variables: Variables) -> Result:
    return few_shot_detection.evaluate(method.trained(variables), method.data.novel_images)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a detector with a linear head, and the episodes once they are written."""
    folder = tmp_path_factory.mktemp("few")
    linear = make_method(folder, head__kind="linear")
    write_json(_made(folder / "linear") / "config.json", plain(linear.config))
    model = Model(3, jax.device_get(variables_of(linear)))
    Checkpoints(folder / "linear").write_model(model, None)
    return folder


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def monkeypatched() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(few_shot_detection, "_WRITTEN", 6)
        yield


@pytest.fixture(scope="module")
def variables(folder: Path) -> Variables:
    return variables_of(make_method(folder))


@pytest.fixture(scope="module")
def result(folder: Path, variables: Variables, monkeypatched: None) -> Result:
    asked = {"eval__shots": (1, 2), "eval__fine_tune_epochs": (0, 1), "eval__ceiling": True}
    method = make_method(folder, eval__baseline=str(folder / "linear"), **asked)
    return run(method, variables)


def test_every_rule_has_a_setting_in_every_column(result: Result):
    columns = [f"5way_{shots}shot_ft{epochs}" for epochs in (0, 1) for shots in (1, 2)]
    expected = [column + rule for rule in ("", "_distance", "_vanilla") for column in columns]
    assert list(result.test) == [*expected, "5way_1shot_ft0_ceiling", "5way_2shot_ft0_ceiling"]
    for setting, figures in result.test.items():
        assert figures["ap50_pooled"] <= figures["ap50_pooled_ignoring_duplicates"] <= 1
        assert 0 <= figures["ap50_pooled"] <= 1 and 0 <= figures["map"] <= figures["map50"] + 0.1 <= 1.1
        assert figures["episodes"] == 3
        if setting.endswith(("distance", "vanilla")):
            ours = result.test["_".join(setting.split("_")[:3])]
            assert figures["map50_below"] == pytest.approx(ours["map50"] - figures["map50"])


def test_detections_are_judged_as_by_the_judge_of_images(result: Result):
    truth, found = result.episodes.ground_truth, result.shown.detections
    detections, truths = [], []
    for query, mask in enumerate(truth.mask[0]):
        kept = np.asarray(found.scores[query]) > 0
        of_query = (np.asarray(part[query])[kept] for part in (found.boxes, found.scores, found.labels))
        detections.append(Detections(*of_query))
        truths.append(ground_truth_of_image(truth.boxes[0, query][mask], truth.labels[0, query][mask]))
    expected = judge(detections, truths, num_classes=5)
    judged = result.verdicts["5way_1shot_ft0"].of_episode(0)
    np.testing.assert_array_equal(judged.positives, expected.positives)
    np.testing.assert_array_equal(judged.scores, expected.scores)
    assert judged.right.sum() == expected.right.sum()


def test_with_true_boxes_nothing_is_missed(result: Result):
    for number in range(3):
        judged = result.verdicts["5way_1shot_ft0_ceiling"].of_episode(number)
        assert judged.right.sum() == judged.positives.sum()


def test_fewer_episodes_are_the_first_ones_of_the_file(folder: Path, result: Result, variables: Variables):
    before = (folder / "episodes.json").read_bytes()
    fewer = run(make_method(folder, eval__episodes=2), variables)
    assert (folder / "episodes.json").read_bytes() == before
    all_of_them = result.verdicts["5way_1shot_ft0"]
    for number in range(2):
        scores = fewer.verdicts["5way_1shot_ft0"].of_episode(number).scores
        np.testing.assert_allclose(scores, all_of_them.of_episode(number).scores, atol=1e-5)


def test_a_baseline_that_cannot_be_is_told_before_training(folder: Path, tmp_path: Path):
    write_json(tmp_path / "config.json", plain(make_method(folder).config))
    with pytest.raises(UserError, match="has no linear head"):
        make_method(folder, eval__baseline=str(tmp_path))
    with pytest.raises(UserError, match=r"was trained with data\.image_size 32, this one with 64"):
        make_method(folder, eval__baseline=str(folder / "linear"), data__image_size=64, scenes__size=64)


def test_new_classes_can_have_a_sigma_of_their_own(folder: Path):
    assert enrollment_of(make_method(folder, loss__sigma=0.6).config).sigma == 0.6
    given = make_method(folder, loss__sigma=0.6, eval__enrol__sigma=0.8)
    assert enrollment_of(given.config).sigma == 0.8


def test_distractors_have_a_setting_of_their_own(folder: Path, result: Result, variables: Variables):
    method = make_method(folder, eval__distractors=True)
    found = run(method, variables)
    assert list(found.test) == ["5way_1shot_ft0_distractors"]
    assert not np.array_equal(found.shown.query, result.shown.query)
    np.testing.assert_array_equal(found.shown.support, result.shown.support[:, :1])


def test_the_report_shows_the_first_episode(folder: Path, result: Result):
    sections: list[Section] = few_shot_sections(make_method(folder).config, result)
    assert [of.title for of in sections] == [
        "An episode of new classes",
        "Precision and recall on new classes",
    ]
    names = {NAMES[label] for label in result.episodes.classes[0]}
    assert all(f"support: {name}" in sections[0].html for name in names)
    assert "5-way 1-shot" in sections[1].html


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"eval__baseline": "nowhere"}, "There is no detector in nowhere"),
        ({"eval__shots": (11,)}, "11 were asked for"),
        ({"eval__episodes": 7}, "7 were asked for"),
    ],
)
def test_what_cannot_be_evaluated(
    folder: Path, result: Result, variables: Variables, fields: dict[str, Any], told: str
):
    with pytest.raises(UserError, match=told):
        run(make_method(folder, **fields), variables)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"eval__shots": (0,)}, "config.eval.shots"),
        ({"eval__distance_sigma": 0.0}, "config.eval.distance_sigma is 0.0; it must be above 0"),
        ({"eval__enrol__rate": -1.0}, "config.eval.enrol.rate"),
        ({"eval__enrol__space": "pixels"}, "config.eval.enrol.space"),
    ],
)
def test_configs_that_cannot_work(tmp_path: Path, fields: dict[str, Any], told: str):
    with pytest.raises(UserError, match=told):
        make_method(tmp_path, **fields)


def test_views_and_clusters_of_supports_are_honoured_by_every_rule(
    folder: Path, variables: Variables, result: Result, monkeypatched: None
):
    asked = {"eval__baseline": str(folder / "linear"), "eval__fine_tune_epochs": (1,)}
    method = make_method(folder, eval__enrol__views=1, eval__enrol__clusters=3, **asked)
    of_views = run(method, variables)
    rules = [f"5way_1shot_ft1{rule}" for rule in ("", "_distance", "_vanilla")]
    assert list(of_views.test) == rules
    for name in rules:
        before, after = result.verdicts[name], of_views.verdicts[name]
        assert before.scores.shape == after.scores.shape
        assert not np.allclose(before.scores, after.scores), name


def test_episodes_of_scenes_are_looked_at_before_training(folder: Path, tmp_path: Path):
    (tmp_path / "episodes.json").write_text("{}")
    method = make_method(folder, eval__episodes_file=str(tmp_path / "episodes.json"))
    with pytest.raises(UserError, match=r"episodes\.json"):
        methods.check_test(method)
    with pytest.raises(UserError, match="7 were asked for"):
        methods.check_test(make_method(folder, eval__episodes=7))
