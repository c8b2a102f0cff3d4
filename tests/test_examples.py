"""The example on one's own photographs, with a detector that was never trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from fsljax.api import Detector
from tests.detection.small_detector import BOX, patterns, untrained

ROOT = Path(__file__).parents[1]


def test_photographs_are_shown_and_others_searched(tmp_path: Path):
    Detector(untrained(channels=3)).save(tmp_path / "models/repmet_detection_photos")
    folder = tmp_path / "own"
    folder.mkdir()
    for number, pattern in enumerate(patterns(5)):
        Image.fromarray(pattern.repeat(3, axis=-1)).resize((64, 48)).save(folder / f"{number}.jpg")
        shapes = [
            {"label": name, "points": [[x0, y0], [x1, y1]], "shape_type": "rectangle"}
            for name, (y0, x0, y1, x1) in (("a", BOX), ("b", [20, 30, 44, 60]))
        ]
        document = {"shapes": shapes, "imagePath": f"{number}.jpg", "imageHeight": 48, "imageWidth": 64}
        (folder / f"{number}.json").write_text(json.dumps(document))
    done = subprocess.run(
        [sys.executable, ROOT / "examples/detect_photos.py", folder, "--shots=2", "--augment=1"],
        capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "from 2 photographs" in done.stdout and done.stdout.count(".jpg: ") == 3
    picture = np.asarray(Image.open(tmp_path / "runs/detected_photographs.png"))
    named = subprocess.run(
        [*done.args[:3], "--classes=a", "--augment=0", folder / "3.jpg", folder / "4.jpg"],
        capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert named.returncode == 0, named.stderr
    assert named.stdout.count(".jpg: ") == 2
    assert picture.shape == (740, 1480, 3) and (picture == (230, 60, 20)).all(axis=-1).any()
