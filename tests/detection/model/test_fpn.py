"""The feature pyramid against its definition in float64."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from fsljax.detection.model.fpn import FeaturePyramid, doubled

RNG = np.random.default_rng(0)
STAGES = [RNG.normal(size=(2, 8 // 2**n, 12 // 2**n, 3 + n)).astype(np.float32) for n in range(3)]


def conv(x: np.ndarray, params: dict[str, Any]) -> np.ndarray:
    kernel = np.asarray(params["conv"]["kernel"], np.float64)
    size = kernel.shape[0]
    padded = np.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    total = np.zeros((*x.shape[:3], kernel.shape[-1])) + np.asarray(params["bias"], np.float64)
    for u in range(size):
        for v in range(size):
            total += padded[:, u : u + x.shape[1], v : v + x.shape[2]] @ kernel[u, v]
    return total


def test_levels_are_the_stages_each_with_what_is_above_it():
    pyramid = FeaturePyramid(channels=5, extra=2)
    variables = pyramid.init(jax.random.key(0), STAGES)
    params = jax.tree.map(lambda x: x + 0.1, variables["params"])
    levels = jax.jit(pyramid.apply)({"params": params}, STAGES)
    above, wanted = None, []
    for number in (2, 1, 0):
        side = conv(STAGES[number].astype(np.float64), params[f"lateral{number}"])
        above = side if above is None else side + above.repeat(2, axis=1).repeat(2, axis=2)
        wanted.append(conv(above, params[f"output{number}"]))
    wanted.reverse()
    for level, value in zip(levels, wanted, strict=False):
        np.testing.assert_allclose(level, value, rtol=1e-4, atol=1e-4)
    assert [level.shape[1:3] for level in levels] == [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
    np.testing.assert_array_equal(levels[3], levels[2][:, ::2, ::2])


def test_doubling_repeats_every_value():
    x = RNG.normal(size=(2, 3, 4, 5))
    np.testing.assert_array_equal(doubled(x), x.astype(np.float32).repeat(2, axis=1).repeat(2, axis=2))


def test_stages_of_which_one_is_not_half_the_other_are_refused_in_words():
    odd = [np.zeros((1, 5, 4, 3), np.float32), np.zeros((1, 3, 2, 3), np.float32)]
    with pytest.raises(ValueError, match=r"Stage 0 is \[5, 4\].*\[3, 2\].*half"):
        FeaturePyramid(channels=2).init(jax.random.key(0), odd)
