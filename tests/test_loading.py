"""A saved model in Flax code of one's own; objects that say in a line what they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import fsljax
from fsljax.api import Classifier, Detector
from fsljax.errors import UserError

MODELS = Path(__file__).parents[1] / "models"


def test_the_module_of_a_shipped_model_embeds_as_the_classifier_does(tmp_path: Path):
    classifier = Classifier.load(MODELS / "protonet_1_5")
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), dtype=np.uint8)
    classifier.enroll(images, "abc").save(tmp_path / "saved")
    for folder in (MODELS / "protonet_1_5", str(tmp_path / "saved")):
        module, variables = fsljax.load_flax(folder)
        embeddings = module.apply(variables, jnp.float32(images) / 255, running_average=True)
        np.testing.assert_allclose(embeddings, classifier.embed(images), atol=1e-5)


def test_what_a_method_trained_beside_its_network_is_left_out():
    folder = Path(__file__).parent / "workdirs" / "repmet"
    _, variables = fsljax.load_flax(folder)
    assert not {"representatives", "sigma"} & set(variables["params"])


def test_the_module_of_a_detector():
    module, variables = fsljax.load_flax(MODELS / "repmet_detection_scenes")
    assert "representatives" not in variables["params"]
    levels = module.apply(variables, jnp.zeros((1, 128, 128, 1)), method="trunk")
    assert levels is not None


def test_a_folder_without_a_model_is_told(tmp_path: Path):
    with pytest.raises(UserError, match="There is no"):
        fsljax.load_flax(tmp_path)


def test_importing_the_package_loads_nothing():
    code = "import sys, fsljax; assert 'jax' not in sys.modules; assert callable(fsljax.load_flax)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_objects_say_what_they_are():
    classifier = Classifier.load(MODELS / "protonet_1_5")
    assert repr(classifier) == (
        f"Classifier(conv4 at 28×28×1 from '{MODELS}/protonet_1_5', 0 classes, head='prototype')"
    )
    classifier.enroll(np.random.default_rng(0).random((7, 28, 28)), list("abcdefg"))
    assert "7 classes: 'a', 'b', 'c', 'd', 'e', …" in repr(classifier)
    detector = Detector.load(MODELS / "repmet_detection_scenes")
    assert repr(detector) == (
        f"Detector(scene_net at 128×128×1 from '{MODELS}/repmet_detection_scenes', 0 classes, threshold=0.3)"
    )
