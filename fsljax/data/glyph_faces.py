"""Characters rendered large from the fonts that matplotlib ships: the shapes that glyphs are made of."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

SHAPE_SIZE = 64  # pixels a side
_INK_SIZE = 46  # pixels of the longer side of a shape
_FONT_SIZE = 72
_CANVAS = 160
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")

_DEJAVU = [
    f"DejaVu{family}{style}.ttf"
    for family, styles in {
        "Sans": ("", "-Bold", "-Oblique", "-BoldOblique"),
        "Serif": ("", "-Bold", "-Italic", "-BoldItalic"),
        "SansMono": ("", "-Bold", "-Oblique", "-BoldOblique"),
    }.items()
    for style in styles
]
_STIX = [f"STIXGeneral{style}.ttf" for style in ("", "Bol", "Italic", "BolIta")]
# Computer Modern places letters and digits where Unicode has them, and little else.
_COMPUTER_MODERN = ["cmr10.ttf", "cmb10.ttf", "cmss10.ttf", "cmtt10.ttf"]
FACES = (*_DEJAVU, *_STIX, *_COMPUTER_MODERN)

# By the first word of the Unicode name. Ogham is not among them: its letters differ in the number of
# strokes alone.
_SCRIPTS = {
    "DIGIT": "Common", "LATIN": "Latin", "GREEK": "Greek", "COPTIC": "Coptic", "CYRILLIC": "Cyrillic",
    "ARMENIAN": "Armenian", "HEBREW": "Hebrew", "ARABIC": "Arabic", "ARABIC-INDIC": "Arabic", "NKO": "Nko",
    "LAO": "Lao", "GEORGIAN": "Georgian", "CANADIAN": "Canadian_Aboriginal",
    "TIFINAGH": "Tifinagh", "LISU": "Lisu", "OLD": "Old_Italic",
}  # fmt: skip

# Variants of other characters by their very definition.
_LEFT_OUT = (
    "FORM", "LIGATURE", "MODIFIER", "MATHEMATICAL", "FULLWIDTH", "HALFWIDTH", "COMBINING", "PHONETIC",
    "SMALL CAPITAL", "DIGRAPH", "SIGN", "SYMBOL", "EXTENSION", "LETTER WITH", "TITLECASE",
)  # fmt: skip


def face_path(face: str) -> Path:
    """Where matplotlib keeps a font file."""
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / face


def fingerprint() -> str:
    """SHA-256 of all font files."""
    digest = hashlib.sha256()
    for face in FACES:
        digest.update(face_path(face).read_bytes())
    return digest.hexdigest()


@cache
def characters_of(face: str) -> frozenset[str]:
    """The characters that a face has glyphs for."""
    charmap = FT2Font(str(face_path(face))).get_charmap()
    characters = {chr(code) for code, glyph in charmap.items() if glyph}
    return frozenset(characters & _PLAIN if face in _COMPUTER_MODERN else characters)


def candidates() -> list[str]:
    """Letters and digits that two faces at least can draw, in the order of their code points."""
    faces_with: dict[str, int] = {}
    for face in FACES:
        for character in characters_of(face):
            faces_with[character] = faces_with.get(character, 0) + 1
    return sorted(c for c, faces in faces_with.items() if faces >= 2 and _is_letter_or_digit(c))


def script(character: str) -> str | None:
    """Unicode script of a character, such as "Latin"; None for symbols that belong to no script."""
    return _SCRIPTS.get(unicodedata.name(character, "").split(" ")[0])


def shapes(character: str, faces: Iterable[str] = FACES) -> np.ndarray:
    """The character in every face that has it, ink filling the same box.

    Returns:
      uint8 `[faces, SHAPE_SIZE, SHAPE_SIZE]`, ink 255; glyphs that are empty, or the box that stands
      for a missing one, are left out.
    """
    drawn = [
        shape
        for face in faces
        if character in characters_of(face) and (shape := _shape(character, face)) is not None
    ]
    return np.stack(drawn) if drawn else np.zeros((0, SHAPE_SIZE, SHAPE_SIZE), np.uint8)


def _is_letter_or_digit(character: str) -> bool:
    if unicodedata.category(character) not in ("Lu", "Ll", "Lo", "Nd"):
        return False
    name = unicodedata.name(character, "")
    return script(character) is not None and not any(words in name for words in _LEFT_OUT)


def _shape(character: str, face: str) -> np.ndarray | None:
    pixels = _render(character, face)
    if not pixels.any() or np.array_equal(pixels, _missing(face)):
        return None
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    ink = Image.fromarray(pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    scale = _INK_SIZE / max(ink.size)
    width, height = (max(1, round(scale * side)) for side in ink.size)
    sheet = Image.new("L", (SHAPE_SIZE, SHAPE_SIZE))
    resized = ink.resize((width, height), Image.Resampling.BILINEAR)
    sheet.paste(resized, ((SHAPE_SIZE - width) // 2, (SHAPE_SIZE - height) // 2))
    return np.asarray(sheet)


@cache
def _font(face: str) -> ImageFont.FreeTypeFont:
    # The basic layout needs no library beside FreeType, and is the same everywhere.
    return ImageFont.truetype(str(face_path(face)), _FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)


@cache
def _missing(face: str) -> np.ndarray:
    return _render("\uffff", face)


def _render(character: str, face: str) -> np.ndarray:
    sheet = Image.new("L", (_CANVAS, _CANVAS))
    ImageDraw.Draw(sheet).text(
        (_CANVAS // 2, _CANVAS // 2), character, fill=255, font=_font(face), anchor="mm"
    )
    return np.asarray(sheet)
