"""Lake's one-shot task: 20 runs of 20 decisions within an alphabet (https://doi.org/10.1126/science.aab3050).

Training uses background alphabets only: all 30, or one of the two minimal sets of five. They share no
character with the 20 alphabets that the runs are drawn from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fsljax.config import Data
from fsljax.data.dataset import FixedEpisodes, ImageDataset, Splits, take_classes
from fsljax.data.io import lake_files
from fsljax.data.io.cache import cached_arrays
from fsljax.data.io.omniglot_archives import BASE_URL, NAME
from fsljax.data.sources import omniglot
from fsljax.errors import UserError

FITTING = omniglot.FITTING
SETTING = "lake_one_shot"
NUM_CHARACTERS = 964
ALPHABETS = (
    "Alphabet_of_the_Magi", "Anglo-Saxon_Futhorc", "Arcadian", "Armenian", "Asomtavruli_(Georgian)",
    "Balinese", "Bengali", "Blackfoot_(Canadian_Aboriginal_Syllabics)", "Braille", "Burmese_(Myanmar)",
    "Cyrillic", "Early_Aramaic", "Futurama", "Grantha", "Greek", "Gujarati", "Hebrew",
    "Inuktitut_(Canadian_Aboriginal_Syllabics)", "Japanese_(hiragana)", "Japanese_(katakana)", "Korean",
    "Latin", "Malay_(Jawi_-_Arabic)", "Mkhedruli_(Georgian)", "N_Ko",
    "Ojibwe_(Canadian_Aboriginal_Syllabics)", "Sanskrit", "Syriac_(Estrangelo)", "Tagalog", "Tifinagh",
)  # fmt: skip
VALIDATION_ALPHABETS = {
    "all": omniglot.VALIDATION_ALPHABETS,
    "small1": ("Greek",),
    "small2": ("Greek",),
}

_ARRAYS_VERSION = 1  # to be raised whenever `_decode_background` or `_decode_runs` gives other arrays


def load(data: Data) -> Splits:
    """Loads the task as configured; see `load_splits`."""
    if data.split_by != "classes":
        raise UserError(
            f"config.data.split_by is {data.split_by!r}, but Lake's task tests on unseen "
            "characters: set --config.data.split_by=classes."
        )
    return load_splits(
        background=data.background,
        path=data.path,
        data_dir=data.data_dir or None,
        image_size=data.image_size,
        symmetries=data.symmetries,
    )


def load_splits(
    *,
    background: str = "all",
    path: str = "",
    data_dir: str | None = None,
    image_size: int = 28,
    symmetries: int = 4,
    base_url: str = BASE_URL,
) -> Splits:
    """Loads the background characters and the 20 runs; downloads what is missing.

    Classes are named `Alphabet/characterNN`, as in `fsljax.data.sources.omniglot`; those of the test split
    `runNN/classNN`, with two drawings each: the run's training image, then its test image. Ink is 255.

    Args:
      background: "all", or the minimal set "small1" or "small2".
      path: folder that holds the archives `all_runs.zip` and `images_background….zip`, or what these unpack
        to. What is missing is looked up among TFDS data sets, or else downloaded to them.
      data_dir: folder of TFDS data sets; None: `$TFDS_DATA_DIR` if set, else `~/tensorflow_datasets`. The
        background set "all" is the train split of TFDS's Omniglot.
      image_size: side of the images, resized by area from 105.
      symmetries: classes made of each background character; see `omniglot.symmetric_classes`.
      base_url: URL that archives are downloaded from if needed.

    Returns:
      Training and validation splits of the background alphabets, with five of the 30 or one of the five for
      validation; a test split of 400 classes, and its 20 episodes, `lake_one_shot`.

    Raises:
      UserError: if data are missing and cannot be downloaded, are damaged, or are not the published data.
    """
    characters = _background(background, path, data_dir, image_size, base_url)
    held_out = np.array([name.split("/")[0] in VALIDATION_ALPHABETS[background]
                         for name in characters.class_names])  # fmt: skip
    train, validation = (
        omniglot.symmetric_classes(take_classes(characters, chosen), symmetries)
        for chosen in (~held_out, held_out)
    )
    test, episodes = _runs(path, data_dir, image_size, base_url)
    return Splits(train, validation, test, episodes=episodes)


def _background(
    background: str, path: str, data_dir: str | None, image_size: int, base_url: str
) -> ImageDataset:
    name = lake_files.BACKGROUND[background]
    place = lake_files.find(name, path)
    if place is None and background == "all":
        characters, place = omniglot.all_characters(
            data_dir=data_dir, image_size=image_size, base_url=base_url
        )
        in_background = np.array([name.split("/")[0] in ALPHABETS for name in characters.class_names])
        characters = take_classes(characters, in_background)
    else:
        place = place or lake_files.fetch(name, data_dir=data_dir, base_url=base_url)
        drawings = lake_files.read_background(place)
        arrays = cached_arrays(
            f"{NAME}_{name}",
            _fingerprint(image_size, {"/".join(map(str, key)): png for key, png in drawings.items()}),
            lambda: _decode_background(drawings, image_size, place),
        )
        characters = ImageDataset(arrays["images"], arrays["labels"], tuple(arrays["names"].tolist()))
    _check_background(characters, background, place)
    return characters


def _check_background(characters: ImageDataset, background: str, place: Path) -> None:
    """Raises a UserError unless these are background characters, and all of them."""
    alphabets = {name.split("/")[0] for name in characters.class_names}
    if others := sorted(alphabets.difference(ALPHABETS)):
        raise UserError(
            f"{place} holds {others[0]!r}, which is not a background alphabet of Omniglot, and "
            "the task must be learned from these alone: give the published files."
        )
    wanted = NUM_CHARACTERS if background == "all" else None
    if (wanted and characters.num_classes != wanted) or not alphabets.issuperset(
        VALIDATION_ALPHABETS[background]
    ):
        raise UserError(
            f"{place} holds {characters.num_classes:,} characters of {len(alphabets)} alphabets, which is "
            f"not the published background set {background!r}: copy it again."
        )


def _runs(
    path: str, data_dir: str | None, image_size: int, base_url: str
) -> tuple[ImageDataset, dict[str, FixedEpisodes]]:
    """The test part, and its episodes."""
    place = lake_files.find("all_runs", path)
    place = place or lake_files.fetch("all_runs", data_dir=data_dir, base_url=base_url)
    runs = lake_files.read_runs(place)
    files = {f"{run}/{name}": content for run, images, _ in runs for name, content in images.items()}
    arrays = cached_arrays(
        f"{NAME}_all_runs",
        _fingerprint(image_size, files),
        lambda: _decode_runs(runs, image_size, place),
    )
    names = tuple(f"{run}/class{number:02}" for run, _, _ in runs for number in range(1, lake_files.WAY + 1))
    rows = np.arange(2 * len(names), dtype=np.int32)
    data = ImageDataset(arrays["images"], rows // 2, names)
    return data, {SETTING: FixedEpisodes(rows.reshape(len(runs), -1, 2), shot=1, unit="run")}


def _decode_background(
    drawings: Mapping[tuple[str, int, int], bytes], image_size: int, place: Path
) -> dict[str, np.ndarray]:
    characters = list(dict.fromkeys((alphabet, number) for alphabet, number, _ in drawings))
    index = {character: label for label, character in enumerate(characters)}
    ink = [
        omniglot.ink(png, f"A drawing of {alphabet}, character {number}, in {place}")
        for (alphabet, number, _), png in drawings.items()
    ]
    return {
        "images": omniglot.resize_by_area(np.stack(ink), image_size),
        "labels": np.array([index[alphabet, number] for alphabet, number, _ in drawings], np.int32),
        "names": np.array([f"{alphabet}/character{number:02}" for alphabet, number in characters]),
    }


def _decode_runs(
    runs: list[tuple[str, dict[str, bytes], np.ndarray]], image_size: int, place: Path
) -> dict[str, np.ndarray]:
    ink = []
    for run, images, classes in runs:
        for label in range(lake_files.WAY):
            item = int(np.flatnonzero(classes == label)[0])
            for name in (f"training/class{label + 1:02}.png", f"test/item{item + 1:02}.png"):
                ink.append(omniglot.ink(images[name], f"{run}/{name} in {place}"))
    return {"images": omniglot.resize_by_area(np.stack(ink), image_size)}


def _fingerprint(image_size: int, files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode(errors="surrogateescape") + b"\0" + hashlib.sha256(files[name]).digest())
    return f"{_ARRAYS_VERSION:02}{image_size:04}{digest.hexdigest()}"
