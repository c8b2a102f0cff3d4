"""The experiments in configs/, as launch.py reads them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags

from fsljax import methods
from fsljax.classification import few_shot
from fsljax.config import plain
from fsljax.methods import protonet

FOLDER = Path(__file__).parents[1] / "configs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
OMNIGLOT = ["protonet_1_5", "protonet_5_5", "protonet_1_20", "protonet_5_20"]


def load(name: str, *overrides: str) -> ConfigDict:
    """The config as the command line gives it."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values)
    argv = ["launch.py", f"--config={FOLDER / name}.py", *overrides]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", argv)  # where ml_collections looks for overrides
        values(argv)
    return values.config


def differences(a: dict[str, Any], b: dict[str, Any]) -> set[str]:
    """Names of the top-level fields in which two configs differ."""
    assert a.keys() == b.keys()
    return {name for name in a if a[name] != b[name]}


def test_there_are_configs():
    assert {*OMNIGLOT, "quickstart", "protonet_folder"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_is_locked_and_named_like_its_file_and_can_work(name: str):
    config = load(name)
    assert config.is_locked
    assert config.name == name
    methods.check(config)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_says_what_it_is_and_defines_nothing_but_values(name: str):
    scope: dict[str, Any] = {}
    exec((FOLDER / f"{name}.py").read_text(), scope)
    assert scope["__doc__"]
    own = {key for key in scope if not key.startswith("__")}
    method = scope["get_config"]().method
    assert own == {"ConfigDict", method, "get_config"}
    assert scope["get_config"]() is not scope["get_config"]()


def test_fields_can_be_overridden_and_no_others_added():
    config = load("protonet_1_5", "--config.train.steps=7", "--config.eval.ways=(3, 4)")
    assert config.train.steps == 7
    assert config.eval.ways == (3, 4)
    with pytest.raises(AttributeError):
        load("protonet_1_5", "--config.train.stepps=7")


@pytest.mark.parametrize("name", OMNIGLOT)
def test_omniglot_is_reported_in_the_four_published_settings_with_10_000_episodes(name: str):
    config = load(name)
    settings = few_shot.test_settings(config)
    assert {(s.way, s.shot, s.queries) for s in settings} == {(w, s, 15) for w in (5, 20) for s in (1, 5)}
    assert {s.name for s in settings} == set(protonet.PUBLISHED["omniglot"])
    assert config.eval.episodes == 10_000
    assert config.eval.batch_statistics == "running"
    assert config.data.name == "omniglot"
    assert config.data.image_size == 28


@pytest.mark.parametrize("name", OMNIGLOT)
def test_omniglot_is_trained_with_60_way_episodes_and_validated_as_its_name_says(name: str):
    config = load(name)
    _, shot, way = name.split("_")
    assert config.train.way == 60
    assert config.train.shot == config.validation.shot == int(shot)
    assert config.validation.way == int(way)


@pytest.mark.parametrize("shot", [1, 5])
def test_configs_of_one_shot_share_their_training_and_differ_in_the_way_of_validation(shot: int):
    five, twenty = plain(load(f"protonet_{shot}_5")), plain(load(f"protonet_{shot}_20"))
    assert differences(five, twenty) == {"name", "validation"}
    assert differences(five["validation"], twenty["validation"]) == {"way"}
