"""fsljax train and evaluate: which config, and which flags."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fsljax.cli import running, stored_run
from fsljax.config import experiments, plain
from fsljax.errors import UserError
from fsljax.methods import protonet
from fsljax.storage.json_files import write_json


@pytest.mark.parametrize("given", [["--workdir=a b:c"], ["-workdir", "a b:c"]])
def test_evaluation_takes_the_config_that_the_workdir_keeps(given: list[str]):
    first, *rest = running._with_config([*given, "--config.eval.episodes=5"])
    assert first == f"--config={stored_run.__file__}:a b:c"
    assert rest == [*given, "--config.eval.episodes=5"]


@pytest.mark.parametrize("given", [[], ["--workdir"], ["--config=x.py", "--workdir=a"], ["--config", "x.py"]])
def test_a_config_that_is_given_stays(given: list[str]):
    assert running._with_config(given) == given


def test_evaluation_takes_no_mode(capsys):
    assert running.run("evaluate", ["--workdir=run", "--mode=train"], "fsljax", "") == 2
    assert capsys.readouterr().err == "fsljax: fsljax evaluate takes no --mode: leave it out.\n"


def test_the_config_of_a_run_is_the_one_it_began_with(tmp_path: Path):
    given = protonet.default_config()
    given.train.steps, given.eval.shots, given.name = 7, (2, 3), "mine"
    stored = plain(given)
    del stored["train"]["log_every"]  # a field that came later
    write_json(tmp_path / "config.json", stored)
    config = experiments.load(f"{stored_run.__file__}:{tmp_path}")
    assert plain(config) == plain(given)


def test_where_there_is_no_run_that_is_told(tmp_path: Path):
    with pytest.raises(UserError, match="There is no run in"):
        experiments.load(f"{stored_run.__file__}:{tmp_path}")


def test_modules_of_the_current_folder_are_found_after_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["/elsewhere"])
    running._find_modules_in_current_folder()
    running._find_modules_in_current_folder()
    assert sys.path == ["/elsewhere", str(tmp_path)]
