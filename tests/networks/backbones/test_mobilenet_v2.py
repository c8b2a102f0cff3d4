"""MobileNetV2 against a PyTorch module of torchvision's layout, and on real weights and photographs."""

from __future__ import annotations

import io
import os
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from PIL.Image import Resampling

from fsljax.data.features import frozen_features
from fsljax.data.io import tfds_source
from fsljax.data.io.decode import fit_image
from fsljax.networks import Embedding, MobileNetV2
from fsljax.networks.layers import Settings
from fsljax.networks.weights import content_hash, load_weights


def torch_mobilenet_v2() -> Any:
    nn = pytest.importorskip("torch").nn

    def conv_norm(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> list[Any]:
        conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
        return [conv, nn.BatchNorm2d(outputs)]

    def conv_norm_relu6(*arguments: int) -> Any:
        return nn.Sequential(*conv_norm(*arguments), nn.ReLU6())

    class Bottleneck(nn.Module):
        def __init__(self, inputs: int, outputs: int, expansion: int, stride: int):
            super().__init__()
            wide = inputs * expansion
            expand = [conv_norm_relu6(inputs, wide, 1)] if expansion > 1 else []
            depthwise = conv_norm_relu6(wide, wide, 3, stride, wide)
            self.conv = nn.Sequential(*expand, depthwise, *conv_norm(wide, outputs, 1))
            self.adds = stride == 1 and inputs == outputs

        def forward(self, x: Any) -> Any:
            return x + self.conv(x) if self.adds else self.conv(x)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            layers, inputs = [conv_norm_relu6(3, 32, 3, 2)], 32
            for outputs, expansion, strides in (
                (16, 1, [1]), (24, 6, [2, 1]), (32, 6, [2, 1, 1]), (64, 6, [2, 1, 1, 1]),
                (96, 6, [1, 1, 1]), (160, 6, [2, 1, 1]), (320, 6, [1]),
            ):  # fmt: skip
                for stride in strides:
                    layers.append(Bottleneck(inputs, outputs, expansion, stride))
                    inputs = outputs
            self.features = nn.Sequential(*layers, conv_norm_relu6(320, 1280, 1))
            self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(1280, 10))

        def forward(self, x: Any) -> Any:
            return self.features(x).mean(dim=(2, 3))

    return Network()


def test_features_are_those_of_the_torch_module(assert_agrees_with_torch):
    assert_agrees_with_torch(
        torch_mobilenet_v2, lambda kernels: MobileNetV2(Settings(kernels=kernels)), 64, 64, 3
    )


def test_there_are_as_many_parameters_as_published(draw):
    params = draw(MobileNetV2(), 32, 32, 3)["params"]
    with_classifier = 3_504_872  # torchvision's, 1280 · 1000 + 1000 of them in the classifier
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == with_classifier - 1_281_000


def test_the_last_stage_are_the_last_bottleneck_and_the_last_convolution(draw):
    network = MobileNetV2()
    assert network.last_stage() == ("features.17", "features.18")
    assert max(map(int, draw(network, 32, 32, 3)["params"]["features"])) == 18


def test_with_the_last_stage_trained_its_averages_alone_move(draw):
    network = MobileNetV2(Settings(trainable="last_stage"))
    variables = draw(network, 8, 8, 3)
    images = np.random.default_rng(1).uniform(size=(2, 8, 8, 3)).astype(np.float32)
    apply = jax.jit(partial(network.apply, running_average=False, mutable=["batch_stats"]))
    after = apply(variables, images)[1]["batch_stats"]["features"]
    for number, before in variables["batch_stats"]["features"].items():
        for now, then in zip(jax.tree.leaves(after[number]), jax.tree.leaves(before), strict=True):
            assert np.array_equal(now, then) == (number not in ("17", "18"))


@pytest.fixture
def imagenet_weights() -> Path:
    """The real weights, whose layers pad as TensorFlow's."""
    folder = os.environ.get("FSLJAX_WEIGHTS_DIR")
    if not folder:
        pytest.skip("needs real weights: set FSLJAX_WEIGHTS_DIR to a folder that holds them")
    return Path(folder) / "mobilenet_v2_imagenet.safetensors"


@pytest.mark.slow
def test_frozen_features_of_flowers_separate_their_classes(imagenet_weights: Path, tfds_data_dir: Path):
    """Nearest class mean is right on 74.8 % of all 4,110 test images, and on 73.9 % of every sixth."""
    folder = tfds_source.find("oxford_flowers102", data_dir=str(tfds_data_dir))
    assert folder is not None, "TFDS_DATA_DIR has no oxford_flowers102"
    network = Embedding(MobileNetV2(Settings(padding="same")), (), True, (0.5,), (0.5,))
    init = jax.jit(partial(network.init, running_average=True))
    variables = load_weights(imagenet_weights, init(jax.random.key(0), jnp.zeros((1, 224, 224, 3))))
    embed = jax.jit(partial(network.apply, variables, running_average=True))

    def embedded(split: str, every: int) -> tuple[np.ndarray, np.ndarray]:
        examples = list(tfds_source.data_source(folder, split))[::every]
        images = np.stack(
            [
                fit_image(Image.open(io.BytesIO(e["image"])), image_size=224, resampling=Resampling.BILINEAR)
                for e in examples
            ]
        )
        features = frozen_features(embed, images, fingerprint=f"{content_hash(imagenet_weights)} {split}")
        return features[:, 0], np.array([e["label"] for e in examples])

    (x, y), (x_more, y_more) = (embedded(split, 1) for split in ("train", "validation"))
    train, labels = np.concatenate([x, x_more]), np.concatenate([y, y_more])
    test, labels = embedded("test", 6)
    classes = np.unique(labels)
    means = np.stack([train[labels == c].mean(axis=0) for c in classes])
    distances = np.square(means).sum(axis=1) - 2 * test @ means.T
    accuracy = np.mean(classes[np.argmin(distances, axis=1)] == labels)
    assert accuracy == pytest.approx(0.7387, abs=0.005)
