import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from fsljax.data.io import tfds_source
from fsljax.data.io.zip_archives import download_zip
from fsljax.errors import UserError

COUNTS = {"train": 30, "test": 3}


def picture(shade):
    file = io.BytesIO()
    Image.new("RGB", (5, 4), (shade,) * 3).save(file, "PNG")
    return io.BytesIO(file.getvalue())


class Shades(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A data set of the usual kind, small enough to be made in a test."""

    VERSION = tfds.core.Version("1.2.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(4, 5, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["dark", "light"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(count) for split, count in COUNTS.items()}

    def _generate_examples(self, count):
        for i in range(count):
            yield i, {"image": picture(i), "label": i % 2}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    builder = Shades(data_dir=tmp_path_factory.mktemp("tfds"), file_format="array_record")
    builder.download_and_prepare()
    return builder.data_path


@pytest.fixture
def folder(prepared, tmp_path):
    """A copy of the data set that may be damaged."""
    shutil.copytree(prepared, tmp_path / "shades/1.2.0")
    return tmp_path / "shades/1.2.0"


def records_file(folder, split="train"):
    return next(folder.glob(f"shades-{split}.*"))


def test_folder_given_then_environment_then_default(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "environment"))
    (tmp_path / "given").mkdir()
    assert tfds_source.data_folder(str(tmp_path / "given")) == tmp_path / "given"
    assert tfds_source.data_folder("~/given") == tmp_path / "given"
    assert tfds_source.data_folder() == tmp_path / "environment"
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert tfds_source.data_folder() == tmp_path / "tensorflow_datasets"


def test_without_a_home_folder_another_is_asked_for(monkeypatch):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setattr(Path, "expanduser", lambda _: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.raises(
        UserError, match=r"home folder in ~/tensorflow_datasets is unknown: give .*TFDS_DATA_DIR"
    ):
        tfds_source.find("shades")
    with pytest.raises(UserError, match="home folder in ~nobody/data is unknown"):
        tfds_source.find("shades", data_dir="~nobody/data")


def test_given_folder_must_exist(tmp_path):
    with pytest.raises(UserError, match=r"nowhere does not exist .*data_dir"):
        tfds_source.find("shades", data_dir=str(tmp_path / "nowhere"))


def test_find(folder, tmp_path, monkeypatch):
    assert tfds_source.find("shades", "1.2.0", str(tmp_path)) == folder
    assert tfds_source.find("shades", "1.3.0", str(tmp_path)) is None
    assert tfds_source.find("colours", data_dir=str(tmp_path)) is None
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert tfds_source.find("shades") == folder


def test_newest_version_is_found_by_number(folder):
    newer = folder.with_name("1.10.0")
    shutil.copytree(folder, newer)
    folder.with_name("1.11.0").mkdir()  # holds no data set
    assert tfds_source.find("shades", data_dir=str(folder.parents[1])) == newer


def test_other_file_format_is_named(folder):
    description = folder / "dataset_info.json"
    description.write_text(description.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(UserError, match=r"shades/1\.2\.0 holds shades in tfrecord format"):
        tfds_source.find("shades", data_dir=str(folder.parents[1]))


def test_damaged_description_is_named(folder):
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(UserError, match=r"dataset_info\.json is not valid JSON: .*copy the data set again"):
        tfds_source.find("shades", data_dir=str(folder.parents[1]))
    with pytest.raises(UserError, match=r"dataset_info\.json is not valid JSON"):
        tfds_source.dataset_info(folder)


def test_examples_are_those_that_tfds_reads(folder):
    info = tfds_source.dataset_info(folder)
    assert info.features["label"].names == ["dark", "light"]
    for split, count in COUNTS.items():
        ours = list(tfds_source.data_source(folder, split))
        theirs = tfds.builder_from_directory(folder).as_data_source(split=split)
        assert len(ours) == len(theirs) == count
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(Image.open(io.BytesIO(mine["image"])), other["image"])
            assert mine["label"] == other["label"] == other["image"][0, 0, 0] % 2


def test_images_are_decoded_on_demand(folder):
    shades = {example["image"][0, 0, 0] for example in tfds_source.data_source(folder, "test", encoded=())}
    assert shades == {0, 1, 2}


def test_unknown_split(folder):
    with pytest.raises(UserError, match=r"no split 'validation', only (test, train|train, test)"):
        next(tfds_source.data_source(folder, "validation"))


@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "flipped"])
def test_damaged_records_are_named(folder, damage):
    path = records_file(folder)
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        for position in range(40, len(content), 500):
            content[position] ^= 0xFF
        path.write_bytes(content)
    else:
        path.write_bytes(content[: len(content) // 2 if damage == "cut" else 0])
    with pytest.raises(UserError, match=f"data file {path} is missing, damaged or cut short"):
        list(tfds_source.data_source(folder, "train"))


def test_fewer_records_than_described_is_an_error(folder):
    path = folder / "dataset_info.json"
    description = json.loads(path.read_text())
    for split in description["splits"]:
        split["shardLengths"] = ["31" if split["name"] == "train" else "3"]
    path.write_text(json.dumps(description))
    with pytest.raises(UserError, match="30 records instead of 31"):
        list(tfds_source.data_source(folder, "train"))


def test_a_label_of_no_class_is_an_error(folder):
    (folder / "label.labels.txt").unlink()
    features = folder / "features.json"
    features.write_text(features.read_text().replace('"numClasses": "2"', '"numClasses": "1"'))
    with pytest.raises(UserError, match=r"data file .* is missing, damaged .*label is 1, of 1 classes"):
        list(tfds_source.data_source(folder, "train"))


@pytest.mark.parametrize("stored", [b"", b"no image", b"\x89PNG\r\n\x1a\n" * 9])
def test_an_image_that_is_none_is_named(stored):
    with pytest.raises(UserError, match=r"Image 7 of a set cannot be read: .* Copy the data set again"):
        tfds_source.stored_image(stored, "Image 7 of a set")


def test_content_hash_changes_with_names_and_contents(folder):
    def change_content():
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)

    path = records_file(folder, "test")
    hashes = [tfds_source.content_hash(folder)]
    os.utime(path, (0, 0))
    assert tfds_source.content_hash(folder) == hashes[0]
    for change in (
        change_content,
        lambda: path.rename(path.with_suffix(".x")),
        path.with_suffix(".x").unlink,
    ):
        change()
        hashes.append(tfds_source.content_hash(folder))
    assert len(set(hashes)) == 4


def test_not_found_says_where_was_looked_and_the_ways_out(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    message = str(tfds_source.not_found("shades", "1.2.0", None, ["downloading http://x: refused"]))
    assert len(message.splitlines()) <= 20
    for part in (
        "shades 1.2.0",
        f"{tmp_path}/shades/1.2.0: no such data set there",
        "- downloading http://x: refused",
        "TFDS_DATA_DIR=FOLDER",
        "--config.data.data_dir=FOLDER",
        "python launch.py --config=configs/quickstart.py",
    ):
        assert part in message
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nowhere"))
    assert "nowhere does not exist" in str(tfds_source.not_found("shades", "1.2.0", None))


def test_reason_is_one_short_line(tmp_path):
    with pytest.raises(OSError) as raised:
        download_zip("http://127.0.0.1:9/a.zip", tmp_path / "a.zip")
    assert "refused" in tfds_source.reason(raised.value)
    assert "\n" not in tfds_source.reason(raised.value)
    assert tfds_source.reason(ValueError()) == "ValueError"
    assert tfds_source.reason(ValueError("first\nsecond")) == "first"


def test_needs_no_tensorflow(folder):
    program = (
        "import pathlib, sys\n"
        "from fsljax.data.io import tfds_source\n"
        f"count = len(list(tfds_source.data_source(pathlib.Path({str(folder)!r}), 'train')))\n"
        "print(count, 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "30 False\n"


def test_images_are_told_from_other_features(prepared):
    info = tfds_source.dataset_info(prepared)
    assert tfds_source.image_features(info) == ("image",)


def test_a_record_is_parsed_as_the_data_source_does_it(prepared):
    info = tfds_source.dataset_info(prepared)
    parts = list(tfds_source.data_source(prepared, "test"))
    records = tfds_source._read_records(info.splits["test"].filepaths[0], COUNTS["test"])
    parse, decode = tfds_source.example_parser(info), tfds_source.example_parser(info, encoded=())
    for record, example in zip(records, parts, strict=True):
        assert parse(record) == example
        pixels = np.asarray(Image.open(io.BytesIO(example["image"])))
        np.testing.assert_array_equal(decode(record)["image"], pixels)
