"""What a detector makes of photographs that classes are enrolled from: views, background, fine-tuning."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from fsljax.api import Detector
from fsljax.detection.data import padded_images
from fsljax.detection.enrolled.comparison import scores
from fsljax.detection.model.enroll import Layer, Support, enrollment_of, scores_by_representatives
from fsljax.detection.model.regions import examine
from fsljax.detection.model.trained import TrainedDetector
from fsljax.errors import UserError
from tests.detection.small_detector import BOX, SIDE, patterns, same

OTHER = [10.0, 2.0, 28.0, 14.0]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return patterns(6)


def test_fine_tuning_is_that_of_few_shot_episodes(
    detector: Detector, trained: TrainedDetector, images: np.ndarray
):
    epochs, scaled = 5, images[:4].astype(np.float32) / 255
    detector.enroll(images[:4], [BOX, BOX, OTHER, OTHER], ["a", "a", "b", "b"], fine_tune_epochs=epochs)
    given = np.array([BOX, BOX, OTHER, OTHER], np.float32)[:, None]
    regions = examine(trained.network, trained.variables, scaled, given, np.ones((4, 1), bool))
    by_class = jax.tree.map(lambda part: part.reshape(2, 2, *part.shape[1:]), regions)
    support = Support(by_class.features, by_class.boxes, by_class.valid, by_class.objectness)
    params = trained.variables["params"]["head"]["embedding"]
    layer, enrollment = Layer(params["kernel"], params["bias"]), enrollment_of(trained.config)
    queries = regions.features[:, 1:]
    expected, plain = (
        scores_by_representatives(support, queries, layer, enrollment, epochs=count) for count in (epochs, 0)
    )
    embedded: Any = trained.network.apply(trained.variables, queries, method="embed")
    measured = scores(embedded, detector._known.compared(["a", "b"], enrollment))
    # Adam's steps are of one length: where a gradient is 0 but for rounding, they go either way.
    np.testing.assert_allclose(measured, expected, atol=4e-3)
    assert np.abs(np.asarray(expected) - plain).max() > 0.04


def test_views_give_representatives_and_clusters_keep_few(detector: Detector, images: np.ndarray):
    alone = Detector(detector._trained).enroll(images[:2], [BOX, BOX], "a")
    detector.enroll(images[:2], [BOX, BOX], "a", augment=3)
    assert len(detector._representatives["a"]) == 4 * len(alone._representatives["a"]) == 16
    few = Detector(detector._trained).enroll(images[:2], [BOX, BOX], "a", augment=True, clusters=3)
    assert few._representatives["a"].shape == (3, 8)
    np.testing.assert_allclose(np.linalg.norm(few._representatives["a"], axis=1), 1, atol=1e-5)
    few.enroll(images[2:3], [BOX], "a", clusters=3)
    assert few._representatives["a"].shape == (3, 8)
    mirrored = np.ascontiguousarray(images[:1, :, ::-1])
    box = [BOX[0], SIDE - BOX[3], BOX[2], SIDE - BOX[1]]
    expected = Detector(detector._trained).enroll(mirrored, [box], "a")._representatives["a"]
    flipped = Detector(detector._trained).enroll(images[:1], [BOX], "a", augment=1)._representatives["a"]
    np.testing.assert_allclose(flipped[2:], expected, atol=1e-4)


def test_background_competes_with_the_classes_that_it_lacks(detector: Detector, images: np.ndarray):
    detector.enroll(images[:2], [BOX, BOX], ["a", "b"])
    before = detector.detect(images[2:4], labels="a", threshold=0.0)
    detector.enroll(images[:1], [BOX], "a", background=images[2:3])
    after = detector.detect(images[2:4], labels="a", threshold=0.0)
    assert after.scores[0].max() < before.scores[0].max() - 0.1
    alone = detector.detect(images[2:4], labels="b", threshold=0.0)
    never = Detector(detector._trained).enroll(images[1:2], [BOX], "b")
    same(alone, never.detect(images[2:4], threshold=0.0))


def test_background_is_learned_from(detector: Detector, images: np.ndarray):
    detector.enroll(images[:2], [BOX, BOX], ["a", "b"], fine_tune_epochs=20)
    other = Detector(detector._trained)
    other.enroll(images[:2], [BOX, BOX], ["a", "b"], background=images[2:3], fine_tune_epochs=20)
    assert not other._known.negatives

    def score(asked: Detector) -> float:
        return float(asked.detect(images[2:3], threshold=0.0).scores[0].max())

    assert score(other) < score(detector)


def test_what_was_saved_goes_on_learning(detector: Detector, images: np.ndarray, tmp_path: Path):
    detector.enroll(images[:3], [BOX, BOX, [BOX, OTHER]], ["a", "b", "a", "b"], background=images[4:])
    detector.save(tmp_path / "saved")
    loaded = Detector.load(tmp_path / "saved")
    same(loaded.detect(images, threshold=0.0), detector.detect(images, threshold=0.0))
    for one in (loaded, detector):
        one.enroll(images[3:4], [BOX], "b", fine_tune_epochs=3)
    np.testing.assert_allclose(loaded._representatives["b"], detector._representatives["b"], atol=3e-3)
    assert loaded.forget("a").classes == ["b"]
    assert all("a" not in one.labels + one.lacks for one in loaded._known.photographs)


def test_folders_of_earlier_versions_are_read_but_not_fine_tuned(
    detector: Detector, images: np.ndarray, tmp_path: Path
):
    detector.enroll(images[:1], [BOX], "a").save(tmp_path)
    arrays = dict(np.load(tmp_path / "enrolled.npz"))
    kept = {name: arrays[name] for name in ("labels", "model", "representatives", "counts")}
    np.savez(tmp_path / "enrolled.npz", **kept)
    loaded = Detector.load(tmp_path)
    same(loaded.detect(images, threshold=0.0), detector.detect(images, threshold=0.0))
    with pytest.raises(UserError, match="The photographs of the class 'a' are not stored"):
        loaded.enroll(images[1:2], [BOX], "b", fine_tune_epochs=1)
    assert loaded.enroll(images[1:2], [BOX], "b").classes == ["a", "b"]


@pytest.mark.parametrize("name", ["regions_features", "photograph_labels", "threshold", "negatives"])
def test_damage_is_told(detector: Detector, images: np.ndarray, tmp_path: Path, name: str):
    detector.enroll(images[:2], [BOX, BOX], "a", background=images[2:]).save(tmp_path)
    arrays = dict(np.load(tmp_path / "enrolled.npz"))
    arrays[name] = np.full_like(arrays[name], 99) if name == "threshold" else arrays[name][:-1]
    np.savez(tmp_path / "enrolled.npz", **arrays)
    with pytest.raises(UserError, match=r"cannot be read .*enrol again"):
        Detector.load(tmp_path)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"augment": 9}, "augment is 9: give a whole number, 0 to 8"),
        ({"clusters": -1}, "clusters is -1: give a whole number, 0 or more"),
        ({"fine_tune_epochs": 0.5}, "fine_tune_epochs is 0.5"),
        ({"background": []}, "There are no images"),
    ],
)
def test_options_that_cannot_be(detector: Detector, images: np.ndarray, options: Any, told: str):
    with pytest.raises(UserError, match=told):
        detector.enroll(images[:1], [BOX], "a", **options)
    assert detector.classes == []


def test_many_files_of_many_sizes_are_read_a_few_at_a_time(
    detector: Detector, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    detector.enroll(images[:1], [BOX], "a")
    paths = []
    for number in range(45):
        paths.append(tmp_path / f"{number}.png")
        grown = Image.fromarray(images[number % 6, ..., 0]).resize((20 + number, 60 - number))
        grown.save(paths[-1])
    opened, asked = [], []
    original, look = padded_images.open_reduced, detector._space.look
    monkeypatch.setattr(
        padded_images, "open_reduced", lambda *given: (opened.append(given[0]), original(*given))[1]
    )

    def counting(pixels: Any, *rest: Any) -> Any:
        asked.append((len(pixels), len(opened)))
        return look(pixels, *rest)

    object.__setattr__(detector._space, "look", counting)
    found = detector.detect((path for path in paths), threshold=0.0, most=5)
    assert len(found.boxes) == 45 and {count for count, _ in asked} == {8}
    assert asked[0][1] < 40  # the first batch was searched before the last file was opened
    for number in (3, 44):
        same_image = detector.detect(paths[number], threshold=0.0, most=5)
        np.testing.assert_allclose(found.boxes[number], same_image.boxes[0], atol=1e-3)
        assert (found.boxes[number] <= np.tile([60 - number, 20 + number], 2) + 1e-3).all()


def test_a_large_photograph_keeps_its_own_pixels(detector: Detector, tmp_path: Path):
    pixels = np.kron(patterns(1, 3)[0, ..., 0], np.ones((40, 20))).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.jpg", quality=95)
    detector.enroll(tmp_path / "large.jpg", [[160, 120, 800, 520]], "a")
    whole = Detector(detector._trained).enroll(
        Image.open(tmp_path / "large.jpg"), [[160, 120, 800, 520]], "a"
    )
    np.testing.assert_allclose(detector._representatives["a"], whole._representatives["a"], atol=0.05)
    boxes = detector.detect(tmp_path / "large.jpg", threshold=0.0).boxes[0]
    assert boxes[:, 2].max() > 640 and (boxes <= np.array([1280, 640] * 2) + 0.01).all()


def test_colour_photographs_shown_to_a_detector_of_drawings_are_told(detector: Detector, images: np.ndarray):
    detector.enroll(images[:1], [BOX], "a")
    colourful = (
        np.random.default_rng(0).integers(0, 255, (3, 4, 4, 3)).astype(np.uint8).repeat(8, 1).repeat(8, 2)
    )
    with pytest.warns(
        UserWarning, match="3 of 3 images are in colour, but this detector was trained on grey"
    ):
        detector.detect(colourful)
    with pytest.warns(UserWarning, match="in colour"):
        detector.enroll(colourful[:1], [BOX], "b")


@pytest.mark.filterwarnings("error")
def test_grey_images_in_rgb_are_not(detector: Detector, images: np.ndarray):
    detector.enroll(images[:1].repeat(3, axis=-1), [BOX], "a").detect(images.repeat(3, axis=-1))


def test_annotation_files_are_enrolled(detector: Detector, images: np.ndarray, tmp_path: Path):
    Image.fromarray(images[0, ..., 0]).save(tmp_path / "one.png")
    shapes = [{"label": "a", "points": [[BOX[1], BOX[0]], [BOX[3], BOX[2]]]}]
    document = {"shapes": shapes, "imagePath": "one.png", "imageHeight": SIDE, "imageWidth": SIDE}
    (tmp_path / "one.json").write_text(json.dumps(document))
    detector.enroll(tmp_path / "one.json")
    expected = Detector(detector._trained).enroll(images[:1], [BOX], "a")
    np.testing.assert_allclose(detector._representatives["a"], expected._representatives["a"], atol=1e-5)
    with pytest.raises(UserError, match="no object of the class 'b'"):
        detector.enroll(tmp_path, labels="b")
    with pytest.raises(UserError, match="Boxes and labels are missing"):
        detector.enroll(tmp_path / "one.png")


def test_scores_are_weighted_as_the_config_says(trained: TrainedDetector, images: np.ndarray):
    """Where a detector is evaluated with powers of objectness, it detects with them, too."""
    options = replace(trained.config.eval, objectness=0.5, suppression="hard", iou_threshold=1.0)
    weighted = replace(trained, config=replace(trained.config, eval=options))
    plain = replace(weighted, config=replace(trained.config, eval=replace(options, objectness=0.0)))
    found, unweighted = (
        Detector(of).enroll(images[:1], [BOX], "a").detect(images[1:2], threshold=0.0)
        for of in (weighted, plain)
    )
    nothing = np.zeros((1, 0, 4), np.float32)
    scaled = images[1:2].astype(np.float32) / 255
    regions = examine(trained.network, trained.variables, scaled, nothing, np.ones((1, 0), bool))
    boxes, objectness = np.asarray(regions.refined[0]), np.asarray(regions.objectness[0])
    assert len(found.scores[0]) == len(unweighted.scores[0]) > 4
    for box, score in zip(unweighted.boxes[0], unweighted.scores[0], strict=True):
        row = int(np.argmin(np.abs(boxes - box).sum(axis=1)))
        place = int(np.argmin(np.abs(found.boxes[0] - box).sum(axis=1)))
        np.testing.assert_allclose(found.scores[0][place], score * objectness[row] ** 0.5, atol=1e-5)


def test_calibration_weights_as_detection_does(trained: TrainedDetector, images: np.ndarray, tmp_path: Path):
    options = replace(trained.config.eval, objectness=2.0)
    detector = Detector(replace(trained, config=replace(trained.config, eval=options)))
    box = Detector(trained).enroll(images[:1], [BOX], "a").detect(images[:1], threshold=0.0).boxes[0][0]
    twins = np.concatenate([images[:1], images[:1]])
    detector.enroll(twins, [box, box], ["a", "a"])
    scores = detector.detect(images[:1], threshold=0.0).scores[0]
    detector.save(tmp_path / "saved")
    for one in (detector, Detector.load(tmp_path / "saved")):
        one.calibrate()
        middles = (scores + np.append(scores[1:], 0)) / 2
        assert np.abs(middles - one.threshold).min() < 1e-3
