"""EfficientNet-Lite0; `tests/networks/test_parity.py` compares its features with published networks'."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
import pytest

from fsljax.networks.backbones.efficientnet_lite0 import EfficientNetLite0
from fsljax.networks.layers import Settings


def test_there_are_as_many_parameters_as_published(draw):
    params = draw(EfficientNetLite0(), 32, 32, 3)["params"]
    with_classifier = 4_652_008  # 1280 · 1000 + 1000 of them in the classifier
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == with_classifier - 1_281_000


@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize("size", [1, 33, 64])
def test_stages_have_their_strides(draw, size: int, padding: str):
    network = EfficientNetLite0(Settings(padding=padding))
    variables = draw(network, size, size, 3)
    images = jax.ShapeDtypeStruct((2, size, size, 3), np.float32)
    stages = jax.eval_shape(partial(network.apply, running_average=True, method="stages"), variables, images)
    sides = [-(-size // stride) for stride in network.stage_strides()]
    assert [stage.shape for stage in stages] == [
        (2, side, side, channels) for side, channels in zip(sides, (24, 40, 112, 1280), strict=True)
    ]


def test_kernels_of_the_cpu_are_equal_to_xlas(draw):
    variables = draw(EfficientNetLite0(), 40, 40, 3)
    images = np.random.default_rng(0).normal(size=(2, 2, 40, 40, 3)).astype(np.float32)
    ours, xlas = (
        jax.jit(partial(EfficientNetLite0(Settings(kernels=kernels)).apply, running_average=True))(
            variables, images
        )
        for kernels in ("cpu", "xla")
    )
    assert ours.shape == (2, 2, 1280)
    np.testing.assert_allclose(ours, xlas, atol=1e-5 * np.abs(xlas).max())


def test_with_the_last_stage_trained_its_averages_alone_move(draw):
    network = EfficientNetLite0(Settings(trainable="last_stage"))
    variables = draw(network, 8, 8, 3)
    images = np.random.default_rng(1).uniform(size=(2, 8, 8, 3)).astype(np.float32)
    apply = jax.jit(partial(network.apply, running_average=False, mutable=["batch_stats"]))
    after, before = apply(variables, images)[1]["batch_stats"], variables["batch_stats"]
    assert network.last_stage() == ("blocks.6", "conv_head", "bn2")
    parts = [*((("blocks", number)) for number in "0123456"), ("bn1",), ("bn2",)]
    for part in parts:
        now, then = after, before
        for name in part:
            now, then = now[name], then[name]
        for a, b in zip(jax.tree.leaves(now), jax.tree.leaves(then), strict=True):
            assert np.array_equal(a, b) == (".".join(part) not in network.last_stage())
