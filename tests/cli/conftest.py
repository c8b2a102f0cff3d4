"""A model, small and untrained, and images that even it tells apart."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from fsljax import methods
from fsljax.api import Classifier
from fsljax.classification.embedder import build_embedder
from fsljax.config import plain
from fsljax.data.dataset import ImageDataset, Splits
from fsljax.methods import protonet
from fsljax.training.checkpoints import Model


def untrained() -> Classifier:
    given = protonet.default_config()
    given.network.filters = 2
    given.data.name = "folder"
    config = methods.check(given)
    pixels = np.zeros((1, 28, 28, 1), np.uint8)
    part = ImageDataset(pixels, np.zeros(1, np.int32), ("a",))
    embedder = build_embedder(config, pixels.shape[1:])
    state = protonet.ProtoNet(config, Splits(part, part, part), embedder).init(jax.random.key(0))
    return Classifier(plain(config), Model(0, jax.device_get(state.inference_variables())))


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `dark` and `stripes` of three images each, called so that text would sort them otherwise."""
    root = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    patterns = {
        "dark": np.full((28, 28), 0.1),
        "stripes": np.arange(28)[:, None] // 4 % 2 * np.ones((28, 28)),
    }
    for name, pattern in patterns.items():
        (root / name).mkdir()
        for number in (1, 2, 10):
            noisy = np.clip(pattern + 0.05 * generator.normal(size=pattern.shape), 0, 1)
            Image.fromarray(np.uint8(255 * noisy)).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that knows no class."""
    folder = tmp_path_factory.mktemp("models") / "bare"
    untrained().save(folder)
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, photographs: Path) -> Path:
    """The folder of a model that knows `dark` and `stripes`."""
    folder = tmp_path_factory.mktemp("models") / "model"
    untrained().enroll(photographs).save(folder)
    return folder
