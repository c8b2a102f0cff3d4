"""Omniglot's archives, fetched and written as TFDS's builder would, which itself needs TensorFlow."""

from __future__ import annotations

import io
import re
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from fsljax.data.io import tfds_source
from fsljax.data.io.zip_archives import download_zip
from fsljax.errors import UserError

NAME = "omniglot"
VERSION = "3.0.0"
NUM_CHARACTERS = 1623
NUM_ALPHABETS = 50
STORED_SIZE = 105  # pixels a side

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
                download_zip(url, path, SHA256[part] if base_url == BASE_URL else None)
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
                    f"Omniglot cannot be written to {home / VERSION} "
                    f"({tfds_source.reason(error)}).\nGive another folder with "
                    "TFDS_DATA_DIR=FOLDER or --config.data.data_dir=FOLDER."
                ) from error
    return home / VERSION


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
                    "image": tfds.features.Image(shape=(STORED_SIZE, STORED_SIZE, 3), encoding_format="png"),
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
