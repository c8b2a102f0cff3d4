"""The detector that applications call, on a small network that was never trained."""

from __future__ import annotations

import copy
import pickle
import shutil
import threading
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fsljax import methods
from fsljax.api import Detector
from fsljax.detection.model.trained import TrainedDetector
from fsljax.errors import UserError
from fsljax.methods import protonet
from fsljax.storage.json_files import write_json
from tests.detection.small_detector import BOX, SIDE, config_of, patterns, same


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return patterns()


@pytest.fixture(scope="module")
def saved_once(
    trained: TrainedDetector, images: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    Detector(trained).enroll(images[:2], [BOX, BOX], ["a", "b"]).save(folder)
    return folder


def test_detections_are_boxes_scores_and_labels_of_each_image(detector: Detector, images: np.ndarray):
    detector.enroll(images[:2], [BOX, BOX], ["a", "b"])
    boxes, scores, labels = detector.detect(images, threshold=0.0, most=10)
    assert [len(of) for of in (boxes, scores, labels)] == [3, 3, 3]
    for of_image, its_scores, names in zip(boxes, scores, labels, strict=True):
        assert of_image.shape == (len(its_scores), 4) and 0 < len(its_scores) <= 10
        assert (of_image >= 0).all() and (of_image <= SIDE).all()
        assert (np.diff(its_scores) <= 0).all() and set(names) <= {"a", "b"}


def test_the_box_given_is_what_a_class_is_known_by(
    detector: Detector, trained: TrainedDetector, images: np.ndarray
):
    detector.enroll(images[:1], [BOX], "a")

    def run(method: str, *arguments: Any) -> Any:
        return trained.network.apply(trained.variables, *arguments, method=method)

    levels = run("trunk", images[:1].astype(np.float32) / 255)
    expected = run("embed", run("roi_features", levels, jnp.array([[BOX]])))[0, 0]
    np.testing.assert_allclose(detector._representatives["a"][0], expected, atol=1e-4)
    assert detector._representatives["a"].shape == (2, 8)


def test_new_classes_can_be_known_by_features(trained: TrainedDetector, images: np.ndarray, tmp_path: Path):
    config = config_of()
    config.eval.enrol.update({"space": "features", "sigma": 0.9})
    detector = Detector(replace(trained, config=methods.check(config))).enroll(images[:1], [BOX], "a")
    levels = trained.network.apply(trained.variables, images[:1].astype(np.float32) / 255, method="trunk")
    features: Any = trained.network.apply(
        trained.variables, levels, jnp.array([[BOX]]), method="roi_features"
    )
    feature = features[0, 0] / jnp.linalg.norm(features[0, 0])
    np.testing.assert_allclose(detector._representatives["a"][0], feature, atol=1e-4)
    expected = detector.detect(images, threshold=0.0)
    detector.save(tmp_path / "saved")
    same(Detector.load(tmp_path / "saved").detect(images, threshold=0.0), expected)


def test_boxes_are_in_pixels_of_the_image_as_given(detector: Detector, images: np.ndarray):
    detector.enroll(images[:2], [BOX, BOX], ["a", "b"])
    expected = detector.detect(images[2:], threshold=0.0)
    large = Image.fromarray(images[2, ..., 0]).resize((2 * SIDE, 2 * SIDE), Image.Resampling.NEAREST)
    small = np.asarray(large.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0))
    same(detector.detect(large, threshold=0.0), detector.detect(small[None], threshold=0.0), 2.0)
    again = Detector(detector._trained).enroll([large], [(2 * np.array(BOX)).tolist()], "a")
    assert again.classes == ["a"] and len(expected.boxes) == 1


def test_a_wide_image_has_no_detection_below_it(detector: Detector, images: np.ndarray):
    detector.enroll(images[:1], [BOX], "a")
    wide = images[0, :16]
    boxes, _, _ = detector.detect([wide], threshold=0.0)
    assert len(boxes[0]) and boxes[0][:, 2].max() <= 16


def test_several_boxes_of_an_image_and_several_images_of_a_class(detector: Detector, images: np.ndarray):
    other = [0.0, 0.0, 10.0, 10.0]
    detector.enroll(images[:2], [[BOX, other], [BOX]], ["a", "b", "a"])
    assert {label: len(of) for label, of in detector._representatives.items()} == {"a": 4, "b": 2}
    alone = Detector(detector._trained).enroll(images[:1], [BOX], "a").enroll(images[1:2], [BOX], "a")
    np.testing.assert_allclose(alone._representatives["a"], detector._representatives["a"], atol=1e-4)


def test_only_the_labels_asked_for_compete(detector: Detector, images: np.ndarray):
    detector.enroll(images, [BOX] * 3, ["a", "b", "c"])
    alone = Detector(detector._trained).enroll(images[1:2], [BOX], "b")
    same(detector.detect(images, labels=["b"], threshold=0.0), alone.detect(images, threshold=0.0))
    assert detector.forget("b").classes == ["a", "c"]


def test_what_was_saved_detects_the_same(trained: TrainedDetector, saved_once: Path, images: np.ndarray):
    loaded = Detector.load(saved_once)
    expected = Detector(trained).enroll(images[:2], [BOX, BOX], ["a", "b"])
    assert loaded.classes == ["a", "b"]
    same(loaded.detect(images, threshold=0.0), expected.detect(images, threshold=0.0))


def test_damaged_and_foreign_folders_are_told(trained: TrainedDetector, saved_once: Path, tmp_path: Path):
    folder = shutil.copytree(saved_once, tmp_path / "saved")
    (folder / "enrolled.npz").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"cannot be read .*enrol again"):
        Detector.load(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be read"):
        Detector.load(folder)
    with pytest.raises(UserError, match="There is no detector"):
        Detector.load(tmp_path / "nothing")
    write_json(folder / "config.json", protonet.default_config().to_dict())
    with pytest.raises(UserError, match="'protonet', not a detector:"):
        Detector.load(folder)


def test_another_model_is_not_overwritten(trained: TrainedDetector, saved_once: Path):
    other = replace(trained, step=8)
    with pytest.raises(UserError, match="another model"):
        Detector(other).save(saved_once)


@pytest.mark.parametrize(
    ("boxes", "labels", "told"),
    [
        ([[4, 6, 40, 26]], "a", "Box 0 of image 0, .* extends beyond the image, which is 32 high"),
        ([[4, 6, 4, 26]], "a", "has no area"),
        ([[4, 6, np.nan, 26]], "a", "not a finite number"),
        ([BOX, BOX], "a", "There are 1 images, but boxes for 2"),
        ([BOX], ["a", "b"], "1 boxes were given with 2 labels"),
        ([BOX], [1.5], "must be a string or an integer"),
        ([np.zeros((0, 4))], "a", "Image 0 has no box"),
        (7, "a", "not a sequence"),
    ],
)
def test_boxes_and_labels_that_cannot_be(
    detector: Detector, images: np.ndarray, boxes: Any, labels: Any, told: str
):
    with pytest.raises(UserError, match=told):
        detector.enroll(images[:1], boxes, labels)
    assert detector.classes == []


def test_what_cannot_be_detected(detector: Detector, images: np.ndarray):
    with pytest.raises(UserError, match="No class is enrolled"):
        detector.detect(images)
    detector.enroll(images[:1], [BOX], "a")
    for options, told in (
        ({"labels": ["b"]}, r"'b' is not enrolled; the enrolled classes are \['a'\]"),
        ({"labels": []}, "no labels to look for"),
        ({"threshold": 2.0}, "threshold from 0 to 1"),
    ):
        with pytest.raises(UserError, match=told):
            detector.detect(images, **options)
    with pytest.raises(UserError, match="There are no images"):
        detector.detect([])
    with pytest.raises(UserError, match="'b' is not enrolled"):
        detector.forget("b")


def test_a_linear_head_knows_no_new_classes(trained: TrainedDetector):
    params = {name: of for name, of in trained.variables["params"].items() if name != "representatives"}
    with pytest.raises(UserError, match="trained with a linear head"):
        Detector(replace(trained, variables={**trained.variables, "params": params}))


@pytest.mark.parametrize(
    ("boxes", "told"),
    [
        ([[0.1, 0.2, 0.5, 0.6]], "given in fractions of the image: give pixels, y times 32 and x times"),
        ([[0.5, 0.5, 0.2, 0.2]], "fractions of the image"),
        ([[0, 0, 1, 1]], "fractions of the image"),
        ([[[4, 6, 20, 26], [0.1, 0.2, 0.5, 0.6]]], "fractions of the image"),
        ([[10, 10, 10.5, 20]], "less than a pixel high or wide"),
        ([[20, 26, 4, 6]], "has no area"),
        ([[20, 20, 16, 16]], "has no area"),
        ({"a": BOX}, "boxes are given as a dict, which has no order"),
        ({(4, 6, 20, 26)}, "boxes are given as a set"),
        ([["4", "6", "20", "26"]], "give numbers"),
    ],
)
def test_boxes_in_another_convention_are_told(detector: Detector, images: np.ndarray, boxes: Any, told: str):
    with pytest.raises(UserError, match=told):
        detector.enroll(images[:1], boxes, "a")
    assert detector.classes == []


def test_more_that_cannot_be_detected(detector: Detector, images: np.ndarray):
    detector.enroll(images[:1], [BOX], "ab")
    for options, told in (
        ({"labels": ["a", ["b"]]}, "'a' is not enrolled"),
        ({"labels": [["b"]]}, r"\['b'\] is not enrolled"),
        ({"labels": 3}, "3 is not enrolled"),
        ({"threshold": "a"}, "give a number and an integer"),
        ({"threshold": np.nan}, "from 0 to 1"),
        ({"most": 1.5}, "give a number and an integer"),
    ):
        with pytest.raises(UserError, match=told):
            detector.detect(images, **options)
    with pytest.raises(UserError, match="is not enrolled"):
        detector.forget(["ab"])  # type: ignore[arg-type]
    assert detector.detect(images, labels="ab", threshold=0.0, most=1).labels[0].tolist() == ["ab"]


def test_images_of_any_proportion_are_searched(detector: Detector, images: np.ndarray):
    detector.enroll(images[:1], [BOX], "a")
    for size in ((1, 10_000), (10_000, 1), (1, 1)):
        picture = Image.new("L", size, 99)
        (boxes,), _, _ = detector.detect(picture, threshold=0.0, most=2)
        assert np.isfinite(boxes).all() and (boxes[:, 2:] <= np.array([size[1], size[0]]) + 1e-3).all()
        whole = [0, 0, min(size[1], 30), min(size[0], 30)]
        assert "b" in detector.enroll(picture, [whole], "b").classes


@pytest.mark.parametrize("again", [lambda d: pickle.loads(pickle.dumps(d)), copy.deepcopy, copy.copy])
def test_a_detector_in_use_is_copied_and_sent_to_other_processes(
    detector: Detector, images: np.ndarray, again: Any
):
    detector.enroll(images[:2], [BOX, BOX], ["a", "b"])
    expected = detector.detect(images, threshold=0.0, most=5)
    other = again(detector)
    same(other.detect(images, threshold=0.0, most=5), expected)
    assert other.forget("a").classes == ["b"] and detector.classes == ["a", "b"]


def test_threads_enrol_forget_and_detect_at_once(detector: Detector, images: np.ndarray):
    detector.enroll(images[:2], [BOX, BOX], ["a", "b"])
    one = len(detector._representatives["a"])
    detector.detect(images[:1])
    faults: list[BaseException] = []

    def enroll(thread: int) -> None:
        for number in range(6):
            detector.enroll(images[:1], [BOX], "a").enroll(images[:1], [BOX], f"{thread}-{number}")
            detector.forget(f"{thread}-{number}")

    def detect() -> None:
        for _ in range(6):
            detector.detect(images[:1], threshold=0.0)

    def told(work: Any, *arguments: Any) -> None:
        try:
            work(*arguments)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=told, args=(enroll, number)) for number in range(3)]
    threads.append(threading.Thread(target=told, args=(detect,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert detector.classes == ["a", "b"]
    assert len(detector._representatives["a"]) == 19 * one


def test_a_label_is_the_same_class_in_either_unicode_form(detector: Detector, images: np.ndarray):
    composed, decomposed = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    detector.enroll(images[:1], [BOX], decomposed).enroll(images[:1], [BOX], composed)
    assert detector.classes == [decomposed]
    assert detector.detect(images[:1], labels=[composed], threshold=0.0, most=1).labels[0].tolist() == [
        decomposed
    ]
    assert detector.forget(composed).classes == []
