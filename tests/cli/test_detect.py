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


def test_images_are_drawn_into_no_folder_that_holds_anything(detector: Path, scene: Path):
    with pytest.raises(UserError, match="is not empty: give a new folder"):
        detect.main([str(detector), str(scene), f"--to={scene.parent}"])


def test_a_detector_without_classes_says_how_it_gets_them(scene: Path):
    with pytest.raises(UserError, match="knows no class: enroll some in Python"):
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
