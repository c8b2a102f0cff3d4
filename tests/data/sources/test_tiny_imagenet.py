import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from fsljax.data.io import tfds_source
from fsljax.data.sources import tiny_imagenet
from fsljax.errors import UserError


def all_parts(splits):
    return splits.train, splits.validation, splits.test


@pytest.fixture(scope="module")
def splits(tfds_data_dir):
    return tiny_imagenet.load_splits(data_dir=str(tfds_data_dir))


def test_classes_are_divided_128_32_40(splits):
    assert [part.num_classes for part in all_parts(splits)] == [128, 32, 40]
    names = [name for part in all_parts(splits) for name in part.class_names]
    assert len(set(names)) == 200
    assert all(name[0] == "n" and name[1:].isdigit() for name in names)


def test_all_images_of_a_class_are_pooled(splits, tfds_data_dir):
    folder = tfds_source.find("tiny_imagenet_32", "1.0.0", str(tfds_data_dir))
    stored = sum(split.num_examples for split in tfds_source.dataset_info(folder).splits.values())
    assert sum(map(len, all_parts(splits))) == stored
    for part in all_parts(splits):
        assert part.images.dtype == np.uint8
        assert part.images.shape == (len(part), 32, 32, 3)
        assert part.labels.dtype == np.int32
        assert set(part.class_counts()) == {stored // 200}
        assert (np.diff(part.labels) >= 0).all()


def test_images_are_those_of_their_class(splits, tfds_data_dir):
    folder = tfds_source.find("tiny_imagenet_32", "1.0.0", str(tfds_data_dir))
    names = tfds_source.dataset_info(folder).features["label"].names
    of_class = {
        name: {image.tobytes() for image in part.images[part.labels == label]}
        for part in all_parts(splits)
        for label, name in enumerate(part.class_names)
    }
    for example in list(tfds_source.data_source(folder, "validation"))[::500]:
        decoded = np.asarray(Image.open(io.BytesIO(example["image"])).convert("RGB"))
        assert decoded.tobytes() in of_class[names[example["label"]]]


def test_seed_decides_the_division(splits, tfds_data_dir):
    again = tiny_imagenet.load_splits(data_dir=str(tfds_data_dir))
    other = tiny_imagenet.load_splits(data_dir=str(tfds_data_dir), seed=1)
    assert again.test.class_names == splits.test.class_names
    assert other.test.class_names != splits.test.class_names
    assert again.test.fingerprint() == splits.test.fingerprint()


def prepare(data_dir, num_classes):
    """A data set of the same layout with two tiny images a class, white in class 0 and black in others."""

    class TinyImagenet32(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        name = "tiny_imagenet_32"

        def _info(self):
            # Names in descending order, so that label and position among sorted names differ.
            names = [f"n{1000 - label}" for label in range(num_classes)]
            features = {
                "image": tfds.features.Image(shape=(32, 32, 3), encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(names=names),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(), "validation": self._generate_examples()}

        def _generate_examples(self):
            for label in range(num_classes):
                file = io.BytesIO()
                Image.new("RGB", (32, 32), "white" if label == 0 else "black").save(file, "JPEG")
                yield label, {"image": io.BytesIO(file.getvalue()), "label": label}

    TinyImagenet32(data_dir=data_dir, file_format="array_record").download_and_prepare()


def test_other_sizes_and_sets_of_the_same_layout(tmp_path):
    prepare(tmp_path, 200)
    splits = tiny_imagenet.load_splits(data_dir=str(tmp_path), image_size=20)
    for part in all_parts(splits):
        assert part.images.shape == (2 * part.num_classes, 20, 20, 3)
        for image, label in zip(part.images, part.labels, strict=True):
            assert (image == (255 if part.class_names[label] == "n1000" else 0)).all()


def test_missing_classes_are_counted(tmp_path):
    prepare(tmp_path, 7)
    with pytest.raises(UserError, match="images of 7 classes instead of Tiny ImageNet's 200"):
        tiny_imagenet.load_splits(data_dir=str(tmp_path))


def test_missing_data_set(tmp_path):
    with pytest.raises(UserError, match=r"tiny_imagenet_32 1\.0\.0 .*is missing"):
        tiny_imagenet.load_splits(data_dir=str(tmp_path))
