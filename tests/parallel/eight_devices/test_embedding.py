"""Embeddings by several devices are those of one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from fsljax.classification.embedder import Embedder, build_embedder
from fsljax.config import Augmentation
from fsljax.data.dataset import ImageDataset
from fsljax.methods import protonet, softmax

IMAGES = np.random.default_rng(0).integers(0, 256, (300, 16, 16, 1), np.uint8)


def embedder_of(devices: int, method=protonet, **network: object) -> Embedder:
    config = method.Config()
    return build_embedder(
        dataclasses.replace(
            config,
            network=dataclasses.replace(config.network, filters=8, **network),
            augment=Augmentation(rotation=10.0, shift=1.0),
            mesh=dataclasses.replace(config.mesh, devices=devices),
        ),
        (16, 16, 1),
    )


@pytest.mark.parametrize(("devices", "count"), [(2, 300), (8, 3), (8, 300)])
def test_by_running_averages(devices, count):
    alone, ours = embedder_of(1), embedder_of(devices)
    variables = alone.init(jax.random.key(0)).inference_variables()
    theirs = alone.embed(variables, IMAGES[:count])
    np.testing.assert_allclose(ours.embed(variables, IMAGES[:count]), theirs, rtol=1e-5, atol=1e-5)
    assert theirs.shape[0] == count


def test_views_and_batch_statistics():
    alone, ours = embedder_of(1), embedder_of(2)
    variables = alone.init(jax.random.key(0)).inference_variables()
    np.testing.assert_allclose(
        ours.embed_views(variables, IMAGES, 2, 0.5),
        alone.embed_views(variables, IMAGES, 2, 0.5),
        rtol=1e-5, atol=1e-5,
    )  # fmt: skip
    key = jax.random.key(1)
    for images in (IMAGES, jax.device_put(IMAGES), ours.devices.replicate(jax.device_put(IMAGES))):
        np.testing.assert_array_equal(
            ours.embed_as_in_training(variables, images, key),
            alone.embed_as_in_training(variables, IMAGES, key),
        )


@pytest.mark.parametrize("views", [0, 2])
def test_features_of_a_frozen_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, views: int):
    part = ImageDataset(IMAGES[:150], np.zeros(150, np.int32), ["one"])
    found, embedded = [], []
    for devices in (1, 8):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / str(devices)))
        embedder = embedder_of(devices, softmax, trainable="head", views=views, embedding=(8,))
        variables = embedder.init(jax.random.key(0)).inference_variables()
        found.append(embedder.inputs(variables, part, training=bool(views)))
        again = embedder.inputs(variables, part, training=bool(views))
        np.testing.assert_array_equal(again, found[-1])
        embedded.append(embedder.embed(variables, found[-1]))
    for features in found[1:]:
        np.testing.assert_allclose(features, found[0], rtol=1e-5, atol=1e-5)
    for embeddings in embedded[1:]:
        np.testing.assert_allclose(embeddings, embedded[0], rtol=1e-5, atol=1e-5)
