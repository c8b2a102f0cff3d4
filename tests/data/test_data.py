"""What every source of images has in common."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from fsljax import data
from fsljax.config import Experiment, config_dict, read
from fsljax.data.sources import glyphs, omniglot, tiny_imagenet
from fsljax.data.user_images import prepare
from fsljax.errors import UserError

SOURCES = {"glyphs": (glyphs, 1), "omniglot": (omniglot, 1), "tiny_imagenet": (tiny_imagenet, 3)}


def config_of(name: str, channels: int) -> ConfigDict:
    config = config_dict(Experiment())
    config.data.update({"name": name, "channels": channels})
    return config


def load(config: ConfigDict) -> data.Splits:
    return data.load(read(Experiment, config))


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    """Name and channels of a source that has two tiny images."""
    module, channels = SOURCES[request.param]
    images = np.zeros((2, 4, 4, channels), np.uint8)
    part = data.ImageDataset(images, np.arange(2, dtype=np.int32), ("a", "b"))
    monkeypatch.setattr(module, "load", lambda section: data.Splits(part, part, part))
    return request.param, channels


def test_other_channels_than_the_images_have_are_refused(source):
    name, has = source
    asked = 4 - has
    message = (
        f"config.data.channels is {asked}, but the images of {name} have {has}: "
        f"set --config.data.channels={has}."
    )
    with pytest.raises(UserError) as refusal:
        load(config_of(name, asked))
    assert str(refusal.value) == message


def test_the_channels_that_the_images_have_are_accepted(source):
    assert load(config_of(*source)).train.num_classes == 2


def put_images(root: Path, names: str, images: int) -> None:
    for label, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for number in range(images):
            Image.new("RGB", (8, 8), (label, number, 0)).save(root / name / f"{number}.png")


def test_a_folder_of_classes_is_divided_within_each_of_them(tmp_path: Path):
    put_images(tmp_path / "images", "abc", 10)
    config = config_of("folder", 3)
    config.data.update(
        {"path": str(tmp_path / "images"), "split_by": "examples", "fractions": (0.5, 0.2, 0.3)}
    )
    splits = load(config)
    parts = splits.train, splits.validation, splits.test
    for part, count in zip(parts, (5, 2, 3), strict=True):
        assert part.class_names == ("a", "b", "c")
        np.testing.assert_array_equal(part.class_counts(), [count] * 3)
    numbers = [tuple(image[0, 0]) for part in parts for image in part.images]
    assert len(set(numbers)) == 30
    config.data.split_seed = 1
    assert load(config).test.fingerprint() != splits.test.fingerprint()


def test_folders_of_parts_that_share_their_classes_are_taken_as_they_are(tmp_path: Path):
    for part, images in {"train": 4, "val": 1, "test": 2}.items():
        put_images(tmp_path / "images" / part, "ab", images)
    config = config_of("folder", 3)
    config.data.update({"path": str(tmp_path / "images"), "split_by": "examples"})
    splits = load(config)
    for part, images in ((splits.train, 4), (splits.validation, 1), (splits.test, 2)):
        np.testing.assert_array_equal(part.class_counts(), [images] * 2)
    merged = data.merge(splits.train, splits.validation)
    assert merged.class_names == ("a", "b")
    np.testing.assert_array_equal(merged.class_counts(), [5, 5])


def test_classes_of_any_source_can_be_chosen_and_united(tmp_path: Path):
    put_images(tmp_path / "images", "abcdefgh", 5)
    config = config_of("folder", 3)
    config.data.update(
        {"path": str(tmp_path / "images"), "split_by": "examples", "max_classes": 6, "merge": "pairs"}
    )
    splits = load(config)
    for part in (splits.train, splits.validation, splits.test):
        assert part.num_classes == 3
        assert len(part.fine_class_names) == 6
        assert part.fine_class_names == splits.train.fine_class_names
        assert [part.class_names[label] for label in part.labels] == [
            next(pair for pair in part.class_names if part.fine_class_names[fine] in pair.split(" + "))
            for fine in part.fine_labels
        ]


def test_classes_are_not_united_unless_the_config_says_so(tmp_path: Path):
    put_images(tmp_path / "images", "abcdef", 2)
    config = config_of("folder", 3)
    config.data.path = str(tmp_path / "images")
    assert load(config).train.fine_labels is None


def test_real_tiny_imagenet_in_pairs(tfds_data_dir: Path):
    config = config_of("tiny_imagenet", 3)
    config.data.update(
        {
            "data_dir": str(tfds_data_dir), "image_size": 32, "split_by": "examples", "merge": "pairs",
            "host_budget_gb": 0.0,
        }
    )  # fmt: skip
    splits = load(config)
    for part, count in ((splits.train, 504), (splits.validation, 56), (splits.test, 100)):
        np.testing.assert_array_equal(part.class_counts(), [count] * 100)
        assert len(part.fine_class_names) == 200
        np.testing.assert_array_equal(np.bincount(part.fine_labels), [count // 2] * 200)


def test_other_channels_are_those_of_published_sets_too(tfds_data_dir: Path):
    config = config_of("oxford_flowers102", 1)
    config.data.update(
        {"data_dir": str(tfds_data_dir), "image_size": 16, "split_by": "examples", "host_budget_gb": 0.0}
    )
    test = load(config).test
    assert test.images.shape == (4_109, 16, 16, 1)
    assert test.images[5].dtype == np.uint8


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_gives_the_channels_that_are_asked_for(tmp_path: Path, monkeypatch, channels: int):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in "abcdef":
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / name / "1.png")
    config = config_of("folder", channels)
    config.data.path = str(tmp_path / "images")
    assert load(config).train.images.shape[-1] == channels


def test_an_unknown_source_is_named_with_the_nearest():
    message = "config.data.name is 'omniglott', but there is no module fsljax.data.sources.omniglott. "
    with pytest.raises(UserError, match=re.escape(message + "Did you mean omniglot?")):
        load(config_of("omniglott", 1))


def test_a_folder_needs_its_path():
    with pytest.raises(UserError, match=r"config\.data\.path is empty: give the folder of images"):
        load(config_of("folder", 3))


def test_a_source_of_ones_own_is_found_by_its_dotted_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "mine"
    package.mkdir()
    (package / "stripes.py").write_text(
        "import numpy as np\n"
        "from PIL.Image import Resampling\n"
        "from fsljax.data import ImageDataset, Splits\n"
        "from fsljax.data.io.decode import Fitting\n"
        "FITTING = Fitting(Resampling.NEAREST, cut_first=True)\n"
        "def load(data):\n"
        "    images = np.zeros((2, data.image_size, data.image_size, 1), np.uint8)\n"
        "    part = ImageDataset(images, np.arange(2, dtype=np.int32), ('a', 'b'))\n"
        "    return Splits(part, part, part)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = config_of("mine.stripes", 1)
    assert load(config).train.images.shape == (2, 28, 28, 1)
    photograph = Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 56), np.uint8))
    expected = np.asarray(photograph)[None, :, 14:42, None]
    np.testing.assert_array_equal(prepare(photograph, config.data), expected)
