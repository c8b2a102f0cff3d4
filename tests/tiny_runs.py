"""A run small enough to be started many times: a folder of little pictures and a config for it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]

CONFIG = """
from fsljax.methods import protonet


def get_config():
    config = protonet.default_config()
    config.name = "tiny"
    config.data.update({{"name": "folder", "path": {path!r}, "image_size": 16}})
    config.network.filters = 4
    config.train.update({{"steps": 40, "way": 4, "shot": 1, "queries": 2, "log_every": 5}})
    config.train.ema = 0.9
    config.augment.shift = 1.0
    config.checkpoint.every = 10
    config.validation.update({{"way": 3, "queries": 3, "episodes": 20}})
    config.eval.update({{"ways": (3,), "shots": (1, 2), "queries": 3, "episodes": 50}})
    return config
"""


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 classes of 8 pictures, each class a blurred pattern of its own with noise."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for name in (f"class{index:02d}" for index in range(20)):
        (root / name).mkdir()
        pattern = np.kron(generator.uniform(size=(4, 4)), np.ones((4, 4)))
        for number in range(8):
            noisy = np.clip(pattern + 0.15 * generator.normal(size=pattern.shape), 0, 1)
            Image.fromarray(np.uint8(255 * noisy)).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def config_file(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.py"
    path.write_text(CONFIG.format(path=str(image_folder)))
    return path


Launch = Callable[..., subprocess.CompletedProcess[str]]


def command(config_file: Path, *arguments: object) -> list[str]:
    """The command line of a run."""
    return [sys.executable, str(ROOT / "launch.py"), f"--config={config_file}", *map(str, arguments)]


@pytest.fixture
def launch(config_file: Path, tmp_path: Path) -> Launch:
    """Runs launch.py to its end in an empty folder."""

    def run(*arguments: object, config: Path | str = config_file) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(Path(config), *arguments),
            capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"COLUMNS": "200"}, timeout=300,
        )  # fmt: skip

    return run


@pytest.fixture
def start(config_file: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts launch.py and returns at once; standard error can be read line by line."""

    def run(*arguments: object, own_group: bool = False) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command(config_file, *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            start_new_session=own_group,
        )

    return run


PUBLISHED_CLASSES, PUBLISHED_COUNTS = 12, {"train": 9, "test": 4}


@pytest.fixture(scope="session")
def published_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of TFDS data sets with a small cifar100: a pattern of its own under noise for each class."""
    return prepare_published(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="session")
def damaged_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, but the first training picture of each class was stored cut short."""
    return prepare_published(tmp_path_factory.mktemp("damaged"), damaged=True)


def prepare_published(data_dir: Path, *, damaged: bool = False) -> Path:
    import tensorflow_datasets as tfds

    class Cifar100(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("3.0.2")
        name = "cifar100"

        def _info(self):
            names = [f"class{number:02d}" for number in range(PUBLISHED_CLASSES)]
            features = {
                "image": tfds.features.Image(shape=(32, 32, 3), encoding_format="png"),
                "label": tfds.features.ClassLabel(names=names),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in PUBLISHED_COUNTS}

        def _generate_examples(self, split):
            generator = np.random.default_rng(0)
            patterns = np.kron(generator.uniform(size=(PUBLISHED_CLASSES, 4, 4, 3)), np.ones((1, 8, 8, 1)))
            for label, pattern in enumerate(patterns):
                for number in range(PUBLISHED_COUNTS[split]):
                    noisy = np.clip(pattern + 0.1 * generator.normal(size=pattern.shape), 0, 1)
                    file = io.BytesIO()
                    Image.fromarray(np.uint8(255 * noisy)).save(file, "PNG")
                    stored = file.getvalue()
                    if damaged and split == "train" and not number:
                        stored = stored[:50]
                    yield f"{label}/{number}", {"image": io.BytesIO(stored), "label": label}

    Cifar100(data_dir=data_dir, file_format="array_record").download_and_prepare()
    return data_dir
