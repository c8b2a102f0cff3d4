import os

import pytest

from fsljax.data.folders.layouts import PARTS, list_images, shown_names
from fsljax.errors import UserError, first_few


def put(root, *files):
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def listed(root, shared_classes=False):
    notes = []
    return list_images(root, shared_classes, notes), notes


def refused(root, message, shared_classes=False):
    with pytest.raises(UserError, match=message):
        list_images(root, shared_classes, [])


def test_class_folders_with_images_at_any_depth_sorted(tmp_path):
    put(tmp_path, "b/2.png", "b/1.JPG", "b/deep/er/3.webp", "a/x.jpeg", "c/y.bmp")
    parts, notes = listed(tmp_path)
    assert parts == {
        "train": {"a": ["a/x.jpeg"], "b": ["b/1.JPG", "b/2.png", "b/deep/er/3.webp"], "c": ["c/y.bmp"]}
    }
    assert list(parts["train"]) == ["a", "b", "c"]
    assert notes == []


def test_hidden_and_other_files_are_passed_over(tmp_path):
    put(tmp_path, "a/1.png", "a/.2.png", "a/._1.png", "a/Thumbs.db", "a/notes.txt", "a/.cache/3.png")
    put(tmp_path, ".git/4.png", "README.md", "b/1.png", "b/png")
    assert listed(tmp_path) == ({"train": {"a": ["a/1.png"], "b": ["b/1.png"]}}, [])


def test_class_folder_without_images_is_an_empty_class(tmp_path):
    put(tmp_path, "a/1.png", "b/readme.txt")
    assert listed(tmp_path)[0] == {"train": {"a": ["a/1.png"], "b": []}}


def test_images_beside_the_class_folders_are_noted(tmp_path):
    put(tmp_path, "a/1.png", "b/1.png", "cover.png", "logo.png")
    parts, (note,) = listed(tmp_path)
    assert list(parts["train"]) == ["a", "b"]
    assert "(2): cover.png, logo.png" in note


def test_names_that_are_not_ascii(tmp_path):
    put(tmp_path, "Ängström/größe 1.png", "猫/ねこ.png", "with space/é.jpg")
    assert listed(tmp_path)[0]["train"] == {
        "with space": ["with space/é.jpg"],
        "Ängström": ["Ängström/größe 1.png"],
        "猫": ["猫/ねこ.png"],
    }


def test_links_to_folders_and_files_are_followed(tmp_path):
    root = tmp_path / "root"
    put(tmp_path, "elsewhere/1.png", "single/2.png", "root/b/1.png")
    (root / "a").symlink_to(tmp_path / "elsewhere")
    (root / "b" / "2.png").symlink_to(tmp_path / "single" / "2.png")
    assert listed(root) == ({"train": {"a": ["a/1.png"], "b": ["b/1.png", "b/2.png"]}}, [])


def test_a_linked_class_folder_is_no_second_class(tmp_path):
    put(tmp_path, "b/1.png", "b/2.png", "c/1.png")
    (tmp_path / "a").symlink_to(tmp_path / "b")
    parts, (note,) = listed(tmp_path)
    assert parts["train"] == {"a": [], "b": ["b/1.png", "b/2.png"], "c": ["c/1.png"]}
    assert "are counted once (2): a/1.png, a/2.png" in note


def test_of_two_links_to_one_folder_the_first_counts(tmp_path):
    put(tmp_path, "elsewhere/1.png", "root/c/1.png")
    for name in "ab":
        (tmp_path / "root" / name).symlink_to(tmp_path / "elsewhere")
    assert listed(tmp_path / "root")[0]["train"] == {"a": ["a/1.png"], "b": [], "c": ["c/1.png"]}


def test_a_link_to_a_parent_adds_nothing_to_its_class(tmp_path):
    put(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert listed(tmp_path)[0]["train"] == {"a": ["a/1.png"], "b": ["b/1.png"]}


def test_an_image_linked_into_another_class_or_twice_into_its_own_counts_once(tmp_path):
    put(tmp_path, "b/1.png", "a/2.png")
    (tmp_path / "a" / "1.png").symlink_to(tmp_path / "b" / "1.png")
    (tmp_path / "b" / "3.png").symlink_to("1.png")
    assert listed(tmp_path)[0]["train"] == {"a": ["a/2.png"], "b": ["b/1.png"]}


def test_a_class_of_train_linked_into_test_under_another_name_is_for_train(tmp_path):
    put(tmp_path, "train/a/1.png", "test/b/1.png")
    (tmp_path / "test" / "c").symlink_to(tmp_path / "train" / "a")
    parts, _ = listed(tmp_path)
    assert parts == {"train": {"a": ["train/a/1.png"]}, "test": {"b": ["test/b/1.png"], "c": []}}


def test_equal_names_of_files_in_two_classes_are_two_images(tmp_path):
    put(tmp_path, "root/a/1.png", "root/b/1.png")
    (tmp_path / "link").symlink_to(tmp_path / "root")
    assert listed(tmp_path / "link") == ({"train": {"a": ["a/1.png"], "b": ["b/1.png"]}}, [])


def test_links_in_a_circle_end(tmp_path):
    put(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "b" / "itself").symlink_to("itself")
    assert listed(tmp_path)[0]["train"] == {"a": ["a/1.png"], "b": ["b/1.png"]}


def test_links_that_lead_nowhere_are_listed_as_images(tmp_path):
    put(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "a" / "2.png").symlink_to(tmp_path / "gone.png")
    assert listed(tmp_path)[0]["train"]["a"] == ["a/1.png", "a/2.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_no_image(tmp_path):
    put(tmp_path, "a/1.png")
    os.mkfifo(tmp_path / "a" / "2.png")
    assert listed(tmp_path)[0]["train"]["a"] == ["a/1.png"]


def test_a_folder_named_like_an_image_is_a_folder(tmp_path):
    put(tmp_path, "a/1.png/2.png", "b.png/1.png")
    assert listed(tmp_path)[0]["train"] == {"a": ["a/1.png/2.png"], "b.png": ["b.png/1.png"]}


def test_folders_without_class_folders_are_refused(tmp_path):
    refused(tmp_path, "is empty: put one folder of images per class into it")
    put(tmp_path, "b.png", "a.png")
    refused(tmp_path, r"holds images, such as a\.png, but no class folders")


def test_folders_without_images_are_refused(tmp_path):
    put(tmp_path, "a/1.txt", "b/2.txt")
    refused(tmp_path, "holds no images: put the images of each class")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read anything")
def test_a_folder_that_may_not_be_read_is_named(tmp_path):
    put(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "a").chmod(0)
    refused(tmp_path, r"/a cannot be read \(Permission denied\)")


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Train", "validation", "TEST"), ("train", "valid", "test")]
)
def test_folders_of_parts(tmp_path, names):
    for name, label in zip(names, "abc", strict=True):
        put(tmp_path, f"{name}/{label}/1.png")
    parts, notes = listed(tmp_path)
    assert parts == {
        part: {label: [f"{name}/{label}/1.png"]}
        for part, name, label in zip(PARTS, names, "abc", strict=True)
    }
    assert notes == []


def test_two_of_the_part_folders(tmp_path):
    put(tmp_path, "train/a/1.png", "test/b/1.png", "extra/c/1.png")
    parts, (note,) = listed(tmp_path)
    assert parts == {"train": {"a": ["train/a/1.png"]}, "test": {"b": ["test/b/1.png"]}}
    assert "extra" in note


def test_a_folder_with_train_alone(tmp_path):
    put(tmp_path, "train/a/1.png", "train/b/1.png", "labels.txt")
    assert listed(tmp_path)[0] == {"train": {"a": ["train/a/1.png"], "b": ["train/b/1.png"]}}


def test_a_class_may_be_called_train(tmp_path):
    put(tmp_path, "train/1.png", "car/1.png", "bus/1.png")
    assert list(listed(tmp_path)[0]["train"]) == ["bus", "car", "train"]


def test_part_folders_that_contradict_each_other_are_refused(tmp_path):
    put(tmp_path, "train/a/1.png", "val/b/1.png", "validation/c/1.png")
    refused(tmp_path, "val and validation, both for validation")


@pytest.mark.parametrize("names", [("val", "test"), ("test",)])
def test_part_folders_without_train_are_refused(tmp_path, names):
    for name in names:
        put(tmp_path, f"{name}/a/1.png")
    refused(tmp_path, "no folder train")


def test_an_empty_part_folder_is_refused(tmp_path):
    put(tmp_path, "train/a/1.png", "val/b/1.png")
    (tmp_path / "test").mkdir()
    refused(tmp_path, "/test is empty")


@pytest.fixture
def mini_imagenet(tmp_path):
    (tmp_path / "images").mkdir()
    for name, rows in {
        "train": "n1_2.jpg,n1\nn2_1.jpg,n2\nn1_1.jpg,n1",
        "val": "n3_1.jpg,n3",
        "test": "n4_1.jpg,n4",
    }.items():
        (tmp_path / f"{name}.csv").write_text(f"filename,label\n{rows}\n")
    return tmp_path


def test_mini_imagenet(mini_imagenet):
    parts, notes = listed(mini_imagenet)
    assert parts == {
        "train": {"n1": ["images/n1_1.jpg", "images/n1_2.jpg"], "n2": ["images/n2_1.jpg"]},
        "validation": {"n3": ["images/n3_1.jpg"]},
        "test": {"n4": ["images/n4_1.jpg"]},
    }
    assert notes == []


@pytest.mark.parametrize(
    "table",
    [
        b"\xef\xbb\xbffilename,label\r\nn3_1.jpg,n3\r\n",
        b"Label, Filename, size\nn3, n3_1.jpg, 5\n\n",
        b'"filename","label"\n"n3_1.jpg","n3"',
    ],
    ids=["from Windows", "other columns", "quoted"],
)
def test_tables_in_other_dialects(mini_imagenet, table):
    (mini_imagenet / "val.csv").write_bytes(table)
    assert listed(mini_imagenet)[0]["validation"] == {"n3": ["images/n3_1.jpg"]}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"n3_1.jpg,n3\n", r"val\.csv has no column 'filename'.+names n3_1.jpg, n3"),
        (b"filename;label\na;b\n", "no column 'filename'"),
        (b"", "names none"),
        (b"filename,label\nn3_1.jpg\n", r"Line 2 of .+val\.csv lacks the filename or the label"),
        (b"filename,label\n,n3\n", "Line 2"),
        ("filename,label\nä,b\n".encode("latin-1"), r"val\.csv cannot be read as UTF-8 text"),
    ],
)
def test_tables_that_are_wrong_are_refused(mini_imagenet, table, message):
    (mini_imagenet / "val.csv").write_bytes(table)
    refused(mini_imagenet, message)


def test_a_file_twice_in_a_table_counts_once(mini_imagenet):
    (mini_imagenet / "val.csv").write_text("filename,label\nn3_1.jpg,n3\nn3_1.jpg,n3\n")
    assert listed(mini_imagenet)[0]["validation"] == {"n3": ["images/n3_1.jpg"]}


@pytest.mark.parametrize("table", ["val", "test"])
def test_a_file_with_two_labels_is_refused(mini_imagenet, table):
    (mini_imagenet / "val.csv").write_text("filename,label\nn3_1.jpg,n3\n")
    with (mini_imagenet / f"{table}.csv").open("a") as lines:
        lines.write("n3_1.jpg,other\n")
    refused(
        mini_imagenet,
        rf"Line 3 of .+{table}\.csv labels n3_1\.jpg as other, but an earlier line labels it as n3",
    )


@pytest.mark.parametrize("start", ["", "filename,label\n"])
def test_a_table_with_an_endless_field_is_refused(mini_imagenet, start):
    (mini_imagenet / "val.csv").write_text(start + '"' + "x" * 200_000)
    refused(mini_imagenet, r"val\.csv cannot be read as a table .+field limit")


def test_tables_without_one_of_them_or_without_images_are_refused(mini_imagenet):
    (mini_imagenet / "images").rmdir()
    refused(mini_imagenet, "not the folder images/")
    (mini_imagenet / "images").mkdir()
    (mini_imagenet / "val.csv").unlink()
    refused(mini_imagenet, r"val\.csv is missing")


@pytest.fixture
def cub(tmp_path):
    names = [f"{i:03d}.Bird_{i}" for i in range(1, 201)]
    files = [f"{name}/{name}_{shot}.jpg" for name in names for shot in range(3)]
    (tmp_path / "classes.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(names, 1)))
    (tmp_path / "images.txt").write_text("".join(f"{i} {file}\n" for i, file in enumerate(files, 1)))
    (tmp_path / "train_test_split.txt").write_text("".join(f"{i} {int(i % 3 != 0)}\n" for i in range(1, 601)))
    (tmp_path / "images").mkdir()
    return tmp_path


def test_cub_classes_are_divided_as_published(cub):
    parts, notes = listed(cub)
    assert [len(parts[part]) for part in PARTS] == [100, 50, 50]
    assert list(parts["train"])[:3] == ["001.Bird_1", "003.Bird_3", "005.Bird_5"]
    assert list(parts["validation"])[:3] == ["002.Bird_2", "006.Bird_6", "010.Bird_10"]
    assert list(parts["test"])[:3] == ["004.Bird_4", "008.Bird_8", "012.Bird_12"]
    assert parts["test"]["004.Bird_4"] == [f"images/004.Bird_4/004.Bird_4_{i}.jpg" for i in range(3)]
    assert notes == []


def test_cub_with_shared_classes_is_divided_by_its_own_file(cub):
    parts, _ = listed(cub, shared_classes=True)
    assert set(parts) == {"train", "test"}
    assert list(parts["train"]) == list(parts["test"])
    assert len(parts["train"]) == 200
    assert parts["train"]["001.Bird_1"] == [f"images/001.Bird_1/001.Bird_1_{i}.jpg" for i in range(2)]
    assert parts["test"]["001.Bird_1"] == ["images/001.Bird_1/001.Bird_1_2.jpg"]


def test_cub_files_that_are_wrong_are_refused(cub):
    names = (cub / "classes.txt").read_text()
    (cub / "classes.txt").write_text("one First_bird\n")
    refused(cub, r"classes\.txt must hold a number and a name on each line, but has 'one First_bird'")
    (cub / "classes.txt").write_text(names.replace("001.Bird_1\n", "001.Other\n"))
    refused(cub, r"lists 001\.Bird_1/001\.Bird_1_0\.jpg, whose class")
    (cub / "classes.txt").unlink()
    refused(cub, r"classes\.txt is missing")


@pytest.fixture
def cifar_fs(tmp_path):
    put(tmp_path, *[f"data/{name}/1.png" for name in "abcd"])
    put(tmp_path, *[f"splits/bertinetto/{part}.txt" for part in ("train", "val", "test")])
    for part, names in {"train": "b\na\n", "val": "c", "test": "\nd \n"}.items():
        (tmp_path / f"splits/bertinetto/{part}.txt").write_text(names)
    return tmp_path


def test_cifar_fs(cifar_fs):
    parts, notes = listed(cifar_fs)
    assert parts == {
        "train": {"a": ["data/a/1.png"], "b": ["data/b/1.png"]},
        "validation": {"c": ["data/c/1.png"]},
        "test": {"d": ["data/d/1.png"]},
    }
    assert list(parts["train"]) == ["a", "b"]
    assert notes == []


def test_the_usual_split_is_taken_among_several(cifar_fs):
    put(cifar_fs, "splits/another/train.txt")
    assert list(listed(cifar_fs)[0]["train"]) == ["a", "b"]
    (cifar_fs / "splits/bertinetto").rename(cifar_fs / "splits/own")
    refused(cifar_fs, "but holds another, own")


def test_classes_that_no_split_names_are_noted(cifar_fs):
    put(cifar_fs, "data/e/1.png")
    _, (note,) = listed(cifar_fs)
    assert note.endswith("list them: e.")


def test_split_files_that_are_wrong_are_refused(cifar_fs):
    (cifar_fs / "splits/bertinetto/test.txt").write_text("d\nx\ny\n")
    refused(cifar_fs, r"test\.txt lists x, y, for which .+/data has no class folder")
    (cifar_fs / "splits/bertinetto/test.txt").unlink()
    refused(cifar_fs, r"test\.txt is missing")


def test_names_are_shown_in_valid_unicode_and_stay_different():
    names = ["caf\udce8", "caf\udce9", "caf\ufffd (2)", "café"]
    shown = shown_names(names)
    assert shown["café"] == "café"
    assert shown["caf\ufffd (2)"] == "caf\ufffd (2)"
    assert {shown["caf\udce8"], shown["caf\udce9"]} == {"caf\ufffd", "caf\ufffd (3)"}
    assert shown_names(reversed(names)) == shown


def test_a_list_in_a_sentence_is_short():
    assert first_few([]) == ""
    assert first_few(["a", "b", "c"]) == "a, b, c"
    assert first_few({"a": 1, "b": 2, "c": 3, "d": 4}) == "a, b, c and 1 more"
    assert first_few([str(i) for i in range(2003)]) == "0, 1, 2 and 2,000 more"
