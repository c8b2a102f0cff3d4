"""launch.py as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fsljax import command_line

CONFIGS = Path(__file__).parents[1] / "configs"


def assert_one_sentence(done, *, status: int = 2) -> str:
    """The run failed with a sentence and no stack trace."""
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    message = [line for line in done.stderr.splitlines() if line.startswith("fsljax: ")]
    assert len(message) == 1, done.stderr
    return message[0]


def test_trains_and_evaluates_then_evaluates_again(launch, tmp_path: Path):
    done = launch("--workdir=run")
    assert done.returncode == 0, done.stderr
    assert "3-way 1-shot" in done.stdout
    *_, report, checkpoint = done.stdout.strip().splitlines()
    assert (tmp_path / report.split()[-1]).is_file()
    assert (tmp_path / checkpoint.split()[-1]).is_dir()
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["config"] == "tiny"
    assert results["seed"] == 0
    assert results["test"]["3way_1shot"]["episodes"] == 50
    assert 0.34 < results["test"]["3way_1shot"]["accuracy"] <= 1
    assert results["test"]["3way_1shot"]["ci95"] > 0

    again = launch(
        "--workdir=run", "--mode=evaluate", "--config.eval.batch_statistics=episode", "--output_dir=out"
    )
    assert again.returncode == 0, again.stderr
    test = json.loads((tmp_path / "out/results.json").read_text())["test"]
    assert set(test) == {"3way_1shot_transductive", "3way_2shot_transductive"}

    same = launch("--workdir=run", "--mode=evaluate", "--config.eval.write_episodes=episodes.npz")
    assert same.returncode == 0, same.stderr
    assert json.loads((tmp_path / "run/results.json").read_text()) == results

    read = launch(
        "--workdir=run", "--mode=evaluate", "--config.eval.read_episodes=episodes.npz", "--config.eval.seed=7"
    )
    assert read.returncode == 0, read.stderr
    assert json.loads((tmp_path / "run/results.json").read_text()) == results


def test_train_mode_stops_before_evaluation(launch, tmp_path: Path):
    done = launch("--workdir=run", "--mode=train", "--config.train.steps=10")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "run/results.json").exists()
    assert (tmp_path / done.stdout.split()[-1]).is_dir()


def test_default_workdir_carries_the_name_of_the_config(launch, tmp_path: Path):
    done = launch("--mode=train", "--config.train.steps=2")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/tiny/config.json").is_file()


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("--config.train.stepps=5", "train.steps"),
        ("--config.trian.steps=5", "train.steps"),
        ("--config.train.steps=0", "train.steps"),
        ("--config.train.steps=many", "steps"),
        ("--config.train.way=500", "train.way"),
        ("--config.train.queries=50", "train.queries"),
        ("--config.eval.ways=(50,)", "eval.way"),
        ("--config.data.image_size=8", "data.image_size"),
        ("--config.data.path=/nowhere/at/all", "/nowhere/at/all"),
        ("--config.data.name=imagenet", "data.name"),
        ("--mode=evaluate", "train first"),
        ("--mode=measure", "mode"),
        ("--config.eval.read_episodes=/no/episodes", "/no/episodes"),
    ],
)
def test_impossible_requests_are_told_in_a_sentence(launch, argument: str, named: str):
    assert named in assert_one_sentence(launch("--workdir=run", "--config.train.steps=1", argument))


def test_a_config_file_that_does_not_exist(launch):
    assert "no config file at nowhere.py" in assert_one_sentence(launch(config="nowhere.py"))


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (
            "repmet_fine_grained.py:pets_r18",
            "has no experiment 'pets_r18'. Did you mean pets_r18F_1_12_4? It has ",
        ),
        (
            "repmet_fine_grained.py",
            "holds several experiments: give --config=configs/repmet_fine_grained.py:NAME",
        ),
        ("repmet_pets_r18F_1_12_4.py", "repmet_fine_grained.py:pets_r18F_1_12_4."),
    ],
)
def test_an_experiment_of_a_file_with_several_that_is_not_there(config: str, told: str, capsys):
    with pytest.raises(SystemExit) as ended:
        command_line._parse(["launch.py", f"--config={CONFIGS / config}"])
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_an_unknown_field_is_answered_with_the_nearest(launch):
    sentence = assert_one_sentence(launch("--config.train.stepps=5"))
    assert "Unknown field config.train.stepps of " in sentence
    assert sentence.endswith("Did you mean train.steps?")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("def get_config(:\n", "line 1"),
        ("import no_such_module\n", "no_such_module"),
        ("def get_config():\n    return nothing\n", "nothing"),
        ("def get_config():\n    return 5\n", "ConfigDict"),
        ("x = 5\n", "get_config"),
    ],
)
def test_a_config_file_that_cannot_be_read(launch, tmp_path: Path, content: str, named: str):
    (tmp_path / "broken.py").write_text(content)
    assert named in assert_one_sentence(launch(config="broken.py"))
