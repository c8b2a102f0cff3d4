"""Weights from files with published names."""

from __future__ import annotations

import json
import logging
import pickle
import struct
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from fsljax.config import Network
from fsljax.errors import UserError
from fsljax.networks import Embedding, InceptionV3, LeNet, MobileNetV2, ResNet
from fsljax.networks.backbones import resnet18, resnet50
from fsljax.networks.weights import content_hash, load_weights, read_tensors, torch_names

SMALL = ResNet((1, 1), filters=4, small_images=True)

# Some of the names in torchvision's state dicts and their shapes there; and how many tensors there are
# without classifiers, auxiliary classifiers and counters.
PUBLISHED: dict[Any, tuple[int, dict[str, tuple[int, ...]]]] = {
    resnet18.build(Network()): (100, {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.running_mean": (64,),
        "layer1.0.conv2.weight": (64, 64, 3, 3),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer4.1.bn2.running_var": (512,),
    }),
    resnet50.build(Network()): (265, {
        "layer1.0.downsample.1.bias": (256,),
        "layer3.5.conv2.weight": (256, 256, 3, 3),
        "layer4.2.conv3.weight": (2048, 512, 1, 1),
    }),
    MobileNetV2(): (260, {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.1.conv.2.running_var": (16,),
        "features.17.conv.1.0.weight": (960, 1, 3, 3),
        "features.18.1.weight": (1280,),
    }),
    InceptionV3(): (470, {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
        "Mixed_6c.branch7x7dbl_5.conv.weight": (192, 160, 1, 7),
        "Mixed_7b.branch3x3dbl_3b.bn.running_mean": (384,),
    }),
}  # fmt: skip


def torch_tensors(variables: dict[str, Any], seed: int = 1) -> dict[str, np.ndarray]:
    """A random state dict of the network, in PyTorch's layout."""
    generator = np.random.default_rng(seed)
    tensors = {}
    for name, place in torch_names(variables).items():
        shape = at(variables, place).shape
        axes = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[len(shape)]
        tensors[name] = generator.normal(size=[shape[axis] for axis in axes]).astype(np.float32)
    return tensors


def at(variables: dict[str, Any], place: tuple[str, ...]) -> Any:
    for name in place:
        variables = variables[name]
    return variables


def write(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **tensors)
    else:
        save_file(tensors, path)
    return path


@pytest.mark.parametrize("network", PUBLISHED, ids=lambda network: type(network).__name__)
def test_names_and_shapes_are_torchvisions(draw, network):
    count, published = PUBLISHED[network]
    tensors = torch_tensors(draw(network, 96, 96, 3))
    assert len(tensors) == count
    for name, shape in published.items():
        assert tensors[name].shape == shape


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("network", [SMALL, MobileNetV2(), LeNet()], ids=lambda n: type(n).__name__)
def test_every_tensor_comes_to_its_place(draw, tmp_path: Path, network, suffix: str):
    variables = draw(network, 32, 32, 3)
    tensors = torch_tensors(variables)
    loaded = load_weights(write(tmp_path / f"weights{suffix}", tensors), variables)
    assert jax.tree.structure(loaded) == jax.tree.structure(variables)
    for name, place in torch_names(variables).items():
        expected_tensor = tensors[name]
        if expected_tensor.ndim == 4:
            expected_tensor = np.einsum("oihw->hwio", expected_tensor)
        if expected_tensor.ndim == 2:
            expected_tensor = np.einsum("oi->io", expected_tensor)
        np.testing.assert_array_equal(at(loaded, place), expected_tensor)
        assert at(loaded, place).dtype == jnp.float32


def test_classifiers_and_counters_are_left_out(draw, tmp_path: Path):
    variables = draw(SMALL, 8, 8, 3)
    more = {"fc.weight": np.zeros((10, 8), np.float32), "classifier.1.bias": np.zeros(3, np.float32),
            "AuxLogits.conv0.conv.weight": np.zeros((1, 1, 1, 1), np.float32),
            "bn1.num_batches_tracked": np.array(7)}  # fmt: skip
    tensors = torch_tensors(variables)
    paths = [write(tmp_path / f"{name}.npz", t) for name, t in (("less", tensors), ("more", tensors | more))]
    jax.tree.map(np.testing.assert_array_equal, *(load_weights(path, variables) for path in paths))


def test_a_head_keeps_its_values_and_is_named(draw, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    whole = draw(Embedding(SMALL, (5, 3)), 8, 8, 3)
    backbone = draw(SMALL, 8, 8, 3)
    path = write(tmp_path / "weights.npz", torch_tensors(backbone))
    with caplog.at_level(logging.INFO, logger="absl"):
        loaded = load_weights(path, whole)
    assert "head.0, head.1 keep their initial values" in caplog.text
    jax.tree.map(np.testing.assert_array_equal, loaded["params"]["head"], whole["params"]["head"])
    for part, expected in load_weights(path, backbone).items():
        jax.tree.map(np.testing.assert_array_equal, loaded[part]["backbone"], expected)


def test_a_backbone_is_found_wherever_it_lies(draw, tmp_path: Path):
    backbone = draw(SMALL, 8, 8, 3)
    method = {
        "params": {"network": {"backbone": backbone["params"]}, "representatives": np.ones((2, 3))},
        "batch_stats": {"network": {"backbone": backbone["batch_stats"]}},
    }
    path = write(tmp_path / "weights.npz", torch_tensors(backbone))
    loaded = load_weights(path, method)
    jax.tree.map(
        np.testing.assert_array_equal,
        loaded["params"]["network"]["backbone"],
        load_weights(path, backbone)["params"],
    )
    np.testing.assert_array_equal(loaded["params"]["representatives"], np.ones((2, 3)))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"conv1.weight": None},
            r"has no tensor 'conv1\.weight', which the network has in shape \(4, 3, 3, 3\)",
        ),
        (
            {"layer2.0.conv1.weight": np.zeros((8, 5, 3, 3), np.float32)},
            r"'layer2\.0\.conv1\.weight' has shape \(8, 5, 3, 3\) in the file and \(8, 4, 3, 3\) in the net",
        ),
        (
            {"layer3.0.bn1.bias": np.zeros(4, np.float32)},
            r"has a tensor 'layer3\.0\.bn1\.bias' of shape \(4,\), which the network does not have",
        ),
        (
            {"bn1.weight": np.full(4, np.nan, np.float32)},
            r"'bn1\.weight' has values that are not finite",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(draw, tmp_path: Path, change, sentence: str, suffix: str):
    variables = draw(SMALL, 8, 8, 3)
    tensors = torch_tensors(variables) | change
    path = write(tmp_path / f"w{suffix}", {name: t for name, t in tensors.items() if t is not None})
    with pytest.raises(UserError, match=sentence) as caught:
        load_weights(path, variables)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.bin", "w.PTH", "w.pkl"])
def test_a_pickle_of_a_program_is_refused_and_not_run(draw, tmp_path: Path, name: str):
    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "harmed",))

    (tmp_path / name).write_bytes(pickle.dumps(Harm()))
    with pytest.raises(
        UserError, match=r"is a pickle, .*save its state dict as \.safetensors|names '.*', but only"
    ):
        load_weights(tmp_path / name, draw(SMALL, 8, 8, 3))
    (tmp_path / "w.npz").write_bytes((tmp_path / name).read_bytes())
    with pytest.raises(UserError, match="are damaged"):
        load_weights(tmp_path / "w.npz", draw(SMALL, 8, 8, 3))
    assert not (tmp_path / "harmed").exists()


def test_a_file_of_another_kind_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"must end in \.safetensors, \.npz, \.pth, \.pt or \.bin"):
        load_weights(tmp_path / "weights.h5", {"params": {}, "batch_stats": {}})


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_file_that_is_missing_or_damaged_is_named(draw, tmp_path: Path, suffix: str):
    variables, path = draw(SMALL, 8, 8, 3), tmp_path / f"w{suffix}"
    with pytest.raises(UserError, match=rf"w{suffix} .*cannot be read: No such file"):
        load_weights(path, variables)
    write(path, torch_tensors(variables))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=rf"w{suffix} .*damaged"):
        load_weights(path, variables)


def test_the_hash_is_of_the_content(tmp_path: Path):
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (content_hash(tmp_path / name) for name in "abc")
    assert a == b != c
    with pytest.raises(UserError, match="cannot be read: No such file"):
        content_hash(tmp_path / "d")


def test_an_archive_that_would_unpack_to_far_more_is_refused(draw, tmp_path: Path):
    np.savez_compressed(tmp_path / "w.npz", a=np.zeros(2**27, np.uint8))
    with pytest.raises(UserError, match=r"w\.npz .*would unpack to 134,217,"):
        load_weights(tmp_path / "w.npz", draw(SMALL, 8, 8, 3))


def declares(about: dict[str, Any], size: int | None = None) -> bytes:
    header = json.dumps(about).encode()
    return struct.pack("<Q", len(header) if size is None else size) + header + bytes(16)


@pytest.mark.parametrize(
    "content",
    [
        declares({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 1600]}}),
        declares({"a": {"dtype": "F32", "shape": [400], "data_offsets": [0, 16]}}),
        declares({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 16]}}),
        declares({"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}}),
        declares({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}),
        declares({}, 2**60),
        declares({"a": {"dtype": "object", "shape": [4], "data_offsets": [0, 16]}}),
    ],
)
def test_a_size_that_is_not_what_is_there_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"w\.safetensors .*damaged"):
        read_tensors(tmp_path / "w.safetensors")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path, suffix: str):
    (tmp_path / f"w{suffix}").mkdir()
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_tensors(tmp_path / f"w{suffix}")
