"""Runs from config to report, in this process."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from fsljax import networks
from fsljax.errors import NotSavedError, UserError
from fsljax.experiment import run
from fsljax.export import export
from fsljax.methods.protonet import ProtoNet
from fsljax.networks.layouts import torch_names
from fsljax.storage.json_files import read_checked
from fsljax.training.checkpoints import Checkpoints
from fsljax.training.signals import Stopped


def load(config_file: Path) -> ConfigDict:
    config = runpy.run_path(str(config_file))["get_config"]()
    config.train.steps = 10
    config.checkpoint.every = 5
    return config


@pytest.fixture
def config(config_file: Path) -> ConfigDict:
    return load(config_file)


def results_in(folder: Path) -> dict[str, Any]:
    return read_checked(folder / "results.json")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but its lock."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def done(config_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a run that was trained and evaluated, to be copied."""
    folder = tmp_path_factory.mktemp("done") / "run"
    run(load(config_file), mode="train_and_evaluate", folder=folder)
    return folder


@pytest.fixture
def evaluated(done: Path, tmp_path: Path) -> Path:
    """A workdir of one's own, trained and evaluated."""
    return Path(shutil.copytree(done, tmp_path / "run"))


def test_figures_of_the_same_checkpoint_stand_side_by_side(config: ConfigDict, evaluated: Path):
    first = results_in(evaluated)
    config.eval.batch_statistics = "episode"
    run(config, mode="evaluate", folder=evaluated)
    both = results_in(evaluated)
    transductive = {f"{name}_transductive" for name in first["test"]}
    assert set(both["test"]) == set(first["test"]) | transductive
    assert {name: both["test"][name] for name in first["test"]} == first["test"]
    assert {k: v for k, v in both.items() if k != "test"} == {k: v for k, v in first.items() if k != "test"}


def test_a_setting_evaluated_again_is_replaced(config: ConfigDict, evaluated: Path):
    first = results_in(evaluated)["test"]
    config.eval.episodes = 20
    config.eval.shots = (1,)
    run(config, mode="evaluate", folder=evaluated)
    again = results_in(evaluated)["test"]
    assert again["3way_1shot"]["episodes"] == 20
    assert again["3way_2shot"] == first["3way_2shot"]


@pytest.mark.parametrize(
    "other", [{"step": 7}, {"seed": 1}, {"config": "another"}, {"model": "0" * 16}, {"images": "0" * 16}]
)
def test_figures_of_another_checkpoint_are_dropped(
    config: ConfigDict, evaluated: Path, other: dict[str, Any]
):
    results = results_in(evaluated)
    strange = results | other | {"test": results["test"] | {"9way_9shot": {"accuracy": 0.5}}}
    (evaluated / "results.json").write_text(json.dumps(strange))
    run(config, mode="evaluate", folder=evaluated)
    assert results_in(evaluated) == results


def test_damaged_results_are_written_anew(config: ConfigDict, evaluated: Path):
    results = results_in(evaluated)
    (evaluated / "results.json").write_text("{")
    run(config, mode="evaluate", folder=evaluated)
    assert results_in(evaluated) == results


def test_evaluation_elsewhere_leaves_the_workdir_as_it_is(config: ConfigDict, evaluated: Path, capsys):
    before = contents(evaluated)
    output = evaluated.with_name("elsewhere") / "out"
    run(config, mode="evaluate", folder=evaluated, output=output)
    assert contents(evaluated) == before
    assert results_in(output) == results_in(evaluated)
    assert (output / "report.html").is_file()
    assert f"report      {output / 'report.html'}" in capsys.readouterr().out


def test_a_finished_run_is_not_trained_again(config: ConfigDict, evaluated: Path):
    before = contents(evaluated / "checkpoints")
    results = results_in(evaluated)
    run(config, mode="train_and_evaluate", folder=evaluated)
    assert contents(evaluated / "checkpoints") == before
    assert results_in(evaluated) == results


@pytest.mark.parametrize("mode", ["train_and_evaluate", "train", "evaluate"])
def test_a_workdir_of_another_config_is_refused_and_stays_as_it_is(
    config: ConfigDict, evaluated: Path, mode: str
):
    before = contents(evaluated)
    config.train.way = 5
    with pytest.raises(UserError, match=r"another config \(train\.way is 4 there and 5 here\)"):
        run(config, mode=mode, folder=evaluated)
    assert contents(evaluated) == before


def test_other_images_are_not_trained_on_and_named_in_evaluation(
    config: ConfigDict, evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    before = contents(evaluated)
    others = Path(shutil.copytree(config.data.path, tmp_path / "others"))
    for picture in others.glob("*/0.png"):
        picture.unlink()
    config.data.path = str(others)
    with pytest.raises(UserError, match="run on images that have changed"):
        run(config, mode="train_and_evaluate", folder=evaluated)
    assert contents(evaluated) == before
    run(config, mode="evaluate", folder=evaluated, output=tmp_path / "out")
    assert "differ from those" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["train_and_evaluate", "train"])
def test_a_shipped_model_is_not_trained_and_stays_where_it_is(
    config: ConfigDict, evaluated: Path, tmp_path: Path, mode: str
):
    export(evaluated, tmp_path / "shipped")
    before = contents(tmp_path / "shipped/checkpoints")
    with pytest.raises(UserError, match="model without its training state"):
        run(config, mode=mode, folder=tmp_path / "shipped")
    assert contents(tmp_path / "shipped/checkpoints") == before
    assert not (tmp_path / "shipped/damaged_checkpoints").exists()


def test_a_run_goes_on_without_the_run_that_its_network_began_with(
    config: ConfigDict, evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config.network.init_from = str(evaluated)
    config.seed = 1
    folder = tmp_path / "second"
    run(config, mode="train", folder=folder)
    before = contents(folder / "checkpoints")
    shutil.rmtree(evaluated)
    run(config, mode="train", folder=folder)
    assert "the training is complete" in capsys.readouterr().err
    assert contents(folder / "checkpoints") == before


def test_training_starts_from_the_network_of_another_run(config: ConfigDict, evaluated: Path, tmp_path: Path):
    config.network.init_from = str(evaluated)
    config.train.learning_rate = 1e-30
    run(config, mode="train", folder=tmp_path / "second")
    first, second = (Checkpoints(folder).restore_model() for folder in (evaluated, tmp_path / "second"))
    chex.assert_trees_all_close(first.variables["params"], second.variables["params"], rtol=1e-5)


def test_training_starts_from_weights_in_a_file_and_leaves_what_is_frozen(config: ConfigDict, tmp_path: Path):
    config.network.update({"name": "lenet", "trainable": "last_stage", "weights": str(tmp_path / "w.npz")})
    images = np.zeros((1, 16, 16, 1), np.float32)
    variables = jax.device_get(
        networks.build(config).init(jax.random.key(9), images, running_average=True)["params"]["backbone"]
    )
    size = {name: len(part["scale"]) for name, part in variables.items() if "scale" in part}
    tensors = {
        f"{name}.weight": part["kernel"].transpose(3, 2, 0, 1)
        if part["kernel"].ndim == 4
        else part["kernel"].T
        for name, part in variables.items()
        if "kernel" in part
    }
    for name, length in size.items():
        for leaf, value in (("weight", 1.5), ("bias", 0.25), ("running_mean", 0.1), ("running_var", 2.0)):
            tensors[f"{name}.{leaf}"] = np.full(length, value, np.float32)
    with pytest.raises(UserError, match=r"There is no weights file at .*w\.npz"):
        run(config, mode="train", folder=tmp_path / "run")
    folded = {name: np.zeros_like(array) if "mean" in name else array for name, array in tensors.items()}
    np.savez(tmp_path / "w.npz", **folded)
    with pytest.raises(UserError, match=r"w\.npz has batch norm folded .*network\.frozen_statistics=True"):
        run(config, mode="train", folder=tmp_path / "run")
    np.savez(tmp_path / "w.npz", **tensors)
    run(config, mode="train_and_evaluate", folder=tmp_path / "run")
    model = Checkpoints(tmp_path / "run").restore_model().variables
    params, batch_stats = (model[part]["backbone"] for part in ("params", "batch_stats"))
    for name in ("conv1", "conv2"):
        np.testing.assert_array_equal(params[name]["kernel"], variables[name]["kernel"])
    for name, length in size.items():
        frozen = name in ("bn1", "bn2")
        assert np.array_equal(params[name]["scale"], np.full(length, 1.5, np.float32)) == frozen
        assert np.array_equal(batch_stats[name]["variance"], np.full(length, 2.0, np.float32)) == frozen
    for name in ("dense3", "dense4"):
        moved = np.abs(params[name]["kernel"] - variables[name]["kernel"])
        assert 0 < moved.max() < 0.1  # ten steps of 1e-3


def test_another_network_to_start_from_is_refused(config: ConfigDict, evaluated: Path, tmp_path: Path):
    config.network.update({"init_from": str(evaluated), "filters": 5})
    with pytest.raises(
        UserError, match=r"init_from\) does not match this config: .*is \(.*\) there and \(.*\) here"
    ):
        run(config, mode="train", folder=tmp_path / "second")
    config.network.init_from = str(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no readable checkpoint in .*nowhere"):
        run(config, mode="train", folder=tmp_path / "third")


@pytest.mark.parametrize(
    ("field", "value"),
    [("read_episodes", "/no/such/file"), ("write_episodes", "/proc/no/such/place/episodes.npz")],
)
def test_episodes_that_cannot_be_had_are_told_before_training(
    config: ConfigDict, tmp_path: Path, field: str, value: str
):
    config.eval[field] = value
    with pytest.raises(UserError, match=value.split("/")[1]):
        run(config, mode="train_and_evaluate", folder=tmp_path / "run")
    assert not (tmp_path / "run/checkpoints").exists()


def test_a_report_that_cannot_be_written_costs_no_results(
    config: ConfigDict, evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "out/report.html").mkdir(parents=True)
    with pytest.raises(UserError, match=r"out cannot be written .*--output_dir"):
        run(config, mode="evaluate", folder=evaluated, output=tmp_path / "out")
    assert "3-way 1-shot" in capsys.readouterr().out


def test_a_last_state_that_cannot_be_saved_is_no_success(
    config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("orbax.checkpoint.CheckpointManager.save", fail)
    with pytest.raises(
        NotSavedError, match=r"state of step 10 could not be saved. There is no checkpoint yet"
    ):
        run(config, mode="train", folder=tmp_path / "run")


def test_a_folder_without_a_run_cannot_be_evaluated_and_is_not_made(config: ConfigDict, tmp_path: Path):
    with pytest.raises(UserError, match=r"There is no run in .*nowhere: train first"):
        run(config, mode="evaluate", folder=tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_config_that_cannot_work_leaves_no_workdir(config: ConfigDict, tmp_path: Path):
    config.train.shot = 0
    with pytest.raises(UserError, match=r"config\.train\.shot"):
        run(config, mode="train", folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_data_that_cannot_give_the_episodes_claim_no_workdir(config: ConfigDict, tmp_path: Path):
    config.train.way = 500
    with pytest.raises(UserError, match=r"500-way.*config\.train\.way"):
        run(config, mode="train", folder=tmp_path / "run")
    assert not (tmp_path / "run/config.json").exists()
    config.train.way = 4
    run(config, mode="train", folder=tmp_path / "run")
    assert Checkpoints(tmp_path / "run").best_step() is not None


def test_a_request_to_stop_in_the_last_steps_is_heeded_before_evaluation(
    config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    validate = ProtoNet.validate

    def asked_to_stop(method: ProtoNet, variables: dict[str, Any]) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        return validate(method, variables)

    config.checkpoint.every = config.train.steps
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(ProtoNet, "validate", asked_to_stop)
        run(config, mode="train_and_evaluate", folder=tmp_path / "run")
    assert Checkpoints(tmp_path / "run").best_step() == config.train.steps
    assert not (tmp_path / "run/results.json").exists()
    run(config, mode="train_and_evaluate", folder=tmp_path / "run")
    assert results_in(tmp_path / "run")["step"] == config.train.steps


@pytest.mark.parametrize("trainable", [pytest.param("last_stage", marks=pytest.mark.slow), "head"])
def test_a_network_without_batch_norm_is_trained_from_weights(
    config: ConfigDict, tmp_path: Path, trainable: str
):
    config.network.update(
        {"name": "vit", "patch_size": 4, "width": 8, "depth": 2, "heads": 2, "layer_scale": False,
         "embedding": (8,), "trainable": trainable, "weights": str(tmp_path / "w.npz")}
    )  # fmt: skip
    config.augment.shift = 0.0
    config.data.channels = 3
    network = networks.build(config)
    larger = np.zeros((1, 20, 20, 3), np.float32)
    variables = jax.device_get(network.init(jax.random.key(9), larger, running_average=True))
    tensors = {}
    for name, place in torch_names(variables).items():
        array = variables
        for part in place:
            array = array[part]
        tensors[name] = (
            array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T if array.ndim == 2 else array
        )
    np.savez(tmp_path / "w.npz", **tensors)
    run(config, mode="train_and_evaluate", folder=tmp_path / "run")
    assert results_in(tmp_path / "run")["step"] == 10
    params = Checkpoints(tmp_path / "run").restore_model().variables["params"]["backbone"]
    assert params["pos_embed"].shape == (1, 1 + 16, 8)  # of 16 pixels
    first, last = (np.asarray(params["blocks"][number]["mlp"]["fc1"]["kernel"]) for number in "01")
    before = variables["params"]["backbone"]["blocks"]
    assert np.array_equal(first, before["0"]["mlp"]["fc1"]["kernel"])
    assert np.array_equal(last, before["1"]["mlp"]["fc1"]["kernel"]) == (trainable == "head")
