"""fsljax detect: as the library says it, in three forms, and drawn."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsljax.api import Detector
from fsljax.cli import detect
from fsljax.cli.drawing import draw_boxes
from fsljax.errors import UserError

SCENES = Path(__file__).parents[2] / "models/repmet_detection_scenes"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    pixels = np.random.default_rng(0).uniform(0, 0.1, (160, 160))
    pixels[20:60, 30:80] = 1
    Image.fromarray(np.uint8(255 * pixels)).save(folder / "scene.png")
    return folder / "scene.png"


@pytest.fixture(scope="module")
def detector(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detectors") / "detector"
    Detector.load(SCENES).enroll(scene, [[20, 30, 60, 80]], "блок").save(folder)
    return folder


def test_json_csv_and_table_tell_what_the_library_does(detector: Path, scene: Path, tmp_path: Path, capsys):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"")
    found = Detector.load(detector).detect(scene, threshold=0.5)
    given = [str(detector), str(scene), str(bad), "--least=0.5"]
    assert detect.main([*given, "--json", f"--to={tmp_path / 'drawn'}"]) == 1
    first, second = json.loads(capsys.readouterr().out)
    assert (second["file"], second["objects"]) == (str(bad), None) and second["error"]
    assert [one["label"] for one in first["objects"]] == found.labels[0].tolist() != []
    np.testing.assert_allclose([one["box"] for one in first["objects"]], found.boxes[0], atol=0.051)
    np.testing.assert_allclose([one["score"] for one in first["objects"]], found.scores[0], atol=1e-6)

    assert detect.main([*given, "--csv"]) == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [float(rows[0][side]) for side in ("y_min", "x_min", "y_max", "x_max")] == first["objects"][0][
        "box"
    ]
    assert rows[-1]["file"] == str(bad) and rows[-1]["error"]

    assert detect.main(given[:2]) == 0
    assert "блок" in capsys.readouterr().out

    drawn = np.asarray(Image.open(tmp_path / "drawn/scene.png"))
    assert drawn.shape == (160, 160, 3) and (drawn == (230, 60, 20)).all(axis=-1).any()
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["scene.png"]


def test_what_is_found_is_saved_in_cocos_form(detector: Path, scene: Path, tmp_path: Path, capsys):
    bad = tmp_path / "photographs" / "bad.jpg"
    bad.parent.mkdir()
    bad.write_bytes(b"")
    nested = bad.parent / "more" / "wide.png"
    nested.parent.mkdir()
    Image.open(scene).crop((0, 0, 160, 100)).save(nested)
    folder = tmp_path / "saved"
    assert detect.main([str(detector), str(scene), str(bad.parent), f"--save={folder}"]) == 1
    assert "1 of 3 images could not be read" in capsys.readouterr().err
    assert {path.name for path in folder.iterdir()} == {"scene.png", "wide.png", "detections.json"}
    document = json.loads((folder / "detections.json").read_text())
    assert [(one["id"], one["file_name"], one["height"], one["width"]) for one in document["images"]] == [
        (1, scene.as_posix(), 160, 160), (2, nested.as_posix(), 100, 160),
    ]  # fmt: skip
    assert document["categories"] == [{"id": 1, "name": "блок"}]
    found = Detector.load(detector).detect([scene, nested])
    expected = [len(boxes) for boxes in found.boxes]
    images = [one["image_id"] for one in document["annotations"]]
    assert [images.count(1), images.count(2)] == expected and sum(expected)
    assert [one["id"] for one in document["annotations"]] == list(range(1, 1 + sum(expected)))
    first, (top, left, bottom, right) = document["annotations"][0], found.boxes[0][0]
    np.testing.assert_allclose(first["bbox"], [left, top, right - left, bottom - top], atol=0.02)
    assert first["area"] == pytest.approx((right - left) * (bottom - top), rel=0.01)
    assert (first["category_id"], first["iscrowd"]) == (1, 0)
    assert first["score"] == pytest.approx(found.scores[0][0], abs=1e-5)

    coco = pytest.importorskip("pycocotools.coco").COCO(str(folder / "detections.json"))
    assert len(coco.loadAnns(coco.getAnnIds(imgIds=[1], catIds=[1]))) == expected[0]


def test_the_least_score_is_as_calibrated(detector: Path, scene: Path, tmp_path: Path, capsys):
    known = Detector.load(detector)
    best = known.detect(scene, threshold=0.0)
    known.calibrate(scene, [best.boxes[0][:1]], "блок").save(tmp_path / "calibrated")
    assert known.threshold > 0.3
    assert detect.main([str(tmp_path / "calibrated"), str(scene), "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert [one["score"] for one in answer["objects"]] == pytest.approx(
        [score for score in best.scores[0] if score >= known.threshold], abs=1e-5
    )


def test_photographs_in_colour_are_told_of_drawings(detector: Path, tmp_path: Path, capsys):
    colours = (
        np.random.default_rng(0).integers(0, 255, (4, 4, 3)).astype(np.uint8).repeat(20, 0).repeat(20, 1)
    )
    Image.fromarray(colours).save(tmp_path / "photograph.png")
    assert detect.main([str(detector), str(tmp_path / "photograph.png")]) == 0
    assert "1 of 1 images are in colour, but this detector was trained on grey" in capsys.readouterr().err


def test_images_are_drawn_into_no_folder_that_holds_anything(detector: Path, scene: Path):
    with pytest.raises(UserError, match="is not empty: give a new folder"):
        detect.main([str(detector), str(scene), f"--to={scene.parent}"])


def test_a_detector_without_classes_says_how_it_gets_them(scene: Path):
    with pytest.raises(UserError, match="knows no classes: teach it some with fsljax enroll"):
        detect.main([str(SCENES), str(scene)])


def test_a_classifier_is_told_which_command_takes_it(model: Path, scene: Path):
    with pytest.raises(UserError, match="no detector: use fsljax predict"):
        detect.main([str(model), str(scene)])


def test_boxes_are_drawn_wherever_they_are():
    picture = Image.new("RGB", (40, 30))
    boxes = [
        (2.0, 3.0, 2.1, 3.1),
        (-9.0, -9.0, 99.0, 99.0),
        (29.9, 39.9, 30.0, 40.0),
        (25.0, 0.0, 30.0, 10.0),
    ]
    draw_boxes(picture, [("a very long name\n\udce9", box) for box in boxes])
    assert np.asarray(picture).any()


def test_each_class_has_its_colour():
    picture = Image.new("RGB", (200, 100), "white")
    draw_boxes(picture, [("a", (20.0, 10, 60, 60)), ("b", (20.0, 110, 60, 180))], [0, 1])
    pixels = np.asarray(picture)
    assert (pixels[:, :100] == (230, 60, 20)).all(axis=-1).any()
    assert (pixels[:, 100:] == (40, 110, 230)).all(axis=-1).any()
    assert not (pixels[:, 100:] == (230, 60, 20)).all(axis=-1).any()
