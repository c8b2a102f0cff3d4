"""Omniglot in the few-shot protocol of Vinyals et al. (2016), https://arxiv.org/abs/1606.04080."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.features.feature import FeatureConnector

from fsljax.config import Data
from fsljax.data.dataset import ImageDataset, Splits, merge, take_classes
from fsljax.data.example_split import divide_drawings
from fsljax.data.io import tfds_source
from fsljax.data.io.cache import cached_arrays
from fsljax.data.io.decode import Fitting
from fsljax.data.io.omniglot_archives import BASE_URL, NAME, NUM_CHARACTERS, STORED_SIZE, VERSION, prepare
from fsljax.data.io.tfds_description import check_features
from fsljax.errors import UserError

FITTING = Fitting(Image.Resampling.BOX)
HOLDS_DRAWINGS = True  # which are not cropped
NUM_TRAIN_VALIDATION = 1200
FIRST_TEST_CHARACTER = "Gurmukhi/character42"
VALIDATION_ALPHABETS = ("Armenian", "Bengali", "Early_Aramaic", "Hebrew", "Mkhedruli_(Georgian)")

_ARRAYS_VERSION = 1  # to be raised whenever `_decode` gives other arrays
_FEATURES = {
    "image": tfds.features.Image,
    "alphabet": tfds.features.ClassLabel,
    "alphabet_char_id": FeatureConnector,
    "label": tfds.features.ClassLabel,
}


def load(data: Data) -> Splits:
    """Loads Omniglot, split as configured; see `load_splits`."""
    return load_splits(
        data_dir=data.data_dir or None,
        image_size=data.image_size,
        symmetries=data.symmetries,
        shared_classes=data.split_by == "examples",
        fractions=data.fractions,
    )


def load_splits(
    *,
    data_dir: str | None = None,
    image_size: int = 28,
    rotations: bool = True,
    symmetries: int = 4,
    shared_classes: bool = False,
    fractions: Sequence[float] = (0.64, 0.16, 0.2),
    base_url: str = BASE_URL,
) -> Splits:
    """Loads Omniglot with the published split by characters; downloads and prepares it if missing.

    Classes are named `Alphabet/characterNN`, rotated ones `Alphabet/characterNN/rot090` and so on; the images
    of a class are adjacent, in the order of TFDS. Ink is 255, paper 0.

    Args:
      data_dir: folder of TFDS data sets; None: `$TFDS_DATA_DIR` if set, else `~/tensorflow_datasets`.
      image_size: side of the images, resized by area from 105.
      rotations: each character makes four classes, rotated by 0, 90, 180 and 270 degrees.
      symmetries: number of classes per character if so; see `symmetric_classes`.
      shared_classes: for classification: all splits have all characters, without rotations, and the drawings
        of each are split by `fsljax.data.example_split.divide_drawings`.
      fractions: fractions of this split.
      base_url: URL that the four archives are downloaded from if needed.

    Returns:
      Images uint8 `[n, image_size, image_size, 1]`; 4,112 / 688 / 1,692 classes of 20 drawings, a
      quarter of that without rotations; with `shared_classes` 1,623 classes of 12 / 3 / 5 drawings.

    Raises:
      UserError: if the data are missing and cannot be downloaded, are damaged, or are not the published data
        set.
    """
    characters, _ = all_characters(data_dir=data_dir, image_size=image_size, base_url=base_url)
    if shared_classes:
        return divide_drawings(characters, fractions)
    return split(characters, rotations=rotations, symmetries=symmetries)


def all_characters(
    *, data_dir: str | None = None, image_size: int = 28, base_url: str = BASE_URL
) -> tuple[ImageDataset, Path]:
    """The 1,623 characters as they are drawn, in published order, and the folder that they come from.

    Arguments and errors as of `load_splits`.
    """
    folder = tfds_source.find(NAME, VERSION, data_dir)
    if folder is None:
        folder = prepare(data_dir=data_dir, base_url=base_url)
    fingerprint = f"{_ARRAYS_VERSION:02}{image_size:04}{tfds_source.content_hash(folder)}"
    arrays = cached_arrays(NAME, fingerprint, lambda: _decode(folder, image_size))
    characters = ImageDataset(arrays["images"], arrays["labels"], tuple(arrays["names"].tolist()))
    return characters, folder


def split(characters: ImageDataset, *, rotations: bool = True, symmetries: int = 4) -> Splits:
    """Divides the characters, ordered as published and without rotations, into the published parts.

    Args:
      characters: all of them.
      rotations, symmetries: as of `load_splits`.

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
    count = symmetries if rotations else 1
    train, validating, testing = (
        symmetric_classes(take_classes(characters, chosen), count)
        for chosen in (~validation & ~test, validation & ~test, test)
    )
    return Splits(train, validating, testing)


def symmetric_classes(characters: ImageDataset, count: int) -> ImageDataset:
    """Makes 1, 4 or 8 classes of each: as it is; turned by quarters; these, and all of its mirror image.

    Mirror images are named `Alphabet/mirrored/characterNN`; they are no class of the alphabet.
    """
    if count == 1:
        return characters
    if count == 4:
        return rotate(characters)
    mirrored = replace(
        characters,
        images=characters.images[:, :, ::-1],
        class_names=tuple(name.replace("/", "/mirrored/", 1) for name in characters.class_names),
    )
    return merge(rotate(characters), rotate(mirrored))


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
    info = tfds_source.dataset_info(folder)
    check_features(folder, info, _FEATURES)
    alphabets, names = info.features["alphabet"].names, info.features["label"].names
    are_names = names != [str(number) for number in range(len(names))]
    keys, parts = [], []
    for part in ("train", "test"):
        inked = []
        for example in tfds_source.data_source(folder, part):
            alphabet, character = alphabets[example["alphabet"]], int(example["alphabet_char_id"])
            if are_names and names[example["label"]] != f"{alphabet}_{character}":
                raise UserError(
                    f"The names of classes in {folder} contradict each other: character {character} of "
                    f"{alphabet} is {names[example['label']]}. Copy the data set again."
                )
            keys.append((part == "test", alphabet, character))
            inked.append(ink(example["image"], f"A drawing of {alphabet}_{character} in {folder}"))
        parts.append(resize_by_area(np.stack(inked), image_size))
    characters = sorted(set(keys))
    index = {character: i for i, character in enumerate(characters)}
    labels = np.array([index[key] for key in keys], np.int32)
    order = np.argsort(labels, kind="stable")
    return {
        "images": np.concatenate(parts)[order],
        "labels": labels[order],
        "names": np.array([f"{alphabet}/character{number + 1:02}" for _, alphabet, number in characters]),
    }


def ink(png: bytes, what: str) -> np.ndarray:
    """Where a drawing has ink, bool `[105, 105]`.

    Args:
      png: the content of its file.
      what: it is, for the error.

    Raises:
      UserError: if it cannot be read, or has another size.
    """
    image = tfds_source.stored_image(png, what)
    if image.size != (STORED_SIZE, STORED_SIZE):
        raise UserError(
            f"{what} has the size {image.size}, not {STORED_SIZE}×{STORED_SIZE}: copy the data set again."
        )
    return np.asarray(image.convert("L")) == 0
