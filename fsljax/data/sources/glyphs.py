"""Glyphs: characters of many scripts drawn from the fonts shipped with matplotlib; nothing is downloaded.

Characters that look alike, across scripts and cases or after a rotation by 90 degrees, are one class. Splits
are by script: a network is tested on scripts that it has never seen.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageFilter

from fsljax.config import Data
from fsljax.data import glyph_faces
from fsljax.data.augmentation import Augmentation, augment
from fsljax.data.dataset import ImageDataset, Splits, take_classes
from fsljax.data.example_split import divide_drawings
from fsljax.data.io.cache import cached_arrays
from fsljax.data.io.decode import Fitting

NAME = "glyphs"
FITTING = Fitting(Image.Resampling.BOX)
HOLDS_DRAWINGS = True  # which are not cropped
DRAWINGS = 20  # of each class
VALIDATION_SCRIPTS = ("Arabic", "Armenian")
TEST_SCRIPTS = ("Georgian", "Hebrew", "Lao", "Nko", "Tifinagh")

_ARRAYS_VERSION = 1  # to be raised whenever `_draw` gives other arrays
_COMPARED_FACES = ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf", "STIXGeneral.ttf")
_COMPARED_SIZE = 16  # pixels a side
# Correlations from which two characters are taken for one: of their shapes in any two faces, one of
# them squeezed or not, and of the blurred means over all faces, near to what random changes make of them.
_ALIKE, _ALIKE_IN_THE_MEAN = 0.91, 0.95
_BLUR = 2  # pixels of a shape
_SQUEEZED = 54  # columns left of a shape's 64
# In pixels of a shape, of which there are 64 a side.
_HANDWRITING = Augmentation(rotation=8, scale=0.12, stretch=0.1, shear=0.15, shift=4, elastic=2.5)
_CLASSES_A_CHUNK = 16


def load(data: Data) -> Splits:
    """Draws the glyphs, split as configured; see `load_splits`."""
    return load_splits(
        image_size=data.image_size,
        seed=data.split_seed,
        shared_classes=data.split_by == "examples",
        fractions=data.fractions,
    )


def load_splits(
    *,
    image_size: int = 28,
    seed: int = 0,
    shared_classes: bool = False,
    fractions: Sequence[float] = (0.64, 0.16, 0.2),
) -> Splits:
    """Draws the glyphs, or reads them from the user's cache folder if drawn before.

    Every drawing is the character in one of the fonts, under a small random affine and elastic deformation.
    Ink is 255, paper 0. Classes are ordered by code point and named by script and Unicode name, such as
    "Hebrew/HEBREW LETTER ALEF"; the 20 drawings of a class are adjacent.

    Args:
      image_size: side of the images, resized by area from 64 pixels.
      seed: another seed gives other drawings of the same classes.
      shared_classes: for classification: all splits have all classes, and the drawings of each are split by
        `fsljax.data.example_split.divide_drawings`.
      fractions: fractions of this split.

    Returns:
      Images uint8 `[n, image_size, image_size, 1]` of more than 1,000 classes, split by script; with
      `shared_classes` each has 12 / 3 / 5 drawings.
    """
    about = f"{_ARRAYS_VERSION} {image_size} {seed} {glyph_faces.fingerprint()}"
    fingerprint = hashlib.sha256(about.encode()).hexdigest()
    arrays = cached_arrays(NAME, fingerprint, lambda: _draw(image_size, seed))
    glyphs = ImageDataset(arrays["images"], arrays["labels"], tuple(arrays["names"].tolist()))
    if shared_classes:
        return divide_drawings(glyphs, fractions)
    scripts = np.array([str(glyph_faces.script(unicodedata.lookup(name))) for name in glyphs.class_names])
    in_validation, in_test = np.isin(scripts, VALIDATION_SCRIPTS), np.isin(scripts, TEST_SCRIPTS)
    train, validation, test = (
        take_classes(glyphs, chosen) for chosen in (~in_validation & ~in_test, in_validation, in_test)
    )
    return Splits(train, validation, test)


def distinct_characters() -> list[str]:
    """Letters and digits of the fonts, without those that look like an earlier one, by code point."""
    shapes = {c: _compared_shapes(c) for c in glyph_faces.candidates()}
    characters = [character for character, drawn in shapes.items() if len(drawn)]
    alike = _similarities([shapes[character] for character in characters]) >= _ALIKE
    alike |= _similarities([_blurred_mean(character) for character in characters]) >= _ALIKE_IN_THE_MEAN
    kept: list[int] = []
    for index in range(len(characters)):
        if not alike[index, kept].any():
            kept.append(index)
    return [characters[index] for index in kept]


def _compared_shapes(character: str) -> list[Image.Image]:
    upright = [Image.fromarray(shape) for shape in glyph_faces.shapes(character, _COMPARED_FACES)]
    return upright + [_squeezed(picture) for picture in upright]


def _squeezed(picture: Image.Image) -> Image.Image:
    sheet = Image.new("L", picture.size)
    narrow = picture.resize((_SQUEEZED, picture.height), Image.Resampling.BILINEAR)
    sheet.paste(narrow, ((picture.width - _SQUEEZED) // 2, 0))
    return sheet


def _blurred_mean(character: str) -> list[Image.Image]:
    mean = Image.fromarray(glyph_faces.shapes(character).mean(axis=0).astype(np.uint8))
    return [mean.filter(ImageFilter.GaussianBlur(_BLUR))]


def _similarities(pictures: list[list[Image.Image]]) -> np.ndarray:
    """The highest correlation of any two pictures of two characters, in quarter turns, `[n, n]`."""
    small = [
        picture.resize((_COMPARED_SIZE,) * 2, Image.Resampling.BOX)
        for of_character in pictures
        for picture in of_character
    ]
    standing = np.stack([np.asarray(picture, np.float32) for picture in small])
    first_of = np.cumsum([0, *map(len, pictures[:-1])])
    highest = np.full((len(pictures),) * 2, -1, np.float32)
    for turns in range(4):
        correlations = _unit(standing) @ _unit(np.rot90(standing, turns, axes=(1, 2))).T
        by_row = np.maximum.reduceat(correlations, first_of, axis=0)
        np.maximum(highest, np.maximum.reduceat(by_row, first_of, axis=1), out=highest)
    return np.maximum(highest, highest.T)


def _unit(pictures: np.ndarray) -> np.ndarray:
    """Pictures as rows with mean 0 and length 1: their products are correlations."""
    rows = pictures.reshape(len(pictures), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def _draw(image_size: int, seed: int) -> dict[str, np.ndarray]:
    characters = distinct_characters()
    chosen = np.stack([_chosen_shapes(character, seed) for character in characters])
    # Keys by code point: what a class looks like does not depend on the others.
    codes = jnp.asarray([ord(character) for character in characters], jnp.uint32)
    # On the host: slices of arrays on a device are programs of their own, which are compiled.
    keys = np.asarray(jax.random.key_data(jax.vmap(partial(jax.random.fold_in, jax.random.key(seed)))(codes)))
    drawings = np.concatenate(
        [
            np.asarray(_written(keys[start:][:_CLASSES_A_CHUNK], chosen[start:][:_CLASSES_A_CHUNK]))
            for start in range(0, len(characters), _CLASSES_A_CHUNK)
        ]
    )
    images = [
        Image.fromarray(drawing).resize((image_size,) * 2, Image.Resampling.BOX)
        for drawing in drawings.reshape(-1, *drawings.shape[2:])
    ]
    return {
        "images": np.stack([np.asarray(image) for image in images])[..., None],
        "labels": np.repeat(np.arange(len(characters), dtype=np.int32), DRAWINGS),
        "names": np.array([unicodedata.name(character) for character in characters]),
    }


def _chosen_shapes(character: str, seed: int) -> np.ndarray:
    """A shape for each drawing; all fonts that have the character take their turns."""
    shapes = glyph_faces.shapes(character)
    order = np.random.default_rng([seed, ord(character)]).permutation(DRAWINGS)
    return shapes[order % len(shapes)]


@jax.jit
def _written(keys: np.ndarray, shapes: np.ndarray) -> jax.Array:
    """Changes uint8 shapes `[classes, drawings, height, width]` by the data of each class's key."""
    ink = jnp.asarray(shapes, jnp.float32)[..., None] / 255
    changed = jax.vmap(partial(augment, amounts=_HANDWRITING))(
        jax.random.wrap_key_data(jnp.asarray(keys)), ink
    )
    return jnp.round(255 * changed[..., 0]).astype(jnp.uint8)
