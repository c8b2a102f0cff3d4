"""Scaled pixels, backbone, head, unit length; and which of their parameters are trained."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.networks import Conv4, Embedding, trainable_mask

BACKBONE = Conv4(filters=4, blocks=2)
IMAGES = np.random.default_rng(2).uniform(size=(3, 8, 8, 3)).astype(np.float32)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("dense", [(), (5,), (7, 5)])
def test_an_embedding_is_that_of_its_parts(draw, dense: tuple[int, ...], normalize: bool):
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    network = Embedding(BACKBONE, dense, normalize, mean, std)
    variables = draw(network, 8, 8, 3)
    backbone = {part: variables[part]["backbone"] for part in ("params", "batch_stats")}
    x = BACKBONE.apply(backbone, np.float32((IMAGES - mean) / std), running_average=True)
    x = np.asarray(x, np.float64)
    for number in range(len(dense)):
        layer = variables["params"]["head"][str(number)]
        x = np.maximum(x, 0) if number else x
        x = x @ layer["kernel"].astype(np.float64) + layer["bias"]
    if normalize:
        x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    embeddings = network.apply(variables, IMAGES, running_average=True)
    np.testing.assert_allclose(embeddings, x, rtol=0, atol=1e-4 * np.abs(x).max())


def test_its_two_halves_make_the_whole(draw):
    network = Embedding(BACKBONE, (5,), True, (0.5,), (0.25,))
    variables = draw(network, 8, 8, 3)
    features = network.apply(variables, IMAGES, running_average=True, method="features")
    assert features.shape == (3, 16)
    embeddings = network.apply(variables, features, method="embed_features")
    np.testing.assert_allclose(
        embeddings, network.apply(variables, IMAGES, running_average=True), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("frozen", [False, True])
def test_a_frozen_backbone_gets_no_gradient_and_its_head_does(draw, frozen: bool):
    network = Embedding(BACKBONE, (5,), frozen=frozen)
    variables = draw(network, 8, 8, 3)

    def loss(params: Any) -> jax.Array:
        apply = partial(network.apply, running_average=True)
        return apply({**variables, "params": params}, IMAGES).std()

    gradients = jax.grad(loss)(variables["params"])
    moved = {part: any(np.any(leaf) for leaf in jax.tree.leaves(gradients[part])) for part in gradients}
    assert moved == {"backbone": not frozen, "head": True}


@pytest.mark.parametrize(
    ("trainable", "expected"),
    [
        ("all", {"first", "features.1", "features.17", "features.18", "head", "representatives"}),
        ("last_stage", {"features.17", "features.18", "head", "representatives"}),
        ("head", {"head", "representatives"}),
    ],
)
def test_the_mask_marks_what_is_trained(trainable: str, expected: set[str]):
    params = {
        "network": {
            "backbone": {"first": {"kernel": 0}, "features": {n: {"scale": 0} for n in ("1", "17", "18")}},
            "head": {"0": {"kernel": 0}},
        },
        "representatives": 0,
    }
    mask = trainable_mask(params, trainable, ("features.17", "features.18"))
    backbone = mask["network"]["backbone"]
    trained = {f"features.{number}": part["scale"] for number, part in backbone["features"].items()}
    trained |= {"first": backbone["first"]["kernel"], "head": mask["network"]["head"]["0"]["kernel"]}
    trained["representatives"] = mask["representatives"]
    assert {name for name, is_trained in trained.items() if is_trained} == expected


def test_a_last_stage_is_known_by_whole_names():
    params = {"backbone": {"layer4": {"kernel": 0}, "layer40": {"kernel": 0}}}
    mask = trainable_mask(params, "last_stage", ("layer4",))
    assert mask == {"backbone": {"layer4": {"kernel": True}, "layer40": {"kernel": False}}}


def test_frozen_statistics_hold_in_training_while_parameters_are_trained():
    network = Embedding(BACKBONE, (3,), frozen_statistics=True)
    images = jax.random.normal(jax.random.key(0), (6, 8, 8, 1)) + 2
    variables = network.init(jax.random.key(1), images, running_average=True)
    embeddings, changed = network.apply(variables, images, running_average=False, mutable=["batch_stats"])
    np.testing.assert_array_equal(embeddings, network.apply(variables, images, running_average=True))
    jax.tree.map(np.testing.assert_array_equal, changed["batch_stats"], variables["batch_stats"])

    def loss(params):
        moved = {**variables, "params": params}
        outputs, _ = network.apply(moved, images, running_average=False, mutable=["batch_stats"])
        return jnp.sum(jnp.square(outputs))

    gradients = jax.grad(loss)(variables["params"])
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradients["backbone"]))
