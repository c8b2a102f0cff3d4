"""Shapes of characters in the fonts that matplotlib ships."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from fsljax.data import glyph_faces
from fsljax.data.glyph_faces import FACES, SHAPE_SIZE, candidates, characters_of, script, shapes


def test_every_face_is_a_file_that_matplotlib_ships():
    assert len(set(FACES)) == len(FACES)
    for face in FACES:
        assert glyph_faces.face_path(face).is_file(), face


def test_candidates_are_letters_and_digits_that_two_faces_have():
    characters = candidates()
    assert characters == sorted(set(characters))
    for character in characters:
        assert unicodedata.category(character) in ("Lu", "Ll", "Lo", "Nd")
        assert sum(character in characters_of(face) for face in FACES) >= 2
        assert script(character)


@pytest.mark.parametrize(
    ("character", "expected"),
    [("a", "Latin"), ("5", "Common"), ("λ", "Greek"), ("Ж", "Cyrillic"), ("א", "Hebrew"), ("ა", "Georgian"),
     ("ⴰ", "Tifinagh"), ("ߒ", "Nko"), ("ກ", "Lao"), ("٣", "Arabic"), ("∑", None), ("ℵ", None)],
)  # fmt: skip
def test_the_script_of_a_character(character: str, expected: str | None):
    assert script(character) == expected


def test_computer_modern_is_asked_for_plain_letters_and_digits_alone():
    # Its other places hold symbols that are not what Unicode has there.
    assert characters_of("cmr10.ttf") <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
    assert "a" in characters_of("cmr10.ttf")


@pytest.mark.parametrize("character", ["A", "i", "ض", "ᐁ"])
def test_ink_fills_the_same_box_in_the_middle(character: str):
    for shape in shapes(character):
        assert shape.shape == (SHAPE_SIZE, SHAPE_SIZE)
        rows, columns = np.flatnonzero(shape.any(axis=1)), np.flatnonzero(shape.any(axis=0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert 44 <= max(height, width) <= 46
        assert abs(rows[0] + rows[-1] - (SHAPE_SIZE - 1)) <= 2
        assert abs(columns[0] + columns[-1] - (SHAPE_SIZE - 1)) <= 2


def test_a_letter_differs_from_face_to_face():
    drawn = shapes("a")
    assert len(drawn) == len(FACES)
    assert len({shape.tobytes() for shape in drawn}) == len(FACES)


def test_what_no_face_has_gives_no_shape():
    assert shapes("\u4e00").shape == (0, SHAPE_SIZE, SHAPE_SIZE)


def test_empty_glyphs_and_the_box_of_a_missing_one_are_no_shapes():
    face = "DejaVuSans.ttf"
    assert glyph_faces._shape(" ", face) is None
    assert glyph_faces._shape("\ufffe", face) is None
