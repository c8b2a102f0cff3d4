"""Features of a frozen network, computed once."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.data.features import fingerprint_of, frozen_features
from fsljax.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (11, 4, 5, 3), dtype=np.uint8)
PROJECTION = np.random.default_rng(1).normal(size=(60, 7)).astype(np.float32)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Embed:
    """A linear embedding that counts the batches it is given."""

    def __init__(self):
        self.batches: list[tuple[int, ...]] = []

    def __call__(self, pixels: jax.Array) -> jax.Array:
        self.batches.append(pixels.shape)
        return pixels.reshape(len(pixels), -1) @ PROJECTION


def expected(images: np.ndarray) -> np.ndarray:
    return (images.astype(np.float64) / 255).reshape(len(images), -1) @ PROJECTION


def noisy(key: jax.Array, pixels: jax.Array) -> jax.Array:
    return pixels + jax.random.uniform(key, pixels.shape)


@pytest.mark.parametrize("batch", [1, 4, 11, 32])
def test_features_are_those_of_the_plain_images_in_batches_of_one_size(batch: int):
    embed = Embed()
    features = frozen_features(embed, IMAGES, fingerprint="a", batch=batch)
    assert features.shape == (11, 1, 7)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features[:, 0], expected(IMAGES), rtol=1e-4, atol=1e-4)
    assert set(embed.batches) == {(batch, 4, 5, 3)}


def test_images_on_disk_give_the_same_features(tmp_path: Path):
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    features = [
        frozen_features(Embed(), images, fingerprint=name) for name, images in (("a", IMAGES), ("b", mapped))
    ]
    np.testing.assert_array_equal(*features)


def test_they_are_computed_once_for_a_fingerprint():
    first, second, third = Embed(), Embed(), Embed()
    features = frozen_features(first, IMAGES, fingerprint="a")
    again = frozen_features(second, IMAGES, fingerprint="a")
    np.testing.assert_array_equal(features, again)
    frozen_features(third, IMAGES, fingerprint="b")
    assert (len(first.batches), len(second.batches), len(third.batches)) == (1, 0, 1)


def test_views_differ_from_each_other_and_are_the_same_for_a_seed():
    def features_of(seed: int, views: int = 3) -> np.ndarray:
        return frozen_features(
            Embed(), IMAGES, fingerprint="a", views=views, augment=noisy, seed=seed, batch=4
        )

    features = features_of(5)
    assert features.shape == (11, 3, 7)
    difference = np.abs(features[:, :, None] - features[:, None]).max(axis=-1)
    assert np.all(difference[:, ~np.eye(3, dtype=bool)] > 1e-3)
    assert np.all(np.abs(features_of(6) - features).max(axis=-1) > 1e-3)
    np.testing.assert_array_equal(features_of(5, views=2), features[:, :2])


def test_a_batch_is_changed_by_the_key_of_its_view_and_place():
    features = frozen_features(Embed(), IMAGES, fingerprint="a", views=2, augment=noisy, seed=5, batch=4)
    for view in range(2):
        for start in (0, 4, 8):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(5), view), start)
            pixels = np.zeros((4, 4, 5, 3), np.float32)
            part = IMAGES[start : start + 4] / np.float32(255)
            pixels[: len(part)] = part
            computed = noisy(key, jnp.asarray(pixels)).reshape(4, -1)[: len(part)] @ PROJECTION
            np.testing.assert_allclose(features[start : start + 4, view], computed, rtol=1e-4, atol=1e-4)


def test_how_far_it_is_is_told(capsys: pytest.CaptureFixture[str]):
    frozen_features(Embed(), IMAGES, fingerprint="a", batch=4)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("features of 11/11 images  ")
    assert last.endswith(" images/s  0:00:00 left")


def test_what_cannot_be_computed_is_told_in_a_sentence():
    with pytest.raises(UserError, match="There are no images"):
        frozen_features(Embed(), IMAGES[:0], fingerprint="a")
    with pytest.raises(UserError, match=r"views is 2; .* more than 1 requires augmentation"):
        frozen_features(Embed(), IMAGES, fingerprint="a", views=2)
    with pytest.raises(UserError, match="views is 0"):
        frozen_features(Embed(), IMAGES, fingerprint="a", views=0, augment=noisy)


def test_a_fingerprint_is_of_all_its_parts():
    assert fingerprint_of("a", 1) == fingerprint_of("a", 1)
    assert (
        len({fingerprint_of("a", 1), fingerprint_of("a", 2), fingerprint_of("a", "1"), fingerprint_of("a1")})
        == 4
    )
