"""Residual networks against PyTorch modules of torchvision's layout."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.config import Network
from fsljax.networks.backbones import resnet18, resnet50, resnet101, resnet_small
from fsljax.networks.layers import Settings
from fsljax.networks.resnet import ResNet

# Of torchvision's models, without the classifiers (512 · 1000 + 1000 and 2048 · 1000 + 1000).
PARAMETERS = {
    resnet18: 11_689_512 - 513_000,
    resnet50: 25_557_032 - 2_049_000,
    resnet101: 44_549_160 - 2_049_000,
}
FEATURES = {resnet18: 512, resnet50: 2048, resnet101: 2048, resnet_small: 256}


def torch_resnet(blocks: tuple[int, ...], filters: int, *, bottleneck: bool, small_images: bool) -> Any:
    nn = pytest.importorskip("torch").nn

    def conv(inputs: int, outputs: int, size: int, stride: int = 1) -> Any:
        return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)

    class Block(nn.Module):
        def __init__(self, inputs: int, filters: int, stride: int):
            super().__init__()
            outputs = 4 * filters if bottleneck else filters
            sizes = [(inputs, filters, 1), (filters, filters, 3), (filters, outputs, 1)]
            if not bottleneck:
                sizes = [(inputs, filters, 3), (filters, filters, 3)]
            strided = 1 if bottleneck else 0
            self.count = len(sizes)
            for number, size in enumerate(sizes):
                setattr(self, f"conv{number + 1}", conv(*size, stride if number == strided else 1))
                setattr(self, f"bn{number + 1}", nn.BatchNorm2d(size[1]))
            if inputs != outputs:
                projection = conv(inputs, outputs, 1, stride)
                self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))

        def forward(self, x: Any) -> Any:
            y = x
            for number in range(1, self.count + 1):
                y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
                y = y.relu() if number < self.count else y
            return (y + (self.downsample(x) if hasattr(self, "downsample") else x)).relu()

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = conv(3, filters, *((3, 1) if small_images else (7, 2)))
            self.bn1 = nn.BatchNorm2d(filters)
            self.pool = nn.Identity() if small_images else nn.MaxPool2d(3, 2, 1)
            inputs = filters
            for stage, count in enumerate(blocks):
                layers = []
                for block in range(count):
                    stride = 2 if stage and not block else 1
                    layers.append(Block(inputs, filters * 2**stage, stride))
                    inputs = filters * 2**stage * (4 if bottleneck else 1)
                setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
            self.fc = nn.Linear(inputs, 10)

        def forward(self, x: Any) -> Any:
            x = self.pool(self.bn1(self.conv1(x)).relu())
            for stage in range(len(blocks)):
                x = getattr(self, f"layer{stage + 1}")(x)
            return x.mean(dim=(2, 3))

    return ResNet()


@pytest.mark.parametrize(
    ("ours", "blocks", "filters", "bottleneck", "small_images", "size"),
    [
        (resnet18, (2, 2, 2, 2), 64, False, False, 64),
        (resnet50, (3, 4, 6, 3), 64, True, False, 70),
        (resnet_small, (2, 2, 2, 2), 32, False, True, 32),
    ],
)
def test_features_are_those_of_the_torch_module(
    assert_agrees_with_torch, ours, blocks, filters, bottleneck, small_images, size
):
    theirs = partial(torch_resnet, blocks, filters, bottleneck=bottleneck, small_images=small_images)
    assert_agrees_with_torch(theirs, lambda kernels: ours.build(Network(kernels=kernels)), size, size, 3)


@pytest.mark.parametrize("make", PARAMETERS)
def test_there_are_as_many_parameters_as_published(draw, make):
    params = draw(make.build(Network()), 32, 32, 3)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == PARAMETERS[make]


def test_the_small_network_has_at_most_three_million_parameters(draw):
    params = draw(resnet_small.build(Network()), 32, 32, 3)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) <= 3_000_000


@pytest.mark.parametrize("make", FEATURES)
@pytest.mark.parametrize("size", [1, 33, 64])
def test_images_of_any_size_give_the_same_number_of_features(draw, make, size: int):
    network = make.build(Network())
    variables = draw(network, size, size, 3)
    images = jax.ShapeDtypeStruct((2, 3, size, size, 3), jnp.float32)
    embeddings = jax.eval_shape(partial(network.apply, running_average=True), variables, images)
    assert embeddings.shape == (2, 3, FEATURES[make])


@pytest.mark.parametrize("trainable", ["all", "last_stage", "head"])
def test_what_is_not_trained_keeps_its_averages_and_gets_no_gradient(draw, trainable: str):
    network = ResNet((1, 2), filters=4, small_images=True, settings=Settings(trainable=trainable))
    variables = draw(network, 8, 8, 3)
    images = np.random.default_rng(1).uniform(size=(4, 8, 8, 3)).astype(np.float32)

    def loss(params: Any) -> tuple[jax.Array, Any]:
        features, changed = network.apply(
            variables | {"params": params}, images, running_average=False, mutable=["batch_stats"]
        )
        return jnp.sum(jnp.sin(features)), changed["batch_stats"]

    gradients, batch_stats = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    moving = {"all": {*gradients}, "last_stage": set(network.last_stage()), "head": set()}[trainable]
    for part, statistics in batch_stats.items():
        pairs = zip(jax.tree.leaves(statistics), jax.tree.leaves(variables["batch_stats"][part]), strict=True)
        assert all((not np.array_equal(now, before)) == (part in moving) for now, before in pairs)
    if trainable != "head":  # there the embedding around the network stops the gradient
        for part, gradient in gradients.items():
            assert all(np.any(leaf) == (part in moving) for leaf in jax.tree.leaves(gradient)), part
