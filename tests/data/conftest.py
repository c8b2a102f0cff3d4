"""A small TFDS data set for the tests of whatever reads one."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

PICTURE_COUNTS = {"train": 23, "test": 5}


class Pictures(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Noise, 6 × 9 pixels, other in every picture."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in PICTURE_COUNTS}

    def _generate_examples(self, split):
        noise = np.random.default_rng(len(split)).integers(0, 256, (PICTURE_COUNTS[split], 6, 9, 3), np.uint8)
        for number, pixels in enumerate(noise):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            yield number, {"image": io.BytesIO(file.getvalue()), "label": number % 3}


@pytest.fixture(scope="session")
def pictures_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the prepared data set, splits train (23 records) and test (5)."""
    builder = Pictures(data_dir=tmp_path_factory.mktemp("pictures"), file_format="array_record")
    builder.download_and_prepare()
    return Path(builder.data_path)


@pytest.fixture(scope="session")
def pictures(pictures_folder: Path) -> np.ndarray:
    """Its centre squares, uint8 `[28, 6, 6, 3]`, train before test, as plain TFDS reads them."""
    parts = tfds.builder_from_directory(pictures_folder).as_data_source()
    whole = [example["image"] for split in ("train", "test") for example in parts[split]]
    return np.stack(whole)[:, :, 1:7]
