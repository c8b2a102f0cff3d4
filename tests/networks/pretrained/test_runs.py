"""Runs that begin with weights of a name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict
from PIL import Image
from safetensors.numpy import save

from fsljax import methods, networks
from fsljax.api import Classifier
from fsljax.errors import UserError
from fsljax.experiment import run
from fsljax.export import export
from fsljax.methods import protonet
from fsljax.storage.json_files import read_checked
from tests.networks.pretrained.hub_server import COMMIT, Hub

NAME = "mine/lenet"
SAID = {"mean": [0.5], "std": [0.25], "input_size": [1, 16, 16], "crop_pct": 0.8, "interpolation": "bilinear"}


@pytest.fixture
def config(hub: Hub, tmp_path: Path) -> ConfigDict:
    """A short training of LeNet from a repository that says how its images were."""
    given = protonet.default_config()
    given.name = "of_the_hub"
    draw = np.random.default_rng(0)
    for name in "abcdef":
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(4):
            image = Image.fromarray(draw.integers(0, 256, (24, 20), np.uint8))
            image.save(tmp_path / "pictures" / name / f"{number}.png")
    given.data.update({"name": "folder", "path": str(tmp_path / "pictures"), "fractions": (0.34, 0.33, 0.33)})
    given.network.update({"name": "lenet", "weights": NAME})
    given.train.update({"steps": 2, "way": 2, "shot": 1, "queries": 1})
    given.checkpoint.every = 1
    given.validation.update({"way": 2, "shot": 1, "queries": 1, "episodes": 2})
    given.eval.update({"ways": (2,), "shots": (1,), "queries": 1, "episodes": 2})
    hub.files[NAME] = {"config.json": json.dumps(SAID).encode(), "model.safetensors": b""}
    hub.files[NAME]["model.safetensors"] = save(tensors(given))
    return given


def tensors(config: ConfigDict) -> dict[str, np.ndarray]:
    """Weights of the network, in PyTorch's layout."""
    empty = {"network.weights": ""}
    given = ConfigDict(config.to_dict())
    given.update_from_flattened_dict({**empty, "data.image_size": 16, "network.input_std": (0.25,)})
    network = networks.build(methods.check(given))
    variables = network.init(jax.random.key(3), np.zeros((1, 16, 16, 1), np.float32), running_average=True)
    leaves = {"kernel": "weight", "scale": "weight", "shift": "bias", "bias": "bias", "mean": "running_mean",
              "variance": "running_var"}  # fmt: skip
    named = {}
    for place, array in flatten_dict(jax.device_get(dict(variables))).items():
        turned = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        name = ".".join([*(part for part in place[1:-1] if part != "backbone"), leaves[place[-1]]])
        named[name] = np.ascontiguousarray(turned + 0.01)
    return named


def test_a_run_keeps_what_it_began_with_and_never_asks_again(hub: Hub, config: ConfigDict, tmp_path: Path):
    folder = tmp_path / "run"
    run(config, mode="train", folder=folder)
    stored = read_checked(folder / "config.json")
    assert stored["network"]["weights"] == NAME and stored["network"]["weights_revision"] == COMMIT
    assert stored["network"]["input_mean"] == [0.5] and stored["network"]["input_std"] == [0.25]
    assert stored["data"]["image_size"] == 16 and stored["data"]["crop"] == 0.8
    hub.files.clear()
    for path in sorted((tmp_path / "home").rglob("*"), reverse=True):
        path.unlink() if not path.is_dir() or path.is_symlink() else path.rmdir()
    asked = len(hub.requests)
    run(config, mode="train_and_evaluate", folder=folder)
    results = read_checked(folder / "results.json", nan=True)
    assert results["weights"] == {
        "name": NAME, "revision": COMMIT, "sha256": stored["network"]["weights_digest"],
    }  # fmt: skip
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert NAME in report and COMMIT in report and results["weights"]["sha256"] in report
    assert "interpolation" in report and "bilinear" in report
    export(folder, tmp_path / "shipped")
    run(config, mode="evaluate", folder=tmp_path / "shipped", output=tmp_path / "again")
    classifier = Classifier.load(tmp_path / "shipped")
    images = [tmp_path / "pictures" / name / "0.png" for name in "ab"]
    assert classifier.enroll(images, ["a", "b"]).predict(images).tolist() == ["a", "b"]
    assert len(hub.requests) == asked


def test_what_is_set_otherwise_is_another_run(config: ConfigDict, tmp_path: Path):
    run(config, mode="train", folder=tmp_path / "run")
    config.network.input_mean = (0.4,)
    with pytest.raises(UserError, match=r"input_mean is \[0\.5\] there and \[0\.4\] here"):
        run(config, mode="train", folder=tmp_path / "run", kept=("network.input_mean",))


def test_a_run_that_begins_with_another_is_filled_as_that(hub: Hub, config: ConfigDict, tmp_path: Path):
    run(config, mode="train", folder=tmp_path / "first")
    config.network.update({"weights": "", "init_from": str(tmp_path / "first"), "input_mean": (0.3,)})
    config.network.unless_described = ("network.input_mean", "data.image_size")
    hub.files.clear()
    run(config, mode="train", folder=tmp_path / "second")
    first, second = (read_checked(tmp_path / name / "config.json") for name in ("first", "second"))
    assert second["data"] == first["data"]
    assert second["network"]["input_mean"] == [0.5] and second["network"]["weights_digest"] == ""
    shutil.rmtree(tmp_path / "first")
    run(config, mode="train", folder=tmp_path / "second")
