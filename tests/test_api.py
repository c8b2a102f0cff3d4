"""The classifier that applications call."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from fsljax.api import Classifier
from fsljax.errors import UserError
from fsljax.methods import protonet
from fsljax.networks import build
from fsljax.training.checkpoints import Model


def make_classifier(channels: int = 1, distance: str = "squared_euclidean", **options) -> Classifier:
    config = protonet.default_config()
    config.network.filters = 16
    config.data.channels = channels
    config.loss.distance = distance
    images = np.zeros((1, 28, 28, channels), np.float32)
    variables = build(config).init(jax.random.key(0), images, running_average=True)
    return Classifier(config, Model(7, jax.device_get(variables)), **options)


@pytest.fixture(scope="module")
def patterns() -> np.ndarray:
    """Four patterns, uint8 `[4, 28, 28, 1]`."""
    coarse = np.random.default_rng(0).uniform(0, 255, (4, 7, 7))
    return np.kron(coarse, np.ones((4, 4)))[..., None].astype(np.uint8)


def noisy(patterns: np.ndarray, amount: float = 10) -> np.ndarray:
    noise = amount * np.random.default_rng(1).normal(size=patterns.shape)
    return np.clip(patterns + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("distance", ["squared_euclidean", "cosine"])
def test_names_new_images_of_enrolled_classes(patterns: np.ndarray, distance: str):
    classifier = make_classifier(distance=distance).enroll(patterns, ["a", "b", "c", "d"])
    assert classifier.predict(noisy(patterns)).tolist() == ["a", "b", "c", "d"]
    probabilities = classifier.predict_proba(noisy(patterns))
    assert probabilities.shape == (4, 4)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert probabilities.argmax(axis=1).tolist() == [0, 1, 2, 3]


def test_probabilities_are_a_softmax_over_negative_squared_distances(patterns: np.ndarray):
    classifier = make_classifier().enroll(patterns[[0, 1]], [3, 5]).enroll(noisy(patterns[:1]), 3)
    assert classifier.classes == [3, 5]

    def embed(images: np.ndarray) -> np.ndarray:
        return classifier.embed(images).astype(np.float64)

    prototypes = np.stack(
        [(embed(patterns[:1]) + embed(noisy(patterns[:1])))[0] / 2, embed(patterns[1:2])[0]]
    )
    squares = ((embed(patterns)[:, None] - prototypes) ** 2).sum(axis=-1)
    expected = np.exp(-squares) / np.exp(-squares).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(classifier.predict_proba(patterns), expected, rtol=1e-4, atol=1e-7)


def test_the_order_of_enrolment_does_not_change_answers(patterns: np.ndarray):
    forward = make_classifier().enroll(patterns, ["a", "b", "c", "d"])
    backward = make_classifier().enroll(patterns[::-1], ["d", "c", "b", "a"])
    assert forward.predict(noisy(patterns)).tolist() == backward.predict(noisy(patterns)).tolist()


def test_what_is_far_from_every_class_is_unknown(patterns: np.ndarray):
    classifier = make_classifier(unknown=0.5).enroll(patterns[:3], ["a", "b", "c"])
    stranger = 255 - patterns[3:]
    assert classifier.predict(patterns[:3]).tolist() == ["a", "b", "c"]
    assert classifier.confidence(stranger)[0] < classifier.confidence(patterns[:3]).min()
    assert classifier.predict(stranger, unknown=1.0).tolist() == [None]
    assert classifier.predict(stranger, unknown=0.0)[0] in ("a", "b", "c")


def test_saved_and_loaded_it_answers_the_same(patterns: np.ndarray, tmp_path: Path):
    classifier = make_classifier(unknown=0.25).enroll(patterns, ["a", 2, "c", "ü"])
    classifier.save(tmp_path / "saved")
    loaded = Classifier.load(tmp_path / "saved")
    assert loaded.classes == ["a", 2, "c", "ü"]
    assert loaded.unknown == 0.25
    np.testing.assert_array_equal(
        loaded.predict_proba(noisy(patterns)), classifier.predict_proba(noisy(patterns))
    )
    loaded.enroll(noisy(patterns[:1]), ["a"]).forget(2).save(tmp_path / "saved")
    assert Classifier.load(tmp_path / "saved", unknown=0.5).classes == ["a", "c", "ü"]
    assert Classifier.load(tmp_path / "saved", unknown=0.5).unknown == 0.5


def test_every_form_of_image_gives_the_same_embedding(patterns: np.ndarray, tmp_path: Path):
    classifier = make_classifier()
    wanted = classifier.embed(patterns)
    pictures = [Image.fromarray(pattern[..., 0]) for pattern in patterns]
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.png")
    paths = sorted(tmp_path.glob("*.png"))
    for images in (
        patterns[..., 0],
        patterns / 255.0,
        list(patterns),
        pictures,
        paths,
        list(map(str, paths)),
    ):
        np.testing.assert_allclose(classifier.embed(images), wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        classifier.embed(np.kron(patterns, np.ones((1, 2, 2, 1), np.uint8))), wanted, atol=1e-5
    )
    assert make_classifier(channels=3).embed(np.repeat(patterns, 3, axis=-1)).shape == wanted.shape


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda c, x: c.predict(x), "No class is enrolled"),
        (lambda c, x: c.enroll(x, ["a"]), "4 images were given with 1 labels"),
        (lambda c, x: c.enroll(x[:0], []), "no images"),
        (lambda c, x: c.forget("a"), "'a' is not enrolled"),
        (lambda c, x: c.enroll(x, "a").confidence(x), "Two classes"),
        (lambda c, x: c.embed(x.astype(np.float32)), "outside 0 … 1"),
        (lambda c, x: c.embed(x.astype(np.int64)), "type int64"),
        (lambda c, x: c.embed(np.zeros((2, 5), np.uint8)), r"shape \[5\]"),
        (lambda c, x: c.embed(["nowhere.png"]), "nowhere.png cannot be read: No such file"),
        (lambda c, x: c.enroll(x, "a").predict(x, unknown=2), "unknown is 2"),
    ],
)
def test_misuse_is_told_in_a_sentence(patterns: np.ndarray, call, sentence: str):
    with pytest.raises(UserError, match=sentence):
        call(make_classifier(), patterns)


def test_a_folder_without_a_model_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="no model in"):
        Classifier.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        Classifier.load(tmp_path)
