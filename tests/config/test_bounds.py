"""What fields take by their type and bounds alone, and which of them cannot go together."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict, config_dict

from fsljax import methods
from fsljax.config.fields import LARGEST, Bounds, checked, shown
from fsljax.errors import UserError
from fsljax.methods import protonet, repmet_detector


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e31, -1e31, 10**40, 1e-16, 0.0, -1.0])
def test_a_divisor_is_a_number_that_float32_can_hold(value: float):
    with pytest.raises(UserError, match="it must be"):
        checked("loss.sigma", value, float, Bounds(above=0))
    assert checked("loss.sigma", 1e-15, float, Bounds(above=0)) == 1e-15


@pytest.mark.parametrize("value", [LARGEST + 1, 10**12, 10**400, -(10**400)])
def test_a_whole_number_has_32_bits_where_a_field_says_nothing_else(value: int):
    with pytest.raises(UserError, match="2147483647 or"):
        checked("train.log_every", value, int, Bounds())
    with pytest.raises(UserError, match=r"14 or less|from 1 to 14"):
        checked("network.blocks", value, int, Bounds(least=1, most=14))
    assert checked("train.log_every", LARGEST, int, Bounds()) == LARGEST


def test_seeds_have_32_bits_without_a_sign():
    assert checked("seed", 2**32 - 1, int, Bounds(least=0, below=2**32)) == 2**32 - 1
    for value in (2**32, 10**400, -1):
        with pytest.raises(UserError, match=r"config\.seed is"):
            checked("seed", value, int, Bounds(least=0, below=2**32))


def test_what_is_shown_of_a_value_has_an_end():
    assert shown("text") == "'text'"
    assert len(shown("x" * 10_000)) < 120
    assert shown(10**6000) == "of type int"
    with pytest.raises(UserError, match=r"config.seed is of type int; it must be below 2\^32"):
        checked("seed", 10**6000, int, Bounds(least=0, below=2**32))


def changed(config: ConfigDict, values: dict[str, Any]) -> ConfigDict:
    for name, value in values.items():
        *sections, last = name.split(".")
        section = config
        for part in sections:
            section = section[part]
        with section.ignore_type():
            section[last] = value
    return config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": None}, "config.name is None; it must be text"),
        ({"name": 5}, "config.name is 5; it must be text"),
        ({"name": "a\0b"}, "text must not contain the null character"),
        ({"method": None}, "config.method is None"),
        ({"train": None}, "config.train is None; it must be a section"),
        ({"train.steps": None}, "config.train.steps is None; it must be a whole number"),
        ({"network.blocks": 10**12}, "config.network.blocks is 1000000000000; it must be"),
        ({"network.blocks": 10**400}, "config.network.blocks is 1000"),
        ({"network.filters": 10**12}, "it must be"),
        ({"network.embedding": (10**12,)}, r"config.network.embedding is \(1000000000000,\)"),
        ({"data.image_size": 10**12}, "it must be"),
        ({"train.way": 10**12}, "it must be"),
        ({"eval.episodes": 10**12}, "it must be"),
        ({"eval.ways": (10**12,)}, "it must be"),
        ({"augment.shift": 29.0}, "more than config.data.image_size, 28"),
        ({"augment.scale": 1.0}, "it must be 0.99 or less"),
        ({"augment.hue": 2.0, "data.channels": 3}, "it must be 1 or less"),
        ({"data.fractions": (0.5, 0.5)}, "the fractions of train, validation and test, which sum to 1"),
        ({"data.fractions": (0.5, 0.5, 0.5)}, "which sum to 1"),
        ({"train.weight_decay": 0.1}, "the optimizer adam has no weight decay"),
        ({"train.restarts": (-1,)}, "it must be 1 or more"),
        ({"train.learning_rate": 1e-300}, "not closer to 0 than 1e-38"),
        ({"loss.temperature": 1e-300}, "not closer to 0 than 1e-38"),
        ({"train.learning_rate": 1e300}, r"it must be at most 3e\+38 in magnitude"),
        ({"loss.temperature": Fraction(1, 2), "train.steps": True}, "config.train.steps is True"),
        ({"data.name": config_dict.required_placeholder(str)}, "a field without a value"),
    ],
)
def test_what_means_nothing_is_refused_in_words(values: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        methods.check(changed(protonet.default_config(), values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scenes.sides": (32.0, 16.0)}, "the first number must not exceed the second"),
        ({"scenes.noise": (0.0, 2.0)}, "it must be 1 or less"),
        ({"scenes.characters": (1, 10**12)}, "it must be"),
        ({"proposals.low": 0.8}, "low must not exceed high"),
        ({"proposals.keep": 10**12}, "it must be"),
        ({"proposals.ratios": (np.nan,)}, "it must be"),
        ({"pyramid.extra_levels": 10**12}, "it must be"),
        ({"rois.output_size": 10**12}, "it must be"),
        ({"rois.samples": 10**6}, "it must be"),
        ({"eval.shots": (11,)}, "10 supports per class, but 11 were requested"),
        ({"head.hidden": 10**9}, "it must be"),
    ],
)
def test_what_means_nothing_to_a_detector_is_refused_in_words(values: dict[str, Any], message: str):
    config = repmet_detector.default_config()
    config.network.name, config.proposals.sizes = "scene_net", (16.0, 24.0, 32.0, 48.0)
    methods.check(config)
    with pytest.raises(UserError, match=message):
        methods.check(changed(config, values))


def test_no_scene_is_drawn_whose_characters_are_larger():
    config = repmet_detector.default_config()
    config.network.name, config.proposals.sizes = "scene_net", (16.0, 24.0, 32.0, 48.0)
    with pytest.raises(UserError, match="no character may be larger than its scene"):
        methods.load(changed(config, {"scenes.sides": (20.0, 129.0)}))


@pytest.mark.parametrize("value", [np.int64(5), np.int32(5)])
def test_whole_numbers_of_numpy_are_taken(value: Any):
    config = changed(
        protonet.default_config(), {"train.steps": value, "train.learning_rate": np.float32(0.5)}
    )
    assert methods.check(config).train.steps == 5
