import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsljax.data.class_split import split_classes
from fsljax.data.io import decode
from fsljax.data.sources import folder
from fsljax.errors import UserError

USUAL = (0.64, 0.16, 0.2)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def put_image(path, colour=(0, 0, 0), size=(6, 5)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, tuple(colour)).save(path)


def put_classes(root, names, images=3):
    """Images whose colour says their class (by place in `names`) and number."""
    for label, name in enumerate(names):
        for number in range(images):
            put_image(root / name / f"{number:03d}.png", (label, number, 255 - number))


def read(root, **options):
    return folder.load_splits(root, **{"image_size": 4, **options})


def refused(root, message, **options):
    with pytest.raises(UserError, match=message):
        read(root, **options)


def parts_of(splits):
    return splits.train, splits.validation, splits.test


def assert_holds(data, names, images=3, numbers=None):
    """Each image has the colour of its class in `names`, and the classes are in order."""
    expected = [
        (names.index(name), number, 255 - number)
        for name in data.class_names
        for number in (range(images) if numbers is None else numbers[name])
    ]
    assert data.images.dtype == np.uint8
    assert data.labels.dtype == np.int32
    assert data.images.shape == (len(expected), 4, 4, 3)
    np.testing.assert_array_equal(
        data.images, np.broadcast_to(np.array(expected)[:, None, None], data.images.shape)
    )
    np.testing.assert_array_equal(
        [names.index(data.class_names[label]) for label in data.labels], data.images[:, 0, 0, 0]
    )


NAMES = [f"class {i}" for i in range(10)]


def test_class_folders_are_divided_by_the_seeded_rule(root):
    put_classes(root, NAMES)
    splits = read(root, seed=5)
    for data, expected in zip(parts_of(splits), split_classes(NAMES, USUAL, 5, at_least=2), strict=True):
        assert data.class_names == expected
        assert_holds(data, NAMES)
    assert [data.num_classes for data in parts_of(splits)] == [6, 2, 2]
    assert read(root, seed=6).test.class_names != splits.test.class_names


def test_the_fractions_count(root):
    put_classes(root, NAMES, images=1)
    assert [data.num_classes for data in parts_of(read(root, fractions=(0.2, 0.4, 0.4)))] == [2, 4, 4]


def test_every_part_gets_at_least_two_classes(root):
    put_classes(root, NAMES[:6])
    assert [data.num_classes for data in parts_of(read(root))] == [2, 2, 2]


def test_part_folders_are_kept(root):
    names = ["a", "b", "c", "d", "e"]
    put_classes(root, names)
    for part, names_of_part in {"train": "ab", "val": "cd", "test": "e"}.items():
        (root / part).mkdir()
        for name in names_of_part:
            (root / name).rename(root / part / name)
    splits = read(root)
    assert [data.class_names for data in parts_of(splits)] == [("a", "b"), ("c", "d"), ("e",)]
    for data in parts_of(splits):
        assert_holds(data, names)
    assert splits.notes == ()


def test_a_part_without_a_folder_is_taken_from_train(root):
    put_classes(root / "train", NAMES)
    put_classes(root / "test", ["x", "y"])
    splits = read(root)
    assert splits.test.class_names == ("x", "y")
    assert [data.num_classes for data in parts_of(splits)] == [8, 2, 2]
    assert not set(splits.train.class_names) & set(splits.validation.class_names)
    assert any("does not define its validation classes" in note for note in splits.notes)


def test_mini_imagenet_from_its_tables(root):
    names = ["n1", "n2", "n3", "n4"]
    put_classes(root / "images", names)
    for part, names_of_part in {"train": ["n2", "n1"], "val": ["n3"], "test": ["n4"]}.items():
        rows = [f"{name}/{number:03d}.png,{name}" for name in names_of_part for number in range(3)]
        (root / f"{part}.csv").write_text("\n".join(["filename,label", *rows]))
    splits = read(root)
    assert [data.class_names for data in parts_of(splits)] == [("n1", "n2"), ("n3",), ("n4",)]
    for data in parts_of(splits):
        assert_holds(data, names)


@pytest.fixture
def cub(root):
    names = [f"{i:03d}.Bird" for i in range(1, 9)]
    put_classes(root / "images", names, images=4)
    files = [f"{name}/{number:03d}.png" for name in names for number in range(4)]
    (root / "classes.txt").write_text("\n".join(f"{i} {name}" for i, name in enumerate(names, 1)))
    (root / "images.txt").write_text("\n".join(f"{i} {file}" for i, file in enumerate(files, 1)))
    (root / "train_test_split.txt").write_text("\n".join(f"{i} {int(i % 4 != 0)}" for i in range(1, 33)))
    return root, names


def test_cub(cub):
    root, names = cub
    splits = read(root)
    assert splits.validation.class_names == ("002.Bird", "006.Bird")
    assert splits.test.class_names == ("004.Bird", "008.Bird")
    for data in parts_of(splits):
        assert_holds(data, names, images=4)


def test_cub_with_shared_classes(cub):
    root, names = cub
    splits = read(root, shared_classes=True)
    assert [data.class_names for data in parts_of(splits)] == [tuple(names)] * 3
    assert_holds(splits.test, names, numbers={name: [3] for name in names})
    np.testing.assert_array_equal(splits.train.class_counts(), [2] * 8)
    np.testing.assert_array_equal(splits.validation.class_counts(), [1] * 8)


def test_cifar_fs(root):
    names = ["apple", "bear", "cat", "dog"]
    put_classes(root / "data", names)
    (root / "splits" / "bertinetto").mkdir(parents=True)
    for part, names_of_part in {"train": "dog\napple", "val": "bear", "test": "cat"}.items():
        (root / "splits" / "bertinetto" / f"{part}.txt").write_text(names_of_part)
    splits = read(root)
    assert [data.class_names for data in parts_of(splits)] == [("apple", "dog"), ("bear",), ("cat",)]
    for data in parts_of(splits):
        assert_holds(data, names)


def test_shared_classes_divide_the_images_of_each_class(root):
    names = ["a", "b", "c"]
    put_classes(root, names, images=10)
    splits = read(root, shared_classes=True, seed=2)
    numbers = {name: set() for name in names}
    for data, count in zip(parts_of(splits), (6, 2, 2), strict=True):
        assert data.class_names == tuple(names)
        np.testing.assert_array_equal(data.class_counts(), [count] * 3)
        for label, number in zip(data.labels, data.images[:, 0, 0, 1], strict=True):
            numbers[names[label]].add(int(number))
    assert all(of_class == set(range(10)) for of_class in numbers.values())


def test_a_shared_class_with_few_images_is_for_training(root):
    put_classes(root, ["a", "b"], images=5)
    put_image(root / "rare" / "0.png")
    splits = read(root, shared_classes=True)
    assert splits.validation.class_names == ("a", "b", "rare")
    assert [data.class_counts()[2] for data in parts_of(splits)] == [1, 0, 0]
    assert any("rare" in note for note in splits.notes)


def test_shared_classes_in_part_folders(root):
    names = ["a", "b"]
    for part in ("train", "val", "test"):
        put_classes(root / part, names)
    put_classes(root / "train", [*names, "c"])
    splits = read(root, shared_classes=True)
    assert [data.class_names for data in parts_of(splits)] == [("a", "b", "c")] * 3
    np.testing.assert_array_equal(splits.test.class_counts(), [3, 3, 0])
    put_image(root / "test" / "unknown" / "0.png")
    refused(root, "of test in .+ missing from train: unknown", shared_classes=True)


def test_classes_in_two_parts_are_refused_in_few_shot_learning(root):
    for part, names in {"train": "abc", "val": "de", "test": "cf"}.items():
        put_classes(root / part, names)
    refused(root, r"in both train and test: c\. .+ into one folder to have them split\.$")


def test_one_class_is_refused(root):
    put_classes(root, ["only"])
    for shared_classes in (False, True):
        refused(root, r"holds 1 class to train on \(only\)", shared_classes=shared_classes)


def test_too_few_classes_to_divide_are_refused(root):
    put_classes(root, NAMES[:5])
    refused(root, "holds 5 classes .+ at least 6 are needed to split them into train, validation and test")
    read(root, shared_classes=True)


def test_one_class_for_train_among_part_folders_is_refused(root):
    for part, names in {"train": "a", "val": "bc", "test": "de"}.items():
        put_classes(root / part, names)
    refused(root, r"holds 1 class to train on \(a\)")


def test_a_part_left_without_images_is_refused(root):
    for part, names, images in (("train", "ab", 3), ("val", "c", 3), ("test", "d", 2)):
        put_classes(root / part, names, images)
    refused(root, "no images for test", min_images_per_class=3)


@pytest.mark.parametrize("given", ["", "missing", "file"])
def test_paths_that_are_no_folder(tmp_path, given):
    (tmp_path / "file").touch()
    message = {"": "No image folder is given", "missing": "does not exist", "file": "is a file"}[given]
    refused(given and tmp_path / given, f"{message}.*config.data.path")


def test_an_empty_folder(root):
    refused(root, f"{root} is empty")


def test_a_home_folder_may_be_abbreviated(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root.parent))
    put_classes(root, NAMES)
    assert len(read("~/root").train) == 18


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size must be at least 1, not 0"),
        ({"channels": 2}, "channels must be 1"),
        ({"fractions": (0.5, 0.5, 0.0)}, "must be above 0"),
        ({"fractions": (0.5, 0.3, 0.3)}, "sum to 1"),
        ({"fractions": (0.5, 0.5)}, "sum to 1"),
        ({"min_images_per_class": 0}, "min_images_per_class must be at least 1, not 0"),
        ({"image_size": 10_000_000}, "Choose a smaller image_size"),
    ],
)
def test_impossible_options(root, options, message):
    put_classes(root, NAMES, images=1)
    refused(root, message, **options)


def test_class_folders_without_images_are_left_out_and_noted(root):
    put_classes(root, NAMES)
    (root / "empty").mkdir()
    (root / "text").mkdir()
    (root / "text" / "readme.txt").touch()
    splits = read(root)
    assert sorted(name for data in parts_of(splits) for name in data.class_names) == NAMES
    assert any("with no images, which were skipped (2): empty, text" in note for note in splits.notes)


def test_small_classes_are_left_out_where_wanted(root):
    put_classes(root, NAMES, images=4)
    put_classes(root, ["small"], images=3)
    splits = read(root, min_images_per_class=4)
    assert sorted(name for data in parts_of(splits) for name in data.class_names) == NAMES
    assert any("fewer than 4 images" in note and note.endswith(": small.") for note in splits.notes)
    assert "small" in {name for data in parts_of(read(root)) for name in data.class_names}
    refused(root, "holds 0 classes", min_images_per_class=5)


@pytest.mark.parametrize("shared_classes", [False, True])
def test_few_unreadable_images_are_left_out_and_named(root, shared_classes):
    put_classes(root, NAMES, images=21)
    (root / NAMES[3] / "007.png").write_text("no image")
    (root / NAMES[4] / "gone.jpg").symlink_to(root / "nowhere.jpg")
    for _ in range(2):  # decoded, then from the cache
        splits = read(root, shared_classes=shared_classes)
        (note,) = (note for note in splits.notes if "cannot be read" in note)
        assert "2 of the 211 images" in note
        assert f"{NAMES[3]}/007.png (not an image" in note
        assert f"{NAMES[4]}/gone.jpg (No such file" in note
        colours = np.concatenate([data.images[:, 0, 0, :2] for data in parts_of(splits)])
        expected = {(label, number) for label in range(10) for number in range(21)} - {(3, 7)}
        assert len(colours) == len(expected)
        assert {tuple(colour) for colour in colours.tolist()} == expected
        for data in parts_of(splits):
            assert [NAMES.index(data.class_names[label]) for label in data.labels] == data.images[
                :, 0, 0, 0
            ].tolist()


def test_a_class_that_becomes_too_small_by_an_unreadable_image_is_left_out(root):
    put_classes(root, NAMES, images=21)
    (root / NAMES[3] / "007.png").write_text("no image")
    splits = read(root, min_images_per_class=21)
    assert sorted(name for data in parts_of(splits) for name in data.class_names) == NAMES[:3] + NAMES[4:]
    for data in parts_of(splits):
        assert_holds(data, NAMES, images=21)


def test_one_per_cent_of_unreadable_images_is_too_much(root):
    put_classes(root, NAMES, images=10)
    (root / NAMES[3] / "007.png").write_text("no image")
    refused(root, rf"1 of the 100 images in {root} cannot be read: {NAMES[3]}/007\.png \(.+\)\. Repair")


def test_of_many_unreadable_images_the_first_few_are_named(root):
    put_classes(root, NAMES, images=2)
    for name in NAMES:
        (root / name / "000.png").write_text("no image")
    refused(root, r"10 of the 20 images .+000\.png \(.+000\.png \(.+000\.png \(.+\) and 7 more")


def test_kinds_of_images_may_be_mixed(root):
    modes = {
        "L": "png",
        "RGB": "jpg",
        "RGBA": "webp",
        "P": "gif",
        "CMYK": "jpeg",
        "I;16": "PNG",
        "1": "bmp",
        "LA": "png",
    }
    for name in NAMES:
        for mode, extension in modes.items():
            path = root / name / f"{mode.replace(';', '')}.{extension}"
            path.parent.mkdir(exist_ok=True)
            Image.new(mode, (9, 7)).save(path)
    splits = read(root)
    assert sum(map(len, parts_of(splits))) == len(NAMES) * len(modes)
    assert not any("cannot be read" in note for note in splits.notes)


def test_one_channel(root):
    for name in NAMES:
        put_image(root / name / "0.png", (200, 200, 200))
    assert (read(root, channels=1).train.images == 200).all()
    assert read(root, channels=1).train.images.shape[1:] == (4, 4, 1)


def test_names_that_are_not_ascii(root):
    names = ["Ä", "é", "猫", "ß", "Ω", "z"]
    put_classes(root, names)
    splits = read(root)
    assert sorted(name for data in parts_of(splits) for name in data.class_names) == sorted(names)
    for data in parts_of(splits):
        assert_holds(data, names)


def test_names_that_are_not_utf8_become_valid_and_stay_different(root):
    put_classes(root / "train", ["caf\udce9", "tea"])
    put_classes(root / "val", ["caf\udce8"])
    put_classes(root / "test", ["water"])
    (root / "test" / "milk\udce9").mkdir()
    splits = read(root)
    names = [name for data in parts_of(splits) for name in data.class_names]
    assert sorted(names) == ["caf\ufffd", "caf\ufffd (2)", "tea", "water"]
    assert any(note.endswith("milk\ufffd.") for note in splits.notes)
    for text in (*names, *splits.notes):
        text.encode()
    assert [len(data) for data in parts_of(splits)] == [6, 3, 3]
    shared = read(root / "train", shared_classes=True)
    assert [data.class_names for data in parts_of(shared)] == [("caf\ufffd", "tea")] * 3


def test_a_home_of_nobody_is_refused():
    path = "~nobody has this name/images"
    refused(path, f"The home folder in {path} is unknown: correct --config.data.path")


def test_a_linked_class_folder_is_left_out_and_noted(root):
    put_classes(root, NAMES)
    (root / "a link").symlink_to(root / NAMES[0])
    splits = read(root)
    assert sorted(name for data in parts_of(splits) for name in data.class_names) == NAMES
    assert sum(map(len, parts_of(splits))) == 30
    assert any("because of links" in note for note in splits.notes)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_an_image_that_the_system_did_not_let_read_is_there_at_the_next_start(root, monkeypatch, number):
    put_classes(root, NAMES, images=21)
    decode_one = decode._decode

    def denied(path, *options):
        if path == root / NAMES[3] / "007.png":
            raise OSError(number, os.strerror(number), str(path))
        return decode_one(path, *options)

    with monkeypatch.context() as patch:
        patch.setattr(decode, "_decode", denied)
        splits = read(root)
    assert sum(map(len, parts_of(splits))) == 209
    assert any(f"{NAMES[3]}/007.png ({os.strerror(number)})" in note for note in splits.notes)
    splits = read(root)
    assert sum(map(len, parts_of(splits))) == 210
    assert not any("cannot be read" in note for note in splits.notes)


def test_lasting_reasons_are_cached(root, monkeypatch):
    put_classes(root, NAMES, images=21)
    (root / NAMES[3] / "007.png").write_text("no image")
    (root / NAMES[4] / "gone.png").symlink_to("nowhere.png")
    calls = count_decoding(monkeypatch)
    assert read(root).notes == read(root).notes
    assert calls == [211]


def count_decoding(monkeypatch):
    calls = []

    def counted(paths, **options):
        calls.append(len(paths))
        return decode(paths, **options)

    decode = folder.decode_images
    monkeypatch.setattr(folder, "decode_images", counted)
    return calls


def test_the_second_start_reads_the_cache(root, monkeypatch):
    put_classes(root, NAMES)
    calls = count_decoding(monkeypatch)
    first, second = read(root), read(root)
    assert calls == [30]
    assert isinstance(second.train.images, np.memmap)
    for one, other in zip(parts_of(first), parts_of(second), strict=True):
        assert one.fingerprint() == other.fingerprint()
        assert one.class_names == other.class_names
    assert first.notes == second.notes


def change_content(root):
    path = root / NAMES[0] / "000.png"
    status = path.stat()
    put_image(path, (77, 77, 77))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def add_image(root):
    put_image(root / NAMES[0] / "new.png", (77, 77, 77))


def remove_image(root):
    (root / NAMES[0] / "000.png").unlink()


def rename_class(root):
    (root / NAMES[0]).rename(root / "renamed")


@pytest.mark.parametrize("change", [change_content, add_image, remove_image, rename_class])
def test_what_changes_in_the_folder_is_seen(root, monkeypatch, change):
    put_classes(root, NAMES)
    read(root)
    calls = count_decoding(monkeypatch)
    change(root)
    splits = read(root)
    assert len(calls) == 1
    expected_77 = change in (change_content, add_image)
    assert any((data.images == 77).all(axis=(1, 2, 3)).any() for data in parts_of(splits)) == expected_77


def test_a_photograph_turned_in_place_is_read_anew(root):
    """As programs do that change the orientation alone: size and time stay."""
    put_classes(root, NAMES)
    path = root / NAMES[0] / "photograph.jpg"
    image = Image.new("RGB", (6, 6), "white")
    image.paste((0, 0, 0), (0, 0, 6, 2))
    exif, turned = Image.Exif(), Image.Exif()
    exif[274], turned[274] = 1, 3
    image.save(path, exif=exif, quality=95)
    status, content = path.stat(), path.read_bytes()

    def darkest_row():
        images = np.concatenate([data.images for data in parts_of(read(root, image_size=6))])
        (photograph,) = images[np.ptp(images.mean(axis=(2, 3)), axis=1) > 100]
        return int(photograph.mean(axis=(1, 2)).argmin())

    assert darkest_row() < 2
    path.write_bytes(content.replace(exif.tobytes(), turned.tobytes()))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size and path.stat().st_mtime_ns == status.st_mtime_ns
    assert darkest_row() >= 4


def test_folders_of_equal_names_sizes_and_times_are_told_apart(tmp_path):
    def level(name, value):
        for label in range(6):
            for number in range(2):
                path = tmp_path / name / f"class {label}" / f"{number}.bmp"
                put_image(path, (value,) * 3)
                os.utime(path, (1e9, 1e9))
        return int(np.max(read(tmp_path / name).train.images))

    assert (level("one", 10), level("other", 200)) == (10, 200)
    (tmp_path / "one").rename(tmp_path / "two")
    (tmp_path / "other").rename(tmp_path / "one")
    assert int(np.max(read(tmp_path / "one").train.images)) == 200


def test_a_folder_is_the_same_by_whatever_path(root, monkeypatch):
    put_classes(root, NAMES)
    read(root)
    calls = count_decoding(monkeypatch)
    (root.parent / "link").symlink_to(root)
    monkeypatch.chdir(root)
    for path in (root.parent / "link", Path(), root / ".." / root.name):
        read(path)
    assert calls == []


@pytest.mark.parametrize(
    "options",
    [
        {"image_size": 5}, {"channels": 1}, {"seed": 1}, {"shared_classes": True},
        {"crop": 0.5}, {"crop": 1.0}, {"interpolation": "nearest"},
    ],
)  # fmt: skip
def test_other_options_are_not_mistaken_for_the_cached(root, options):
    put_classes(root, NAMES)
    read(root)
    after_others = read(root, **options)
    shutil.rmtree(os.environ["XDG_CACHE_HOME"])
    alone = read(root, **options)
    for one, other in zip(parts_of(after_others), parts_of(alone), strict=True):
        assert one.class_names == other.class_names
        assert one.fingerprint() == other.fingerprint()
