"""Omniglot in the few-shot protocol of Vinyals et al. (2016), https://arxiv.org/abs/1606.04080."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from fsljax.data import tfds_source
from fsljax.data.cache import cached_arrays
from fsljax.data.dataset import ImageDataset, Splits
from fsljax.errors import UserError

NAME = "omniglot"
VERSION = "3.0.0"
NUM_CHARACTERS = 1623
NUM_TRAIN_VALIDATION = 1200
FIRST_TEST_CHARACTER = "Gurmukhi/character42"
VALIDATION_ALPHABETS = ("Armenian", "Bengali", "Early_Aramaic", "Hebrew", "Mkhedruli_(Georgian)")

_ARRAYS_VERSION = 1  # to be raised whenever `_decode` gives other arrays
_STORED_SIZE = 105


def load(*, data_dir: str | None = None, image_size: int = 28, rotations: bool = True) -> Splits:
    """Loads Omniglot, divided by characters as published.

    Classes are named `Alphabet/characterNN`, rotated ones `Alphabet/characterNN/rot090` and so on; the
    images of a class lie together, in the order in which TFDS stores them. Ink is 255, paper 0.

    Args:
      data_dir: folder of TFDS data sets; None takes `$TFDS_DATA_DIR`, else `~/tensorflow_datasets`.
      image_size: side of the images, resized by area from 105.
      rotations: each character turned by 0, 90, 180 and 270 degrees is four classes.

    Returns:
      Images uint8 `[n, image_size, image_size, 1]`; 4,112 / 688 / 1,692 classes of 20 drawings, a
      quarter of that without rotations.

    Raises:
      UserError: the data are missing, damaged or not the published set.
    """
    folder = tfds_source.find(NAME, VERSION, data_dir)
    if folder is None:
        raise tfds_source.not_found(NAME, VERSION, data_dir)
    fingerprint = f"{_ARRAYS_VERSION:02}{image_size:04}{tfds_source.content_hash(folder)}"
    arrays = cached_arrays(NAME, fingerprint, lambda: _decode(folder, image_size))
    characters = ImageDataset(arrays["images"], arrays["labels"], tuple(arrays["names"].tolist()))
    return split(characters, rotations=rotations)


def split(characters: ImageDataset, *, rotations: bool = True) -> Splits:
    """Divides the characters, ordered as published and without rotations, into the published parts.

    Raises:
      UserError: these are not the 1,623 characters in the published order.
    """
    names = characters.class_names
    if len(names) != NUM_CHARACTERS or names[NUM_TRAIN_VALIDATION] != FIRST_TEST_CHARACTER:
        raise UserError(
            f"The published split needs the {NUM_CHARACTERS:,} characters of Omniglot, with "
            f"{FIRST_TEST_CHARACTER} as number {NUM_TRAIN_VALIDATION + 1:,}. This set has {len(names):,} "
            "characters" + (" in another order." if len(names) == NUM_CHARACTERS else ".")
        )
    validation = np.array([name.split("/")[0] in VALIDATION_ALPHABETS for name in names])
    test = np.arange(NUM_CHARACTERS) >= NUM_TRAIN_VALIDATION
    parts = [_take_classes(characters, chosen) for chosen in (~validation & ~test, validation & ~test, test)]
    return Splits(*(map(rotate, parts) if rotations else parts))


def rotate(characters: ImageDataset) -> ImageDataset:
    """Turns every class into four, each a quarter turn counter-clockwise from the last.

    Class `c` becomes classes `4c … 4c + 3`; images `[n, size, size, channel]` become `[4n, …]`.
    """
    turned = np.concatenate([np.rot90(characters.images, turns, axes=(1, 2)) for turns in range(4)])
    labels = np.concatenate([4 * characters.labels + turns for turns in range(4)])
    order = np.argsort(labels, kind="stable")
    suffixes = ("", "/rot090", "/rot180", "/rot270")
    return ImageDataset(
        images=turned[order],
        labels=labels[order],
        class_names=tuple(name + suffix for name in characters.class_names for suffix in suffixes),
    )


def resize_by_area(ink: np.ndarray, size: int) -> np.ndarray:
    """Share of ink in each cell of a `size` × `size` grid laid over the images.

    The sums are of whole numbers and therefore exact, so that turning before or after is the same.

    Args:
      ink: bool `[n, 105, 105]`.
      size: side of the result.

    Returns:
      uint8 `[n, size, size, 1]`: 255 where a cell is all ink.
    """
    stored = ink.shape[1]
    edges = np.arange(stored + 1) * size
    cell = np.arange(size)[:, None] * stored
    # Overlap of cell and pixel in units of 1 / (stored · size) of the side: rows add up to `stored`.
    overlap = np.minimum(edges[1:], cell + stored) - np.maximum(edges[:-1], cell)
    weights = np.maximum(overlap, 0).astype(np.float32)
    covered = np.concatenate(
        [
            weights @ chunk.astype(np.float32) @ weights.T
            for chunk in np.array_split(ink, len(ink) // 1000 + 1)
        ]
    )
    return np.rint(covered * 255 / stored**2).astype(np.uint8)[..., None]


def _decode(folder: Path, image_size: int) -> dict[str, np.ndarray]:
    """All drawings, grouped by character in published order."""
    alphabets = tfds_source.dataset_info(folder).features["alphabet"].names
    keys, parts = [], []
    for part in ("train", "test"):
        ink = []
        for example in tfds_source.data_source(folder, part):
            keys.append((part == "test", alphabets[example["alphabet"]], int(example["alphabet_char_id"])))
            ink.append(_ink(example["image"]))
        parts.append(resize_by_area(np.stack(ink), image_size))
    characters = sorted(set(keys))
    index = {character: i for i, character in enumerate(characters)}
    labels = np.array([index[key] for key in keys], np.int32)
    order = np.argsort(labels, kind="stable")
    return {
        "images": np.concatenate(parts)[order],
        "labels": labels[order],
        "names": np.array([f"{alphabet}/character{number + 1:02}" for _, alphabet, number in characters]),
    }


def _ink(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("L")) == 0


def _take_classes(data: ImageDataset, chosen: np.ndarray) -> ImageDataset:
    rows = chosen[data.labels]
    renumbered = np.cumsum(chosen) - 1
    return ImageDataset(
        images=data.images[rows],
        labels=renumbered[data.labels[rows]].astype(np.int32),
        class_names=tuple(name for name, keep in zip(data.class_names, chosen, strict=True) if keep),
    )
