"""What every source of images has in common."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsljax import data
from fsljax.config import shared_config
from fsljax.data import glyphs, omniglot, tiny_imagenet
from fsljax.errors import UserError

SOURCES = {"glyphs": (glyphs, 1), "omniglot": (omniglot, 1), "tiny_imagenet": (tiny_imagenet, 3)}


def config_of(name: str, channels: int):
    config = shared_config()
    config.data.update({"name": name, "channels": channels})
    return config


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    """Name and channels of a source that has two tiny images."""
    module, channels = SOURCES[request.param]
    images = np.zeros((2, 4, 4, channels), np.uint8)
    part = data.ImageDataset(images, np.arange(2, dtype=np.int32), ("a", "b"))
    monkeypatch.setattr(module, "load", lambda **options: data.Splits(part, part, part))
    return request.param, channels


def test_other_channels_than_the_images_have_are_refused(source):
    name, has = source
    asked = 4 - has
    message = (
        f"config.data.channels is {asked}, but the images of {name} have {has}: "
        f"set --config.data.channels={has}."
    )
    with pytest.raises(UserError) as refusal:
        data.load(config_of(name, asked))
    assert str(refusal.value) == message


def test_the_channels_that_the_images_have_are_accepted(source):
    assert data.load(config_of(*source)).train.num_classes == 2


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_gives_the_channels_that_are_asked_for(tmp_path: Path, monkeypatch, channels: int):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in "abcdef":
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / name / "1.png")
    config = config_of("folder", channels)
    config.data.path = str(tmp_path / "images")
    assert data.load(config).train.images.shape[-1] == channels
