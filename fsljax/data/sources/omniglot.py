"""Omniglot in the few-shot protocol of Vinyals et al. (2016), https://arxiv.org/abs/1606.04080."""

from __future__ import annotations

import io
import re
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from PIL import Image

from fsljax.config import Data
from fsljax.data.dataset import ImageDataset, Splits, take_classes
from fsljax.data.example_split import divide_drawings
from fsljax.data.io import tfds_source
from fsljax.data.io.cache import cached_arrays
from fsljax.data.io.decode import Fitting
from fsljax.errors import UserError

NAME = "omniglot"
FITTING = Fitting(Image.Resampling.BOX)
VERSION = "3.0.0"
NUM_CHARACTERS = 1623
NUM_ALPHABETS = 50
NUM_TRAIN_VALIDATION = 1200
FIRST_TEST_CHARACTER = "Gurmukhi/character42"
VALIDATION_ALPHABETS = ("Armenian", "Bengali", "Early_Aramaic", "Hebrew", "Mkhedruli_(Georgian)")

BASE_URL = "https://github.com/brendenlake/omniglot/raw/master/python/"
ARCHIVES = {
    "train": "images_background.zip",
    "test": "images_evaluation.zip",
    "small1": "images_background_small1.zip",
    "small2": "images_background_small2.zip",
}
# As TFDS records them for these addresses.
SHA256 = {
    "train": "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
    "test": "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
    "small1": "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4",
    "small2": "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f",
}

_ARRAYS_VERSION = 1  # to be raised whenever `_decode` gives other arrays
_STORED_SIZE = 105


def load(data: Data) -> Splits:
    """Loads Omniglot, divided as the config says; see `load_splits`."""
    return load_splits(
        data_dir=data.data_dir or None,
        image_size=data.image_size,
        shared_classes=data.split_by == "examples",
        fractions=data.fractions,
    )


def load_splits(
    *,
    data_dir: str | None = None,
    image_size: int = 28,
    rotations: bool = True,
    shared_classes: bool = False,
    fractions: Sequence[float] = (0.64, 0.16, 0.2),
    base_url: str = BASE_URL,
) -> Splits:
    """Loads Omniglot, divided by characters as published; downloads and prepares it where it is missing.

    Classes are named `Alphabet/characterNN`, rotated ones `Alphabet/characterNN/rot090` and so on; the
    images of a class lie together, in the order in which TFDS stores them. Ink is 255, paper 0.

    Args:
      data_dir: folder of TFDS data sets; None takes `$TFDS_DATA_DIR`, else `~/tensorflow_datasets`.
      image_size: side of the images, resized by area from 105.
      rotations: each character turned by 0, 90, 180 and 270 degrees is four classes.
      shared_classes: for classification: the parts share all characters, which are not turned, and the
        drawings of each are divided by `fsljax.data.example_split.divide_drawings`.
      fractions: for that division.
      base_url: where the four archives are downloaded from if need be.

    Returns:
      Images uint8 `[n, image_size, image_size, 1]`; 4,112 / 688 / 1,692 classes of 20 drawings, a
      quarter of that without rotations; with `shared_classes` 1,623 classes of 12 / 3 / 5 drawings.

    Raises:
      UserError: the data are missing and cannot be downloaded, are damaged, or are not the published set.
    """
    folder = tfds_source.find(NAME, VERSION, data_dir)
    if folder is None:
        folder = prepare(data_dir=data_dir, base_url=base_url)
    fingerprint = f"{_ARRAYS_VERSION:02}{image_size:04}{tfds_source.content_hash(folder)}"
    arrays = cached_arrays(NAME, fingerprint, lambda: _decode(folder, image_size))
    characters = ImageDataset(arrays["images"], arrays["labels"], tuple(arrays["names"].tolist()))
    if shared_classes:
        return divide_drawings(characters, fractions)
    return split(characters, rotations=rotations)


def prepare(*, data_dir: str | None = None, base_url: str = BASE_URL) -> Path:
    """Downloads Omniglot and writes it as TFDS's builder would, which itself needs TensorFlow.

    All four of TFDS's splits are written, so that what other programs find under TFDS's name is
    complete. The data set appears in its place in one step, when it is whole.

    Returns:
      The folder of the data set, `.../omniglot/3.0.0`.

    Raises:
      UserError: the archives cannot be had or are not Omniglot's, or the folder cannot be written.
    """
    home = tfds_source.data_folder(data_dir) / NAME
    logging.warning("Omniglot is not in %s: downloading it (19 MB) from %s", home.parent, base_url)
    with tempfile.TemporaryDirectory(prefix="fsljax-omniglot-") as downloads:
        archives = {part: Path(downloads) / file for part, file in ARCHIVES.items()}
        for part, path in archives.items():
            url = base_url.rstrip("/") + "/" + path.name
            try:
                tfds_source.download_zip(url, path, SHA256[part] if base_url == BASE_URL else None)
            except OSError as error:
                tried = f"downloading {url}:\n    {tfds_source.reason(error)}"
                raise tfds_source.not_found(NAME, VERSION, data_dir, [tried]) from error
        try:
            home.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".incomplete-", dir=home) as work:
                _write(archives, Path(work)).rename(home / VERSION)
        except OSError as error:
            # Another process may have been faster.
            if tfds_source.find(NAME, VERSION, data_dir) is None:
                raise UserError(
                    f"Omniglot cannot be written to {home / VERSION} ({tfds_source.reason(error)}).\n"
                    "Name another folder with TFDS_DATA_DIR=FOLDER or --config.data.data_dir=FOLDER."
                ) from error
    return home / VERSION


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
    parts = [take_classes(characters, chosen) for chosen in (~validation & ~test, validation & ~test, test)]
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


class _Drawing(NamedTuple):
    alphabet: str
    character: int  # within the alphabet, from 0
    label: int
    file: str
    member: str


def _drawings(archive: Path) -> list[_Drawing]:
    layout = re.compile(r"[^/]+/([^/]+)/character(\d+)/((\d+)_\d+\.png)")
    with zipfile.ZipFile(archive) as opened:
        matches = [match for name in opened.namelist() if (match := layout.fullmatch(name))]
    return [_Drawing(match[1], int(match[2]) - 1, int(match[4]) - 1, match[3], match[0]) for match in matches]


def _write(archives: dict[str, Path], data_dir: Path) -> Path:
    """Writes the data set under TFDS's name, version, features and record keys; returns its folder."""
    drawings = {part: _drawings(path) for part, path in archives.items()}
    names = {d.label: f"{d.alphabet}_{d.character}" for part in drawings.values() for d in part}
    alphabets = sorted({d.alphabet for part in drawings.values() for d in part})
    if sorted(names) != list(range(NUM_CHARACTERS)) or len(alphabets) != NUM_ALPHABETS:
        raise UserError(
            f"The archives hold {len(names):,} characters of {len(alphabets)} alphabets, "
            f"not Omniglot's {NUM_CHARACTERS:,} of {NUM_ALPHABETS}: nothing was prepared."
        )

    class Omniglot(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
        """Reads the archives as they are: nothing is unpacked to disk."""

        VERSION = tfds.core.Version(VERSION)

        def _info(self) -> tfds.core.DatasetInfo:
            features = tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(_STORED_SIZE, _STORED_SIZE, 3), encoding_format="png"
                    ),
                    "alphabet": tfds.features.ClassLabel(names=alphabets),
                    "alphabet_char_id": np.int64,
                    "label": tfds.features.ClassLabel(names=[names[i] for i in range(NUM_CHARACTERS)]),
                }
            )
            return tfds.core.DatasetInfo(
                builder=self,
                description="Handwritten characters of 50 alphabets, 20 drawings each.",
                features=features,
                supervised_keys=("image", "label"),
                homepage="https://github.com/brendenlake/omniglot/",
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {part: self._generate_examples(part) for part in archives}

        def _generate_examples(self, part: str) -> Iterator[tuple[str, dict[str, Any]]]:
            with zipfile.ZipFile(archives[part]) as archive:
                for drawing in drawings[part]:
                    yield (
                        f"{drawing.alphabet}_{drawing.character}_{drawing.file}",
                        {
                            "image": io.BytesIO(archive.read(drawing.member)),
                            "alphabet": drawing.alphabet,
                            "alphabet_char_id": drawing.character,
                            "label": drawing.label,
                        },
                    )

    builder = Omniglot(data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    return Path(builder.data_dir)


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
