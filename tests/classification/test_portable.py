"""Exported classifiers run without fsljax, for any number of images, and give what the classifier gives."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from fsljax.api import Classifier
from fsljax.classification import portable
from fsljax.errors import UserError

MODELS = Path(__file__).parents[2] / "models"
WITHOUT_FSLJAX = """
import sys
sys.modules["fsljax"] = None
import jax, numpy
from pathlib import Path
exported = jax.export.deserialize(Path(sys.argv[1]).read_bytes())
numpy.save(sys.argv[3], exported.call(numpy.load(sys.argv[2])))
"""


def drawings(count: int, seed: int = 0) -> np.ndarray:
    """uint8 `[count, 28, 28, 1]`."""
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)


def as_floats(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32) / 255


@pytest.fixture(scope="module")
def loaded() -> Classifier:
    return Classifier.load(MODELS / "protonet_1_5")


@pytest.fixture
def classifier(loaded: Classifier) -> Classifier:
    for label in loaded.classes:
        loaded.forget(label)
    return loaded.enroll(drawings(12), list("aaaabbbbcccc"))


def test_a_fresh_process_without_fsljax_names_any_number_of_images(classifier: Classifier, tmp_path: Path):
    file = classifier.export(tmp_path / "letters.jax")
    for count in (1, 5):
        images = np.random.default_rng(count).random((count, 28, 28, 1), np.float32)  # of more than 8 bits
        np.save(tmp_path / "images.npy", images)
        command = [sys.executable, "-c", WITHOUT_FSLJAX, file, tmp_path / "images.npy", tmp_path / "out.npy"]
        subprocess.run([str(part) for part in command], check=True, cwd=tmp_path)
        given = np.load(tmp_path / "out.npy")
        assert given.shape == (count, 3)
        np.testing.assert_allclose(given, classifier.predict_proba(images), atol=2e-5)
    told = json.loads((tmp_path / "letters.jax.json").read_text())
    assert (told["classes"], told["output"]) == (["a", "b", "c"], "probabilities")
    assert told["input"] == {"name": "images", "dtype": "float32", "shape": ["n", 28, 28, 1], "range": [0, 1]}


def exported_output(file: Path, images: np.ndarray) -> np.ndarray:
    exported = jax.export.deserialize(bytearray(file.read_bytes()))
    assert set(exported.platforms) == {"cpu", "cuda", "tpu"}
    return np.asarray(exported.call(as_floats(images)))


@pytest.mark.parametrize("head", ["prototype", "centered", "logistic", "representatives"])
def test_every_head_goes_into_the_file(classifier: Classifier, tmp_path: Path, head: str):
    known = classifier._enrolled
    try:
        classifier.change_head(head)
        images = drawings(6, seed=3)
        given = exported_output(classifier.export(tmp_path / "file"), images)
        np.testing.assert_allclose(given, classifier.predict_proba(images), atol=2e-5)
    finally:
        classifier._enrolled = known


def test_the_embedder_alone(classifier: Classifier, tmp_path: Path):
    images = drawings(3)
    given = exported_output(classifier.export(tmp_path / "embedder", embeddings=True), images)
    np.testing.assert_allclose(given, classifier.embed(images), atol=1e-4)
    without = Classifier.load(MODELS / "protonet_1_5")
    again = exported_output(without.export(tmp_path / "without"), images)
    np.testing.assert_array_equal(again, given)
    assert json.loads((tmp_path / "without.json").read_text())["classes"] == []
    with pytest.raises(UserError, match="No class is enrolled: call enroll"):
        without.export(tmp_path / "other", embeddings=False)


@pytest.mark.parametrize("method", ["magnet", "repmet"])
def test_classes_that_a_run_learned_go_into_the_file(tmp_path: Path, method: str):
    trained = Classifier.load(Path(__file__).parents[1] / "workdirs" / f"{method}_enrolled")
    if not trained.classes:
        pytest.skip("no class was kept")
    data = trained._network.config.data
    shape = (4, data.image_size, data.image_size, data.channels)
    images = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    given = exported_output(trained.export(tmp_path / "file"), images)
    np.testing.assert_allclose(given, trained.predict_proba(images), atol=2e-5)


def test_nothing_is_overwritten_and_wrong_formats_are_refused(classifier: Classifier, tmp_path: Path):
    (tmp_path / "there").write_text("mine")
    with pytest.raises(UserError, match="there exists already"):
        classifier.export(tmp_path / "there")
    assert (tmp_path / "there").read_text() == "mine"
    with pytest.raises(UserError, match="format is 'torch'; it can be 'jax' or 'onnx'"):
        classifier.export(tmp_path / "other", "torch")
    with pytest.raises(UserError, match="cannot be written"):
        classifier.export(tmp_path / "there" / "below")


def test_onnx_without_its_extra_is_told(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(portable.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'fsljax\[onnx\]'"):
        classifier.export(tmp_path / "model.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_onnx_cannot_express_is_told(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    jax2onnx = pytest.importorskip("jax2onnx")

    def fail(*_: object, **__: object) -> None:
        raise NotImplementedError("No plugin for primitive 'odd'\nmore")

    monkeypatch.setattr(jax2onnx, "to_onnx", fail)
    with pytest.raises(
        UserError, match=r"cannot express this conv4 \(No plugin for primitive 'odd'\): export"
    ):
        classifier.export(tmp_path / "model.onnx", "onnx")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["protonet_1_5", "protonet_lake", "efficientnet_lite0"])
@pytest.mark.parametrize("embeddings", [True, False])
def test_onnxruntime_agrees(model: str, embeddings: bool, tmp_path: Path):
    pytest.importorskip("jax2onnx")
    runtime = pytest.importorskip("onnxruntime")
    shipped = (MODELS / model).is_dir()
    classifier = Classifier.load(MODELS / model) if shipped else Classifier.pretrained(model)
    data = classifier._network.config.data
    shape = (6, data.image_size, data.image_size, data.channels)
    images = np.random.default_rng(0).random(shape, np.float32)
    classifier.enroll(images, list("aabbcc"))
    session = runtime.InferenceSession(
        classifier.export(tmp_path / "model.onnx", "onnx", embeddings=embeddings).read_bytes()
    )
    expected = classifier.embed(images) if embeddings else classifier.predict_proba(images)
    for count in (1, 6):
        (given,) = session.run(None, {"images": images[:count]})
        np.testing.assert_allclose(given, expected[:count], atol=1e-4)
