"""Regions cut out and compared by a classifier's frozen network."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.api import Classifier, Detector
from fsljax.detection.enrolled import spaces
from fsljax.detection.enrolled.backbone_space import Backbone, cut_out, load_backbone
from fsljax.detection.model.trained import TrainedDetector
from fsljax.errors import UserError
from tests.classification.test_pretrained import random_weights
from tests.detection.small_detector import BOX, SIDE, same, untrained


class Colours(nn.Module):
    """The brightness of quarters of an image, in each colour: a network that needs no weights."""

    @nn.compact
    def __call__(self, images: jax.Array, *, running_average: bool) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones_init(), ())
        quarters = images.reshape(len(images), 2, 4, 2, 4, 3).mean((2, 4))
        return 1e-3 + scale * quarters.reshape(len(images), -1)


@pytest.fixture(scope="module")
def trained() -> TrainedDetector:
    return untrained(channels=3)


@pytest.fixture
def detector(trained: TrainedDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Detector:
    def load(weights: str) -> Backbone:
        variables = {"params": {"scale": np.ones(())}}
        return Backbone(weights, f"digest of {weights}", 8, 12, Colours(), variables)

    monkeypatch.setattr(spaces, "load_backbone", load)
    Detector(trained).save(tmp_path / "model")
    return Detector.load(tmp_path / "model", compare="backbone", weights="colours")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Black, with a red and a green rectangle."""
    pixels = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    for image, columns in zip(pixels, ((4, 18), (18, 4)), strict=True):
        image[6:18, columns[0] : columns[0] + 10, 0] = 255
        image[6:18, columns[1] : columns[1] + 10, 1] = 255
    return pixels


def test_a_region_is_named_by_what_its_crop_shows(detector: Detector, images: np.ndarray):
    boxes = [[6, 4, 18, 14], [6, 18, 18, 28]]
    detector.enroll(images[:1], [boxes], ["red", "green"])
    assert detector._representatives["red"].shape == (2, 12)
    found = detector.detect(images[1:], threshold=0.5)
    names = found.labels[0].tolist()
    assert set(names) == {"red", "green"}
    for (top, left, bottom, right), name in zip(found.boxes[0], names, strict=True):
        inside = images[1, int(top) : int(bottom), int(left) : int(right)].mean((0, 1))
        assert (inside[0] > inside[1]) == (name == "red")


def test_it_is_saved_with_the_classes(detector: Detector, images: np.ndarray, tmp_path: Path):
    detector.enroll(images, [BOX, BOX], ["a", "b"], augment=1, background=images[:1])
    folder = tmp_path / "saved"
    detector.save(folder)
    expected = detector.detect(images, threshold=0.0)
    same(Detector.load(folder).detect(images, threshold=0.0), expected)
    same(Detector.load(folder, compare="backbone").detect(images, threshold=0.0), expected)
    for again in (pickle.loads(pickle.dumps(detector)), copy.deepcopy(detector)):
        same(again.detect(images, threshold=0.0), expected)
    with pytest.raises(UserError, match="enrolled with compare='backbone': load them with that"):
        Detector.load(folder, compare="head")
    with pytest.raises(UserError, match="enrolled with the weights colours, not others"):
        Detector.load(folder, compare="backbone", weights="others")
    arrays = dict(np.load(folder / "enrolled.npz"))
    np.savez(folder / "enrolled.npz", **{**arrays, "space": np.array(json.dumps({}))})
    with pytest.raises(UserError, match=r"cannot be read .*enrol again"):
        Detector.load(folder)


def test_what_cannot_compare_is_told(detector: Detector, tmp_path: Path):
    with pytest.raises(UserError, match="compare is 'pixels'; it must be 'head' or 'backbone'"):
        Detector.load(tmp_path / "model", compare="pixels")
    with pytest.raises(UserError, match="weights apply only to compare='backbone'"):
        Detector.load(tmp_path / "model", weights="colours")
    Detector(replace(untrained(), step=3)).save(tmp_path / "grey")
    with pytest.raises(UserError, match="trained on grey drawings"):
        Detector.load(tmp_path / "grey", compare="backbone", weights="colours")


def test_a_crop_is_the_square_around_a_box():
    rows, columns = np.mgrid[:40, :60].astype(np.float32)
    image = jnp.asarray(np.stack([rows, columns], axis=-1))
    size = jnp.array([40.0, 50.0])
    crop = cut_out(image, jnp.array([10.0, 20, 30, 30]), size=size, side=12)
    # 24 pixels a side about (20, 25), two of them in each place.
    np.testing.assert_allclose(crop[:, 0, 0], 8.5 + 2 * np.arange(12), atol=0.01)
    np.testing.assert_allclose(crop[0, :, 1], 13.5 + 2 * np.arange(12), atol=0.01)
    corner = cut_out(image, jnp.array([0.0, 40, 10, 50]), size=size, side=6)
    np.testing.assert_allclose([corner[0, 0, 0], corner[-1, -1, 1]], [0.5, 48.5], atol=0.3)
    whole = cut_out(image, jnp.array([0.0, 0, 40, 50]), size=size, side=4)
    np.testing.assert_allclose(whole[:, 0, 0], [4.5, 14.5, 24.5, 34.5], atol=1)


def test_published_weights_embed_as_a_classifier_does(tmp_path: Path):
    path = random_weights(tmp_path / "model.safetensors")
    description = {
        "input_size": [3, 64, 64],
        "mean": [0.5, 0.4, 0.3],
        "std": [0.5, 0.6, 0.7],
        "crop_pct": 1.0,
    }
    beside = {"architecture": "resnet18", "pretrained_cfg": {**description, "interpolation": "bilinear"}}
    (tmp_path / "config.json").write_text(json.dumps(beside))
    backbone = load_backbone(str(path))
    assert (backbone.side, backbone.dim) == (64, 512) and backbone.digest
    pixels = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3)).astype(np.uint8)
    features: Any = backbone.network.apply(backbone.variables, pixels / np.float32(255), running_average=True)
    expected = Classifier.pretrained(path, head="prototype")._network.embed(pixels)
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(UserError, match="There is no weights file"):
        load_backbone(str(tmp_path / "gone.safetensors"))
