"""Damage of each kind of stored file is told, or changes nothing; it never prints a stack trace.

A file of weights is left out: others make it, and nothing in its format tells these bytes from any.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fsljax import methods, reproduce
from fsljax.api import Classifier
from fsljax.classification import episode_file as classification_file
from fsljax.classification.episodes import sample
from fsljax.config import plain
from fsljax.data.dataset import ImageDataset
from fsljax.detection.data import episode_file as detection_file
from fsljax.detection.data.structures import GroundTruth
from fsljax.errors import UserError
from fsljax.evaluation.episodic import Setting
from fsljax.methods import protonet
from fsljax.networks import build
from fsljax.storage.json_files import write_json
from fsljax.training import workdir
from fsljax.training.checkpoints import Checkpoints, Model
from fsljax.training.logs import HISTORY, MetricsLog, read_history
from fsljax.training.state import TrainState

pytestmark = pytest.mark.campaign

IMAGES = {"train": "0a1b", "validation": "2c3d", "test": "4e5f"}
SETTING = Setting(3, 1, 2)


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """One of: a byte changed, one bit changed, cut short, bytes put in, bytes taken out."""
    kind, at = random.integers(5), int(random.integers(len(content)))
    if kind == 0:
        return content[:at] + bytes([random.integers(256)]) + content[at + 1 :]
    if kind == 1:
        return content[:at] + bytes([content[at] ^ 1 << random.integers(8)]) + content[at + 1 :]
    if kind == 2:
        return content[:at]
    if kind == 3:
        return content[:at] + random.bytes(int(random.integers(1, 9))) + content[at:]
    return content[:at] + content[at + int(random.integers(1, 9)) :]


def check(
    path: Path,
    read: Callable[[], Any],
    rounds: Callable[[int], Iterator[int]],
    caplog: Any,
    *,
    samples: int = 25,
) -> None:
    """Damages a file in each round and reads it: an equal value, a sentence, or a warning, and no other."""
    whole, expected = path.read_bytes(), read()
    told = 0
    for seed in rounds(samples):
        path.write_bytes(damaged(whole, np.random.default_rng(seed)))
        caplog.clear()
        try:
            value = read()
        except UserError as error:
            assert str(error).count("\n") == 0 and str(error).endswith("."), error
            told += 1
        else:
            warned = [record for record in caplog.records if record.levelno >= logging.WARNING]
            assert not any(record.exc_info for record in warned)
            if warned:
                told += 1
            else:
                chex.assert_trees_all_equal(value, expected)
    path.write_bytes(whole)
    chex.assert_trees_all_equal(read(), expected)
    print(f"{path.name}: {told} told")


@pytest.fixture(autouse=True)
def no_stack_trace(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    assert "Traceback" not in capfd.readouterr().err


@pytest.fixture(scope="module")
def config() -> Any:
    given = protonet.default_config()
    given.network.filters = 2
    given.network.blocks = 2
    given.data.image_size = 8
    return given


@pytest.fixture(scope="module")
def model(config: Any) -> Model:
    images = np.zeros((1, 8, 8, 1), np.float32)
    variables = build(methods.check(config)).init(jax.random.key(0), images, running_average=True)
    return Model(3, jax.device_get(variables))


def test_config(tmp_path: Path, config: Any, rounds: Any, caplog: Any):
    write_json(tmp_path / workdir.CONFIG, plain(config))
    check(tmp_path / workdir.CONFIG, lambda: json.dumps(workdir.read_config(tmp_path)), rounds, caplog)


def test_fingerprints_of_images(tmp_path: Path, config: Any, rounds: Any, caplog: Any):
    workdir.claim(tmp_path, methods.check(config), IMAGES)
    check(tmp_path / workdir.IMAGES, lambda: workdir.same_images(tmp_path, IMAGES), rounds, caplog)


def test_results(tmp_path: Path, rounds: Any, caplog: Any):
    figures = {"accuracy": 0.875, "ci95": 0.0125, "episodes": 1000}
    results = {"config": "a", "step": 3, "seed": 0, "model": "0" * 16, "test": {"5way_1shot": figures}}
    write_json(tmp_path / workdir.RESULTS, results)
    check(tmp_path / workdir.RESULTS, lambda: json.dumps(workdir.read_results(tmp_path)), rounds, caplog)


def test_history(tmp_path: Path, rounds: Any, caplog: Any):
    random = np.random.default_rng(0)
    with MetricsLog(tmp_path, resume_step=0) as log:
        for step in range(1, 9):
            log.scalars(step, {"train/loss": random.random(), "validation/accuracy": random.random()})
    rows = read_history(tmp_path)

    def read() -> list[dict[str, float]]:
        read = read_history(tmp_path)
        # A history that ends early is that of a run that was killed.
        return rows if read == rows[: len(read)] else read

    check(tmp_path / HISTORY, read, rounds, caplog)


def test_record_of_what_was_reproduced(tmp_path: Path, rounds: Any, caplog: Any):
    done = {"command": ["python", "launch.py", "--config=configs/a.py"], "config": "0123456789abcdef" * 4}
    write_json(tmp_path / "reproduced.json", done)

    def read() -> Any:
        return reproduce._recorded(tmp_path / "reproduced.json") or done  # otherwise it is done anew

    check(tmp_path / "reproduced.json", read, rounds, caplog)


def test_correct_examples(tmp_path: Path, rounds: Any, caplog: Any):
    correct = np.random.default_rng(0).random(300) < 0.8
    np.savez_compressed(tmp_path / workdir.CORRECT, nearest_cluster=correct)
    check(tmp_path / workdir.CORRECT, lambda: workdir.correct_of(tmp_path, "nearest_cluster"), rounds, caplog)


def test_classification_episodes(tmp_path: Path, rounds: Any, caplog: Any):
    labels = np.repeat(np.arange(5, dtype=np.int32), 4)
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), np.uint8)
    data = ImageDataset(images, labels, tuple("abcde"))
    episodes = {SETTING: sample(jax.random.key(0), data, SETTING, 20)}
    path = tmp_path / "episodes.npz"
    classification_file.write_episodes(path, data, episodes)

    def read() -> Any:
        read = classification_file.read_episodes(path, data)
        assert list(read) == [SETTING]
        return tuple(read[SETTING])

    check(path, read, rounds, caplog)


@pytest.mark.parametrize("kind", ["scenes", "images"])
def test_detection_episodes(tmp_path: Path, kind: Any, rounds: Any, caplog: Any):
    random = np.random.default_rng(0)
    keys = random.integers(0, 2**32, (3, 8, 2), np.uint32)
    ids = np.array([[f"image {number} of {row}" for number in range(8)] for row in range(3)])
    sources = keys if kind == "scenes" else ids
    corners = random.integers(0, 50, (3, 8, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + random.integers(1, 50, (3, 8, 2))], -1).astype(np.float32)
    there = np.ones((3, 4, 1), bool)
    episodes = detection_file.DetectionEpisodes(
        kind=kind, seed=3, content="abc", options={"size": 128} if kind == "scenes" else {},
        class_names=("a", "b", "c"), classes=np.array([[0, 1], [2, 0], [1, 2]], np.int32),
        support=sources[:, :4].reshape(3, 2, 2, *sources.shape[2:]),
        support_boxes=boxes[:, :4].reshape(3, 2, 2, 4), query=sources[:, 4:],
        ground_truth=GroundTruth(boxes[:, 4:, None], random.integers(0, 2, (3, 4, 1)), there, ~there),
    )  # fmt: skip
    path = tmp_path / "episodes.json"
    detection_file.write_episodes(path, episodes)

    def read() -> Any:
        read = detection_file.read_episodes(path, content="abc")
        # Arrays of text are compared as lists.
        values = [getattr(read, field.name) for field in fields(read) if field.name != "ground_truth"]
        parts = [np.asarray(part).tolist() for part in read.ground_truth[:4]]
        return json.dumps([v.tolist() if isinstance(v, np.ndarray) else v for v in values] + parts)

    check(path, read, rounds, caplog)


@pytest.mark.parametrize("name", ["enrolled.npz", "config.json"])
def test_saved_model(tmp_path: Path, config: Any, model: Model, name: str, rounds: Any, caplog: Any):
    photographs = np.random.default_rng(0).integers(0, 256, (4, 8, 8), np.uint8)
    saved = tmp_path / "saved"
    Classifier(config, model, unknown=0.5).enroll(photographs, ["a", "b", 3, 4]).save(saved)

    def read() -> Any:
        loaded = Classifier.load(saved)
        arrays = loaded._enrolled.head.arrays()
        return [repr(loaded.classes), loaded.unknown, *arrays.values(), repr(loaded._network.config)]

    check(saved / name, read, rounds, caplog, samples=5)


def test_checkpoints(tmp_path: Path, rounds: Any, caplog: Any, capfd: Any):
    """Any file of a checkpoint; the run goes on from the damaged one's bits, or from the one before it."""

    tx = optax.adam(1e-3)

    def state(step: int) -> TrainState:
        kernel = jnp.arange(12.0).reshape(3, 4) + step
        made = TrainState.create(
            apply_fn=None,
            params={"dense": {"kernel": kernel, "bias": jnp.full(4, step / 3)}},
            tx=tx,
            batch_stats={"mean": jnp.ones(3) * step},
            ema_params=None,
            key=jax.random.key(step),
        )
        return made.replace(step=jnp.asarray(step, jnp.int32))

    def values(of: TrainState) -> Any:
        return jax.device_get(of.replace(key=jax.random.key_data(of.key)))

    def figures(folder: Path) -> tuple[int, float | None]:
        checkpoints = Checkpoints(folder)
        best = checkpoints.restore_best(state(0))
        return best.step, checkpoints.selections()[best.step]

    whole = tmp_path / "whole"
    checkpoints = Checkpoints(whole)
    for step, selection in ((1, 0.5), (2, 0.75)):
        checkpoints.save(state(step), selection)
    checkpoints.close()
    files = sorted(path.relative_to(whole) for path in (whole / "checkpoints/2").rglob("*") if path.is_file())
    told = 0
    for seed in rounds(6):
        random = np.random.default_rng(seed)
        folder = tmp_path / str(seed)
        shutil.copytree(whole, folder)
        path = folder / files[random.integers(len(files))]
        content = path.read_bytes()
        path.write_bytes(damaged(content, random) if content else random.bytes(5))
        caplog.clear()
        best = figures(folder)
        if best != (2, 0.75):
            assert best == (1, 0.5) and "is damaged and skipped" in caplog.text, path
        caplog.clear()
        run = Checkpoints(folder)
        restored = run.restore_last(state(0))
        assert restored is not None
        step = int(restored.step)
        assert step == 2 or "is damaged and skipped" in caplog.text, path
        told += step != 2
        chex.assert_trees_all_equal(values(restored), values(state(step)))
        run.save(state(3), 0.25)
        run.close()
        assert 3 in Checkpoints(folder).selections()
        assert not any(record.exc_info for record in caplog.records), path
        assert "Traceback" not in capfd.readouterr().err, path
        shutil.rmtree(folder)
    print(f"checkpoints: {told} told")
