"""Names and shapes of published state dicts, which digests of all of them stand for."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from fsljax.config import Network
from fsljax.errors import UserError
from fsljax.networks import building
from fsljax.networks.backbones import vit
from fsljax.networks.layouts import names_in_file
from fsljax.networks.weights import load_weights

from ..storage.torch_pickles import write_torch
from .conftest import draw_variables

LEFT_OUT = ("fc.", "_fc.", "classifier.", "head.", "AuxLogits.")
VITS: dict[str, dict[str, Any]] = {
    "vit_small_patch14_dinov2": {},
    "vit_base_patch14_dinov2": {"width": 768, "heads": 12},
    "vit_small_patch14_reg4_dinov2": {"register_tokens": 4, "embed_class": False},
    "vit_base_patch14_reg4_dinov2": {"register_tokens": 4, "embed_class": False, "width": 768, "heads": 12},
    "vit_small_patch16_224": {"layer_scale": False, "patch_size": 16},
    "vit_base_patch16_224": {"layer_scale": False, "patch_size": 16, "width": 768, "heads": 12},
}
# Network, who publishes it, some of its tensors, and the digest of the names and shapes of all of them.
PUBLISHED: list[tuple[str, str, dict[str, tuple[int, ...]], str]] = [
    ("resnet18", "timm", {"layer1.0.conv1.weight": (64, 64, 3, 3)}, "687ba2ba53a2d146"),
    ("resnet34", "timm", {"layer3.5.bn2.running_var": (256,)}, "d6f122ca17282dcc"),
    ("resnet50", "timm", {"layer4.2.conv3.weight": (2048, 512, 1, 1)}, "bf264ae1a8e9def4"),
    ("resnet101", "timm", {"layer3.22.conv1.weight": (256, 1024, 1, 1)}, "0cdff337b7c89014"),
    ("inception_v3", "timm", {"Mixed_6c.branch7x7dbl_5.conv.weight": (192, 160, 1, 7)}, "e92530b9c2e5003a"),
    ("mobilenet_v2", "torchvision", {"features.17.conv.1.0.weight": (960, 1, 3, 3)}, "58d0f9c71d313c41"),
    (
        "mobilenet_v2",
        "timm",
        {
            "conv_stem.weight": (32, 3, 3, 3),
            "blocks.0.0.conv_pw.weight": (16, 32, 1, 1),
            "blocks.5.2.bn2.running_mean": (960,),
            "bn2.weight": (1280,),
        },
        "78aa851648de412a",
    ),
    (
        "efficientnet_lite0",
        "timm",
        {"blocks.2.1.conv_dw.weight": (240, 1, 5, 5), "conv_head.weight": (1280, 320, 1, 1)},
        "33e609444a6272e9",
    ),
    (
        "efficientnet_lite0",
        "package",
        {
            "_conv_stem.weight": (32, 3, 3, 3),
            "_bn1.bias": (1280,),
            "_blocks.0._project_conv.weight": (16, 32, 1, 1),
            "_blocks.15._expand_conv.weight": (1152, 192, 1, 1),
        },
        "0764763974eb7bc9",
    ),
    (
        "vit_small_patch14_dinov2",
        "timm",
        {"pos_embed": (1, 1370, 384), "blocks.11.ls2.gamma": (384,)},
        "9e96c534a39f4a16",
    ),
    ("vit_base_patch14_dinov2", "timm", {"blocks.0.attn.qkv.weight": (2304, 768)}, "828c575dbf96ca6d"),
    (
        "vit_small_patch14_reg4_dinov2",
        "timm",
        {"pos_embed": (1, 1369, 384), "reg_token": (1, 4, 384)},
        "1a2ae6eadca27c3f",
    ),
    (
        "vit_base_patch14_reg4_dinov2",
        "timm",
        {"patch_embed.proj.weight": (768, 3, 14, 14)},
        "cd5b06b586d4f4b2",
    ),
    (
        "vit_small_patch16_224",
        "timm",
        {"pos_embed": (1, 197, 384), "cls_token": (1, 1, 384)},
        "797fb2a45ab51bf3",
    ),
    ("vit_base_patch16_224", "timm", {"norm.bias": (768,)}, "5912dc6910369af2"),
]


def digest(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Of names and shapes, without classifiers and counters."""
    lines = [
        f"{name} {'×'.join(map(str, shape))}\n"
        for name, shape in sorted(shapes.items())
        if not name.startswith(LEFT_OUT) and not name.endswith("num_batches_tracked")
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def variables_of(name: str) -> Any:
    """Shapes of a network's variables, for images of the size that it is published for."""
    network = Network(name="vit", **VITS[name]) if name in VITS else Network(name=name)
    size = 518 if "dinov2" in name else 224
    images = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    backbone = building._built(network.name, network)
    return jax.eval_shape(
        lambda key, x: backbone.init(key, x, running_average=True), jax.random.key(0), images
    )


def shape_in_file(place: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    if place[-1] != "kernel":
        return shape
    return (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else shape[::-1]


def at(tree: Any, place: tuple[str, ...]) -> Any:
    for name in place:
        tree = tree[name]
    return tree


@pytest.mark.parametrize(("name", "by", "some", "of_all"), PUBLISHED)
def test_all_names_and_shapes_are_the_published_ones(name: str, by: str, some: Any, of_all: str):
    variables = variables_of(name)
    places = names_in_file(variables, some)
    shapes = {one: shape_in_file(place, at(variables, place).shape) for one, place in places.items()}
    assert some.items() <= shapes.items()
    assert digest(shapes) == of_all


def tensors_of(variables: Any, there: Any = ()) -> dict[str, np.ndarray]:
    """A random state dict in the layout that has the names."""
    generator = np.random.default_rng(1)
    places = names_in_file(variables, there)
    return {
        name: generator.normal(size=shape_in_file(place, at(variables, place).shape)).astype(np.float32)
        for name, place in places.items()
    }


@pytest.mark.parametrize(
    ("name", "some"),
    [("mobilenet_v2", "conv_stem.weight"), ("efficientnet_lite0", "_conv_stem.weight")],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_every_tensor_comes_to_its_place(tmp_path: Path, name: str, some: str, wrapped: bool):
    backbone = variables_of(name)
    variables = {kind: {"backbone": tree} for kind, tree in backbone.items()} if wrapped else backbone
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables)
    tensors = tensors_of(backbone, [some])
    more = {"classifier.weight": np.zeros((10, 1280), np.float32), "bn1.num_batches_tracked": np.array(7)}
    loaded = load_weights(write_torch(tmp_path / "w.pth", tensors | more), zeros)
    for one, place in names_in_file(variables, [some]).items():
        there, tensor = np.asarray(at(loaded, place)), tensors[one]
        np.testing.assert_array_equal(there, tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor)


@pytest.mark.parametrize(
    ("ours", "theirs", "some", "sentence"),
    [
        ("mobilenet_v2", "efficientnet_lite0", (), r"has no tensor 'blocks\.3\.3\.conv_pw\.weight', which"),
        (
            "efficientnet_lite0",
            "mobilenet_v2",
            ["conv_stem.weight"],
            r"'blocks\.2\.0\.bn3\.weight' has shape \(32,\) in the file and \(40,\)",
        ),
        ("efficientnet_lite0", "mobilenet_v2", (), r"has no tensor '.*', which the network has in shape"),
        (
            "resnet18",
            "resnet34",
            (),
            r"has a tensor 'layer1\.2\.bn1\.bias' of shape \(64,\), which the network",
        ),
        ("resnet18", "vit_small_patch16_224", (), r"has no tensor 'bn1\.weight', which the network"),
    ],
)
def test_a_file_of_another_network_is_refused(
    tmp_path: Path, ours: str, theirs: str, some: Any, sentence: str
):
    tensors = tensors_of(variables_of(theirs), some)
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=sentence):
        load_weights(tmp_path / "w.safetensors", variables_of(ours))


SMALL_VIT = {"patch_size": 4, "width": 8, "depth": 1, "heads": 2}


@pytest.mark.parametrize("more", [{}, {"register_tokens": 3}, {"register_tokens": 3, "embed_class": False}])
def test_position_embeddings_come_to_the_size_of_the_images(tmp_path: Path, more: Any):
    """Resized, a constant stays that constant, and what belongs to tokens stays as it is."""
    network = building._built("vit", Network(name="vit", **SMALL_VIT, **more))
    large, small = (draw_variables(network, size, size, 3) for size in (28, 12))
    before = 1 + network.register_tokens if network.embed_class else 0
    positions = np.concatenate([np.arange(8 * before).reshape(1, before, 8), np.full((1, 49, 8), 3)], axis=1)
    tensors = {name: np.zeros_like(tensor) for name, tensor in tensors_of(large).items()}
    save_file(tensors | {"pos_embed": positions.astype(np.float16)}, tmp_path / "w.safetensors")
    loaded = load_weights(tmp_path / "w.safetensors", small)["params"]["pos_embed"]
    assert loaded.shape == (1, before + 9, 8)
    np.testing.assert_allclose(loaded[:, :before], positions[:, :before], rtol=1e-6)
    np.testing.assert_allclose(loaded[:, before:], 3, rtol=1e-6)


def test_dinov2s_own_files_with_registers_are_read_as_timms(tmp_path: Path):
    more = {"register_tokens": 3, "embed_class": False}
    variables = draw_variables(building._built("vit", Network(name="vit", **SMALL_VIT, **more)), 12, 12, 3)
    of_timm = tensors_of(variables)
    own = {name: tensor for name, tensor in of_timm.items() if name != "reg_token"}
    of_class = np.full((1, 1, 8), 0.5, np.float32)
    own |= {"register_tokens": of_timm["reg_token"], "mask_token": np.zeros((1, 8), np.float32),
            "cls_token": of_timm["cls_token"] - of_class,
            "pos_embed": np.concatenate([of_class, of_timm["pos_embed"]], axis=1)}  # fmt: skip
    save_file(of_timm, tmp_path / "timm.safetensors")
    paths = tmp_path / "timm.safetensors", write_torch(tmp_path / "own.pth", own)
    loaded = [load_weights(path, variables) for path in paths]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), *loaded)


@pytest.mark.parametrize("name", VITS)
def test_fields_are_found_by_the_shapes_of_the_weights(name: str):
    variables, network = variables_of(name), Network(name="vit", **VITS[name])
    places = names_in_file(variables, ())
    shapes = {one: shape_in_file(place, at(variables, place).shape) for one, place in places.items()}
    assert dataclasses.replace(network, **vit.fields(shapes)) == network
    with pytest.raises(UserError, match="not those of a Vision Transformer"):
        vit.fields({"conv1.weight": (64, 3, 7, 7)})


@pytest.mark.parametrize("shape", [(1, 49, 8), (1, 51, 8), (2, 50, 8), (1, 50, 9), (50, 8)])
def test_position_embeddings_of_another_kind_are_refused(tmp_path: Path, shape: tuple[int, ...]):
    network = building._built("vit", Network(name="vit", **SMALL_VIT))
    variables = draw_variables(network, 12, 12, 3)
    save_file(tensors_of(variables) | {"pos_embed": np.zeros(shape, np.float32)}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"tensor 'pos_embed' has shape .* and \(1, 10, 8\) in the network"):
        load_weights(tmp_path / "w.safetensors", variables)
