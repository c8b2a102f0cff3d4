"""Images that a folder holds more than once, and names in two forms."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsljax.data.folders.layouts import list_images
from fsljax.data.folders.repeats import first_equals
from fsljax.data.sources.folder import load_splits
from fsljax.errors import UserError


def put(root: Path, *files: str) -> None:
    for number, file in enumerate(files):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (5, 5, 3), np.uint8)
        Image.fromarray(pixels).save(path, "PNG")


def listed(root: Path, shared_classes: bool = False):
    notes: list[str] = []
    return list_images(root, shared_classes, notes), notes


def link(root: Path, old: str, new: str) -> None:
    (root / new).parent.mkdir(parents=True, exist_ok=True)
    os.link(root / old, root / new)


def test_hard_links_count_once_where_the_first_is(tmp_path: Path):
    put(tmp_path, "train/a/1.png", "train/a/2.png", "train/b/1.png", "test/c/1.png")
    link(tmp_path, "train/a/1.png", "test/c/2.png")
    link(tmp_path, "train/a/1.png", "train/b/0.png")
    link(tmp_path, "train/a/2.png", "train/a/3.png")
    parts, (note,) = listed(tmp_path)
    assert parts == {
        "train": {"a": ["train/a/1.png", "train/a/2.png"], "b": ["train/b/1.png"]},
        "test": {"c": ["test/c/1.png"]},
    }
    assert "are counted once (3): train/a/3.png, train/b/0.png, test/c/2.png." in note


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_a_link_into_another_part_of_the_same_class_counts_once(tmp_path: Path, kind: str):
    put(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/2.png", "test/b/2.png")
    if kind == "hard":
        link(tmp_path, "train/a/1.png", "test/a/1.png")
    else:
        (tmp_path / "test/a/1.png").symlink_to(tmp_path / "train/a/1.png")
    parts, (note,) = listed(tmp_path, shared_classes=True)
    assert parts["test"]["a"] == ["test/a/2.png"] and parts["train"]["a"] == ["train/a/1.png"]
    assert "are counted once (1): test/a/1.png" in note


def test_a_file_in_two_tables_is_refused(tmp_path: Path):
    (tmp_path / "images").mkdir()
    for name in ("train", "val", "test"):
        rows = f"{name}.png,{name}\n" + ("train.png,train\n" if name == "test" else "")
        (tmp_path / f"{name}.csv").write_text(f"filename,label\n{rows}")
    with pytest.raises(
        UserError, match=r"Line 3 of .+test\.csv lists train\.png, which train\.csv lists too"
    ):
        listed(tmp_path)


def test_a_class_in_two_lists_is_refused_where_parts_share_classes(tmp_path: Path):
    put(tmp_path, "data/a/1.png", "data/b/1.png")
    (tmp_path / "splits/own").mkdir(parents=True)
    for part in ("train", "val", "test"):
        (tmp_path / f"splits/own/{part}.txt").write_text("a\nb\n")
    with pytest.raises(UserError, match=r"data/a/1\.png in both train and validation"):
        listed(tmp_path, shared_classes=True)


def test_a_number_of_two_names_is_refused(tmp_path: Path):
    put(tmp_path, "images/a/1.png")
    (tmp_path / "classes.txt").write_text("1 a\n1 b\n")
    (tmp_path / "images.txt").write_text("1 a/1.png\n")
    with pytest.raises(UserError, match=r"classes\.txt gives the number 1 to a and to b"):
        listed(tmp_path)


def test_names_in_two_unicode_forms_are_one_class(tmp_path: Path):
    composed, decomposed = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
    put(tmp_path, f"{decomposed}/1.png", f"{composed}/2.png", "a/1.png")
    parts, (note,) = listed(tmp_path)
    assert parts["train"] == {"a": ["a/1.png"], composed: [f"{decomposed}/1.png", f"{composed}/2.png"]}
    assert "have two Unicode forms, and are treated as one class (1): é" in note


def test_one_form_alone_stays_as_it_is(tmp_path: Path):
    decomposed = unicodedata.normalize("NFD", "é")
    put(tmp_path, f"{decomposed}/1.png", "f/1.png")
    assert listed(tmp_path) == ({"train": {decomposed: [f"{decomposed}/1.png"], "f": ["f/1.png"]}}, [])


def test_a_class_in_two_parts_in_two_forms_is_found(tmp_path: Path):
    composed, decomposed = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
    put(tmp_path, f"train/{composed}/1.png", "train/a/1.png", f"test/{decomposed}/1.png", "test/b/1.png")
    put(tmp_path, "val/c/1.png", "val/d/1.png")
    with pytest.raises(UserError, match="in both train and test: é"):
        load_splits(tmp_path, image_size=4)


def test_lists_of_classes_are_read_in_either_form(tmp_path: Path):
    composed, decomposed = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
    put(tmp_path, f"data/{decomposed}/1.png", "data/b/1.png", "data/c/1.png")
    (tmp_path / "splits/own").mkdir(parents=True)
    for part, name in (("train", composed), ("val", "b"), ("test", "c")):
        (tmp_path / f"splits/own/{part}.txt").write_text(name)
    assert listed(tmp_path)[0]["train"] == {decomposed: [f"data/{decomposed}/1.png"]}


def test_equal_files_are_found_among_files_of_one_size(tmp_path: Path):
    contents = [b"x" * 9000, b"y" + b"x" * 8999, b"x" * 9000, b"x", b"", b"", b"x" * 8999 + b"y", b"x"]
    for number, content in enumerate(contents):
        (tmp_path / str(number)).write_bytes(content)
    found = first_equals(tmp_path, [*map(str, range(8)), "nowhere"])
    assert found.tolist() == [0, 1, 0, 3, 4, 4, 6, 3, 8]


def test_copies_are_noted_at_the_first_and_the_second_start(tmp_path: Path):
    files = [
        f"{part}/{part}{c}/{i}.png" for part in ("train", "val", "test") for c in range(2) for i in range(3)
    ]
    put(tmp_path, *files)
    for old, new in (
        ("train/train0/0.png", "test/test1/copy.png"),
        ("train/train0/1.png", "train/train1/copy.png"),
        ("val/val0/1.png", "val/val0/copy.png"),
    ):
        (tmp_path / new).write_bytes((tmp_path / old).read_bytes())
    for _ in range(2):
        splits = load_splits(tmp_path, image_size=4)
        parts, classes, within = splits.notes
        assert "(1): train/train0/0.png (train) and test/test1/copy.png (test); a test would include" in parts
        assert "in two classes (1): train/train0/1.png (train) and train/train1/copy.png (train)" in classes
        assert "twice in one class (1): val/val0/1.png" in within
        assert [len(part.images) for part in (splits.train, splits.validation, splits.test)] == [7, 7, 7]
