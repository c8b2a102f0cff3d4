"""Early stopping, and the choice of the checkpoint to evaluate."""

from __future__ import annotations

import json
import runpy
import threading
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from fsljax import experiment, methods
from fsljax.errors import UserError
from fsljax.methods.protonet import ProtoNet
from fsljax.training.checkpoints import Checkpoints
from fsljax.training.logs import read_history
from fsljax.training.progress import Patience
from fsljax.training.signals import Interruption, Stopped
from fsljax.training.state_items import digest, which_step

FIGURES = (0.5, 0.6, 0.6, 0.55, 0.58, 0.9)  # of the validations after steps 2, 4, …


@pytest.fixture(scope="module")
def config(config_file: Path) -> ConfigDict:
    config = runpy.run_path(str(config_file))["get_config"]()
    config.train.update({"steps": 40, "patience": 3, "log_every": 2})
    config.checkpoint.every = 2
    config.eval.episodes = 5
    return config


def scripted(
    patch: pytest.MonkeyPatch, done: int = 0, stop_after: int = 99, interruption: Interruption | None = None
) -> None:
    """Lets validations have the figures above, `done` of them already; asks for an end after some."""
    figures = iter([*([0.0] * (done == 0)), *FIGURES[done:]])  # before training, one that counts for nothing
    calls = iter(range(1 - (done == 0), 99))

    def validate(self: ProtoNet, variables: object) -> dict[str, float]:
        if interruption is not None and next(calls) == stop_after:
            interruption.requested = True
        return {"accuracy": next(figures)}

    patch.setattr(ProtoNet, "validate", validate)


@pytest.fixture(scope="module")
def trained(config: ConfigDict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stopped early, in a thread of its own as an application may have it."""
    folder = tmp_path_factory.mktemp("patience") / "run"
    failures: list[BaseException] = []

    def train() -> None:
        try:
            experiment.run(config, mode="train", folder=folder)
        except BaseException as error:
            failures.append(error)

    with pytest.MonkeyPatch.context() as patch:
        scripted(patch)
        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
    assert not failures, failures
    return folder


def model_of(folder: Path) -> str:
    checkpoints = Checkpoints(folder)
    return digest(checkpoints._first_of(checkpoints.steps("last"), lambda step: {"model": None}).variables)


def test_a_training_ends_after_so_many_validations_without_a_new_best(trained: Path):
    assert sorted(Checkpoints(trained).selections()) == [6, 8, 10]  # of two equal ones the later is kept
    waited = [row["validations_without_a_new_best"] for row in read_history(trained)
              if "validations_without_a_new_best" in row]  # fmt: skip
    assert waited == [0, 0, 1, 2, 3]


def test_it_is_told_and_stays_so(
    trained: Path, config: ConfigDict, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    scripted(monkeypatch, done=len(FIGURES))
    experiment.run(config, mode="train", folder=trained)
    assert (
        "the training is complete: 10 of 40 steps, stopped early: no validation was better than 0.6 in the "
        "last 3" in capsys.readouterr().err
    )
    assert max(Checkpoints(trained).selections()) == 10


def test_a_run_that_was_stopped_ends_at_the_same_step_with_the_same_bits(
    trained: Path, config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    interruption = Interruption()
    scripted(monkeypatch, stop_after=3, interruption=interruption)
    with pytest.raises(Stopped):
        experiment.run(config, mode="train", folder=tmp_path / "run", interruption=interruption)
    assert max(Checkpoints(tmp_path / "run").selections()) == 6
    scripted(monkeypatch, done=3)
    experiment.run(config, mode="train", folder=tmp_path / "run")
    assert "stopped early at step 10 of 40: no validation was better than 0.6" in capsys.readouterr().err
    assert model_of(tmp_path / "run") == model_of(trained)


@pytest.mark.parametrize(("step", "wanted"), [("last", 10), ("8", 8), ("best", 6)])
def test_the_checkpoint_that_is_asked_for_is_evaluated(
    trained: Path, config: ConfigDict, tmp_path: Path, step: str, wanted: int, capsys
):
    experiment.run(config, mode="evaluate", folder=trained, output=tmp_path, step=step)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["step"] == wanted
    assert str(results.get("checkpoint", "best")) == step
    said = capsys.readouterr()
    assert f"of step {wanted} …" in said.err
    assert said.out.strip().endswith(f"checkpoints/{wanted}")


def test_a_checkpoint_that_does_not_exist_is_told_with_those_that_do(trained: Path, config: ConfigDict):
    with pytest.raises(UserError, match=r"no checkpoint of step 5 in .*; it has 6, 8, 10\."):
        experiment.run(config, mode="evaluate", folder=trained, step="5")


def test_steps_that_cannot_be_are_told(config: ConfigDict, tmp_path: Path):
    for given in ("first", "", "-1", "1.5", "²"):
        with pytest.raises(UserError, match="it must be best, last, or a step number"):
            which_step(given)
    with pytest.raises(
        UserError, match="--step=5 is for a run that has been trained already: add --mode=evaluate"
    ):
        experiment.run(config, mode="train", folder=tmp_path / "run", step="5")
    assert not (tmp_path / "run").exists()


def test_patience_without_validation_is_refused_before_training(config: ConfigDict, tmp_path: Path):
    impossible = config.copy_and_resolve_references()
    impossible.data.train_on = "train_and_validation"
    with pytest.raises(UserError, match="no validation split is left"):
        methods.check(impossible)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProtoNet, "validate", lambda self, variables: {})
        with pytest.raises(UserError, match=r"config.train.patience is 3, but protonet does not validate"):
            experiment.run(config, mode="train", folder=tmp_path / "run")


def test_figures_that_are_no_numbers_are_no_better():
    patience = Patience(2)
    for figure in (0.5, float("nan"), 0.5):
        patience.note(figure)
    assert patience.is_over and not Patience(0).is_over
