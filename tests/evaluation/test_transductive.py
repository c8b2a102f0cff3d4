"""Transductive accuracy; `tests/methods/test_protonet.py` compares it with a plain loop over episodes."""

from __future__ import annotations

import numpy as np
import pytest

from fsljax.data.samplers.episodes import Episodes
from fsljax.evaluation import transductive
from fsljax.evaluation.transductive import transductive_accuracies


def whitened(images: np.ndarray) -> np.ndarray:
    """Pixels normalised by the statistics of the episode, as an embedding."""
    pixels = images.reshape(*images.shape[:2], -1).astype(np.float32)
    return (pixels - pixels.mean(axis=1, keepdims=True)) / pixels.std(axis=1, keepdims=True)


@pytest.fixture
def images() -> np.ndarray:
    """Four images of each of five classes, whose second pixel is noise a hundred times as strong."""
    generator = np.random.default_rng(0)
    tell = np.repeat(np.arange(5), 4) * 2 + generator.integers(0, 2, 20)
    noise = generator.integers(0, 256, 20)
    return np.stack([tell, noise], axis=1).astype(np.uint8).reshape(20, 1, 2, 1)


def draw(count: int) -> Episodes:
    generator = np.random.default_rng(1)
    classes = np.stack([generator.permutation(5)[:3] for _ in range(count)])
    rows = [[4 * c + generator.permutation(4)[:3] for c in episode] for episode in classes]
    return Episodes(classes, np.array(rows))


@pytest.mark.parametrize("images_a_chunk", [1, 9, 30, 1000])
def test_episodes_are_embedded_by_themselves_whatever_the_chunk(
    images: np.ndarray, images_a_chunk: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(transductive, "_IMAGES_A_CHUNK", images_a_chunk)
    episodes = draw(7)
    wanted = []
    for rows in episodes.images:
        embedded = whitened(images[rows.reshape(1, -1)]).reshape(3, 3, -1).astype(np.float64)
        prototypes, queries = embedded[:, :1].mean(axis=1), embedded[:, 1:]
        distances = ((queries[:, :, None] - prototypes) ** 2).sum(-1)
        wanted.append((distances.argmin(-1) == np.arange(3)[:, None]).mean())
    found = transductive_accuracies(whitened, images, episodes, shot=1)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert 0.4 < np.mean(found) < 1
