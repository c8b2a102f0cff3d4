"""Defaults and checks that every experiment shares."""

from __future__ import annotations

import json

import pytest
from ml_collections import ConfigDict

from fsljax.config import (
    check_at_least,
    check_choice,
    check_shared,
    get,
    plain,
    shared_config,
    with_later_fields,
)
from fsljax.errors import UserError

AT_LEAST_1 = [
    "data.image_size", "network.filters", "network.blocks", "train.steps", "train.halving_steps",
    "train.log_every", "train.steps_per_dispatch", "checkpoint.every", "checkpoint.keep_last",
]  # fmt: skip
AT_LEAST_0 = [
    "seed", "train.warmup_steps", "train.weight_decay", "data.split_seed", "data.max_classes",
    "data.host_budget_gb", "data.device_budget_gb", "data.workers", "data.prefetch",
]  # fmt: skip
AUGMENTED = [
    "rotation", "scale", "stretch", "shear", "shift", "elastic", "brightness", "contrast", "saturation",
    "hue",
]  # fmt: skip
NAN = float("nan")


def refused(name: str, value: object) -> str:
    """The sentence that a config with this value is refused by."""
    config = shared_config()
    config.update_from_flattened_dict({name: value})
    with pytest.raises(UserError) as caught:
        check_shared(config)
    return str(caught.value)


def test_the_defaults_pass():
    check_shared(shared_config())


@pytest.mark.parametrize(
    "name",
    ["data.name", "data.train_on", "data.split_by", "data.merge", "train.optimizer", "train.schedule"],
)
def test_a_word_that_is_no_choice_is_named_with_the_choices(name: str):
    assert refused(name, "other").startswith(f"config.{name} is 'other'; it can be '")


def test_images_have_one_channel_or_three():
    assert refused("data.channels", 4) == "config.data.channels is 4; it can be 1, 3."


@pytest.mark.parametrize("name", AT_LEAST_1)
def test_a_count_below_one_is_named(name: str):
    assert refused(name, 0) == f"config.{name} is 0; it must be 1 or more."


@pytest.mark.parametrize("name", [*AT_LEAST_0, *(f"augment.{name}" for name in AUGMENTED)])
def test_an_amount_below_zero_is_named(name: str):
    value = type(get(shared_config(), name))(-1)
    assert refused(name, value) == f"config.{name} is {value}; it must be 0 or more."


@pytest.mark.parametrize("value", [0.0, -0.5, 1.5, NAN])
def test_a_crop_is_a_part_of_the_image(value: float):
    sentence = f"config.augment.crop_scale is {value}; it must be above 0 and at most 1."
    assert refused("augment.crop_scale", value) == sentence


@pytest.mark.parametrize("name", ["saturation", "hue"])
def test_grey_images_have_no_colours_to_change(name: str):
    assert "but config.data.channels is 1: let both be 0." in refused(f"augment.{name}", 0.1)
    config = shared_config()
    config.data.channels = 3
    config.augment[name] = 0.1
    check_shared(config)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, NAN])
def test_a_part_of_train_is_held_out(value: float):
    assert refused("data.validation_fraction", value) == (
        f"config.data.validation_fraction is {value}; it must be between 0 and 1."
    )


def test_one_class_is_too_few():
    assert refused("data.max_classes", 1).startswith("config.data.max_classes is 1; it must be 0")


@pytest.mark.parametrize(("name", "value"), [("data.merge", "pairs"), ("data.max_classes", 5)])
def test_classes_are_chosen_and_united_where_the_parts_share_them(name: str, value: object):
    assert refused(name, value) == (
        f"config.{name} is {value!r}, which needs parts that share their classes: "
        "set --config.data.split_by=examples."
    )
    config = shared_config()
    config.update_from_flattened_dict({name: value, "data.split_by": "examples"})
    check_shared(config)


def test_only_omniglot_has_alphabets():
    config = shared_config()
    config.data.update({"name": "glyphs", "split_by": "examples", "merge": "alphabets"})
    with pytest.raises(UserError, match=r"which Omniglot alone has, but config\.data\.name is 'glyphs'"):
        check_shared(config)
    config.data.name = "omniglot"
    check_shared(config)


def test_an_elastic_field_needs_two_points_a_side():
    assert refused("augment.elastic_points", 1) == "config.augment.elastic_points is 1; it must be 2 or more."


@pytest.mark.parametrize("name", ["train.ema", "network.momentum"])
@pytest.mark.parametrize("value", [-0.1, 1.0, NAN])
def test_a_share_that_is_kept_is_below_one(name: str, value: float):
    assert refused(name, value).startswith(f"config.{name} is {value}; it must be from 0 up to")


@pytest.mark.parametrize("value", [0.0, -1.0, NAN])
def test_a_learning_rate_is_above_zero(value: float):
    sentence = f"config.train.learning_rate is {value}; it must be above 0."
    assert refused("train.learning_rate", value) == sentence


@pytest.mark.parametrize("restarts", [(500, 400), (500, 500)])
def test_restarts_that_do_not_rise_are_refused(restarts: tuple[int, ...]):
    assert refused("train.restarts", restarts) == (
        f"config.train.restarts is {restarts}; its steps must rise."
    )


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (1, r"config\.a\.b is 1; it must be 2 or more"),
        ((5, 1), r"config\.a\.b is \(5, 1\); it must be 2 or more"),
        ([], r"config\.a\.b is empty; it needs one number"),
        ((), r"config\.a\.b is empty; it needs one number"),
        (NAN, r"config\.a\.b is nan"),
    ],
)
def test_numbers_below_the_least_are_named(value: object, sentence: str):
    with pytest.raises(UserError, match=sentence):
        check_at_least(ConfigDict({"a": {"b": value}}), 2, "a.b")


@pytest.mark.parametrize("value", [2, 2.5, (2, 3), [7]])
def test_numbers_from_the_least_up_pass(value: object):
    check_at_least(ConfigDict({"a": {"b": value}}), 2, "a.b")


def test_a_choice_passes_and_anything_else_does_not():
    config = ConfigDict({"colour": "red"})
    check_choice(config, "colour", ("red", "green"))
    with pytest.raises(UserError, match=r"config\.colour is 'red'; it can be 'blue', 'green'\."):
        check_choice(config, "colour", ("blue", "green"))


def test_a_dotted_name_finds_its_value():
    config = shared_config()
    assert get(config, "seed") == 0
    assert get(config, "train.steps") == 10_000


def test_plain_is_what_json_gives_back():
    config = shared_config()
    flat = plain(config)
    assert json.loads(json.dumps(flat)) == flat
    assert flat["data"]["fractions"] == [0.64, 0.16, 0.2]
    assert list(flat["train"]) == list(config.train)
    assert shared_config().to_dict() == config.to_dict()  # and left alone what it was made from


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("train.restarts", ("a",), "must hold whole numbers"),
        ("train.restarts", (1.5,), "must hold whole numbers"),
        ("data.fractions", ("a", "b", "c"), "must hold numbers"),
        ("seed", 2**32, "below 2^32"),
        ("data.split_seed", 10**30, "below 2^32"),
        ("train.learning_rate", float("inf"), "must be above 0"),
    ],
)
def test_values_of_another_kind_are_refused(name: str, value: object, sentence: str):
    assert refused(name, value).startswith(f"config.{name} is ")
    assert sentence in refused(name, value)


def test_a_stored_network_gets_the_fields_that_came_later_and_no_others():
    stored = ConfigDict({"network": {"name": "conv4", "normalize": True}})
    network = with_later_fields(stored).network
    assert (network.name, network.normalize, network.trainable, network.embedding) == (
        "conv4",
        True,
        "all",
        (),
    )
    assert "filters" not in network
