"""A hub on this machine, with small weights of a network that is quick to build."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from tests.networks.pretrained.hub_server import Hub, serving

DESCRIPTION = {
    "architecture": "resnet18",
    "num_classes": 1000,
    "pretrained_cfg": {
        "tag": "tv_in1k", "input_size": [3, 96, 96], "interpolation": "bilinear", "crop_pct": 0.75,
        "crop_mode": "center", "mean": [0.4, 0.5, 0.6], "std": [0.1, 0.2, 0.3], "first_conv": "conv1",
    },
}  # fmt: skip
TENSORS = {"conv1.weight": np.arange(64 * 147, dtype=np.float32).reshape(64, 3, 7, 7)}
OF_HUB = ("HF_ENDPOINT", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE",
          "HF_TOKEN")  # fmt: skip


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub with timm/resnet18.tv_in1k, and a cache that is empty."""
    for name in OF_HUB:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    files = {"config.json": json.dumps(DESCRIPTION).encode(), "model.safetensors": save(TENSORS)}
    with serving(Hub({"timm/resnet18.tv_in1k": files})) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.address)
        yield served
