"""Networks by name."""

from __future__ import annotations

import pytest
from ml_collections import ConfigDict

from fsljax import networks
from fsljax.config import shared_config
from fsljax.errors import UserError


def make_config(**fields: object) -> ConfigDict:
    config = shared_config()
    config.update_from_flattened_dict(fields)
    return config


def test_builds_what_the_config_describes():
    config = make_config(**{"network.filters": 8, "network.blocks": 3, "network.momentum": 0.5})
    config.network.kernels = "xla"
    assert networks.build(config) == networks.Conv4(filters=8, blocks=3, momentum=0.5, kernels="xla")


def test_the_default_is_the_published_network():
    assert networks.build(shared_config()) == networks.Conv4()


@pytest.mark.parametrize("size", [16, 17, 28])
def test_every_size_that_survives_pooling_is_taken(size: int):
    networks.build(make_config(**{"data.image_size": size}))


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("network.name", "resnet", r"config\.network\.name is 'resnet'; it can be 'conv4'"),
        ("network.kernels", "gpu", r"config\.network\.kernels is 'gpu'; it can be 'auto', 'cpu' or 'xla'"),
        ("data.image_size", 15, r"config\.data\.image_size is 15.*take 16 or more, or fewer blocks"),
        ("network.blocks", 5, r"config\.data\.image_size is 28, but 5 blocks.*take 32 or more"),
    ],
)
def test_what_cannot_be_built_is_told_in_a_sentence(field: str, value: object, sentence: str):
    with pytest.raises(UserError, match=sentence):
        networks.build(make_config(**{field: value}))
