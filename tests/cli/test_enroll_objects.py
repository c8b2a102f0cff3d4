"""fsljax enroll DETECTOR --annotations: boxes from files, saved beside the network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsljax.api import Detector
from fsljax.cli import enroll
from fsljax.errors import UserError

SCENES = Path(__file__).parents[2] / "models/repmet_detection_scenes"


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images of blocks and bars, annotated by LabelMe."""
    folder = tmp_path_factory.mktemp("annotated")
    for number in range(2):
        pixels = np.random.default_rng(number).uniform(0, 0.1, (160, 160))
        pixels[20:60, 30:80] = pixels[100:110, 20:140] = 1
        Image.fromarray(np.uint8(255 * pixels)).save(folder / f"{number}.png")
        shapes = [
            {"label": "block", "points": [[30, 20], [80, 60]], "shape_type": "rectangle"},
            {"label": "bar", "points": [[20, 100], [140, 100], [140, 110]], "shape_type": "polygon"},
        ]
        document = {"shapes": shapes, "imagePath": f"{number}.png", "imageHeight": 160, "imageWidth": 160}
        (folder / f"{number}.json").write_text(json.dumps(document))
    return folder


def test_a_detector_is_taught_what_is_annotated(annotated: Path, tmp_path: Path, capsys):
    to = tmp_path / "model"
    given = [str(SCENES), f"--annotations={annotated}", f"--to={to}"]
    assert enroll.main([*given, "--calibrate", "--augment=1", "--fine-tune-epochs=2"]) == 0
    printed = capsys.readouterr().out
    assert "block" in printed and "threshold" in printed and str(to) in printed
    detector = Detector.load(to)
    assert detector.classes == ["bar", "block"] or detector.classes == ["block", "bar"]
    assert [detector.boxes_of(label) for label in detector.classes] == [2, 2]
    assert f"{detector.threshold:.3f}" in printed and detector.threshold != 0.3
    (labels,) = detector.detect(annotated / "0.png").labels
    assert "block" in labels.tolist()

    background = tmp_path / "background"
    background.mkdir()
    Image.open(annotated / "0.png").crop((0, 90, 160, 160)).save(background / "bar.png")
    more = [str(to), f"--annotations={annotated / '0.json'}", "--classes=block", f"--background={background}"]
    assert enroll.main(more) == 0
    assert Detector.load(to).boxes_of("block") == 3 and Detector.load(to).boxes_of("bar") == 2


def test_what_is_wrong_is_told(annotated: Path, model: Path, tmp_path: Path, capsys):
    with pytest.raises(UserError, match="holds no detector"):
        enroll.main([str(model), f"--annotations={annotated}"])
    with pytest.raises(UserError, match="no object of the class 'x', only of bar, block"):
        enroll.main([str(SCENES), f"--annotations={annotated}", "--classes=x", f"--to={tmp_path / 'a'}"])
    with pytest.raises(UserError, match="does not exist"):
        enroll.main([str(SCENES), f"--annotations={tmp_path / 'gone'}", f"--to={tmp_path / 'a'}"])
    assert not (tmp_path / "a").exists()
    for given in (
        [str(SCENES)],
        [str(SCENES), str(annotated), f"--annotations={annotated}"],
        [str(model), str(annotated), "--augment=2"],
    ):
        with pytest.raises(SystemExit):
            enroll.main(given)
        assert "--annotations" in capsys.readouterr().err
