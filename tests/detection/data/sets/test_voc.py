"""VOC's folder and TFDS's `voc`, and the real images at hand."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from fsljax.detection.data.set_operations import take_images
from fsljax.detection.data.sets import coco, voc
from fsljax.errors import UserError

from .annotated_folder import MARKED, SPLITS, pixels, write_voc

TFDS_NAMES = ("cat", "dog", "bus")


class TinyVoc(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The features of TFDS's own builder."""

    name = "2007"
    VERSION = tfds.core.Version("5.0.0")

    def _info(self):
        names = tfds.features.ClassLabel(names=TFDS_NAMES)
        objects = {
            "label": names,
            "bbox": tfds.features.BBoxFeature(),
            "pose": tfds.features.ClassLabel(names=["frontal", "unspecified"]),
            "is_truncated": np.bool_,
            "is_difficult": np.bool_,
        }
        features = {
            "image": tfds.features.Image(encoding_format="png"),
            "image/filename": tfds.features.Text(),
            "objects": tfds.features.Sequence(objects),
            "labels": tfds.features.Sequence(names),
            "labels_no_difficult": tfds.features.Sequence(names),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples("train"), "validation": self._generate_examples("val")}

    def _generate_examples(self, split):
        for name in SPLITS[split]:
            height, width = MARKED[name].size
            file = io.BytesIO()
            Image.fromarray(pixels(MARKED[name])).save(file, "PNG")
            kinds = [kind for kind, _, _ in MARKED[name].objects]
            yield (
                name,
                {
                    "image": io.BytesIO(file.getvalue()),
                    "image/filename": f"{name}.jpg",
                    "objects": [
                        {
                            "label": kind,
                            # VOC's own numbers, of which the first pixel's is 1, over the sides.
                            "bbox": tfds.features.BBox(
                                (y + 1) / height, (x + 1) / width, y_end / height, x_end / width
                            ),
                            "pose": "frontal",
                            "is_truncated": False,
                            "is_difficult": difficult,
                        }
                        for kind, (y, x, y_end, x_end), difficult in MARKED[name].objects
                    ],
                    "labels": kinds,
                    "labels_no_difficult": kinds,
                },
            )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_voc(tmp_path_factory.mktemp("devkit") / "VOC2007")


def check(read, split):
    assert sorted(read.ids) == SPLITS[split]
    for row, name in enumerate(read.ids):
        marked = MARKED[name]
        boxes = np.array([box for _, box, _ in marked.objects]).reshape(-1, 4)
        assert tuple(read.sizes[row]) == marked.size
        assert read.boxes[row].shape == boxes.shape and read.boxes[row].dtype == np.float32
        np.testing.assert_allclose(read.boxes[row], boxes, atol=0.01)
        assert [read.class_names[label] for label in read.labels[row]] == [
            kind for kind, _, _ in marked.objects
        ]
        assert read.difficult[row].tolist() == [difficult for _, _, difficult in marked.objects]
        np.testing.assert_array_equal(np.asarray(read.picture(row)), pixels(marked))


@pytest.mark.parametrize("split", SPLITS)
def test_a_folder_is_read_by_its_splits(folder, split):
    read = voc.read_folder(folder, split)
    check(read, split)
    assert read.class_names == voc.CLASSES  # cat, dog and bus are among them
    assert voc.read_folder(folder.parent, split, year=2007).fingerprint() == read.fingerprint()
    assert voc.read_folder(folder, split, limit=1).ids == read.ids[:1]


def test_tfds_is_read_with_boxes_that_begin_at_zero(tmp_path):
    (tmp_path / "voc").mkdir()
    TinyVoc(data_dir=tmp_path / "voc", file_format="array_record").download_and_prepare()
    for split, part in (("train", "train"), ("val", "validation")):
        read = voc.read_tfds(2007, part, data_dir=str(tmp_path))
        check(read, split)
        assert read.class_names == TFDS_NAMES
    read = voc.read_tfds(2007, "train", data_dir=str(tmp_path))
    np.testing.assert_array_equal(take_images(read, [1]).picture(0), pixels(MARKED[read.ids[1]]))
    with pytest.raises(UserError, match="no split 'test'"):
        voc.read_tfds(2007, "test", data_dir=str(tmp_path))
    with pytest.raises(UserError, match="voc/2012"):
        voc.read_tfds(2012, "train", data_dir=str(tmp_path))


def test_other_classes_are_sorted_or_as_given(tmp_path):
    root = write_voc(tmp_path / "own")
    xml = root / "Annotations" / "b1.xml"
    xml.write_text(xml.read_text().replace("bus", "tram"))
    assert voc.read_folder(root, "train").class_names == ("cat", "dog", "tram")
    assert voc.read_folder(root, "val", class_names=["tram", "dog"]).labels[0].tolist() == [1, 0]
    with pytest.raises(
        UserError, match=r"b1\.xml has an object of class 'tram', which is not one of the 2 classes"
    ):
        voc.read_folder(root, "val", class_names=["dog", "cat"])


def test_what_is_missing_is_told(folder, tmp_path):
    with pytest.raises(UserError, match=r"no split 'test', only train, val\."):
        voc.read_folder(folder, "test")
    with pytest.raises(UserError, match="VOC2007: say which year"):
        voc.read_folder(folder.parent, "train", year=2012)
    with pytest.raises(UserError, match="no VOC folder ImageSets/Main"):
        voc.read_folder(tmp_path, "train")
    with pytest.raises(UserError, match="does not exist"):
        voc.read_folder(tmp_path / "nowhere", "train")
    root = write_voc(tmp_path / "own")
    (root / "JPEGImages" / "a2.png").unlink()
    with pytest.raises(UserError, match=r"train\.txt names a2, which is not in"):
        voc.read_folder(root, "train")


@pytest.mark.parametrize(("split", "boxes"), [("train", 929), ("val", 898)])
def test_real_images_are_the_same_in_both_layouts(detection_dir, split, boxes):
    root = detection_dir / "coco128"
    by_json, by_xml = coco.read_folder(root, split), voc.read_folder(root, split)
    assert by_json.ids == by_xml.ids and len(by_json) == 128
    assert sum(map(len, by_json.boxes)) == boxes
    np.testing.assert_array_equal(by_json.sizes, by_xml.sizes)
    for row in range(128):
        np.testing.assert_allclose(
            by_json.boxes[row], by_xml.boxes[row], atol=0.5 + 1e-3
        )  # VOC's are rounded
        names = [[data.class_names[label] for label in data.labels[row]] for data in (by_json, by_xml)]
        assert names[0] == names[1]
    assert by_json.picture(5).size == tuple(by_json.sizes[5][::-1])
