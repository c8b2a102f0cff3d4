"""A run that is killed, and started again, ends with the bits of one that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from fsljax import methods
from fsljax.experiment import run
from fsljax.methods import magnet, protonet, repmet
from fsljax.training.checkpoints import Checkpoints
from fsljax.training.state import TrainState

STEPS = 45
KEPT = ("params", "ema_params", "batch_stats", "opt_state", "method_state")


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten classes of 16 pictures, each one of two patterns of its class under noise."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for number in range(10):
        (root / f"class{number}").mkdir()
        patterns = np.kron(generator.uniform(size=(2, 4, 4)), np.ones((1, 4, 4)))
        for picture in range(16):
            noisy = np.clip(patterns[picture % 2] + 0.1 * generator.normal(size=(16, 16)), 0, 1)
            Image.fromarray(np.uint8(255 * noisy)).save(root / f"class{number}" / f"{picture}.png")
    return root


def small(config: ConfigDict, folder: Path) -> ConfigDict:
    config.name = "small"
    config.data.update({"name": "folder", "path": str(folder), "image_size": 16})
    config.data.fractions = (0.4, 0.3, 0.3)
    config.network.update({"filters": 8, "blocks": 3})
    config.train.update({"steps": STEPS, "learning_rate": 5e-3, "log_every": 5})
    config.augment.shift = 1.0
    config.checkpoint.every = 15
    return config


def of_magnet(folder: Path) -> ConfigDict:
    config = small(magnet.default_config(), folder)
    config.train.update({"clusters": 4, "examples": 3, "clusters_per_class": 2, "refresh_every": 10})
    config.eval.clusters_per_class = 2
    return config


def of_repmet(folder: Path, division: str) -> ConfigDict:
    config = small(repmet.default_config(), folder)
    config.data.split_by = division
    config.train.update({"clusters": 4, "examples": 3})
    config.representatives.update({"per_class": 2, "reset_every": 10, "reset_until": 20})
    config.validation.update({"way": 3, "queries": 5, "episodes": 30})
    config.eval.update({"ways": (3,), "shots": (1,), "queries": 5, "episodes": 60})
    return config


def of_protonet(folder: Path) -> ConfigDict:
    config = small(protonet.default_config(), folder)
    config.train.update({"way": 3, "shot": 1, "queries": 3, "ema": 0.9})
    config.validation.update({"way": 3, "queries": 5, "episodes": 30})
    config.eval.update({"ways": (3,), "shots": (1,), "queries": 5, "episodes": 60})
    return config


CONFIGS = {
    "magnet": of_magnet,
    "repmet": lambda folder: of_repmet(folder, "examples"),
    "repmet of unseen classes": lambda folder: of_repmet(folder, "classes"),
    "protonet": of_protonet,
}


def last_state(config: ConfigDict, workdir: Path) -> TrainState | None:
    typed = methods.check(config)
    method = methods.build(typed, methods.load(typed))
    return Checkpoints(workdir).restore_last(jax.jit(method.init)(jax.random.key(config.seed)))


@pytest.fixture(scope="module")
def undisturbed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainState]:
    """The state that each run ends with."""
    states = {}
    for name, make in CONFIGS.items():
        workdir = tmp_path_factory.mktemp("whole")
        run(make(folder), mode="train", folder=workdir)
        states[name] = last_state(make(folder), workdir)
    return states


@pytest.mark.parametrize(
    ("name", "stop"),
    [
        ("magnet", 15),  # between two refreshes
        ("magnet", 30),  # at one
        ("repmet", 15),  # between two resets
        ("repmet of unseen classes", 30),  # after the last
        ("protonet", 15),
    ],
)
def test_a_run_stopped_anywhere_ends_with_the_same_bits(
    name: str, stop: int, folder: Path, undisturbed: dict[str, Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    config = CONFIGS[name](folder)
    saved = Checkpoints.save

    def save_then_die(self, state, *rest):
        saved(self, state, *rest)
        if int(state.step) == stop:
            self.check_saved(stop)
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_then_die)
        with pytest.raises(Killed):
            run(config, mode="train", folder=tmp_path)
    run(config, mode="train", folder=tmp_path)
    ours, whole = last_state(config, tmp_path), undisturbed[name]
    assert ours is not None and int(ours.step) == int(whole.step) == STEPS
    parts = [[getattr(state, part) for part in KEPT] for state in (ours, whole)]
    assert jax.tree.all(jax.tree.map(np.array_equal, *parts))
