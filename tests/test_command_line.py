"""launch.py as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fsljax import command_line
from fsljax.config import arguments

from .in_turn import program
from .tiny_runs import ROOT

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


PARSING = program(
    "launch.py",
    "try:\n    command_line.main()\nexcept SystemExit as ended:\n    os._exit(ended.code)",
    "from fsljax import command_line\n"
    'command_line.run = lambda config, **_: print("RUN", config.train.steps, config.eval.shots)',
)
FILES = {
    "raises.py": "def get_config():\n    raise ValueError('first\\nsecond')\n",
    "none.py": "def get_config():\n    pass\n",
    "latin.py": b"def get_config():\n    return '\xe9'\n",
    "exits.py": "import sys\nsys.exit('bye')\n",
    "needs.py": "def get_config(name):\n    return name\n",
    "empty.py": "",
    "zero.py": "\0",
    "endless.py": "def get_config():\n    return get_config()\n",
    "asserts.py": "def get_config():\n    assert False\n",
    "missing.py": "def get_config():\n    return {}['a field']\n",
}
SENTENCES = {
    # No config, or one that cannot be read.
    "": "Give an experiment with --config=FILE. ",
    "--config.train.steps=1": "Give an experiment with --config=FILE along with --config.train.steps. ",
    "--config": "Give an experiment with --config=FILE. ",
    "--config=": "Give an experiment with --config=FILE. ",
    "--config --config.train.steps=1": "Give an experiment with --config=FILE along with --config.t",
    "--config=folder": "folder is a folder, not a config file. ",
    "--config=nofile.py:NAME": "There is no config file at nofile.py. ",
    "--config=tiny.py:NAME": "The config tiny.py holds one experiment: give --config=tiny.py wi",
    "--config=needs.py": "The config needs.py holds several experiments: give --config=needs.py:NAME.",
    "--config=raises.py": "The config raises.py cannot be read, line 2: ValueError: first second.",
    "--config=none.py": "The config none.py cannot be read: get_config() must return an ",
    "--config=latin.py": "latin.py, line 2: (unicode error) 'utf-8' codec can't decode byte 0xe9",
    "--config=exits.py": "The config exits.py cannot be read, line 2: SystemExit: bye.",
    "--config=empty.py": "The config empty.py has no function get_config(): define one",
    "--config=zero.py": "zero.py",
    "--config=endless.py": "The config endless.py cannot be read, line 2: RecursionError: ",
    "--config=asserts.py": "The config asserts.py cannot be read, line 2: AssertionError.",
    "--config=missing.py": "The config missing.py cannot be read, line 2: KeyError: a field.",
    f"--config={'a' * 300}": f"The config {'a' * 300} cannot be read: OSError: ",
    # Flags.
    "--config=tiny.py --config=none.py": "--config is given twice, as tiny.py and as none.py: give one.",
    "--config.train.steps=1 --config=tiny.py": "Give --config=FILE before --config.train.steps.",
    "--nonsense": "Unknown flag --nonsense. The flags are --config, --workdir, --mode, --output_dir.",
    "--config=tiny.py --worksdir=x": "Unknown flag --worksdir. Did you mean workdir? The flags are ",
    "--config=tiny.py -x": "Unknown flag --x. The flags are --config, ",
    "--config=tiny.py extra": "'extra' is not a flag: give values as --config.train.steps=100.",
    "--config=tiny.py --workdir": "Missing value for flag --workdir.",
    "--config=tiny.py --mode=nonsense": "--mode=nonsense: value should be one of <train_and_eva",
    "--config=tiny.py --mode=": "--mode=: value should be one of <train_and_evaluate|train|evaluate>.",
    # Fields, and their values.
    "--config=tiny.py --config.train=5": "config.train is a section: give one of its fields, su",
    "--config=tiny.py --config.stepps=5": "Unknown field config.stepps of tiny.py. Did you mean",
    "--config=tiny.py --config.=5": "Unknown field config. of tiny.py.",
    "--config=tiny.py --config.train.steps.x=5": "Unknown field config.train.steps.x of tiny.py",
    "--config=tiny.py --config.train.steps=many": "--config.train.steps=many cannot be read: it",
    "--config=tiny.py --config.train.steps=": "--config.train.steps= cannot be read: it must be",
    "--config=tiny.py --config.train.steps=1.5": "--config.train.steps=1.5 cannot be read: it m",
    "--config=tiny.py --config.train.learning_rate=fast": "--config.train.learning_rate=fast cannot ",
    "--config=tiny.py --config.augment.flip=maybe": "--config.augment.flip=maybe cannot be read",
    "--config=tiny.py --config.eval.shots=(1,2": "--config.eval.shots=(1,2 cannot be read: ",
    "--config=tiny.py --config.eval.shots={1,2}": "--config.eval.shots={1,2} has no order: give",
    "--config=tiny.py --config.eval.shots[9]=5": "Unknown field config.eval.shots[9] of tiny.py",
}  # fmt: skip
RUNS = {
    "--config=tiny.py": "RUN 40 (1, 2)",
    "--config tiny.py --config.train.steps 5": "RUN 5 (1, 2)",
    "--config=tiny.py --config.train.steps=5 --config.train.steps=6": "RUN 6 (1, 2)",
    "--config=tiny.py --config.eval.shots=1": "RUN 40 (1,)",
    "--config=tiny.py --config.eval.shots=[1,5]": "RUN 40 (1, 5)",
}
HELP = ["--help", "-h", "-?", "--helpfull", "--helpshort", "--help=true", "--help --nonsense"]


@pytest.fixture(scope="module")
def answers(config_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Exit status and words of each command line; one program that forks imports for all."""
    folder = tmp_path_factory.mktemp("flags")
    (folder / "folder").mkdir()
    (folder / "tiny.py").write_bytes(config_file.read_bytes())
    for name, content in FILES.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    lines = [*SENTENCES, *RUNS, *HELP, "--help --config=tiny.py"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PARSING, json.dumps([line.split() for line in lines])],
        capture_output=True, text=True, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(zip(lines, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("line", SENTENCES, ids=lambda line: line[:60] or "nothing")
def test_a_command_line_that_cannot_be_is_told_in_one_whole_sentence(line: str, answers):
    status, text = answers[line]
    assert status == 2
    assert text.startswith(f"fsljax: {SENTENCES[line]}")
    assert text.count("\n") == 1 and text.endswith((".\n", "?\n"))
    quotes = text.replace("can't", "").replace("project's", "")
    assert quotes.count("'") % 2 == 0 and quotes.count('"') % 2 == 0


@pytest.mark.parametrize("line", RUNS)
def test_a_command_line_that_can_be_is_run(line: str, answers):
    assert answers[line] == [0, f"{RUNS[line]}\n"]


@pytest.mark.parametrize("line", HELP)
def test_every_way_to_ask_for_help_gets_it(line: str, answers):
    status, text = answers[line]
    assert status == 0
    assert text.startswith("python launch.py --config=FILE[:EXPERIMENT]")
    assert text.endswith("lists all fields of that config.\n")


def test_help_with_a_config_tells_its_fields(answers):
    status, text = answers["--help --config=tiny.py"]
    assert status == 0
    assert "--config.train.steps=40 " in text


def test_fields_that_the_command_line_sets_are_the_users_own():
    argv = [
        "launch.py",
        "--config=configs/x.py",
        "--config.network.input_mean=(0.0,)",
        "--noconfig.augment.flip",
    ]
    argv += ["-config.data.crop", "1.0", "--mode=train"]
    assert arguments.set_fields(argv) == {"network.input_mean", "augment.flip", "data.crop"}
