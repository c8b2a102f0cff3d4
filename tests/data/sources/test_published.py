"""What is said of the published data sets, against TFDS's own builders."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import tensorflow_datasets as tfds

from fsljax.config import modules
from fsljax.data.image_sets import ImageSet

CLASSES = {
    "oxford_flowers102": 102, "oxford_iiit_pet": 37, "stanford_dogs": 120, "mnist": 10, "cifar100": 100,
    "imagenet2012": 1000,
}  # fmt: skip


def source(name: str) -> ModuleType:
    return modules.find("fsljax.data.sources", name, field="data.name", needs=("load",))


def image_set(name: str) -> ImageSet:
    """The facts of the set that a config names."""
    return source(name).IMAGE_SET


def test_there_are_no_others():
    named = [name for name in modules.names("fsljax.data.sources") if hasattr(source(name), "IMAGE_SET")]
    assert set(named) == {*CLASSES, "tiny_imagenet"}


@pytest.mark.parametrize("name", CLASSES)
def test_version_and_features_are_those_of_the_builder(name: str, tmp_path: Path):
    facts = image_set(name)
    builder = tfds.builder(facts.tfds_name, data_dir=tmp_path)
    assert str(builder.version) == facts.version
    assert isinstance(builder.info.features["image"], tfds.features.Image)
    assert builder.info.features["label"].num_classes == CLASSES[name]


@pytest.mark.parametrize("name", ["oxford_flowers102", "tiny_imagenet"])
def test_the_named_splits_are_there(name: str, tfds_data_dir: Path):
    facts = image_set(name)
    builder = tfds.builder_from_directory(tfds_data_dir / facts.tfds_name / facts.version)
    named = {facts.train, facts.validation, facts.test} - {None}
    assert set(builder.info.splits) == named
