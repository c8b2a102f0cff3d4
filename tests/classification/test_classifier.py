"""The classifier that applications call."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
import sys
import threading
import unicodedata
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from fsljax.api import Classifier, Detector
from fsljax.classification.heads import Prototypes, Representatives, common
from fsljax.errors import UserError
from fsljax.methods import protonet, repmet_detector
from fsljax.networks import build
from fsljax.storage.json_files import read_checked, write_json
from fsljax.training import workdir
from fsljax.training.checkpoints import Checkpoints, Model

MODELS = Path(__file__).parents[2] / "models"


def make_classifier(
    channels: int = 1,
    distance: str = "squared_euclidean",
    *,
    seed: int = 0,
    step: int = 7,
    source: str = "omniglot",
    **options,
) -> Classifier:
    config = protonet.default_config()
    config.network.filters = 16
    config.data.channels = channels
    config.data.name = source
    config.loss.distance = distance
    images = np.zeros((1, 28, 28, channels), np.float32)
    variables = build(config).init(jax.random.key(seed), images, running_average=True)
    return Classifier(config, Model(step, jax.device_get(variables)), **options)


@pytest.fixture(scope="module")
def patterns() -> np.ndarray:
    """Four patterns, uint8 `[4, 28, 28, 1]`."""
    coarse = np.random.default_rng(0).uniform(0, 255, (4, 7, 7))
    return np.kron(coarse, np.ones((4, 4)))[..., None].astype(np.uint8)


@pytest.fixture(scope="module")
def saved_once(patterns: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    make_classifier().enroll(patterns, ["a", "b", "c", "d"]).save(folder)
    return folder


@pytest.fixture
def saved(saved_once: Path, tmp_path: Path) -> Path:
    """A folder that holds a classifier of the four patterns, a … d."""
    return shutil.copytree(saved_once, tmp_path / "saved")


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
        (lambda c, x: c.enroll(x, "a").confidence(x), "at least two enrolled classes"),
        (lambda c, x: c.embed(x.astype(np.float32)), "outside 0 … 1"),
        (lambda c, x: c.embed(x.astype(np.int64)), "type int64"),
        (lambda c, x: c.embed([np.zeros(5, np.uint8)]), r"Image 0 has the shape \[5\]"),
        (lambda c, x: c.embed([np.zeros((0, 5))]), r"Image 0 has the shape \[0, 5\]"),
        (lambda c, x: c.embed(np.zeros((2, 0, 5))), r"Image 0 has the shape \[0, 5\]"),
        (lambda c, x: c.embed(np.zeros(0)), "no images"),
        (lambda c, x: c.embed(iter([])), "no images"),
        (lambda c, x: c.embed(x[0]), r"\[28, 28, 1\], which looks like a single image: give images\[None\]"),
        (lambda c, x: c.embed(np.zeros((84, 84, 3))), "looks like a single image"),
        (lambda c, x: c.embed(np.zeros((84, 84, 4))), "looks like a single image"),
        (lambda c, x: c.embed(x[0, :, :, 0]), "looks like a single image"),
        (lambda c, x: c.embed("nowhere.png"), "nowhere.png cannot be read: No such file"),
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


@pytest.mark.parametrize("label", [("a", 1), ["a"], None, 0.5, True, np.bool_(True), np.float64(1), b"a"])
def test_a_label_that_is_neither_a_string_nor_an_integer_adds_no_class(patterns: np.ndarray, label):
    classifier = make_classifier()
    with pytest.raises(UserError, match=r"label of image 3 is .+ must be a string or an integer"):
        classifier.enroll(patterns, ["a", "b", "c", label])
    assert classifier.classes == []


@pytest.mark.parametrize("label", [None, 0.5, True, b"a", np.float32(2)])
def test_one_label_for_all_must_be_a_string_or_an_integer_too(patterns: np.ndarray, label):
    with pytest.raises(UserError, match="must be a string or an integer"):
        make_classifier().enroll(patterns, label)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (list(np.arange(4)), [0, 1, 2, 3]),
        (np.arange(4, dtype=np.uint8), [0, 1, 2, 3]),
        (list(np.array(["a", "b", "c", "d"])), ["a", "b", "c", "d"]),
        ((letter for letter in "abcd"), ["a", "b", "c", "d"]),
        (np.int64(0), [0]),
        (np.array(5), [5]),
        (np.str_("one"), ["one"]),
        ("one", ["one"]),
    ],
)
def test_labels_of_numpy_become_those_of_python_and_can_be_saved(
    patterns: np.ndarray, tmp_path: Path, labels, classes: list
):
    classifier = make_classifier().enroll(patterns, labels)
    assert classifier.classes == classes
    assert {type(label) for label in classifier.classes} <= {int, str}
    classifier.save(tmp_path / "saved")
    assert Classifier.load(tmp_path / "saved").classes == classes


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (["a", "b", "c", "long"], "U"),
        ([3, 1, -4, 2], "i"),
        ([1, "a", 2, "1"], "O"),
        ([2**63, -1, 1, 0], "O"),
        ([2**70, -1, 1, 0], "O"),
        (["a", "b\0", "c", "d"], "O"),
    ],
)
def test_answers_are_the_labels_that_were_enrolled(patterns: np.ndarray, labels: list, kind: str):
    classifier = make_classifier().enroll(patterns, labels)
    for unknown in (None, 0.0):
        answers = classifier.predict(patterns, unknown=unknown).tolist()
        assert answers == labels
        assert list(map(type, answers)) == list(map(type, labels))
    assert classifier.predict(patterns).dtype.kind == kind


def test_one_image_is_a_batch_of_one(patterns: np.ndarray, tmp_path: Path):
    classifier = make_classifier()
    wanted = classifier.embed(patterns[:1])
    picture = Image.fromarray(patterns[0, ..., 0])
    picture.save(tmp_path / "image.png")
    for image in (picture, tmp_path / "image.png", str(tmp_path / "image.png"), patterns[0][None]):
        np.testing.assert_array_equal(classifier.embed(image), wanted)
    assert classifier.enroll(str(tmp_path / "image.png"), "a").classes == ["a"]


def test_images_may_come_from_a_generator(patterns: np.ndarray):
    classifier = make_classifier().enroll((pattern for pattern in patterns), "abcd"[:1])
    np.testing.assert_array_equal(classifier.embed(map(np.asarray, patterns)), classifier.embed(patterns))


@pytest.mark.parametrize("name", ["omniglot", "glyphs", "folder"])
def test_a_drawing_embeds_alike_as_a_path_a_picture_and_an_array(tmp_path: Path, name: str):
    classifier = make_classifier(source=name)
    drawing = (np.random.default_rng(0).random((105, 90)) < 0.2).astype(np.uint8) * 255
    Image.fromarray(drawing).save(tmp_path / "drawing.png")
    wanted = classifier.embed(drawing[None])
    np.testing.assert_array_equal(classifier.embed(Image.fromarray(drawing)), wanted)
    np.testing.assert_array_equal(classifier.embed(tmp_path / "drawing.png"), wanted)


@pytest.mark.parametrize("other", [{"seed": 1}, {"seed": 1, "step": 6}, {"step": 6}, {"distance": "cosine"}])
def test_a_folder_that_holds_another_model_stays_as_it_is(patterns: np.ndarray, saved: Path, other: dict):
    before = Classifier.load(saved).predict_proba(patterns)
    with pytest.raises(UserError, match="holds another model: give a new folder") as raised:
        make_classifier(**other).save(saved)
    assert "--" not in str(raised.value)
    loaded = Classifier.load(saved)
    assert loaded.classes == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(loaded.predict_proba(patterns), before)
    assert list(Checkpoints(saved).selections()) == [7]


def test_a_folder_whose_model_is_damaged_is_not_written_to(saved: Path):
    for path in (saved / "checkpoints/7/model").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(UserError, match="holds another model"):
        make_classifier().save(saved)


def test_a_classifier_is_saved_into_the_run_it_was_loaded_from(patterns: np.ndarray, tmp_path: Path):
    older, best = make_classifier(seed=1, step=5), make_classifier(step=7)
    write_json(tmp_path / "config.json", best._network._stored)
    run = Checkpoints(tmp_path)
    run.write_model(best._network.model, 0.9)
    run.write_model(make_classifier(seed=2, step=9)._network.model, 0.5)
    run.close()
    for _ in range(2):
        Classifier.load(tmp_path).enroll(patterns, ["a", "b", "c", "d"]).save(tmp_path)
    np.testing.assert_array_equal(Classifier.load(tmp_path).embed(patterns), best.embed(patterns))
    assert Classifier.load(tmp_path).classes == ["a", "b", "c", "d"]
    assert sorted(Checkpoints(tmp_path).selections()) == [7, 9]
    with pytest.raises(UserError, match="holds another model"):
        older.save(tmp_path)


def test_enrolled_classes_of_another_network_are_refused(saved: Path, tmp_path: Path):
    make_classifier(seed=1).save(tmp_path / "other")
    (saved / "enrolled.npz").replace(tmp_path / "other/enrolled.npz")
    with pytest.raises(UserError, match=r"enrolled.npz do not belong to the network in .+ enrol again"):
        Classifier.load(tmp_path / "other")


def test_enrolled_classes_that_name_no_network_are_read(patterns: np.ndarray, saved: Path):
    with np.load(saved / "enrolled.npz") as arrays:
        older = {name: arrays[name] for name in arrays if name != "model"}
    np.savez(saved / "enrolled.npz", **older)
    assert Classifier.load(saved).predict(patterns).tolist() == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"no archive",
        lambda content: content[: len(content) // 2],
        lambda content: b"PK\x03\x04" + content[:40],
        lambda content: content.replace(b"counts", b"county"),
        *(
            lambda content, at=at: content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]
            for at in (100, 200, 300)
        ),
    ],
)
def test_damaged_enrolled_classes_are_named(saved: Path, damage):
    path = saved / "enrolled.npz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"enrolled.npz cannot be read .+ enrol again"):
        Classifier.load(saved)


@pytest.mark.parametrize("labels", ["3", "null", '[["a"], "b"]', '["a"]'])
def test_enrolled_labels_of_another_kind_are_named(saved: Path, labels: str):
    with np.load(saved / "enrolled.npz") as arrays:
        changed = dict(arrays) | {"labels": np.array(labels)}
    np.savez(saved / "enrolled.npz", **changed)
    with pytest.raises(UserError, match=r"enrolled.npz cannot be read"):
        Classifier.load(saved)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("sums", lambda sums: sums * np.nan, "not numbers"),
        ("sums", lambda sums: sums.astype(int), "not numbers"),
        ("sums", lambda sums: sums[:, 1:], "the network gives"),
        ("sums", lambda sums: sums[:, 0], "the network gives"),
        ("sums", lambda sums: sums[1:], "argument"),
        ("counts", lambda counts: counts * 0, "must hold a number from 1"),
        ("counts", lambda counts: -counts, "must hold a number from 1"),
        ("counts", lambda counts: counts + 0.5, "must hold a number from 1"),
        ("counts", lambda counts: counts[1:], "must hold a number from 1"),
        ("labels", lambda labels: np.array('["a", "a", "b", "c"]'), "a class is listed twice"),
        ("labels", lambda labels: np.array('["a", "d", "b", true]'), "labels must be strings"),
        ("labels", lambda labels: np.array("[" * 100_000), "nests too deeply"),
        ("unknown", lambda unknown: np.array(7.0), "must be from 0 to 1"),
    ],
)
def test_enrolled_classes_that_cannot_be_are_told(saved: Path, name: str, change, told: str):
    with np.load(saved / "enrolled.npz") as stored:
        arrays = dict(stored)
    np.savez(saved / "enrolled.npz", **(arrays | {name: change(arrays[name])}))
    with pytest.raises(UserError, match=rf"enrolled\.npz cannot be read \(.*{told}.*enrol again"):
        Classifier.load(saved)


def test_parameters_of_another_network_than_the_config_are_told(saved: Path):
    config = read_checked(saved / "config.json")
    config["network"]["filters"] += 1
    write_json(saved / "config.json", config)
    with pytest.raises(
        UserError, match=r"The model in .* is damaged, or does not fit the network in its config"
    ):
        Classifier.load(saved)


@pytest.mark.parametrize("path", ["~nosuchuser/model", "a\0b", "x" * 300, "", None, 3])
def test_a_path_that_can_be_none_is_told(path):
    with pytest.raises(UserError):
        Classifier.load(path)
    with pytest.raises(UserError):
        make_classifier().save(path)


@pytest.mark.parametrize("content", ["[]", "3", '"text"', "null", "{}", '{"data": 3}', "\xff"])
def test_a_config_that_is_none_is_named(tmp_path: Path, content: str):
    (tmp_path / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=r"config.json cannot be read: .+[^.]\.$"):
        Classifier.load(tmp_path)
    with pytest.raises(UserError, match="give a new folder"):
        make_classifier().save(tmp_path)


@pytest.mark.parametrize(
    ("section", "value"),
    [("data", None), ("network", None), ("loss", None), ("network", {"name": "conv4"}), ("loss", [])],
)
def test_a_config_without_a_section_is_named(saved: Path, section: str, value):
    config = read_checked(saved / "config.json")
    del config[section]
    if value is not None:
        config[section] = value
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"config.json cannot be read: .+[^.]\.$"):
        Classifier.load(saved)


def test_a_changed_digit_of_a_stored_config_is_told(saved: Path):
    text = (saved / "config.json").read_text()
    assert '"image_size": 28' in text
    (saved / "config.json").write_text(text.replace('"image_size": 28', '"image_size": 29'))
    with pytest.raises(UserError, match=r"config\.json cannot be read: it was changed after it was written"):
        Classifier.load(saved)


def test_a_stored_config_does_not_choose_what_is_imported(saved: Path, monkeypatch: pytest.MonkeyPatch):
    module = saved.parent / "planted" / "network.py"
    module.parent.mkdir()
    module.write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(saved.parent)
    config = read_checked(saved / "config.json")
    config["network"]["name"] = "planted.network"
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        UserError, match=r"config\.json names the module planted\.network: if it is your own, import it first"
    ):
        Classifier.load(saved)


def test_a_tilde_is_the_home_folder(patterns: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    make_classifier().enroll(patterns, "a").save("~/saved")
    assert (tmp_path / "saved/enrolled.npz").exists()
    assert Classifier.load("~/saved").classes == ["a"]


def test_a_folder_that_cannot_be_written_is_named_without_advising_flags(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/saved cannot be written \(Not a directory\)") as raised:
        make_classifier().save(tmp_path / "file/saved")
    assert "--" not in str(raised.value)


def test_a_full_disk_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_, **__):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        make_classifier().save(tmp_path)


def test_a_folder_in_use_is_named_without_advising_flags(tmp_path: Path):
    with workdir.exclusive(tmp_path), pytest.raises(UserError, match="in use by another run") as raised:
        make_classifier().save(tmp_path)
    assert "--" not in str(raised.value)


def test_threads_that_enrol_one_class_lose_nothing(patterns: np.ndarray):
    classifier = make_classifier().enroll(patterns[:1], "other")
    wanted = classifier.embed(patterns[1:2])[0]
    many = np.repeat(patterns[1:2], 50, axis=0)
    classifier.embed(many)
    threads = [
        threading.Thread(target=lambda: [classifier.enroll(many, "a") for _ in range(8)]) for _ in range(4)
    ]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    arrays = classifier._enrolled.head.arrays()
    assert arrays["counts"].tolist() == [1, 1600]
    np.testing.assert_allclose(arrays["sums"][1] / 1600, wanted, rtol=1e-5, atol=1e-6)


def test_a_call_sees_the_classes_of_one_moment(patterns: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    """Whatever changes between the comparison and the answer is of the next call."""
    classifier = make_classifier(unknown=0.0).enroll(patterns, ["a", "b", "c", "d"])
    compare = Prototypes.compare

    def compare_and_forget(known: Prototypes, embeddings: np.ndarray):
        monkeypatch.undo()
        found = compare(known, embeddings)
        classifier.forget("a")
        classifier.enroll(patterns[:1], "z")
        return found

    monkeypatch.setattr(Prototypes, "compare", compare_and_forget)
    assert classifier.predict(patterns).tolist() == ["a", "b", "c", "d"]
    assert classifier.classes == ["b", "c", "d", "z"]


def test_a_failed_enrolment_leaves_the_classes_as_they_were(patterns: np.ndarray):
    classifier = make_classifier().enroll(patterns[:2], ["a", "b"])
    for labels in (["c", 0.5], {"c", "d"}):
        with pytest.raises(UserError):
            classifier.enroll(patterns[2:], labels)
    assert classifier.classes == ["a", "b"]


@pytest.mark.parametrize("again", [lambda c: pickle.loads(pickle.dumps(c)), copy.deepcopy, copy.copy])
def test_a_classifier_in_use_is_copied_and_sent_to_other_processes(patterns: np.ndarray, again):
    classifier = make_classifier(unknown=0.25).enroll(patterns, ["a", 2, "c", "d"])
    wanted = classifier.predict_proba(patterns)
    other = again(classifier)
    assert other.classes == ["a", 2, "c", "d"] and other.unknown == 0.25
    np.testing.assert_array_equal(other.predict_proba(patterns), wanted)
    other.enroll(patterns[:1], "new").forget(2)
    assert classifier.classes == ["a", 2, "c", "d"]
    np.testing.assert_array_equal(classifier.predict_proba(patterns), wanted)


@pytest.mark.parametrize("known", [Prototypes("squared_euclidean", 1.0), Representatives(sigma=0.5)])
def test_many_embeddings_are_compared_in_blocks_with_the_same_answers(
    known: Prototypes | Representatives, monkeypatch: pytest.MonkeyPatch
):
    rows = np.random.default_rng(0).normal(size=(103, 8)).astype(np.float32)
    known.add([*range(20), *range(11)], rows[:31])
    whole, radius = known.compare(rows), known.radius()
    monkeypatch.setattr(common, "_FLOATS_A_BLOCK", 1000)
    blocks = known.compare(rows)
    np.testing.assert_array_equal(blocks.predictions, whole.predictions)
    # XLA adds up in another order where there are other rows.
    np.testing.assert_allclose(blocks.probabilities, whole.probabilities, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(blocks.nearest, whole.nearest, rtol=1e-5)
    assert known.radius() == pytest.approx(radius, rel=1e-5)


def test_a_label_is_the_same_class_in_either_unicode_form(patterns: np.ndarray, tmp_path: Path):
    composed, decomposed = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    classifier = make_classifier().enroll(patterns[:2], [decomposed, "b"]).enroll(patterns[:1], composed)
    assert classifier.classes == [decomposed, "b"]
    assert classifier._enrolled.head.arrays()["counts"].tolist() == [2, 1]
    classifier.save(tmp_path / "saved")
    assert Classifier.load(tmp_path / "saved").forget(composed).classes == ["b"]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda c, x: c.enroll(x, {"a", "b", "c", "d"}), "labels are given as a set, which has no order"),
        (lambda c, x: c.enroll(x, dict.fromkeys("abcd")), "labels are given as a dict"),
        (lambda c, x: c.enroll(x, "a").predict(x, unknown=np.nan), "unknown is nan"),
        (lambda c, x: c.enroll(x, "a").predict(x, unknown="0.5"), "unknown is '0.5'"),
        (lambda c, x: setattr(c, "unknown", 5) or c.enroll(x, "a").predict(x), "unknown is 5"),
        (lambda c, x: c.enroll(x, "a", fine_tune_steps=1.5), "give a whole number"),
        (lambda c, x: c.enroll(x, "a", fine_tune_rate=np.inf), "give a whole number and a number"),
        (lambda c, x: Classifier(repmet_detector.default_config(), c._network.model), "config of a detector"),
        (
            lambda c, x: Classifier.load(MODELS / "repmet_detection_scenes"),
            r"with fsljax\.api\.Detector\.load",
        ),
        (lambda c, x: Detector.load(MODELS / "protonet_1_5"), r"with fsljax\.api\.Classifier\.load"),
    ],
)
def test_more_misuse_is_told_in_a_sentence(patterns: np.ndarray, call, sentence: str):
    with pytest.raises(UserError, match=sentence):
        call(make_classifier(), patterns)
