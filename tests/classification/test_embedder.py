"""By what the stored features of a frozen backbone are found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fsljax.classification import embedder
from fsljax.config import Data, Experiment, Network
from fsljax.data.dataset import ImageDataset


def words_of(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> list[Any]:
    """The fields among them."""
    found: list[Any] = []
    monkeypatch.setattr(embedder, "fingerprint_of", lambda *words: found.append(words) or "")
    monkeypatch.setattr(embedder, "frozen_features", lambda *_, **__: np.zeros((1, 1, 1)))
    monkeypatch.setattr(ImageDataset, "cache_key", lambda _: "", raising=False)
    network = Network(trainable="head", embedding=(4,), init_from="elsewhere", **fields)
    config = Experiment(data=Data(image_size=28), network=network)
    part = ImageDataset.__new__(ImageDataset)
    object.__setattr__(part, "images", np.zeros((1, 28, 28, 1), np.uint8))
    embedder.build_embedder(config, (28, 28, 1)).inputs({"params": {}}, part, training=False)
    return found[0][2]


def test_fields_of_vit_count_for_vit_alone(monkeypatch: pytest.MonkeyPatch):
    others = words_of(monkeypatch, name="lenet", heads=3)
    assert others == words_of(monkeypatch, name="lenet") == ["lenet", 64, 4, "symmetric", [0.0], [1.0]]
    small = {"name": "vit", "patch_size": 7, "width": 12}
    plain = words_of(monkeypatch, **small, heads=3)
    for change in ({"heads": 4}, {"heads": 3, "pool": "average"}, {"heads": 3, "embed_class": False}):
        assert words_of(monkeypatch, **small, **change) != plain
