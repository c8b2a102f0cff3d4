"""The stages that detectors are built on, of every backbone that has them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.networks import MobileNetV2, ResNet, SceneNet, Settings

IMAGES = jax.random.uniform(jax.random.key(0), (2, 32, 32, 1))
SMALL = SceneNet((1, 1, 1), (4, 8, 8))


@pytest.mark.parametrize(
    "network", [SMALL, MobileNetV2(), ResNet((1, 1, 1, 1), filters=4), ResNet((1, 1), 4, True, True)]
)
def test_stages_have_the_strides_that_are_told_of(network: Any):
    def stages() -> Any:
        return network.init_with_output(jax.random.key(0), IMAGES, running_average=True, method="stages")[0]

    shapes = [stage.shape for stage in jax.eval_shape(stages)]
    assert [32 // shape[1] for shape in shapes] == list(network.stage_strides())


def test_features_are_the_mean_of_the_last_stage():
    variables = SMALL.init(jax.random.key(1), IMAGES, running_average=True)
    stages = SMALL.apply(variables, IMAGES, running_average=True, method="stages")
    features = SMALL.apply(variables, IMAGES, running_average=True)
    np.testing.assert_allclose(features, np.mean(stages[-1], axis=(1, 2)), rtol=1e-5)


def test_the_last_stage_alone_gets_gradients_where_it_alone_is_trained():
    network = SceneNet((1, 1, 1), (4, 8, 8), Settings(trainable="last_stage"))
    variables = network.init(jax.random.key(0), IMAGES, running_average=True)

    def loss(params: Any) -> jax.Array:
        seen, _ = network.apply(
            {**variables, "params": params}, IMAGES, running_average=False, mutable=["batch_stats"]
        )
        return jnp.sum(seen)

    gradients = jax.jit(jax.grad(loss))(variables["params"])
    sizes = {name: max(map(np.abs, map(np.max, jax.tree.leaves(tree)))) for name, tree in gradients.items()}
    assert [name for name, size in sizes.items() if size > 0] == list(network.last_stage())


@pytest.mark.parametrize("kernels", ["xla", "cpu"])
def test_batch_statistics_move_in_training_alone(kernels: str):
    network = SceneNet((1,), (4,), Settings(kernels=kernels))
    variables = network.init(jax.random.key(0), IMAGES, running_average=True)
    _, changed = network.apply(variables, IMAGES, running_average=False, mutable=["batch_stats"])
    _, same = network.apply(variables, IMAGES, running_average=True, mutable=["batch_stats"])
    before = jax.tree.leaves(variables["batch_stats"])
    assert any(np.any(a != b) for a, b in zip(before, jax.tree.leaves(changed["batch_stats"]), strict=True))
    for a, b in zip(before, jax.tree.leaves(same["batch_stats"]), strict=True):
        np.testing.assert_array_equal(a, b)
