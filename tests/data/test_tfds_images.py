"""Published data sets: tiny ones with the features of TFDS's own builders, and the real ones at hand."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from fsljax.config import modules
from fsljax.data import merge, tfds_images
from fsljax.data.dataset import ImageDataset, Splits
from fsljax.data.image_sets import ImageSet
from fsljax.data.io import tfds_source
from fsljax.data.io.encoded_images import EncodedImages
from fsljax.errors import UserError

# Examples of each class; class 0 is in the test part alone, the classes from 4 on nowhere.
TRAIN = [0, 10, 6, 4]
VALIDATION = [0, 2, 2, 1]
TEST = [2, 3, 3, 3]
NAMES = [
    "oxford_flowers102", "oxford_iiit_pet", "stanford_dogs", "mnist", "cifar100", "imagenet2012",
    "tiny_imagenet",
]  # fmt: skip


def image_set(name: str) -> ImageSet:
    return modules.find("fsljax.data.sources", name, field="data.name").IMAGE_SET


Triple = tuple[str, int, int]
"""Split, label and number of an example."""


def features_of(name: str, data_dir: Path) -> tfds.features.FeaturesDict:
    if name == "tiny_imagenet":
        return tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(32, 32, 3), encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(names=[f"n{number:08}" for number in range(200)]),
            }
        )
    features = tfds.builder(image_set(name).tfds_name, data_dir=data_dir).info.features
    if name in ("stanford_dogs", "cifar100"):  # read from their archives
        features["label"].names = [f"class {number}" for number in range(features["label"].num_classes)]
    if name == "cifar100":
        features["coarse_label"].names = [f"coarse {number}" for number in range(20)]
    return features


def colour(triple: Triple, splits: list[str]) -> tuple[int, int, int]:
    split, label, number = triple
    return 80 * splits.index(split), 60 * label, 20 * number


def picture(name: str, colours: tuple[int, int, int]) -> io.BytesIO:
    """An even square in the middle of a wide white image, or of the size that the data set has."""
    if name == "mnist":
        image = Image.new("L", (28, 28), (colours[0] + colours[1] // 4 + colours[2] // 20))
    elif name in ("cifar100", "tiny_imagenet"):
        image = Image.new("RGB", (32, 32), colours)
    else:
        image = Image.new("RGB", (32, 16), "white")
        image.paste(colours, (8, 0, 24, 16))
    file = io.BytesIO()
    image.save(file, "PNG")
    return io.BytesIO(file.getvalue())


def shade(name: str, colours: tuple[int, int, int]) -> np.ndarray:
    return np.array([colours[0] + colours[1] // 4 + colours[2] // 20] if name == "mnist" else colours)


def example(name: str, triple: Triple, splits: list[str]) -> dict[str, Any]:
    split, label, number = triple
    features: dict[str, Any] = {"image": picture(name, colour(triple, splits)), "label": label}
    more = {
        "oxford_flowers102": {"file_name": f"image_{number:05}.jpg"},
        "oxford_iiit_pet": {
            "species": label % 2,
            "file_name": f"{split}_{label}_{number}",
            "segmentation_mask": picture("mnist", (1 + number % 3, 0, 0)),
            "head_bbox": tfds.features.BBox(0.1, 0.2, 0.3, 0.4),
        },
        "stanford_dogs": {
            "image/filename": f"{split}/{label}_{number}.jpg",
            "objects": [{"bbox": tfds.features.BBox(0.0, 0.0, 1.0, 1.0)}] * (1 + number % 2),
        },
        "cifar100": {"id": f"{split}_{label}_{number}", "coarse_label": label % 20},
        "imagenet2012": {"file_name": f"n{label:08}_{number}.JPEG"},
    }
    return features | more.get(name, {})


def splits_of(name: str) -> list[str]:
    facts = image_set(name)
    return [facts.train, *([facts.validation] if facts.validation else []), facts.test]


def counts_of(name: str) -> list[list[int]]:
    return [TRAIN, VALIDATION, TEST] if image_set(name).validation else [TRAIN, TEST]


def triples_of(name: str) -> list[Triple]:
    """All examples of classes that have one for training."""
    return [
        (split, label, number)
        for split, counts in zip(splits_of(name), counts_of(name), strict=True)
        for label in (1, 2, 3)
        for number in range(counts[label])
    ]


def prepare(data_name: str, data_dir: Path, damaged: bool = False) -> None:
    facts, splits = image_set(data_name), splits_of(data_name)

    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(facts.version)
        name = facts.tfds_name

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=features_of(data_name, data_dir))

        def _split_generators(self, dl_manager):
            generated = {
                split: self._generate_examples(split, counts)
                for split, counts in zip(splits, counts_of(data_name), strict=True)
            }
            if data_name == "imagenet2012":
                generated["test"] = self._generate_unlabelled()
            return generated

        def _generate_examples(self, split, counts):
            for label, count in enumerate(counts):
                for number in range(count):
                    made = example(data_name, (split, label, number), splits)
                    if damaged and (split, label, number) == (splits[-1], 2, 1):
                        made["image"] = io.BytesIO(made["image"].getvalue()[:50])
                    yield f"{label}/{number}", made

        def _generate_unlabelled(self):
            made = example(data_name, (splits[0], 1, 0), splits)
            yield "0", made | {"label": -1}

    Tiny(data_dir=data_dir, file_format="array_record").download_and_prepare()


@pytest.fixture(scope="module", params=NAMES)
def prepared(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The name of a data set, and a folder in which a tiny one is."""
    data_dir = tmp_path_factory.mktemp(request.param)
    prepare(request.param, data_dir)
    return request.param, str(data_dir)


def load(name: str, data_dir: str, **options: Any) -> Splits:
    return tfds_images.load_splits(
        image_set(name),
        name=name,
        **{"data_dir": data_dir, "image_size": 8, "channels": 1 if name == "mnist" else 3} | options,
    )


def parts_of(splits: Splits) -> tuple[ImageDataset, ImageDataset, ImageDataset]:
    return splits.train, splits.validation, splits.test


def contents(name: str, part: ImageDataset) -> list[Triple]:
    """Which examples a part holds, told by their colours."""
    known = {tuple(shade(name, colour(triple, splits_of(name)))): triple for triple in all_triples(name)}
    images = np.asarray(part.images)
    assert images.dtype == np.uint8
    assert (images == images[:, :1, :1]).all(), "white from beyond the centre square would show"
    return [known[tuple(image[0, 0].tolist())] for image in images]


def all_triples(name: str) -> list[Triple]:
    return triples_of(name) + [(splits_of(name)[-1], 0, number) for number in range(TEST[0])]


def test_official_parts_are_kept_and_share_their_classes(prepared):
    name, data_dir = prepared
    splits = load(name, data_dir)
    train, validation, test = (contents(name, part) for part in parts_of(splits))
    official = splits_of(name)
    assert {split for split, _, _ in test} == {official[-1]}
    assert {split for split, _, _ in train} == {official[0]}
    assert {split for split, _, _ in validation} == {official[1 if len(official) == 3 else 0]}
    assert sorted(train + validation + test) == sorted(triples_of(name)), "each example in one part"
    names = tuple(features_of(name, Path(data_dir))["label"].int2str(label) for label in (1, 2, 3))
    for part, triples in zip(parts_of(splits), (train, validation, test), strict=True):
        assert part.class_names == names
        assert part.labels.dtype == np.int32
        assert [label - 1 for _, label, _ in triples] == part.labels.tolist()


def test_of_parts_that_are_not_official_each_class_gives_its_share(prepared):
    name, data_dir = prepared
    splits, half = load(name, data_dir), load(name, data_dir, validation_fraction=0.5)
    counts = [part.class_counts().tolist() for part in (*parts_of(splits), half.train, half.validation)]
    if image_set(name).validation:
        assert counts == [TRAIN[1:], VALIDATION[1:], TEST[1:], TRAIN[1:], VALIDATION[1:]]
        assert not any("held out" in note for note in splits.notes)
    else:
        assert counts == [[9, 5, 3], [1, 1, 1], TEST[1:], [5, 3, 2], [5, 3, 2]]
        tfds_name = image_set(name).tfds_name
        assert (
            f"{tfds_name} has no validation split: 3 of its 20 training images were held out "
            "for it, chosen with seed 0." in splits.notes
        )


def test_the_seed_decides_what_is_held_out(prepared):
    name, data_dir = prepared
    first, again, other = (load(name, data_dir, seed=seed, validation_fraction=0.5) for seed in (0, 0, 1))
    assert first.validation.fingerprint() == again.validation.fingerprint()
    changed = contents(name, first.validation) != contents(name, other.validation)
    assert changed == (image_set(name).validation is None)
    assert first.test.fingerprint() == other.test.fingerprint()


def test_classes_that_cannot_be_trained_are_named(prepared):
    name, data_dir = prepared
    label = features_of(name, Path(data_dir))["label"]
    notes = load(name, data_dir).notes
    untrained = next(note for note in notes if "without training images" in note)
    assert untrained.endswith(f"with their numbers of images (1): {label.int2str(0)} (2).")
    absent = next(note for note in notes if note.startswith("Classes without images"))
    assert f"({label.num_classes - 4:,}): {label.int2str(4)}, " in absent


def test_sets_that_are_too_large_stay_encoded_and_are_otherwise_the_same(prepared):
    name, data_dir = prepared
    decoded, encoded = load(name, data_dir), load(name, data_dir, host_budget_gb=0.0)
    for one, other in zip(parts_of(decoded), parts_of(encoded), strict=True):
        assert isinstance(other.images, EncodedImages)
        assert other.fingerprint() == one.fingerprint()
        assert other.images.shape == one.images.shape
        np.testing.assert_array_equal(other.images[:], one.images)
        np.testing.assert_array_equal(other.labels, one.labels)
        assert other.class_names == one.class_names
    merged = merge(encoded.train, encoded.validation)
    assert isinstance(merged.images, EncodedImages)
    np.testing.assert_array_equal(merged.images[:], merge(decoded.train, decoded.validation).images)
    prints = {part.fingerprint() for part in (*parts_of(encoded), merged)}
    assert len(prints) == 4
    assert merged.fingerprint() == merge(decoded.train, decoded.validation).fingerprint()
    assert encoded.train.fingerprint() == load(name, data_dir, host_budget_gb=0.0).train.fingerprint()


def test_for_few_shot_learning_classes_are_divided_and_their_images_pooled(prepared):
    name, data_dir = prepared
    options = {"shared_classes": False, "fractions": (0.5, 0.25, 0.25)}
    splits = load(name, data_dir, **options)
    assert [part.num_classes for part in parts_of(splits)] == [2, 1, 1]
    names = [each for part in parts_of(splits) for each in part.class_names]
    assert len(set(names)) == 4
    triples = [triple for part in parts_of(splits) for triple in contents(name, part)]
    assert sorted(triples) == sorted(all_triples(name))
    others = [load(name, data_dir, **options, seed=seed).test.class_names for seed in range(6)]
    assert len(set(others)) > 1


def test_channels_are_those_that_are_asked_for(prepared):
    name, data_dir = prepared
    grey, rgb = load(name, data_dir, channels=1).test.images, load(name, data_dir, channels=3).test.images
    assert (grey.shape[-1], rgb.shape[-1]) == (1, 3)
    expected = [np.asarray(Image.fromarray(image).convert("L")) for image in rgb]
    np.testing.assert_array_equal(grey[..., 0], expected)


def test_a_damaged_image_is_named(tmp_path: Path):
    prepare("oxford_flowers102", tmp_path, damaged=True)
    with pytest.raises(UserError, match=r"image \d+ of .*2\.1\.1: copy the data set again"):
        load("oxford_flowers102", str(tmp_path))
    encoded = load("oxford_flowers102", str(tmp_path), host_budget_gb=0.0)
    with pytest.raises(UserError, match=r"^Image \d+ of .*-test\.array_record\S+ cannot be read"):
        encoded.test.images[:]


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_data_set_is_named_with_two_ways_out(name: str, tmp_path: Path):
    facts = image_set(name)
    with pytest.raises(UserError) as raised:
        load(name, str(tmp_path))
    message = str(raised.value)
    assert f"The data set {facts.tfds_name} {facts.version} (TFDS, array_record format) is missing" in message
    assert raised.value.exit_status == 2


def test_the_cache_tells_other_files_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    prepare("mnist", tmp_path)
    folder = tmp_path / "mnist" / "3.0.1"
    features = folder / "features.json"
    by_content = tfds_images._content(folder)
    os.utime(features, ns=(1, 1))
    assert tfds_images._content(folder) == by_content
    features.write_text(features.read_text() + "\n")
    assert tfds_images._content(folder) != by_content
    monkeypatch.setattr(tfds_images, "_HASHED_BYTES", 0)  # as if it were hundreds of gigabytes
    by_state = tfds_images._content(folder)
    assert tfds_images._content(folder) == by_state
    os.utime(features, ns=(1, 1))
    assert tfds_images._content(folder) != by_state


def test_sets_of_equal_names_sizes_and_times_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tfds_images, "_HASHED_BYTES", 0)  # as if it were hundreds of gigabytes
    prepare("mnist", tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "other")  # times with it
    one, other = (load("mnist", str(tmp_path / name)).train for name in ("one", "other"))
    assert one.fingerprint() == other.fingerprint()  # a run may go on with a copy
    assert one.cache_key() != other.cache_key()
    assert one.cache_key() == load("mnist", str(tmp_path / "one")).train.cache_key()
    (tmp_path / "one" / "mnist" / "3.0.1" / "features.json").chmod(0o600)
    assert one.cache_key() != load("mnist", str(tmp_path / "one")).train.cache_key()


@pytest.fixture(scope="module")
def flowers(tfds_data_dir: Path) -> Splits:
    return tfds_images.load_splits(image_set("oxford_flowers102"), data_dir=str(tfds_data_dir), image_size=64)


def test_real_flowers_are_the_89_classes_at_hand(flowers: Splits):
    assert [len(part) for part in parts_of(flowers)] == [728, 706, 4109]
    for part in parts_of(flowers):
        assert part.num_classes == 89
        assert part.class_names == flowers.train.class_names
        assert part.class_counts().min() > 0
    assert (flowers.train.class_counts().min(), flowers.train.class_counts().max()) == (5, 10)
    both = merge(flowers.train, flowers.validation)
    assert (both.class_counts().min(), both.class_counts().max()) == (13, 20)
    assert any("(1): pink primrose (1)." in note for note in flowers.notes)


def test_real_flowers_are_centre_squares_resized_by_a_bilinear_filter(tfds_data_dir: Path):
    splits = tfds_images.load_splits(
        image_set("oxford_flowers102"), data_dir=str(tfds_data_dir), host_budget_gb=0.1
    )
    records = np.concatenate([part.images.records for part in parts_of(splits)])
    assert len(records) == len(np.unique(records)) == 5_543
    folder = tfds_source.find("oxford_flowers102", "2.1.1", str(tfds_data_dir))
    stored = list(tfds_source.data_source(folder, "validation"))
    for row in (0, 100, 705):
        image = Image.open(io.BytesIO(stored[row]["image"])).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, top, left + side, top + side))
        expected = np.asarray(square.resize((224, 224), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(splits.validation.images[row], expected)


def test_real_tiny_imagenet_is_divided_within_its_classes(tfds_data_dir: Path):
    splits = tfds_images.load_splits(
        image_set("tiny_imagenet"), data_dir=str(tfds_data_dir), image_size=32, host_budget_gb=0.0
    )
    assert [len(part) for part in parts_of(splits)] == [50_400, 5_600, 10_000]
    for part, count in zip(parts_of(splits), (252, 28, 50), strict=True):
        assert part.class_names == splits.train.class_names
        assert set(part.class_counts()) == {count}
    records = np.concatenate([part.images.records for part in parts_of(splits)])
    np.testing.assert_array_equal(np.sort(records), np.arange(66_000))
