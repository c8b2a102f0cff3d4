"""Networks by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsljax import networks
from fsljax.config import Experiment, config_dict, read
from fsljax.errors import UserError


def make_config(**fields: object) -> Experiment:
    """An experiment with other values, read as those of a config file are."""
    config = config_dict(Experiment())
    for name, value in fields.items():
        section, field = name.split(".")
        with config.ignore_type():
            config[section][field] = value
    return read(Experiment, config)


def test_builds_what_the_config_describes():
    fields = {"filters": 8, "blocks": 3, "momentum": 0.5, "kernels": "xla"}
    config = make_config(**{f"network.{name}": value for name, value in fields.items()})
    assert networks.build(config) == networks.Conv4(filters=8, blocks=3, momentum=0.5, kernels="xla")


def test_the_default_is_the_published_network():
    assert networks.build(Experiment()) == networks.Conv4()


@pytest.mark.parametrize("size", [16, 17, 28])
def test_every_size_that_survives_pooling_is_taken(size: int):
    networks.build(make_config(**{"data.image_size": size}))


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        (
            "network.name",
            "resnet",
            r"config\.network\.name is 'resnet', .*Did you mean resnet50\? It can be 'conv4', 'efficient",
        ),
        ("network.kernels", "gpu", r"config\.network\.kernels is 'gpu'; it can be 'auto', 'cpu', 'xla'"),
        ("data.image_size", 15, r"config\.data\.image_size is 15.*use 16 or more, or fewer blocks"),
        ("network.blocks", 5, r"config\.data\.image_size is 28, but 5 blocks.*use 32 or more"),
        ("network.name", "inception_v3", r"config\.data\.image_size is 28, but inception_v3 needs 75"),
        ("network.trainable", "some", r"network\.trainable is 'some'; it can be 'all', 'last_stage', 'head'"),
        ("network.padding", "valid", r"network\.padding is 'valid'; it can be 'symmetric', 'same'"),
        ("network.embedding", (256, 0), r"config\.network\.embedding is \(256, 0\); it must be 1 or more"),
        ("network.input_mean", (0.1, 0.2), r"network\.input_mean is .* one for each of the 1 channels"),
        ("network.input_std", (0.0,), r"config\.network\.input_std is \(0\.0,\); it must be above 0"),
        ("network.weights", "w.npz", r"weights is given, but conv4 has no published layout"),
    ],
)
def test_what_cannot_be_built_is_told_in_a_sentence(field: str, value: object, sentence: str):
    with pytest.raises(UserError, match=sentence):
        networks.build(make_config(**{field: value}))


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        ("lenet", networks.LeNet),
        ("mobilenet_v2", networks.MobileNetV2),
        ("resnet18", networks.ResNet),
        ("resnet50", networks.ResNet),
        ("resnet_small", networks.ResNet),
        ("inception_v3", networks.InceptionV3),
    ],
)
def test_every_network_gets_the_settings_of_the_config(name: str, backbone: type):
    fields = {"padding": "same", "momentum": 0.5, "kernels": "xla"}
    config = make_config(
        **{"network.name": name, "data.image_size": 75},
        **{f"network.{field}": value for field, value in fields.items()},
    )
    network = networks.build(config)
    assert isinstance(network, backbone)
    assert network.settings == networks.Settings(**fields)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("embedding", (256,)),
        ("normalize", True),
        ("input_mean", (0.5,)),
        ("input_std", (0.5,)),
        ("trainable", "last_stage"),
        ("trainable", "head"),
    ],
)
def test_what_a_config_asks_for_beyond_the_backbone_is_built_around_it(field: str, value: object):
    config = make_config(**{f"network.{field}": value})
    network = networks.build(config)
    assert isinstance(network, networks.Embedding)
    assert network.backbone == networks.Conv4(trainable=config.network.trainable)
    assert network.frozen == (value == "head")
    in_network = {"embedding": network.dense, "trainable": network.backbone.trainable}
    assert in_network.get(field, getattr(network, field, None)) == value


def test_weights_are_refused_by_their_name_and_beside_another_run():
    config = make_config(**{"network.name": "lenet", "network.weights": "lenet.pkl"})
    with pytest.raises(UserError, match=r"lenet\.pkl \(config\.network\.weights\) is a pickle"):
        networks.build(config)
    both = {"network.weights": "lenet.npz", "network.init_from": "runs/other"}
    config = make_config(**{"network.name": "lenet", **both})
    with pytest.raises(UserError, match=r"weights and config\.network\.init_from are both given"):
        networks.build(config)


def test_the_last_stage_of_a_config_is_that_of_its_network():
    assert networks.last_stage(make_config(**{"network.blocks": 3})) == ("block_2",)
    assert networks.last_stage(make_config(**{"network.name": "resnet50"})) == ("layer4",)


def test_a_detector_needs_a_backbone_with_stages():
    with pytest.raises(UserError) as refusal:
        networks.build_backbone(make_config(**{"network.name": "conv4"}))
    assert str(refusal.value) == (
        "config.network.name is 'conv4', which has no stages to detect objects on; it can be "
        "'efficientnet_lite0', 'mobilenet_v2', 'mobilenet_v3_large', 'resnet101', 'resnet18', 'resnet34', "
        "'resnet50', 'resnet_small', 'scene_net'."
    )
    assert isinstance(
        networks.build_backbone(make_config(**{"network.name": "scene_net"})), networks.SceneNet
    )


def test_a_backbone_of_ones_own_is_found_by_its_dotted_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "networks_of_mine"
    package.mkdir()
    (package / "plain.py").write_text(
        "from fsljax.networks import Conv4\n"
        "def build(network):\n"
        "    return Conv4(network.filters, blocks=1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = make_config(**{"network.name": "networks_of_mine.plain", "network.filters": 5})
    assert networks.build(config) == networks.Conv4(5, blocks=1)
    assert networks.last_stage(config) == ("block_0",)
