"""Damage to every file of a cache entry: it is made anew with one warning, and the next run finds it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.data.features import frozen_features
from fsljax.data.io.cache import cached_arrays

from .conftest import Rounds

pytestmark = pytest.mark.campaign

SAMPLE = 60
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)
NAMES = np.array([f"class {label}" for label in range(5)])


class Images:
    """Decoded images with their labels and names, as the sources keep them."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> dict[str, np.ndarray]:
        return cached_arrays("images", "1" * 64, self._make)

    def _make(self) -> dict[str, np.ndarray]:
        self.made += 1
        return {"images": IMAGES, "labels": np.arange(40, dtype=np.int32) % 5, "names": NAMES}


class Features:
    """Features of a frozen network."""

    def __init__(self) -> None:
        self._batches = 0

    @property
    def made(self) -> int:
        return self._batches // 2

    def __call__(self) -> dict[str, np.ndarray]:
        return {"features": frozen_features(self._embed, IMAGES, fingerprint="2" * 64, batch=20)}

    def _embed(self, images: jnp.ndarray) -> jnp.ndarray:
        self._batches += 1
        return images.mean((1, 2))


def flip(file: Path, draw: np.random.Generator) -> None:
    content = bytearray(file.read_bytes())
    content[draw.integers(len(content))] ^= 1 << draw.integers(8)
    file.write_bytes(content)


def flip_in_the_header(file: Path, draw: np.random.Generator) -> None:
    content = bytearray(file.read_bytes())
    content[draw.integers(min(len(content), 128))] = draw.integers(256)
    file.write_bytes(content)


def overwrite(file: Path, draw: np.random.Generator) -> None:
    content = bytearray(file.read_bytes())
    start = draw.integers(len(content))
    block = draw.bytes(draw.integers(1, 600)) if draw.random() < 0.5 else bytes(512)
    content[start : start + len(block)] = block
    file.write_bytes(content)


def cut(file: Path, draw: np.random.Generator) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: draw.integers(len(content))])


def append(file: Path, draw: np.random.Generator) -> None:
    file.write_bytes(file.read_bytes() + draw.bytes(draw.integers(1, 100)))


def exchange(file: Path, draw: np.random.Generator) -> None:
    """Two files of the entry in each other's place."""
    others = sorted(set(file.parent.iterdir()) - {file})
    other = others[draw.integers(len(others))]
    file.rename(file.with_name("a"))
    other.rename(file)
    file.with_name("a").rename(other)


def remove(file: Path, draw: np.random.Generator) -> None:
    file.unlink() if draw.random() < 0.5 else shutil.rmtree(file.parent)


def replace(file: Path, draw: np.random.Generator) -> None:
    file.unlink()
    kind = draw.integers(3)
    if kind == 0:
        file.mkdir(mode=0 if draw.random() < 0.5 else 0o700)
    elif kind == 1:
        file.symlink_to(file.parent / "nowhere")
    else:
        (file.parent / "more").write_bytes(b"more")


DAMAGES: list[Callable[[Path, np.random.Generator], None]]
DAMAGES = [flip, flip, flip, flip_in_the_header, overwrite, cut, append, exchange, remove, replace]


@pytest.mark.parametrize("kind", [Images, Features])
def test_damage_is_never_used_and_never_stays(
    kind: type[Images | Features],
    rounds: Rounds,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    read = kind()
    whole = {name: np.array(array) for name, array in read().items()}
    folder = tmp_path / "fsljax"
    for seed in rounds(SAMPLE):
        draw = np.random.default_rng(seed)
        (entry,) = folder.iterdir()
        before = {path.name: path.read_bytes() for path in entry.iterdir()}
        files = sorted(entry.iterdir())
        damage = DAMAGES[draw.integers(len(DAMAGES))]
        damage(files[draw.integers(len(files))], draw)
        caplog.clear()
        made = read.made
        for arrays in (read(), read()):
            assert arrays.keys() == whole.keys()
            for name, array in arrays.items():
                assert array.dtype == whole[name].dtype, (damage.__name__, name)
                np.testing.assert_array_equal(array, whole[name], damage.__name__)
        assert read.made - made <= 1, damage.__name__
        assert len(caplog.records) <= read.made - made, damage.__name__
        if read.made == made:  # the damage changed nothing: a byte by itself, or between the values of JSON
            entry_after = {path.name: path.read_bytes() for path in entry.iterdir()}
            assert all(entry_after[name] == before[name] for name in before if name.endswith(".npy"))
