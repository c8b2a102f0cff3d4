"""Inception-v3 against a PyTorch module of torchvision's layout."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.networks import InceptionV3
from fsljax.networks.layers import Settings

# Name, then (filters, window, stride, padding) of each layer, in torchvision's order.
ROW, COLUMN = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))
POINT, SQUARE, HALVING = (1, 1, 0), (3, 1, 1), (3, 2, 0)


def mixed5(pooled: int) -> dict[str, tuple[Any, ...]]:
    return {
        "branch1x1": (64, *POINT), "branch5x5_1": (48, *POINT), "branch5x5_2": (64, 5, 1, 2),
        "branch3x3dbl_1": (64, *POINT), "branch3x3dbl_2": (96, *SQUARE), "branch3x3dbl_3": (96, *SQUARE),
        "branch_pool": (pooled, *POINT),
    }  # fmt: skip


def mixed6(inner: int) -> dict[str, tuple[Any, ...]]:
    return {
        "branch1x1": (192, *POINT),
        "branch7x7_1": (inner, *POINT), "branch7x7_2": (inner, *ROW), "branch7x7_3": (192, *COLUMN),
        "branch7x7dbl_1": (inner, *POINT), "branch7x7dbl_2": (inner, *COLUMN),
        "branch7x7dbl_3": (inner, *ROW), "branch7x7dbl_4": (inner, *COLUMN), "branch7x7dbl_5": (192, *ROW),
        "branch_pool": (192, *POINT),
    }  # fmt: skip


MIXED_6A = {
    "branch3x3": (384, *HALVING), "branch3x3dbl_1": (64, *POINT), "branch3x3dbl_2": (96, *SQUARE),
    "branch3x3dbl_3": (96, *HALVING),
}  # fmt: skip
MIXED_7A = {
    "branch3x3_1": (192, *POINT), "branch3x3_2": (320, *HALVING), "branch7x7x3_1": (192, *POINT),
    "branch7x7x3_2": (192, *ROW), "branch7x7x3_3": (192, *COLUMN), "branch7x7x3_4": (192, *HALVING),
}  # fmt: skip
FLAT, TALL = ((1, 3), 1, (0, 1)), ((3, 1), 1, (1, 0))
MIXED_7 = {
    "branch1x1": (320, *POINT),
    "branch3x3_1": (384, *POINT), "branch3x3_2a": (384, *FLAT), "branch3x3_2b": (384, *TALL),
    "branch3x3dbl_1": (448, *POINT), "branch3x3dbl_2": (384, *SQUARE),
    "branch3x3dbl_3a": (384, *FLAT), "branch3x3dbl_3b": (384, *TALL),
    "branch_pool": (192, *POINT),
}  # fmt: skip


def predecessor(name: str) -> str | None:
    """The layer before `branch_2`, or before `branch_2a` and `branch_2b` side by side, is `branch_1`."""
    branch, _, number = name.rpartition("_")
    return f"{branch}_{int(number[0]) - 1}" if number[0] in "2345" else None


def torch_inception_v3() -> Any:
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Layer(nn.Module):
        def __init__(self, inputs: int, filters: int, window: Any, stride: int, padding: Any):
            super().__init__()
            self.conv = nn.Conv2d(inputs, filters, window, stride, padding, bias=False)
            self.bn = nn.BatchNorm2d(filters, eps=0.001)

        def forward(self, x: Any) -> Any:
            return self.bn(self.conv(x)).relu()

    class Mixed(nn.Module):
        def __init__(self, inputs: int, layers: dict[str, tuple[Any, ...]]):
            super().__init__()
            self.before = {name: predecessor(name) for name in layers}
            for name, layer in layers.items():
                before = self.before[name]
                setattr(self, name, Layer(layers[before][0] if before else inputs, *layer))

        def forward(self, x: Any) -> Any:
            done: dict[str, Any] = {}
            for name, before in self.before.items():
                of_layer = nn.functional.avg_pool2d(x, 3, 1, 1) if name == "branch_pool" else x
                done[name] = getattr(self, name)(done[before] if before else of_layer)
            ends = [done[name] for name in done if name not in self.before.values()]
            if "branch_pool" not in done:
                ends.append(nn.functional.max_pool2d(x, 3, 2))
            return torch.cat(ends, 1)

    class Inception(nn.Module):
        def __init__(self):
            super().__init__()
            self.Conv2d_1a_3x3 = Layer(3, 32, *HALVING)
            self.Conv2d_2a_3x3 = Layer(32, 32, 3, 1, 0)
            self.Conv2d_2b_3x3 = Layer(32, 64, *SQUARE)
            self.Conv2d_3b_1x1 = Layer(64, 80, *POINT)
            self.Conv2d_4a_3x3 = Layer(80, 192, 3, 1, 0)
            mixed = {
                "5b": (192, mixed5(32)), "5c": (256, mixed5(64)), "5d": (288, mixed5(64)),
                "6a": (288, MIXED_6A),
                "6b": (768, mixed6(128)), "6c": (768, mixed6(160)), "6d": (768, mixed6(160)),
                "6e": (768, mixed6(192)),
                "7a": (768, MIXED_7A), "7b": (1280, MIXED_7), "7c": (2048, MIXED_7),
            }  # fmt: skip
            self.order = [f"Mixed_{name}" for name in mixed]
            for name, (inputs, layers) in mixed.items():
                setattr(self, f"Mixed_{name}", Mixed(inputs, layers))
            self.AuxLogits = nn.Sequential(Layer(768, 128, *POINT), nn.Linear(768, 10))
            self.fc = nn.Linear(2048, 10)

        def forward(self, x: Any) -> Any:
            x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
            x = nn.functional.max_pool2d(x, 3, 2)
            x = nn.functional.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, 2)
            for name in self.order:
                x = getattr(self, name)(x)
            return x.mean(dim=(2, 3))

    return Inception()


def test_features_are_those_of_the_torch_module(assert_agrees_with_torch):
    assert_agrees_with_torch(
        torch_inception_v3, lambda kernels: InceptionV3(Settings(kernels=kernels)), 107, 107, 3
    )


def test_there_are_as_many_parameters_as_published(draw):
    params = draw(InceptionV3(), 75, 75, 3)["params"]
    # torchvision's, without auxiliary classifier; 2048 · 1000 + 1000 of them in the classifier
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 23_834_568 - 2_049_000


def test_the_smallest_image_leaves_one_place_and_a_smaller_one_is_refused(draw):
    network = InceptionV3()
    variables = draw(network, 75, 75, 3)
    images = jax.ShapeDtypeStruct((2, 1, 75, 90, 3), jnp.float32)
    features = jax.eval_shape(partial(network.apply, running_average=True), variables, images)
    assert features.shape == (2, 1, 2048)
    with pytest.raises(ValueError, match="74×90; Inception-v3 needs at least 75×75"):
        network.init(jax.random.key(0), np.zeros((1, 74, 90, 3)), running_average=True)


def test_the_last_stage_is_what_comes_after_the_last_reduction(draw):
    network = InceptionV3()
    assert set(network.last_stage()) == {n for n in draw(network, 75, 75, 3)["params"] if "Mixed_7" in n}
