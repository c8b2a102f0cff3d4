"""Sessions of the demo: each has classes of its own, saves them, and takes them back."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from fsljax.api import Classifier, Detector
from fsljax.demo.finding import Finding, checked_box
from fsljax.demo.markup import class_table, found_figures, message, named_figures
from fsljax.demo.models import DRAWINGS, kind_of, load_models, shipped
from fsljax.demo.naming import Naming
from fsljax.demo.sample import ACROSS, sample_page
from fsljax.errors import UserError

MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture(scope="module")
def classifier() -> Iterator[Classifier]:
    yield Classifier.load(MODELS / "protonet_1_5")


def letter(text: str, turn: float = 0) -> Image.Image:
    picture = Image.new("RGB", (200, 200), "white")
    ImageDraw.Draw(picture).text((100, 100), text, "black", ImageFont.load_default(120), anchor="mm")
    return picture.rotate(turn, fillcolor="white")


def test_drawings_are_enrolled_and_named_in_one_session_alone(classifier: Classifier, tmp_path: Path):
    session, other = Naming.of(classifier), Naming.of(classifier)
    for name in "AT":
        said = session.enroll([letter(name, turn) for turn in (-8, 0, 8)], f" {name} ")
        assert said == f"Enrolled 3 images of {name}."
    answers = session.name([letter("A", 5), letter("T", -5)], 0.0)
    assert [one.label for one in answers] == ["A", "T"]
    assert [one.label for one in session.name([letter("A", 5)], 1.0)] == [None]
    assert [row[:2] for row in session.rows()] == [("A", 3), ("T", 3)] and other.rows() == []
    with pytest.raises(UserError, match="No class is enrolled yet"):
        other.name([letter("A")], 0.5)

    loaded = Naming.loaded(str(session.saved()))
    assert [row[:2] for row in loaded.rows()] == [("A", 3), ("T", 3)]
    again = loaded.name([letter("A", 5)], 0.0)[0]
    assert again.confidence == pytest.approx(answers[0].confidence, abs=1e-6)
    session.forget("A")
    assert [row[0] for row in session.rows()] == ["T"]


def test_names_and_numbers_are_checked(classifier: Classifier):
    session = Naming.of(classifier)
    with pytest.raises(UserError, match="Give the class a name"):
        session.enroll([letter("A")], "  ")
    with pytest.raises(UserError, match="at most 60"):
        session.enroll([letter("A")], "a" * 61)
    with pytest.raises(UserError, match="at most 200 images"):
        session.enroll([letter("A")] * 201, "A")
    with pytest.raises(UserError, match="nothing to save"):
        session.saved()
    with pytest.raises(UserError, match="not enrolled"):
        session.forget("A")


def test_files_that_hold_no_model_are_refused(tmp_path: Path):
    (tmp_path / "model.zip").write_bytes(b"no zip")
    with pytest.raises(UserError, match=r"model\.zip is not a saved model .*choose a \.zip"):
        Naming.loaded(str(tmp_path / "model.zip"))
    with zipfile.ZipFile(tmp_path / "outside.zip", "w") as archive:
        archive.writestr("../outside.txt", "x")
    with pytest.raises(UserError, match="has a member outside its folder"):
        Naming.loaded(str(tmp_path / "outside.zip"))
    assert not (tmp_path.parent / "outside.txt").exists()
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("classifier/notes.txt", "x")
    with pytest.raises(UserError):
        Naming.loaded(str(tmp_path / "empty.zip"))


def test_a_box_may_be_given_from_any_corner_and_ends_at_the_edge():
    picture = Image.new("RGB", (100, 50))
    assert checked_box((40, 90, 10, -5), picture) == (10, 0, 40, 90)
    with pytest.raises(UserError, match="click two opposite corners"):
        checked_box((1, None, 2, 3), picture)
    with pytest.raises(UserError, match="The box is empty"):
        checked_box((60, 10, 90, 30), picture)


def test_names_cannot_become_markup():
    row = ("<script>alert(1)</script>", 1, [Image.new("RGB", (9, 9))])
    for text in (
        class_table([row], "images"),
        message(row[0]),
        found_figures([(row[2][0], [(row[0], 0.5)])]),
    ):
        assert "<script>" not in text
    assert named_figures([]) == '<div class="figures"></div>'


def test_a_model_that_is_not_there_is_told_before_the_page():
    with pytest.raises(UserError, match="There is no model in"):
        load_models(detectors=["/nowhere/at/all"])
    with pytest.raises(UserError, match=r"use .*--detector"):
        load_models(model=str(MODELS / "repmet_detection_scenes"))
    assert shipped("protonet_1_5") == MODELS / "protonet_1_5" and shipped("nothing") is None


@pytest.mark.slow
def test_a_drawn_character_is_found_in_a_page(tmp_path: Path):
    session = Finding.of(Detector.load(MODELS / "repmet_detection_scenes"))
    assert kind_of(session.detector) == DRAWINGS
    page, text = next((p, t) for p, t in map(sample_page, range(20)) if 1 <= t.count("K") <= 3)
    with pytest.raises(UserError, match="Draw a character first"):
        session.enroll_character(None, "K")
    session.enroll_character(letter("K"), "K")
    assert [row[:2] for row in session.rows()] == [("K", 1)]
    found, boxes = session.find_characters(page, 0.1, ACROSS)
    assert found.size == page.size and [name for name, _ in boxes][: text.count("K")] == ["K"] * text.count(
        "K"
    )
    assert boxes[0][1] > 0.5 and not np.array_equal(found, page)
    again = Finding.loaded(str(session.saved("detector")), DRAWINGS)
    assert again.find_characters(page, 0.1, ACROSS)[1] == boxes
