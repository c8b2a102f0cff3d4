"""LeNet against its formula in float64."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.networks import LeNet
from fsljax.networks.layers import EPSILON, Settings


def plainly(variables: dict[str, Any], images: np.ndarray) -> np.ndarray:
    """Features by running averages, in float64."""
    params, statistics = variables["params"], variables["batch_stats"]

    def normal(x: np.ndarray, name: str) -> np.ndarray:
        mean, variance = (statistics[name][moment].astype(np.float64) for moment in ("mean", "variance"))
        scaled = (x - mean) / np.sqrt(variance + EPSILON) * params[name]["scale"] + params[name]["shift"]
        return np.maximum(scaled, 0)

    x = np.pad(images.astype(np.float64), ((0, 0), (2, 2), (2, 2), (0, 0)))
    for number in (1, 2):
        kernel = params[f"conv{number}"]["kernel"].astype(np.float64)
        patches = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(1, 2))
        x = normal(np.einsum("nhwcuv,uvcf->nhwf", patches, kernel), f"bn{number}")
        height, width = x.shape[1] // 2, x.shape[2] // 2
        x = x[:, : 2 * height, : 2 * width].reshape(len(x), height, 2, width, 2, -1).max(axis=(2, 4))
    x = x.reshape(len(x), -1)
    for number in (3, 4):
        x = normal(x @ params[f"dense{number}"]["kernel"].astype(np.float64), f"bn{number}")
    return x


@pytest.mark.parametrize("kernels", ["cpu", "xla"])
@pytest.mark.parametrize("size", [(28, 28), (13, 16)])
def test_features_are_those_of_plain_numpy(draw, kernels: str, size: tuple[int, int]):
    network = LeNet(Settings(kernels=kernels))
    variables = draw(network, *size, 1)
    images = np.random.default_rng(1).uniform(size=(3, *size, 1)).astype(np.float32)
    expected = plainly(variables, images)
    assert expected.shape == (3, 84)
    features = jax.jit(partial(network.apply, running_average=True))(variables, images)
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_every_episode_is_normalised_by_itself(draw):
    network = LeNet()
    variables = draw(network, 12, 12, 1)
    images = np.random.default_rng(1).uniform(size=(2, 3, 4, 12, 12, 1)).astype(np.float32)
    apply = jax.jit(partial(network.apply, running_average=False))
    together, alone = apply(variables, images), apply(variables, images[1, 2])
    assert together.shape == (2, 3, 4, 84)
    np.testing.assert_allclose(together[1, 2], alone, rtol=0, atol=1e-4)


def test_the_last_stage_are_the_dense_layers_and_what_comes_before_keeps_its_averages(draw):
    network = LeNet(Settings(trainable="last_stage"))
    variables = draw(network, 12, 12, 1)
    images = np.random.default_rng(1).uniform(size=(4, 12, 12, 1)).astype(np.float32)
    _, changed = network.apply(variables, images, running_average=False, mutable=["batch_stats"])
    for name, before in variables["batch_stats"].items():
        same = [np.array_equal(changed["batch_stats"][name][moment], before[moment]) for moment in before]
        assert same == [name in ("bn1", "bn2")] * 2
    assert {"dense3", "dense4", "bn3", "bn4"} == set(network.last_stage())


def test_images_too_small_are_refused():
    with pytest.raises(ValueError, match="11×20; LeNet needs at least 12×12"):
        LeNet().init(jax.random.key(0), jnp.zeros((1, 11, 20, 1)), running_average=True)
