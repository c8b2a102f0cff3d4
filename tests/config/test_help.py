"""What --help says of a config's fields."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsljax import command_line, methods
from fsljax.config import Experiment
from fsljax.config.help import as_text, describe
from fsljax.config.modules import find
from fsljax.methods import softmax

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("method", ["protonet", "magnet", "softmax", "triplet", "repmet", "repmet_detector"])
def test_every_field_of_every_method_has_a_meaning(method: str):
    config = find("fsljax.methods", method, field="method").Config()
    assert [field.name for field in describe(config) if not field.meaning] == []


def test_a_field_is_shown_as_it_is_given_with_its_meaning_and_its_choices():
    config = softmax.default_config()
    config.network.embedding = (256, 64)
    text = as_text(methods.check(config))
    lines = {line.split("=")[0].strip(): line for line in text.splitlines() if "--config." in line}
    assert lines["--config.network.embedding"].split("  ")[1] == '--config.network.embedding="(256, 64)"'
    assert lines["--config.train.optimizer"].endswith("optax's ('adam' | 'adamw' | 'sgd')")
    assert max(map(len, text.splitlines())) <= 110
    assert len(lines) == len(list(describe(methods.check(config))))


@pytest.mark.parametrize("place", [0, 2])
def test_help_shows_the_flags_and_the_fields_of_the_config_that_is_given(place: int, capsys):
    argv = ["launch.py", f"--config={CONFIGS / 'softmax_fine_grained.py'}:flowers_mnv2F_1_12_4"]
    argv.insert(place, "--help") if place else argv.append("--help")
    with pytest.raises(SystemExit) as ended:
        command_line._parse(argv)
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "--workdir" in shown
    assert "--config.data.image_size=224" in shown and "pixels a side" in shown


def test_help_without_a_config_shows_the_flags_alone(capsys):
    with pytest.raises(SystemExit) as ended:
        command_line._parse(["launch.py", "-h"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "--config=FILE[:EXPERIMENT]" in shown and "--config.data" not in shown


def test_full_help_without_a_config_shows_the_fields_that_every_experiment_has(capsys):
    with pytest.raises(SystemExit) as ended:
        command_line._parse(["launch.py", "--helpfull"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "--step" in shown and "orbax" not in shown
    for field in describe(Experiment()):
        assert f"--config.{field.name}=" in shown
