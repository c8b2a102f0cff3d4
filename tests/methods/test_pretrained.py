"""A folder of photographs, named by a network whose weights the tests make."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from fsljax import experiment, methods
from fsljax.api import Classifier
from fsljax.classification.heads import HEADS
from fsljax.errors import UserError
from fsljax.methods import pretrained
from tests.classification.photographs import SHAPES, write_folder
from tests.classification.test_pretrained import random_weights, with_weights
from tests.tiny_runs import Launch

CLASSES, SIDE = 5, 32


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_weights(tmp_path_factory.mktemp("weights") / "resnet18.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classes of 6 to 10 pictures; one is of another class, and one lies in two."""
    root = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    for label in range(CLASSES):
        write_class(root / f"class{label}", 6 + label, generator)
    shutil.copy(root / "class1" / "0.png", root / "class3" / "copy.png")
    return root


def write_class(folder: Path, count: int, generator: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    pattern = np.kron(generator.uniform(size=(4, 4, 3)), np.ones((8, 8, 1)))
    for number in range(count):
        noisy = np.clip(pattern + 0.1 * generator.normal(size=pattern.shape), 0, 1)
        Image.fromarray(np.uint8(255 * noisy)).save(folder / f"{number}.png")


def config_of(folder: Path, weights: Path, **fields: Any) -> ConfigDict:
    config = pretrained.default_config()
    config.name = "tiny"
    config.data.update({"name": "folder", "path": str(folder), "image_size": SIDE})
    config.network.update({"name": "resnet18", "weights": str(weights)})
    config.eval.update({"episodes": 20, "all_way_episodes": 10, "divisions": 3})
    config.update_from_flattened_dict(fields)
    return config


def run(config: ConfigDict, workdir: Path, mode: str = "train_and_evaluate") -> dict[str, Any]:
    experiment.run(config, mode=mode, folder=workdir)
    return json.loads((workdir / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made(folder: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    workdir = tmp_path_factory.mktemp("run")
    return workdir, run(config_of(folder, weights), workdir)


def test_every_head_is_measured_and_the_best_is_named(made: tuple[Path, dict]):
    results = made[1]
    for setting in ("held_out", "cross_validated", "unknown", "5way_1shot", "5way_5shot"):
        for head in HEADS:
            figures = results["test"][f"{setting}_{head}"]
            assert 0 <= figures["auroc" if setting == "unknown" else "accuracy"] <= 1
    assert results["test"]["held_out_logistic"]["examples"] == 8
    crossed = {name: results["test"][f"cross_validated_{name}"]["accuracy"] for name in HEADS}
    assert crossed[results["best_head"]] == max(crossed.values()) > 0.9
    assert results["step"] == 0


def test_the_copy_in_another_class_is_named_in_results_and_report(made: tuple[Path, dict]):
    workdir, results = made
    assert results["duplicates"][0]["files"] == ["class1/0.png", "class3/copy.png"]
    assert results["duplicates"][0]["exact"]
    assert "class3/copy.png" in [one["file"] for one in results["mislabelled"]]
    page = (workdir / "report.html").read_text(encoding="utf-8")
    for title in ("Photographs that look mislabelled", "The same photograph in two classes",
                  "Confused classes", "Map of embeddings"):  # fmt: skip
        assert title in page
    assert "copy.png" in page


def test_the_classifier_in_the_workdir_names_photographs(made: tuple[Path, dict], folder: Path):
    workdir = made[0]
    classifier = Classifier.load(workdir)
    assert classifier.classes == [f"class{label}" for label in range(CLASSES)]
    paths = [folder / f"class{label}" / f"{number}.png" for label in range(CLASSES) for number in range(5)]
    assert np.mean(classifier.predict(paths) == np.repeat(classifier.classes, 5)) > 0.9


def test_the_run_is_evaluated_again_and_goes_on_with_more_photographs(
    folder: Path, weights: Path, tmp_path: Path
):
    photographs = tmp_path / "photographs"
    shutil.copytree(folder, photographs)
    config = config_of(photographs, weights)
    before = run(config, tmp_path / "run")
    assert run(config, tmp_path / "run", mode="evaluate") == before
    write_class(photographs / "class9", 7, np.random.default_rng(9))
    after = run(config, tmp_path / "run")
    assert "6way_5shot_logistic" in after["test"] and "6way_5shot_logistic" not in before["test"]
    assert Classifier.load(tmp_path / "run").classes[-1] == "class9"


@pytest.mark.parametrize(
    "by",
    ["softmax", *(pytest.param(by, marks=pytest.mark.slow) for by in ("prototypical", "repmet", "magnet"))],
)
def test_an_embedding_is_trained_on_top_and_reported_beside(
    by: str, folder: Path, weights: Path, tmp_path: Path, made: tuple[Path, dict]
):
    fields = {"train.steps": 12, "train.by": by, "network.embedding": (16,), "checkpoint.every": 6,
              "eval.shots": (1,), "eval.heads": ("centered",), "eval.divisions": 0}  # fmt: skip
    results = run(config_of(folder, weights, **fields), tmp_path)
    assert results["step"] == 12
    assert results["test"]["held_out_centered"] == made[1]["test"]["held_out_centered"]
    for setting in ("held_out_centered_trained", "5way_1shot_centered_trained"):
        assert results["test"][setting]["accuracy"] > 0.5
    classifier = Classifier.load(tmp_path)
    assert classifier.embed(folder / "class0" / "0.png").shape == (1, 16)
    assert classifier.predict(folder / "class0" / "0.png").tolist() == ["class0"]


@pytest.mark.parametrize("by", pretrained.METHODS)
def test_batches_are_lowered_to_what_there_is(
    by: str, folder: Path, weights: Path, capsys: pytest.CaptureFixture
):
    config = methods.check(config_of(folder, weights, **{"train.steps": 3, "train.by": by}))
    method = methods.build(config, methods.load(config))
    train = method.trained.config.train
    assert (train.way if by == "prototypical" else train.clusters) == CLASSES
    assert method.trained.config.network == config.network and train.steps == 3
    assert "Training batches hold 5 classes" in capsys.readouterr().err


def test_training_without_a_named_embedding_has_one(folder: Path, weights: Path):
    assert methods.check(config_of(folder, weights)).network.embedding == ()
    trained = methods.check(config_of(folder, weights, **{"train.steps": 5, "train.by": "repmet"}))
    assert trained.network.embedding and trained.network.normalize


def test_classes_of_one_photograph_are_named_but_not_measured(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    generator = np.random.default_rng(0)
    for label in range(3):
        write_class(tmp_path / "photographs" / f"class{label}", 1, generator)
    results = run(config_of(tmp_path / "photographs", weights), tmp_path / "run")
    assert results["test"] == {}
    assert "No class has two photographs" in capsys.readouterr().out
    assert Classifier.load(tmp_path / "run").classes == ["class0", "class1", "class2"]


@pytest.mark.parametrize(
    "parts",
    [("train", "test"), pytest.param(("train", "val", "test"), marks=pytest.mark.slow), ("train", "val")],
)
def test_a_folder_with_parts_of_its_own(parts: tuple[str, ...], folder: Path, weights: Path, tmp_path: Path):
    for part in parts:
        shutil.copytree(folder, tmp_path / "photographs" / part)
    config = config_of(tmp_path / "photographs", weights, **{"eval.divisions": 0, "eval.ways": (5,)})
    config.eval.shots = ()
    results = run(config, tmp_path / "run")
    total = sum(1 for _ in folder.rglob("*.png"))
    held_out = total if "test" in parts else 8
    assert results["test"]["held_out_prototype"]["examples"] == held_out


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"data.split_by": "classes"}, "split_by is 'classes'"),
        ({"network.trainable": "all"}, "trainable is 'all'"),
        ({"network.embedding": (8,)}, "--config.train.steps=500"),
        ({"eval.heads": ("centred",)}, "centred"),
        ({"eval.heads": ("centered", "centered")}, "list each head once"),
        ({"eval.ways": (1,)}, "0 means all"),
        ({"train.steps": -1}, "config.train.steps is -1"),
    ],
)
def test_what_cannot_be_is_said(fields: dict[str, Any], sentence: str, folder: Path, weights: Path):
    with pytest.raises(UserError, match=sentence):
        methods.check(config_of(folder, weights, **fields))


@pytest.mark.slow
@with_weights
def test_one_command_names_photographs_by_published_weights(launch: Launch, tmp_path: Path):
    write_folder(tmp_path / "photographs", SHAPES, 8)
    config = Path(__file__).parents[2] / "configs" / "folder.py"
    ended = launch(f"--config.data.path={tmp_path / 'photographs'}", config=config)
    assert ended.returncode == 0, ended.stderr
    assert "best head: " in ended.stdout
    test = json.loads((tmp_path / "runs/folder/results.json").read_text(encoding="utf-8"))["test"]
    assert max(figures.get("accuracy", 0) for figures in test.values()) > 0.9
    assert test["unknown_logistic"]["auroc"] > 0.8
    later = sorted((tmp_path / "photographs").rglob("00.jpg"))
    classifier = Classifier.load(tmp_path / "runs" / "folder")
    assert np.mean(classifier.predict(later) == [path.parent.name for path in later]) > 0.9
