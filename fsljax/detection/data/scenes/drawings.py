"""The characters that scenes are made of, divided into base and novel ones."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from fsljax.data import merge
from fsljax.data.dataset import ImageDataset, Splits
from fsljax.data.example_split import TEST_DRAWINGS
from fsljax.detection.data.scenes.composition import Drawings
from fsljax.errors import UserError

SIDE = 64  # pixels of a stored drawing


class SceneDrawings(NamedTuple):
    """Drawings for training, for testing on base characters, and of characters never trained on.

    Attributes:
      base: the base characters' drawings for training, all but the last 5 in stored order.
      base_test: the last 5 of the same characters.
      novel: all drawings of the novel characters.
      base_names, novel_names: one name a character.
    """

    base: Drawings
    base_test: Drawings
    novel: Drawings
    base_names: tuple[str, ...]
    novel_names: tuple[str, ...]


def load(
    name: str,
    *,
    part: Literal["validation", "test"] = "test",
    data_dir: str | None = None,
    seed: int = 0,
) -> SceneDrawings:
    """Loads the drawings of Omniglot or of the glyphs, by their published or own division of characters.

    Args:
      name: "omniglot" or "glyphs".
      part: "test": the test characters are novel, those of train and validation base (Omniglot: 423 and
        1,200); "validation": the validation characters are novel, those of train base (172 and 1,028).
      data_dir: folder of TFDS data sets, for Omniglot.
      seed: of the glyphs.

    Returns:
      Drawings of 64 × 64 pixels, Omniglot's shrunk by area from 105.

    Raises:
      UserError: another name, or the data are missing.
    """
    splits = _splits(name, data_dir, seed)
    if part == "test":
        base, novel = merge(splits.train, splits.validation), splits.test
    else:
        base, novel = splits.train, splits.validation
    drawn = _by_character(base)
    return SceneDrawings(
        base=Drawings(jnp.asarray(drawn[:, :-TEST_DRAWINGS])),
        base_test=Drawings(jnp.asarray(drawn[:, -TEST_DRAWINGS:])),
        novel=Drawings(jnp.asarray(_by_character(novel))),
        base_names=base.class_names,
        novel_names=novel.class_names,
    )


def _splits(name: str, data_dir: str | None, seed: int) -> Splits:
    # Imported where used: each source brings libraries that take seconds to import.
    if name == "omniglot":
        from fsljax.data.sources import omniglot

        return omniglot.load_splits(data_dir=data_dir, image_size=SIDE, rotations=False)
    if name == "glyphs":
        from fsljax.data.sources import glyphs

        return glyphs.load_splits(image_size=SIDE, seed=seed)
    raise UserError(f"Scenes are drawn from omniglot or glyphs; config.data.drawings is {name!r}.")


def _by_character(data: ImageDataset) -> np.ndarray:
    """uint8 `[characters, drawings, side, side]`; every character has the same number of drawings."""
    order = np.argsort(data.labels, kind="stable")
    drawings = np.asarray(data.images)[order, :, :, 0]
    return drawings.reshape(data.num_classes, -1, *drawings.shape[1:])
