"""A shipped model is a workdir without optimiser state."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

from fsljax import methods
from fsljax.classification.embedder import build_embedder
from fsljax.config import plain
from fsljax.data.dataset import ImageDataset, Splits
from fsljax.errors import UserError
from fsljax.export import export
from fsljax.export import run as main_of_export
from fsljax.methods import protonet
from fsljax.storage.json_files import write_json
from fsljax.training import workdir
from fsljax.training.checkpoints import Checkpoints


@pytest.fixture
def run(tmp_path: Path) -> Path:
    given = protonet.default_config()
    given.network.filters = 2
    config = methods.check(given)
    images = np.zeros((1, 28, 28, 1), np.uint8)
    part = ImageDataset(images, np.zeros(1, np.int32), ("a",))
    embedder = build_embedder(config, images.shape[1:])
    method = protonet.ProtoNet(config, Splits(part, part, part), embedder)
    folder = tmp_path / "run"
    folder.mkdir()
    write_json(folder / workdir.CONFIG, plain(config))
    checkpoints = Checkpoints(folder)
    checkpoints.save(method.init(jax.random.key(0)), 0.5)
    checkpoints.close()
    return folder


def test_the_model_comes_back_without_the_optimiser(run: Path, tmp_path: Path):
    written = export(run, tmp_path / "model")
    assert not (written / "training").exists()
    chex.assert_trees_all_equal(
        Checkpoints(tmp_path / "model").restore_model(), Checkpoints(run).restore_model()
    )
    assert (tmp_path / "model/config.json").read_text() == (run / "config.json").read_text()


def test_nothing_is_overwritten_and_nothing_missing_is_shipped(run: Path, tmp_path: Path):
    export(run, tmp_path / "model")
    with pytest.raises(UserError, match="not empty"):
        export(run, tmp_path / "model")
    with pytest.raises(UserError, match="no run"):
        export(tmp_path / "nothing", tmp_path / "other")


def test_the_command_names_what_is_missing(tmp_path: Path):
    command = [sys.executable, "-m", "fsljax.export", "--workdir=nothing", "--to=model"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "fsljax: There is no run in nothing: give the --workdir of one.\n"


def test_a_target_that_is_a_file_is_refused_and_stays(run: Path, tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="file is a file: give a new folder"):
        export(run, tmp_path / "file")
    with pytest.raises(UserError, match=r"file/model cannot be written \(.+\): give another folder"):
        export(run, tmp_path / "file" / "model")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("RESOURCE_EXHAUSTED")])
def test_a_disk_that_fills_up_is_told_in_a_sentence(run: Path, tmp_path: Path, monkeypatch, error: Exception):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Checkpoints, "write_model", fail)
    with pytest.raises(UserError, match=r"model cannot be written \(.*(No space|EXHAUSTED)"):
        export(run, tmp_path / "model")


def test_home_folders_may_be_abbreviated(run: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert export(Path("~/run"), Path("~/model")).is_relative_to(tmp_path / "model")
    with pytest.raises(UserError, match="home"):
        export(run, Path("~nobody has this name/model"))


def test_parameters_in_half_precision_come_back_in_float32(run: Path, tmp_path: Path):
    export(run, tmp_path / "model", half=True)
    shipped = Checkpoints(tmp_path / "model").restore_model().variables
    whole = Checkpoints(run).restore_model().variables
    chex.assert_trees_all_equal(shipped["batch_stats"], whole["batch_stats"])
    for rounded, array in zip(*map(jax.tree.leaves, (shipped["params"], whole["params"])), strict=True):
        assert rounded.dtype == np.float32
        np.testing.assert_array_equal(rounded, array.astype(np.float16).astype(np.float32))


def test_a_parameter_beyond_half_precision_is_refused(run: Path, tmp_path: Path):
    model = Checkpoints(run).restore_model()
    params = jax.tree.map(lambda array: np.full_like(array, 1e5), model.variables["params"])
    large = tmp_path / "large"
    large.mkdir()
    (large / "config.json").write_bytes((run / "config.json").read_bytes())
    checkpoints = Checkpoints(large)
    checkpoints.write_model(model._replace(variables={**model.variables, "params": params}), None)
    checkpoints.close()
    with pytest.raises(UserError, match="largest number in half precision"):
        export(large, tmp_path / "model", half=True)


def test_the_command_writes_a_file_that_jax_runs(run: Path, tmp_path: Path):
    file = tmp_path / "embedder.jax"
    assert main_of_export([f"--workdir={run}", f"--to={file}", "--format=jax"]) == 0
    exported = jax.export.deserialize(bytearray(file.read_bytes()))
    assert exported.call(np.zeros((5, 28, 28, 1), np.float32)).shape == (5, 2)


def test_options_that_do_not_go_together_are_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for options, said in (
        (["--format=jax", "--half"], "--half works only with --format=model"),
        (["--embeddings"], "--embeddings needs --format=jax"),
    ):
        assert main_of_export([f"--workdir={run}", f"--to={tmp_path / 'new'}", *options]) == 2
        assert said in capsys.readouterr().err
    scenes = Path(__file__).parents[1] / "models" / "repmet_detection_scenes"
    assert main_of_export([f"--workdir={scenes}", f"--to={tmp_path / 'new'}", "--format=onnx"]) == 2
    assert "holds a detector, and only classifiers" in capsys.readouterr().err
