"""The experiments in configs/, as launch.py reads them."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags

from fsljax import methods
from fsljax.classification import few_shot
from fsljax.config import plain
from fsljax.config.experiments import choose, find, names
from fsljax.errors import UserError
from fsljax.methods import protonet

FOLDER = Path(__file__).parents[1] / "configs"
FILES = sorted(path.name for path in FOLDER.glob("*.py"))
EXPERIMENTS = names(FOLDER)
OMNIGLOT = ["protonet_1_5", "protonet_5_5", "protonet_1_20", "protonet_5_20"]


def load(name: str, *overrides: str) -> ConfigDict:
    """The config of an experiment as the command line gives it."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values)
    argv = ["launch.py", f"--config={EXPERIMENTS[name]}", *overrides]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", argv)  # where ml_collections looks for overrides
        values(argv)
    return values.config


def differences(a: dict[str, Any], b: dict[str, Any]) -> set[str]:
    """Names of the top-level fields in which two configs differ."""
    assert a.keys() == b.keys()
    return {name for name in a if a[name] != b[name]}


def test_there_are_configs():
    assert {*OMNIGLOT, "quickstart", "protonet_folder", "repmet_pets_r18F_1_12_4"} <= set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_config_is_locked_and_named_like_its_file_and_argument_and_can_work(name: str):
    config = load(name)
    file, _, argument = EXPERIMENTS[name].partition(":")
    assert config.is_locked
    assert config.name == name
    if argument:
        first, last = name.removesuffix(argument), Path(file).stem
        assert name.endswith(f"_{argument}") and last.startswith(first.rstrip("_"))
    else:
        assert Path(file).stem == name
    methods.check(config)


@pytest.mark.parametrize("file", FILES)
def test_a_config_file_says_what_it_is_and_defines_nothing_but_values(file: str):
    scope: dict[str, Any] = {"__file__": str(FOLDER / file)}
    exec((FOLDER / file).read_text(), scope)
    assert scope["__doc__"]
    defined = {key for key in scope if not key.startswith("__")}
    constants = {key for key in defined if key.isupper()}
    argument = ("EXPERIMENTS" in constants) * ["choose"]
    first = next(iter(scope["EXPERIMENTS"])) if argument else None
    given = [first] if argument else []
    method = scope["get_config"](*given).method
    assert defined - constants == {"ConfigDict", method, "get_config", *argument}
    assert not constants or argument
    assert scope["get_config"](*given) is not scope["get_config"](*given)


@pytest.mark.parametrize("file", [file for file in FILES if "EXPERIMENTS" in (FOLDER / file).read_text()])
def test_experiments_of_one_file_share_nothing_that_can_be_changed(file: str):
    scope = runpy.run_path(str(FOLDER / file))
    for argument in scope["EXPERIMENTS"]:
        before = scope["get_config"](argument)
        changed = scope["get_config"](argument)
        changed.train.steps, changed.augment.flip, changed.name = 1, not before.augment.flip, "changed"
        assert scope["get_config"](argument).to_dict() == before.to_dict()


def test_an_argument_that_is_unknown_or_missing_is_answered_with_the_nearest_or_all():
    given = ("pets_r18F_1_12_4", "dogs_r18F_1_12_4")
    file = "/somewhere/configs/repmet_fine_grained.py"
    assert choose("dogs_r18F_1_12_4", given, file) == "dogs_r18F_1_12_4"
    with pytest.raises(UserError) as told:
        choose("pets_r18", given, file)
    assert str(told.value) == (
        "configs/repmet_fine_grained.py has no experiment 'pets_r18'. Did you mean pets_r18F_1_12_4? It has "
        "pets_r18F_1_12_4, dogs_r18F_1_12_4."
    )
    with pytest.raises(
        UserError, match=r"give --config=configs/repmet_fine_grained.py:NAME, where NAME is one of pets"
    ):
        choose("", given, file)


def test_an_experiment_is_found_by_its_name_whatever_its_file():
    assert find("quickstart", FOLDER) == str(FOLDER / "quickstart.py")
    assert find("softmax_flowers_mnv2L_1_12_4", FOLDER).endswith(
        "configs/softmax_fine_grained.py:flowers_mnv2L_1_12_4"
    )
    with pytest.raises(UserError, match=r"no experiment 'quikstart' in .*configs. Did you mean quickstart\?"):
        find("quikstart", FOLDER)


def test_a_file_that_cannot_be_run_hides_no_others(tmp_path: Path):
    (tmp_path / "broken.py").write_text("import nothing_like_this\n")
    (tmp_path / "whole.py").write_text(
        "from ml_collections import ConfigDict\n\n\ndef get_config():\n    return ConfigDict({'name': ''})\n"
    )
    assert names(tmp_path) == {"whole": str(tmp_path / "whole.py")}


def test_fields_can_be_overridden_and_no_others_added():
    config = load("protonet_1_5", "--config.train.steps=7", "--config.eval.ways=(3, 4)")
    assert config.train.steps == 7
    assert config.eval.ways == (3, 4)
    with pytest.raises(AttributeError):
        load("protonet_1_5", "--config.train.stepps=7")


@pytest.mark.parametrize("name", OMNIGLOT)
def test_omniglot_is_reported_in_the_four_published_settings_with_10_000_episodes(name: str):
    config = load(name)
    settings = few_shot.test_settings(methods.check(config).eval)
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
