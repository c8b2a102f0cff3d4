"""A run's own rule names new images: what it learned of its classes comes with its model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fsljax import methods
from fsljax.api import Classifier
from fsljax.errors import UserError
from fsljax.experiment import run
from fsljax.export import export
from fsljax.methods import magnet, repmet, softmax, triplet

RULES = {
    "softmax": "softmax",
    "repmet": "soft_posterior",
    "magnet": "nearest_cluster",
    "triplet": "nearest_cluster",
}
MODULES = {"softmax": softmax, "repmet": repmet, "magnet": magnet, "triplet": triplet}


@pytest.fixture(scope="module", params=list(RULES))
def finished(request, image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A method and the workdir of a run of it."""
    config = MODULES[request.param].default_config()
    config.name = "tiny"
    config.data.update({"name": "folder", "path": str(image_folder), "image_size": 16})
    config.data.update({"split_by": "examples", "fractions": (0.5, 0.25, 0.25)})
    config.network.update({"filters": 4, "blocks": 2})
    config.train.update({"steps": 20, "clusters": 4, "examples": 3})
    config.checkpoint.every = 20
    workdir = tmp_path_factory.mktemp(request.param)
    run(config, mode="train_and_evaluate", folder=workdir)
    return request.param, workdir


def test_names_and_rule_come_with_a_run(finished: tuple[str, Path]):
    method, workdir = finished
    stored = json.loads((workdir / "config.json").read_text())
    config = MODULES[method].default_config()
    config.data.update(
        {name: stored["data"][name] for name in ("name", "path", "image_size", "split_by", "fractions")}
    )
    test = methods.load(methods.check(config)).test
    classifier = Classifier.load(workdir)
    assert classifier.classes == list(test.class_names)
    predicted = classifier.predict(np.asarray(test.images))
    right = predicted == np.array(test.class_names)[test.labels]
    with np.load(workdir / "correct.npz") as correct:
        np.testing.assert_array_equal(right, correct[RULES[method]])
    results = json.loads((workdir / "results.json").read_text())["test"][RULES[method]]
    assert right.mean() == pytest.approx(results["accuracy"], abs=1e-12)
    probabilities = classifier.predict_proba(np.asarray(test.images))
    assert (np.array(classifier.classes)[probabilities.argmax(axis=1)] == predicted).mean() > 0.99
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-4)


def test_unknown_has_a_sensible_middle(finished: tuple[str, Path], image_folder: Path):
    classifier = Classifier.load(finished[1], unknown=0.5)
    known = classifier.predict(sorted(image_folder.glob("*/0.png")))
    noise = np.random.default_rng(3).integers(0, 256, (40, 16, 16), np.uint8)
    named, strangers = (np.mean([one is not None for one in of]) for of in (known, classifier.predict(noise)))
    assert named > 0.3 and strangers < named


def test_classes_are_enrolled_beside_those_that_were_trained(finished: tuple[str, Path], tmp_path: Path):
    noise = np.random.default_rng(3).integers(0, 256, (6, 16, 16), np.uint8)
    classifier = Classifier.load(finished[1]).enroll(noise[:3], "noise").forget("class01")
    assert "noise" in classifier.classes and "class01" not in classifier.classes
    assert classifier.predict(noise[:3]).tolist() == ["noise"] * 3
    classifier.save(tmp_path / "saved")
    again = Classifier.load(tmp_path / "saved")
    np.testing.assert_allclose(again.predict_proba(noise), classifier.predict_proba(noise), atol=1e-6)
    assert again.classes == classifier.classes
    assert Classifier.load(finished[1], classes=False).classes == []
    with pytest.raises(UserError, match="the embeddings of class00"):
        classifier.change_head("logistic")


def test_a_shipped_model_has_its_classes(finished: tuple[str, Path], tmp_path: Path):
    export(finished[1], tmp_path / "shipped")
    assert len(Classifier.load(tmp_path / "shipped").classes) == 20


def test_damaged_rules_are_named(finished: tuple[str, Path], tmp_path: Path):
    folder = shutil.copytree(finished[1], tmp_path / "run")
    (folder / "learned.npz").write_bytes((folder / "learned.npz").read_bytes()[:-200])
    with pytest.raises(UserError, match=r"learned\.npz cannot be read"):
        Classifier.load(folder)
