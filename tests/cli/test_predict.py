"""fsljax predict: as the library says it, in three forms."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

from fsljax.api import Classifier
from fsljax.cli import predict
from fsljax.errors import UserError

from .conftest import untrained


def paths_in(photographs: Path) -> list[Path]:
    return [photographs / name / f"{number}.png" for name in ("dark", "stripes") for number in (1, 2, 10)]


def test_json_tells_what_the_library_does(model: Path, photographs: Path, capsys):
    assert predict.main(["--json", str(model), str(photographs), "--top=2"]) == 0
    told = json.loads(capsys.readouterr().out)
    classifier, paths = Classifier.load(model), paths_in(photographs)
    assert [row["file"] for row in told] == list(map(str, paths))
    assert [row["label"] for row in told] == classifier.predict(paths).tolist()
    probabilities = classifier.predict_proba(paths)
    np.testing.assert_allclose([row["probability"] for row in told], probabilities.max(axis=1), atol=1e-6)
    np.testing.assert_allclose([row["confidence"] for row in told], classifier.confidence(paths), atol=1e-6)
    assert all(row["top"][0]["label"] == row["label"] for row in told)
    assert {entry["label"] for entry in told[0]["top"]} == {"dark", "stripes"}


def test_csv_has_a_row_for_each_image_and_says_which_failed(
    model: Path, photographs: Path, tmp_path: Path, capsys
):
    bad = tmp_path / "bad, very.png"
    bad.write_bytes(b"no image")
    status = predict.main([str(model), str(bad), str(photographs / "dark"), "--csv", "--top=9"])
    assert status == 1
    output = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(output.out)))
    assert [row["file"] for row in rows] == [str(bad), *map(str, paths_in(photographs)[:3])]
    assert [row["label"] for row in rows] == ["", "dark", "dark", "dark"]
    assert rows[0]["error"] and not rows[1]["error"]
    assert rows[1]["label 2"] == "stripes"
    assert float(rows[1]["probability"]) + float(rows[1]["probability 2"]) == pytest.approx(1, abs=1e-5)
    assert output.err == f"fsljax: 1 of 4 images could not be read: {bad}.\n"


def test_the_table_shows_a_dash_below_the_threshold(model: Path, photographs: Path, capsys):
    assert predict.main([str(model), str(photographs / "dark"), "--unknown=1"]) == 0
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["file", "label", "probability", "confidence"]
    assert [row.split()[1] for row in rows] == ["–"] * 3


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.9, 1.0])
def test_labels_are_those_of_the_library_at_every_threshold(
    threshold: float, model: Path, photographs: Path, capsys
):
    paths = paths_in(photographs)
    assert predict.main([str(model), *map(str, paths), f"--unknown={threshold}", "--json"]) == 0
    told = [row["label"] for row in json.loads(capsys.readouterr().out)]
    assert told == Classifier.load(model).predict(paths, unknown=threshold).tolist()


def test_of_one_class_no_confidence_is_told(photographs: Path, tmp_path: Path, capsys):
    untrained().enroll(str(photographs / "dark/1.png"), [5]).save(tmp_path / "model")
    assert predict.main([str(tmp_path / "model"), str(photographs / "dark/2.png"), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["label"], row["probability"], row["confidence"]) == (5, 1.0, None)


def test_a_model_without_classes_says_how_it_gets_them(bare: Path, photographs: Path):
    with pytest.raises(UserError, match=f"knows no classes: teach it some with fsljax enroll {bare} DIR"):
        predict.main([str(bare), str(photographs)])


@pytest.mark.skipif(os.name == "nt", reason="has no such names")
def test_json_keeps_every_byte_of_a_name(model: Path, photographs: Path, tmp_path: Path, capsys):
    odd = os.fsencode(tmp_path) + b"/caf\xe9\n\xc3\xa9.png"
    Path(os.fsdecode(odd)).write_bytes((photographs / "dark/1.png").read_bytes())
    assert predict.main([str(model), str(tmp_path), "--json"]) == 0
    written = capsys.readouterr().out
    (row,) = json.loads(written)
    assert written.isascii() and os.fsencode(row["file"]) == odd


@pytest.mark.parametrize(
    "given, says",
    [
        ("none", "There is no model in none"),
        ("efficientnet_lite0", "fsljax enroll efficientnet_lite0 DIR --to="),
    ],
)
def test_what_is_no_model_is_told(given: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=says):
        predict.main([given, "image.png"])


def test_a_detector_is_told_which_command_takes_it():
    with pytest.raises(UserError, match="holds a detector: use fsljax detect"):
        predict.main([str(Path(__file__).parents[2] / "models/repmet_detection_scenes"), "image.png"])


@pytest.mark.parametrize(
    "wrong",
    ["--unknown=2", "--unknown=nan", "--top=0", "--top=x", "--json --csv", "--nonsense", "--uncertain=1"],
)
def test_arguments_that_cannot_be_are_told_in_one_sentence(wrong: str, capsys):
    with pytest.raises(SystemExit) as ended:
        predict.main(["model", "image.png", *wrong.split()])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("fsljax: fsljax predict: ") and said.count("\n") == 1
