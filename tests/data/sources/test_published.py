"""What is said of the published data sets, against TFDS's own builders."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from fsljax.config import DATA_SETS
from fsljax.data.image_sets import IMAGE_SETS

IN_TFDS = [name for name in IMAGE_SETS if name != "tiny_imagenet"]
CLASSES = {
    "oxford_flowers102": 102, "oxford_iiit_pet": 37, "stanford_dogs": 120, "mnist": 10, "cifar100": 100,
    "imagenet2012": 1000,
}  # fmt: skip


def test_configs_can_name_each_of_them():
    assert set(IMAGE_SETS) <= set(DATA_SETS)


@pytest.mark.parametrize("name", IN_TFDS)
def test_version_and_features_are_those_of_the_builder(name: str, tmp_path: Path):
    facts = IMAGE_SETS[name]
    builder = tfds.builder(facts.tfds_name, data_dir=tmp_path)
    assert str(builder.version) == facts.version
    assert isinstance(builder.info.features["image"], tfds.features.Image)
    assert builder.info.features["label"].num_classes == CLASSES[name]


@pytest.mark.parametrize("name", ["oxford_flowers102", "tiny_imagenet"])
def test_the_named_splits_are_there(name: str, tfds_data_dir: Path):
    facts = IMAGE_SETS[name]
    builder = tfds.builder_from_directory(tfds_data_dir / facts.tfds_name / facts.version)
    named = {facts.train, facts.validation, facts.test} - {None}
    assert set(builder.info.splits) == named
