"""Vision Transformers; `tests/networks/test_parity.py` compares their features with timm's."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.config import Network
from fsljax.errors import UserError
from fsljax.networks import trainable_mask
from fsljax.networks.backbones import vit
from fsljax.networks.layers import Settings
from fsljax.networks.positions import resized_positions

SMALL = vit.VisionTransformer(4, 8, 2, 2, register_tokens=3)


def images_of(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(size=shape).astype(np.float32)


def test_leading_axes_are_episodes_and_change_nothing(draw):
    variables = draw(SMALL, 12, 12, 3)
    images = images_of(2, 3, 12, 12, 3)
    apply = jax.jit(partial(SMALL.apply, variables, running_average=False))
    features = apply(images)
    assert features.shape == (2, 3, 8)
    np.testing.assert_allclose(features.reshape(6, 8), apply(images.reshape(6, 12, 12, 3)), atol=1e-5)


@pytest.mark.parametrize("size", [(12, 12), (15, 13), (8, 20), (4, 4)])
def test_images_of_any_size_are_embedded_and_what_is_beyond_whole_patches_is_not_seen(draw, size):
    variables = draw(SMALL, 12, 12, 3)
    images = images_of(2, *size, 3)
    features = SMALL.apply(variables, images, running_average=True)
    whole = images[:, : size[0] // 4 * 4, : size[1] // 4 * 4]
    np.testing.assert_array_equal(features, SMALL.apply(variables, whole, running_average=True))
    assert features.shape == (2, 8) and np.std(features, axis=0).max() > 1e-4


def test_an_image_smaller_than_a_patch_is_refused(draw):
    with pytest.raises(ValueError, match="3×12, smaller than a patch of 4"):
        SMALL.apply(draw(SMALL, 12, 12, 3), np.zeros((1, 3, 12, 3)), running_average=True)
    assert SMALL.smallest_image() == 4


def test_heads_that_do_not_share_the_width_are_refused():
    with pytest.raises(UserError, match=r"width is 384, which is not divisible by config\.network\.heads, 7"):
        vit.build(Network(name="vit", heads=7))


def test_there_are_as_many_parameters_as_published():
    images = jax.ShapeDtypeStruct((1, 518, 518, 3), jnp.float32)
    network = vit.build(Network(name="vit"))
    params = jax.eval_shape(partial(network.init, running_average=True), jax.random.key(0), images)["params"]
    with_mask_token = 22_056_576  # DINOv2's small network, 384 of them for training alone
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == with_mask_token - 384


@pytest.mark.parametrize("trainable", ["all", "last_stage"])
def test_the_last_stage_alone_gets_a_gradient(draw, trainable: str):
    network = SMALL.copy(settings=Settings(trainable=trainable))
    params = draw(network, 8, 8, 3)["params"]

    def loss(params: Any) -> jax.Array:
        return jnp.sum(
            jnp.sin(network.apply({"params": params}, images_of(2, 8, 8, 3), running_average=False))
        )

    gradients = jax.jit(jax.grad(loss))(params)
    trained = trainable_mask({"backbone": params}, trainable, network.last_stage())["backbone"]
    assert network.last_stage() == ("blocks.1", "norm")
    # The bias of keys changes no attention: every logit of a query moves by as much.
    jax.tree.map(lambda g, t: np.testing.assert_array_equal(np.any(g), t), gradients, trained)


@pytest.mark.parametrize("grid", [(3, 3), (16, 16), (5, 9)])
def test_resized_positions_keep_a_slope(grid: tuple[int, int]):
    """Away from the borders, cubics leave a linear function as it is."""
    rows = np.broadcast_to((np.arange(12) + 0.5)[:, None], (12, 12)).reshape(1, 144, 1).astype(np.float32)
    resized = resized_positions(jnp.asarray(np.concatenate([[[[7.0]]], rows], axis=1)), 1, grid)
    assert resized[0, 0, 0] == 7
    expected = (np.arange(grid[0]) + 0.5) * 12 / grid[0]
    inside = np.abs(expected - 6) <= 6 - 2 * max(12 / grid[0], 1) + 1e-6
    if grid[0] == 3:
        inside[1] = True  # by symmetry
    rows_there = np.asarray(resized[0, 1:, 0]).reshape(grid)[inside]
    assert inside.any()
    np.testing.assert_allclose(rows_there, np.tile(expected[inside, None], grid[1]), atol=1e-3)
