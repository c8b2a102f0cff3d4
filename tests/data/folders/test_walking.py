"""What lies in a folder of images beside a user's own files."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsljax.data.folders.layouts import list_images
from fsljax.errors import UserError


def put(root: Path, *files: str) -> None:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def listed(root: Path, shared_classes: bool = False):
    notes: list[str] = []
    return list_images(root, shared_classes, notes), notes


@pytest.mark.parametrize(
    "rubbish",
    ["@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg", ".thumbnails/1.png", "__MACOSX/._1.png", "__MACOSX/1.png",
     "#recycle/1.png", "@Recycle/1.png", "lost+found/1.png", "$RECYCLE.BIN/1.png", "@EADIR/1.png",
     "System Volume Information/1.png", "@__thumb/1.png", ".Trash-1000/1.png"],
)  # fmt: skip
@pytest.mark.parametrize("place", [".", "a", "a/deep", "train", "train/a"])
def test_what_a_system_puts_there_is_no_image_no_class_and_no_part(tmp_path: Path, rubbish: str, place: str):
    if place.startswith("train"):
        put(tmp_path, "train/a/1.png", "train/b/1.png", "val/c/1.png", "test/d/1.png")
    else:
        put(tmp_path, "a/1.png", "a/deep/2.png", "b/1.png")
    before = listed(tmp_path)
    put(tmp_path, f"{place}/{rubbish}")
    assert listed(tmp_path) == before
    assert "recycle" not in str(before).casefold()


@pytest.mark.parametrize("name", ["thumbs", "recycled", "@home", "#1", "snapshot", "Icon"])
def test_a_class_may_be_called_almost_anything(tmp_path: Path, name: str):
    put(tmp_path, f"{name}/1.png", "b/1.png")
    assert set(listed(tmp_path)[0]["train"]) == {name, "b"}


def test_formats_that_are_not_read_are_counted(tmp_path: Path):
    put(tmp_path, "a/1.png", "b/1.png", "a/2.jp2", "b/2.JP2", "b/deep/3.jxl", "b/4.svg", "a/5.CR2", "a/x.txt")
    (note,) = listed(tmp_path)[1]
    assert "2 JPEG 2000 (convert it to PNG or JPEG), 1 JPEG XL (" in note
    assert "1 SVG (" in note and "1 camera RAW (" in note


def test_a_folder_of_such_formats_alone_says_so(tmp_path: Path):
    put(tmp_path, "a/1.jp2", "b/1.jp2")
    with pytest.raises(UserError, match=r"holds no images that can be read, but 2 JPEG 2000 \(convert it"):
        listed(tmp_path)


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("training", "", "testing"),
        ("TRAINING", "dev", "Tests"),
        ("train_set", "val-set", "test set"),
        ("meta-train", "meta_val", "metatest"),
        ("train images", "valid_images", "test.data"),
        ("trainval", "", "test"),
    ],
)
def test_names_of_parts_in_their_many_forms(tmp_path: Path, train: str, validation: str, test: str):
    put(tmp_path, f"{train}/a/1.png", f"{train}/b/1.png", f"{test}/c/1.png", f"{test}/d/1.png")
    parts, _ = listed(tmp_path)
    assert list(parts["train"]) == ["a", "b"] and list(parts["test"]) == ["c", "d"]
    if validation:
        put(tmp_path, f"{validation}/e/1.png")
        assert list(listed(tmp_path)[0]["validation"]) == ["e"]


def test_a_part_beside_a_folder_of_another_name_is_no_class(tmp_path: Path):
    put(tmp_path, "training/a/1.png", "training/b/1.png", "holdout/c/1.png")
    with pytest.raises(UserError, match="holds training, which is named like a split, next to holdout"):
        listed(tmp_path)
    put(tmp_path, "holdout/1.png")  # now a folder of images as classes are, and training may be one
    assert set(listed(tmp_path)[0]["train"]) == {"training", "holdout"}


def test_folders_of_folders_are_noted(tmp_path: Path):
    put(tmp_path, "seen/a/1.png", "unseen/b/1.png")
    (note,) = listed(tmp_path)[1]
    assert "is treated as one class, although its images are all in subfolders: seen, unseen" in note


def test_a_class_inside_another_is_noted(tmp_path: Path):
    put(tmp_path, "cat/1.png", "dog/1.png", "dog/cat/2.png", "dog/dog/3.png", "dog/puppy/4.png")
    parts, (note,) = listed(tmp_path)
    assert len(parts["train"]["dog"]) == 4
    assert note.endswith("and were counted as part of it (1): dog/cat.")


def test_names_with_line_breaks_stay_in_one_line(tmp_path: Path):
    put(tmp_path, "a/1.png", "b/1.png", "two\nlines.png")
    assert "two\\nlines.png" in listed(tmp_path)[1][0]
