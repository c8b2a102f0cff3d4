"""The layers of the larger networks against their formulas in float64."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.networks.layers import (
    EPSILON,
    Conv,
    Norm,
    Settings,
    Statistics,
    average_pool3x3,
    max_pool,
    of_stages,
    pad,
)

KERNELS = ["cpu", "xla"]


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def convolved(x: np.ndarray, kernel: np.ndarray, stride: int, padding: Any, *, depthwise: bool) -> np.ndarray:
    """A convolution in float64, place by place."""
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), *padding, (0, 0)))
    rows, columns = kernel.shape[:2]
    height = (padded.shape[1] - rows) // stride + 1
    width = (padded.shape[2] - columns) // stride + 1
    out = np.empty((len(x), height, width, kernel.shape[-1]))
    for i in range(height):
        for j in range(width):
            patch = padded[:, i * stride : i * stride + rows, j * stride : j * stride + columns]
            if depthwise:
                out[:, i, j] = np.sum(patch * kernel[:, :, 0], axis=(1, 2))
            else:
                out[:, i, j] = np.tensordot(patch, kernel.astype(np.float64), 3)
    return out


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("padding", ["symmetric", "same", "valid"])
@pytest.mark.parametrize(
    ("size", "window", "stride", "depthwise", "count"),
    [
        ((9, 8), (3, 3), 1, False, 2),
        ((6, 6), (3, 3), 1, False, 130),
        ((9, 8), (3, 3), 2, False, 2),
        ((9, 8), (3, 3), 2, True, 2),
        ((9, 8), (1, 1), 2, False, 2),
        ((4, 4), (3, 3), 2, False, 2),
        ((16, 11), (7, 7), 2, False, 2),
        ((9, 8), (1, 7), 1, False, 2),
    ],
)
def test_convolution_is_that_of_the_formula(
    kernels: str,
    padding: str,
    size: tuple[int, int],
    window: tuple[int, int],
    stride: int,
    depthwise: bool,
    count: int,
):
    x = draw(count, *size, 3)
    kernel = draw(*window, 1 if depthwise else 3, 3 if depthwise else 4, seed=1)
    settings = Settings("symmetric" if padding == "valid" else padding, kernels=kernels)
    conv = Conv(settings, kernel.shape[-1], window, stride, depthwise, valid=padding == "valid")
    outputs = jax.jit(conv.apply)({"params": {"kernel": kernel}}, x)
    expected = convolved(x, kernel, stride, pad(size, window, stride, padding), depthwise=depthwise)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (2, 9)])
def test_a_window_may_be_larger_than_the_picture(kernels: str, size: tuple[int, int]):
    x, kernel = draw(2, *size, 3), draw(3, 3, 3, 4, seed=1)
    outputs = Conv(Settings(kernels=kernels), 4).apply({"params": {"kernel": kernel}}, x)
    expected = convolved(x, kernel, 1, ((1, 1), (1, 1)), depthwise=False)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 4, 5, 6])
@pytest.mark.parametrize("extent", [1, 3, 5, 7])
def test_same_padding_is_that_of_xla_and_symmetric_is_half_a_window(extent: int, size: int, stride: int):
    window = (extent, 1)
    expected = jax.lax.padtype_to_pads((size, size), window, (stride, stride), "SAME")
    assert list(pad((size, size), window, stride, "same")) == [tuple(sides) for sides in expected]
    half = (extent - 1) // 2
    assert pad((size, size), window, stride, "symmetric") == ((half, half), (0, 0))


def norm_variables(channels: int) -> dict[str, Any]:
    return {
        "params": {"scale": draw(channels, seed=1), "shift": draw(channels, seed=2)},
        "batch_stats": {"mean": draw(channels, seed=3), "variance": np.abs(draw(channels, seed=4)) + 0.5},
    }


@pytest.mark.parametrize("groups", [1, 3])
def test_batch_norm_takes_each_group_by_itself_and_moves_the_averages_by_the_mean(groups: int):
    x = draw(6, 4, 5, 2) * 3 + 10 * np.arange(6, dtype=np.float32)[:, None, None, None]
    variables = norm_variables(2)
    norm = Norm(Settings(momentum=0.8))
    outputs, changed = norm.apply(variables, x, Statistics(groups, False), mutable=["batch_stats"])
    by_group = x.astype(np.float64).reshape(groups, -1, 2)
    mean, variance = by_group.mean(axis=1), by_group.var(axis=1)
    normal = (by_group - mean[:, None]) / np.sqrt(variance[:, None] + EPSILON)
    expected = (normal * variables["params"]["scale"] + variables["params"]["shift"]).reshape(x.shape)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-4)
    for name, moment in (("mean", mean), ("variance", variance)):
        moved = 0.8 * variables["batch_stats"][name] + 0.2 * moment.mean(axis=0)
        np.testing.assert_allclose(changed["batch_stats"][name], moved, rtol=1e-4)


def test_batch_norm_by_running_averages_leaves_them_alone():
    x, variables = draw(6, 4, 5, 2), norm_variables(2)
    norm = Norm(Settings(), 1e-3)
    outputs, changed = norm.apply(variables, x, Statistics(3, True), mutable=["batch_stats"])
    averages, parameters = variables["batch_stats"], variables["params"]
    normal = (x.astype(np.float64) - averages["mean"]) / np.sqrt(averages["variance"] + 1e-3)
    np.testing.assert_allclose(outputs, normal * parameters["scale"] + parameters["shift"], rtol=0, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, changed["batch_stats"], averages)


def test_statistics_of_half_precision_are_taken_in_float32():
    x = jnp.asarray(draw(64, 8, 8, 1) + 8, jnp.bfloat16)
    variables = norm_variables(1)
    outputs, changed = Norm(Settings(momentum=0.0)).apply(
        variables, x, Statistics(1, False), mutable=["batch_stats"]
    )
    assert outputs.dtype == jnp.bfloat16
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(changed["batch_stats"]["mean"][0], exact.mean(), rtol=1e-5)
    np.testing.assert_allclose(changed["batch_stats"]["variance"][0], exact.var(), rtol=1e-3)


@pytest.mark.parametrize("trainable", ["all", "last_stage", "head"])
@pytest.mark.parametrize("running_average", [True, False])
def test_what_is_not_trained_is_normalised_by_running_averages(trainable: str, running_average: bool):
    before, last = of_stages((2, 3, 5), Settings(trainable=trainable), running_average=running_average)
    assert before == Statistics(6, running_average or trainable != "all")
    assert last == Statistics(6, running_average or trainable == "head")


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("padding", ["symmetric", "same", "valid"])
def test_max_pooling_is_that_of_the_formula_and_padding_is_never_the_maximum(kernels: str, padding: str):
    x = draw(2, 8, 9, 3) - 10
    settings = Settings("same" if padding == "same" else "symmetric", kernels=kernels)
    outputs = jax.jit(partial(max_pool, settings=settings, valid=padding == "valid"))(x)
    sides = pad((8, 9), (3, 3), 2, padding)
    padded = np.pad(x, ((0, 0), *sides, (0, 0)), constant_values=-np.inf)
    height, width = ((extent - 3) // 2 + 1 for extent in padded.shape[1:3])
    for i in range(height):
        for j in range(width):
            expected = padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max(axis=(1, 2))
            np.testing.assert_array_equal(outputs[:, i, j], expected)
    assert outputs.shape == (2, height, width, 3)


@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_means_at_the_border_count_zeros_with_symmetric_padding_alone(padding: str):
    x = draw(2, 4, 5, 3)
    outputs = average_pool3x3(x, Settings(padding))
    for i in range(4):
        for j in range(5):
            window = x[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].astype(np.float64)
            count = 9 if padding == "symmetric" else window.shape[1] * window.shape[2]
            np.testing.assert_allclose(outputs[:, i, j], window.sum(axis=(1, 2)) / count, atol=1e-5)
