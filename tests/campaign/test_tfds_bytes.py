"""Damage to every file of a prepared TFDS data set: the same examples, or a sentence."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from fsljax.data import tfds_images
from fsljax.data.dataset import Splits
from fsljax.data.image_sets import ImageSet
from fsljax.errors import UserError

from .conftest import Rounds

pytestmark = pytest.mark.campaign

SAMPLE = 40
SHADES = ImageSet("shades", "1.2.0")


class Shades(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Noise in three classes."""

    VERSION = tfds.core.Version("1.2.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(8, 8, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["dark", "light", "bright"]),
            "number": np.int64,
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, _: object) -> dict[str, Any]:
        return {"train": self._generate_examples(30), "test": self._generate_examples(12)}

    def _generate_examples(self, count: int) -> Iterator[tuple[int, dict[str, object]]]:
        draw = np.random.default_rng(count)
        for number in range(count):
            file = io.BytesIO()
            Image.fromarray(draw.integers(0, 256, (8, 8, 3), np.uint8)).save(file, "png")
            yield number, {"image": io.BytesIO(file.getvalue()), "label": number % 3, "number": number}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("tfds")
    Shades(data_dir=home, file_format="array_record").download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
    return home


def read(home: Path) -> Splits:
    return tfds_images.load_splits(SHADES, data_dir=str(home), image_size=8)


def arrays(splits: Splits) -> list[np.ndarray]:
    return [
        part for data in (splits.train, splits.validation, splits.test) for part in (data.images, data.labels)
    ]


@pytest.mark.parametrize("files", ["*.json", "*.labels.txt", "*.array_record-*"])
def test_damage_is_told_or_changes_nothing(
    files: str, prepared: Path, rounds: Rounds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = [np.array(array) for array in arrays(read(prepared))]
    for seed in rounds(SAMPLE):
        draw = np.random.default_rng(seed)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache {seed}"))
        shutil.copytree(prepared, tmp_path / "tfds", dirs_exist_ok=True)
        chosen = sorted((tmp_path / "tfds" / "shades" / "1.2.0").glob(files))
        file = chosen[draw.integers(len(chosen))]
        content = bytearray(file.read_bytes())
        if draw.random() < 0.1:
            file.write_bytes(content[: draw.integers(len(content))])
        else:
            used = np.flatnonzero(np.frombuffer(content, np.uint8))  # record files are padded by far
            for _ in range(draw.choice([1, 1, 1, 1, 4])):
                place = draw.choice(used) if draw.random() < 0.8 else draw.integers(len(content))
                content[place] ^= 1 << draw.integers(8)
            file.write_bytes(content)
        try:
            splits = read(tmp_path / "tfds")
        except UserError as error:
            assert str(tmp_path) in str(error)
            continue
        finally:
            shutil.rmtree(tmp_path / f"cache {seed}", ignore_errors=True)
        if splits.train.class_names == ("dark", "light", "bright"):
            for array, wanted in zip(arrays(splits), whole, strict=True):
                np.testing.assert_array_equal(array, wanted)
        else:  # a name that has become another name
            assert files == "*.labels.txt"
            assert len(splits.train) + len(splits.validation) + len(splits.test) == 42
