"""Descriptions of data sets: damage has a sentence, and nothing is imported but TFDS's own features."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from fsljax.data.io.tfds_description import check_features, dataset_info, file_format
from fsljax.errors import UserError


class Numbers(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Two labelled numbers."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"label": tfds.features.ClassLabel(names=["odd", "even"]), "number": np.int64}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, _: object) -> dict[str, Any]:
        return {"train": ((n, {"label": 1 - n % 2, "number": n}) for n in range(2))}

    def _generate_examples(self) -> None:
        """Unused: the splits are given as they are."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("tfds")
    Numbers(data_dir=home, file_format="array_record").download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
    return home / "numbers" / "1.0.0"


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    return shutil.copytree(prepared, tmp_path / "numbers" / "1.0.0")


def change(path: Path, **fields: object) -> None:
    """Sets fields of a JSON file; `a__b` is field b in a, None removes it."""
    content = json.loads(path.read_text())
    for name, value in fields.items():
        at = content
        *outer, last = name.split("__")
        for part in outer:
            at = at[int(part) if part.isdigit() else part]
        if value is None:
            del at[last]
        else:
            at[last] = value
    path.write_text(json.dumps(content))


def test_a_whole_one_is_read(folder: Path):
    info = dataset_info(folder)
    assert info.features["label"].names == ["odd", "even"]
    assert info.splits["train"].shard_lengths == [2]
    assert file_format(folder) == "array_record"
    check_features(folder, info, {"label": tfds.features.ClassLabel})


def test_no_module_is_imported_that_a_description_names(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "harm_of_features.py").write_text("raise SystemExit('harmed')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("harm_of_features.Tensor", "tensorflow_datasets.core.features.a.harm_of_features/..", "os"):
        change(folder / "features.json", featuresDict__features__number__pythonClassName=name)
        with pytest.raises(UserError, match="not a TFDS feature, and nothing else is imported"):
            dataset_info(folder)
    (folder / "features.json").write_text(json.dumps({"type": "harm_of_features.Tensor", "content": {}}))
    with pytest.raises(UserError, match="nothing else is imported"):
        dataset_info(folder)
    assert "harm_of_features" not in sys.modules


@pytest.mark.parametrize(
    "file, fields",
    [
        ("dataset_info.json", {"splits__0__shardLengths": None}),
        ("dataset_info.json", {"splits__0__shardLengths": ["-2"]}),
        ("dataset_info.json", {"splits__0__shardLengths": "2"}),
        ("dataset_info.json", {"splits__0__shardLengths": ["two"]}),
        ("dataset_info.json", {"splits__0__filepathTemplate": "{DATASET}-{SPLIT}.{SH@RD_X_OF_Y}"}),
        ("dataset_info.json", {"splits__0__filepathTemplate": "../{DATASET}-{SPLIT}-{SHARD_X_OF_Y}"}),
        ("dataset_info.json", {"splits__0__filepathTemplate": "/etc/{SHARD_X_OF_Y}"}),
        ("dataset_info.json", {"splits": 7}),
        ("dataset_info.json", {"name": ["numbers"]}),
        ("dataset_info.json", {"version": None}),
        ("dataset_info.json", {"version": "first"}),
        ("dataset_info.json", {"unknown": 1}),
        ("features.json", {"featuresDict": None}),
        ("features.json", {"featuresDict__features": {}}),
        ("features.json", {"pythonClassName": 7}),
        ("features.json", {"pythonClassName": None}),
        ("features.json", {"featuresDict__features__label__classLabel__numClasses": "3"}),
        ("features.json", {"featuresDict__features__label__classLabel__numClasses": "1000000000000"}),
        ("features.json", {"featuresDict__features__number__tensor__dtype": "int65"}),
    ],
)
def test_what_means_nothing_has_a_sentence_or_changes_nothing(
    folder: Path, file: str, fields: dict[str, Any]
):
    change(folder / file, **fields)
    try:
        info = dataset_info(folder)
        check_features(folder, info, {"label": tfds.features.ClassLabel})
    except UserError as error:
        assert str(folder) in str(error) and "opy " in str(error)
    else:
        assert info.features["label"].names == ["odd", "even"] and info.splits["train"].num_examples == 2


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize(
    "content", [b"", b"7", b"[]", b"null", b"\xff\xfe", b'{"a":' * 200_000, b"{" * 100_000]
)
def test_a_file_of_something_else_has_a_sentence(folder: Path, file: str, content: bytes):
    (folder / file).write_bytes(content)
    with pytest.raises(UserError, match=f"{file} .*opy the data set again"):
        dataset_info(folder)


def test_a_missing_file_is_named(folder: Path):
    (folder / "features.json").unlink()
    with pytest.raises(UserError, match=r"features\.json cannot be read: No such file"):
        dataset_info(folder)


def test_the_number_of_classes_is_bounded(folder: Path):
    (folder / "label.labels.txt").unlink()
    change(folder / "features.json", featuresDict__features__label__classLabel__numClasses="1000000000000")
    with pytest.raises(UserError, match="a label has 1000000000000 classes"):
        dataset_info(folder)


@pytest.mark.parametrize("names", ["odd\n", "odd\nodd\n", "odd\n\x01ven\n", "odd\n \n", "odd\neven\nmore\n"])
def test_names_that_are_none_are_told(folder: Path, names: str):
    (folder / "label.labels.txt").write_text(names)
    with pytest.raises(UserError, match="cannot be read"):
        dataset_info(folder)


def test_a_feature_that_is_not_there_is_named(folder: Path):
    with pytest.raises(UserError, match=r"describes no Image 'image', but label, number"):
        check_features(folder, dataset_info(folder), {"image": tfds.features.Image})
    with pytest.raises(UserError, match="describes no ClassLabel 'number'"):
        check_features(folder, dataset_info(folder), {"number": tfds.features.ClassLabel})
