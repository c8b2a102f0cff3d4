"""Defaults and checks that every experiment shares."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, dataclass
from functools import reduce
from operator import attrgetter, getitem
from typing import Any

import pytest
from ml_collections import ConfigDict

from fsljax.config import Experiment, check_experiment, config_dict, field, free_names, plain, read, section
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


def checked(config: ConfigDict | dict[str, Any]) -> Experiment:
    typed = read(Experiment, config)
    check_experiment(typed)
    return typed


def refused(name: str, value: object) -> str:
    """The sentence that a config with this value is refused by."""
    values = plain(Experiment())
    *sections, last = name.split(".")
    reduce(getitem, sections, values)[last] = value
    with pytest.raises(UserError) as caught:
        checked(values)
    return str(caught.value)


def test_the_defaults_pass():
    checked(config_dict(Experiment()))


@pytest.mark.parametrize(
    "name",
    ["data.train_on", "data.split_by", "data.merge", "train.optimizer", "train.schedule"],
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
    value = type(attrgetter(name)(Experiment()))(-1)
    assert refused(name, value) == f"config.{name} is {value}; it must be 0 or more."


@pytest.mark.parametrize("value", [0.0, -0.5, 1.5, NAN])
def test_a_crop_is_a_part_of_the_image(value: float):
    sentence = f"config.augment.crop_scale is {value}; it must be above 0 and at most 1."
    assert refused("augment.crop_scale", value) == sentence


@pytest.mark.parametrize("name", ["saturation", "hue"])
def test_grey_images_have_no_colours_to_change(name: str):
    assert "but config.data.channels is 1: set both to 0." in refused(f"augment.{name}", 0.1)
    config = config_dict(Experiment())
    config.data.channels = 3
    config.augment[name] = 0.1
    checked(config)


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
        f"config.{name} is {value!r}, which needs splits that share their classes: set "
        "--config.data.split_by=examples."
    )
    config = config_dict(Experiment())
    config.update_from_flattened_dict({name: value, "data.split_by": "examples"})
    checked(config)


def test_only_omniglot_has_alphabets():
    config = config_dict(Experiment())
    config.data.update({"name": "glyphs", "split_by": "examples", "merge": "alphabets"})
    with pytest.raises(UserError, match=r"which only Omniglot has, but config\.data\.name is 'glyphs'"):
        checked(config)
    config.data.name = "omniglot"
    checked(config)


def test_an_elastic_field_needs_two_points_a_side():
    assert refused("augment.elastic_points", 1) == "config.augment.elastic_points is 1; it must be 2 or more."


@pytest.mark.parametrize("name", ["train.ema", "network.momentum"])
@pytest.mark.parametrize("value", [-0.1, 1.0, NAN])
def test_a_share_that_is_kept_is_below_one(name: str, value: float):
    assert refused(name, value).startswith(f"config.{name} is {value}; it must be at least 0 and below ")


@pytest.mark.parametrize("value", [0.0, -1.0, NAN])
def test_a_learning_rate_is_above_zero(value: float):
    sentence = f"config.train.learning_rate is {value}; it must be above 0."
    assert refused("train.learning_rate", value) == sentence


@pytest.mark.parametrize("restarts", [(500, 400), (500, 500)])
def test_restarts_that_do_not_rise_are_refused(restarts: tuple[int, ...]):
    assert refused("train.restarts", restarts) == (
        f"config.train.restarts is {restarts}; its steps must increase."
    )


def test_plain_is_what_json_gives_back():
    config = config_dict(Experiment())
    flat = plain(config)
    assert json.loads(json.dumps(flat)) == flat
    assert flat["data"]["fractions"] == [0.64, 0.16, 0.2]
    assert list(flat["train"]) == list(config.train)
    assert config_dict(Experiment()).to_dict() == config.to_dict()  # and left alone what it was made from


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("train.restarts", ("a",), "must hold whole numbers"),
        ("train.restarts", (1.5,), "must hold whole numbers"),
        ("data.fractions", ("a", "b", "c"), "must hold numbers"),
        ("seed", 2**32, "below 2^32"),
        ("data.split_seed", 10**30, "below 2^32"),
        ("train.learning_rate", float("inf"), "must be a finite number"),
        ("train.steps", 2.5, "must be a whole number"),
        ("train.steps", True, "must be a whole number"),
        ("data.path", 3, "must be text"),
        ("network.normalize", 1, "must be True or False"),
        ("network.embedding", 256, "must hold whole numbers, in parentheses"),
        ("network.input_mean", (), "is empty; it needs at least one number"),
        ("network.input_std", (0.5, 0.0), "must be above 0"),
        ("data", None, "must be a section"),
    ],
)
def test_values_of_another_kind_are_refused(name: str, value: object, sentence: str):
    assert refused(name, value).startswith(f"config.{name} is ")
    assert sentence in refused(name, value)


@dataclass(frozen=True)
class Colours:
    names: tuple[str, ...] = field(("red",), "of what is drawn", choices=("red", "green"), empty=False)
    range: tuple[float, float] = field((0.0, 1.0), "from, to", least=0)
    share: float = field(0.5, "of each", least=0, most=1)


@dataclass(frozen=True)
class Painting:
    colours: Colours = section(Colours, share=0.25)
    notes: str = field("", "of the painter", free=True)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"names": ("blue",)}, r"config\.colours\.names is \('blue',\); it can be 'red', 'green'"),
        ({"names": ()}, r"config\.colours\.names is empty; it needs at least one name"),
        ({"names": "red"}, r"config\.colours\.names is 'red'; it must hold text, in parentheses"),
        ({"range": (0.0,)}, r"config\.colours\.range is \(0\.0,\); it must hold 2 numbers"),
        ({"range": (0.0, NAN)}, r"config\.colours\.range is \(0\.0, nan\); it must be 0 or more"),
        ({"share": 1.5}, r"config\.colours\.share is 1\.5; it must be from 0 to 1"),
    ],
)
def test_a_section_of_ones_own_is_checked_by_its_fields(values: dict[str, object], sentence: str):
    stored = plain(Painting())
    with pytest.raises(UserError, match=sentence):
        read(Painting, stored | {"colours": stored["colours"] | values})


def test_a_section_keeps_the_defaults_of_the_config_that_holds_it():
    assert Painting().colours.share == 0.25
    assert read(Painting, {"colours": {"names": ["green"]}}, complete=False) == Painting(
        Colours(names=("green",), share=0.25)
    )
    with pytest.raises(UserError, match=r"config\.notes is missing"):
        read(Painting, {"colours": plain(Colours())})


def test_a_stored_config_has_defaults_for_later_fields_and_passes_over_unknown_ones():
    stored = plain(Experiment())
    del stored["network"]["trainable"], stored["augment"]
    stored["network"] |= {"normalize": True, "of_old": 3}
    config = read(Experiment, stored, complete=False)
    assert (config.network.normalize, config.network.trainable) == (True, "all")
    assert config.augment == Experiment().augment
    with pytest.raises(UserError, match=r"Unknown field config\.network\.of_old"):
        read(Experiment, stored)


def test_a_typed_config_is_not_changed_and_tells_equal_ones():
    config = read(Experiment, config_dict(Experiment()))
    assert config == Experiment() and hash(config) == hash(Experiment())
    with pytest.raises(FrozenInstanceError):
        config.seed = 1  # type: ignore[misc]


def test_what_may_differ_when_a_run_goes_on_is_said_by_the_fields():
    free = free_names(Experiment)
    assert {"data.path", "data.data_dir", "checkpoint", "train.log_every"} <= set(free)
    assert not {"data.image_size", "train.steps", "network.weights", "seed"} & set(free)
    assert free_names(Painting) == ["notes"]
