"""Episodes that devices share are judged as by one."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from fsljax.classification.heads.episodes import RULES
from fsljax.classification.representatives import SupportRule
from fsljax.data.samplers.episodes import Episodes
from fsljax.evaluation.episodic import episode_accuracies
from fsljax.evaluation.transductive import transductive_accuracies
from fsljax.parallel.devices import Devices

GENERATOR = np.random.default_rng(0)
EMBEDDINGS = (GENERATOR.normal(size=(20, 1, 16)) + 1.5 * GENERATOR.normal(size=(20, 12, 16))).astype(
    np.float32
)


def episodes_of(count: int, way: int = 5, drawn: int = 6) -> Episodes:
    classes = np.stack([GENERATOR.permutation(20)[:way] for _ in range(count)])
    images = np.stack(
        [[12 * label + GENERATOR.permutation(12)[:drawn] for label in of_one] for of_one in classes]
    )
    return Episodes(classes, images)


RULE = SupportRule(sigma=0.5, representatives=1, fine_tune_steps=3)


@pytest.mark.parametrize(("devices", "count"), [(2, 100), (8, 3), (8, 100)])
@pytest.mark.parametrize("rule", [None, RULES["logistic"], RULE], ids=["prototypes", "logistic", "tuned"])
def test_accuracies(devices, count, rule, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fsljax.evaluation.episodic._FLOATS_A_CHUNK", 5 * 6 * 16 * 10)
    episodes, embeddings = episodes_of(count), EMBEDDINGS.reshape(-1, 16)
    alone = episode_accuracies(embeddings, episodes, shot=2, classify=rule)
    several = Devices(tuple(jax.devices()[:devices]))
    ours = episode_accuracies(embeddings, episodes, shot=2, classify=rule, devices=several)
    np.testing.assert_array_equal(ours, alone)
    assert 0.3 < alone.mean() < 1


def test_by_the_statistics_of_each_episode():
    devices = Devices(tuple(jax.devices()))
    images = np.uint8(np.clip(128 + 30 * EMBEDDINGS.reshape(-1, 4, 4, 1), 0, 255))

    def embed(weight: jax.Array, images: jax.Array) -> jax.Array:
        rows = images.reshape(*images.shape[:2], -1).astype(np.float32) * weight
        return (rows - rows.mean(axis=1, keepdims=True)) / rows.std(axis=1, keepdims=True)

    episodes, weight = episodes_of(90), np.float32(1)
    alone = transductive_accuracies(lambda given: embed(weight, given), images, episodes, shot=1)
    compiled = devices.over_rows(embed)
    ours = transductive_accuracies(
        lambda given: compiled(weight, given), images, episodes, shot=1, devices=devices
    )
    np.testing.assert_array_equal(ours, alone)
