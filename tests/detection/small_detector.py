"""A small detector that was never trained, and images for it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fsljax import methods
from fsljax.detection.model.build import build_network
from fsljax.detection.model.trained import TrainedDetector
from fsljax.methods import repmet_detector

SIDE = 32
BOX = [4.0, 6.0, 20.0, 26.0]


def config_of(kind: str = "repmet", channels: int = 1) -> Any:
    config = repmet_detector.default_config()
    config.name = "small"
    name = "scenes" if channels == 1 else "coco"
    config.data.update({"name": name, "path": "unread", "image_size": SIDE, "channels": channels})
    config.scenes.size = SIDE
    config.network.update({"name": "scene_net"})
    config.pyramid.update({"channels": 8, "extra_levels": 0})
    config.proposals.update({"sizes": (8.0, 16.0, 24.0), "before_nms": 32, "keep": 8, "keep_in_test": 16})
    config.head.update({"kind": kind, "hidden": 16, "dim": 8})
    return config


def untrained(channels: int = 1) -> TrainedDetector:
    config = methods.check(config_of(channels=channels))
    network = build_network(config, 3, in_test=True)
    variables = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, SIDE, SIDE, channels)))
    variables = {**variables, "params": {**variables["params"], "representatives": jnp.ones((3, 1, 8))}}
    return TrainedDetector(config, network, jax.device_get(variables), 3, 7)


def patterns(count: int = 3, seed: int = 0) -> np.ndarray:
    """uint8 `[count, 32, 32, 1]`."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (count, 8, 8))
    return np.kron(coarse, np.ones((4, 4)))[..., None].astype(np.uint8)


def same(found: Any, expected: Any, scale: float = 1.0) -> None:
    for boxes, wanted in zip(found.boxes, expected.boxes, strict=True):
        np.testing.assert_allclose(boxes, scale * np.asarray(wanted), atol=1e-3)
    for scores, wanted in zip(found.scores, expected.scores, strict=True):
        np.testing.assert_allclose(scores, wanted, atol=1e-4)
    assert [of.tolist() for of in found.labels] == [of.tolist() for of in expected.labels]
