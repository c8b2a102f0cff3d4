"""A Magnet run from its config to its report: stopped and gone on with, evaluated, and used as a library."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from fsljax import methods
from fsljax.api import Classifier
from fsljax.data.samplers.neighbourhoods import cluster_losses
from fsljax.experiment import run
from fsljax.methods import magnet, softmax
from fsljax.training.checkpoints import Checkpoints

STEPS = 45


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes of 20 pictures, each a pattern of its own under noise."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for number in range(6):
        (root / f"class{number}").mkdir()
        pattern = np.kron(generator.uniform(size=(4, 4)), np.ones((4, 4)))
        for picture in range(20):
            noisy = np.clip(pattern + 0.1 * generator.normal(size=pattern.shape), 0, 1)
            Image.fromarray(np.uint8(255 * noisy)).save(root / f"class{number}" / f"{picture}.png")
    return root


def make_config(folder: Path, module=magnet) -> ConfigDict:
    config = module.default_config()
    config.name = "tiny"
    config.data.update({"name": "folder", "path": str(folder), "image_size": 16})
    config.network.update({"filters": 8, "blocks": 3})
    config.train.update({"steps": STEPS, "clusters": 4, "examples": 3, "learning_rate": 5e-3})
    config.train.log_every = 5
    config.augment.shift = 1.0
    config.checkpoint.every = 15
    if module is magnet:
        config.train.update({"clusters_per_class": 2, "refresh_every": 10})
        config.eval.clusters_per_class = 2
    return config


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("finished")
    run(make_config(folder), mode="train_and_evaluate", folder=workdir)
    return workdir


def last_state(config: ConfigDict, workdir: Path):
    typed = methods.check(config)
    method = methods.build(typed, methods.load(typed))
    return Checkpoints(workdir).restore_last(jax.jit(method.init)(jax.random.key(config.seed)))


def test_a_run_leaves_its_results_report_and_answers(finished: Path):
    results = json.loads((finished / "results.json").read_text())
    assert set(results["test"]) == {"nearest_cluster", "nearest_neighbour"}
    for figures in results["test"].values():
        assert figures["accuracy"] > 0.8
    assert "Clusters" in (finished / "report.html").read_text()
    with np.load(finished / "correct.npz") as correct:
        right = correct["nearest_cluster"]
    assert right.mean() == pytest.approx(results["test"]["nearest_cluster"]["accuracy"])


def test_the_index_is_kept_with_the_state(folder: Path, finished: Path):
    index = last_state(make_config(folder), finished).method_state
    assert index.seen.any() and np.isfinite(index.losses).all() and float(index.variance) > 0
    assert int(index.counts.sum()) == len(index.losses)
    assert np.isfinite(cluster_losses(index)).all()


def test_its_network_names_new_classes_by_a_few_examples(finished: Path, folder: Path, tmp_path: Path):
    classifier = Classifier.load(finished)
    paths = sorted(folder.glob("*/*.png"))
    names = [path.parent.name for path in paths]
    first = [path.name in ("0.png", "1.png") for path in paths]
    classifier.enroll(
        [p for p, chosen in zip(paths, first, strict=True) if chosen],
        [n for n, chosen in zip(names, first, strict=True) if chosen],
    )
    rest = [p for p, chosen in zip(paths, first, strict=True) if not chosen]
    right = np.mean([a == p.parent.name for a, p in zip(classifier.predict(rest), rest, strict=True)])
    assert right > 0.8
    classifier.save(tmp_path / "saved")
    again = Classifier.load(tmp_path / "saved").predict(rest)
    np.testing.assert_array_equal(again, classifier.predict(rest))


def test_training_starts_from_a_softmax_network_whose_classifier_is_left_behind(folder: Path, tmp_path: Path):
    first = make_config(folder, softmax)
    first.train.steps = 2
    run(first, mode="train", folder=tmp_path / "softmax")
    config = make_config(folder)
    config.network.init_from = str(tmp_path / "softmax")
    config.train.update({"steps": 1, "learning_rate": 1e-12})
    run(config, mode="train", folder=tmp_path / "magnet")
    before = Checkpoints(tmp_path / "softmax").restore_model().variables["params"]
    after = Checkpoints(tmp_path / "magnet").restore_model().variables["params"]
    assert set(before) - set(after) == {"classifier"}
    np.testing.assert_allclose(after["block_0"]["kernel"], before["block_0"]["kernel"], atol=1e-6)
