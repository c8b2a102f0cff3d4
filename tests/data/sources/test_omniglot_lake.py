"""Lake's one-shot task: which drawings are learned from, which are decided on, and what is refused."""

from __future__ import annotations

import functools
import http.server
import io
import shutil
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsljax.data.io import lake_files
from fsljax.data.sources import omniglot_lake
from fsljax.errors import UserError

SMALL = {"Balinese": 3, "Greek": 2, "Latin": 4}
DRAWERS = 2
DEAD = "http://127.0.0.1:9/"
Files = dict[str, bytes]


def drawing(number: int, drawer: int) -> bytes:
    """A drawing of its own for each character: its number in binary, as bars of ink."""
    ink = np.zeros((105, 105), bool)
    for bit in range(12):
        ink[8 * bit : 8 * bit + 7, 0 : 80 if number >> bit & 1 else 8] = True
    ink[100:, 20 * drawer : 20 * drawer + 10] = True
    file = io.BytesIO()
    Image.fromarray(~ink).convert("1").save(file, "PNG")
    return file.getvalue()


def item_of(run: int, label: int) -> int:
    """The test item, from 0, that is of a class of a run."""
    return (7 * label + run) % lake_files.WAY


def run_files() -> Files:
    files = {}
    for run in range(1, 21):
        lines = {}
        for label in range(20):
            number, item = 100 * run + label, item_of(run, label)
            files[f"run{run:02}/training/class{label + 1:02}.png"] = drawing(number, 0)
            files[f"run{run:02}/test/item{item + 1:02}.png"] = drawing(number, 1)
            lines[item] = (
                f"run{run:02}/test/item{item + 1:02}.png run{run:02}/training/class{label + 1:02}.png"
            )
        text = "".join(f"{lines[item]}\n" for item in range(20))
        files[f"run{run:02}/class_labels.txt"] = text.encode()
    return files


def background_files(alphabets: dict[str, int], folder: str) -> Files:
    files, number = {}, 0
    for alphabet, count in alphabets.items():
        for character in range(1, count + 1):
            number += 1
            for drawer in range(1, DRAWERS + 1):
                name = f"{folder}/{alphabet}/character{character:02}/{number:04}_{drawer:02}.png"
                files[name] = drawing(number, drawer)
    return files


def pack(path: Path, files: Files) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def unpack(folder: Path, files: Files) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def small1_files() -> Files:
    return background_files(SMALL, "images_background_small1")


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("archives")
    pack(folder / "all_runs.zip", run_files())
    pack(folder / "images_background_small1.zip", small1_files())
    return folder


def load(path: Path | str, **options):
    return omniglot_lake.load_splits(background="small1", path=str(path), symmetries=1, **options)


def test_a_minimal_set_is_divided_by_alphabets_and_tested_on_the_runs(archives):
    splits = load(archives)
    assert splits.train.class_names == tuple(
        f"{alphabet}/character{number:02}" for alphabet in ("Balinese", "Latin")
        for number in range(1, SMALL[alphabet] + 1)
    )  # fmt: skip
    assert splits.validation.class_names == ("Greek/character01", "Greek/character02")
    assert splits.test.class_names[:2] == ("run01/class01", "run01/class02")
    assert splits.test.num_classes == 400 and splits.test.images.shape == (800, 28, 28, 1)


def test_an_episode_pairs_each_training_image_with_the_test_image_that_the_labels_name(archives):
    splits = load(archives, image_size=105)
    episodes = splits.episodes["lake_one_shot"]
    assert episodes.images.shape == (20, 20, 2) and episodes.shot == 1
    for run, label in ((1, 0), (1, 19), (13, 5), (20, 11)):
        training, test = splits.test.images[episodes.images[run - 1, label]]
        for image, drawer in ((training, 0), (test, 1)):
            png = drawing(100 * run + label, drawer)
            wanted = 255 * (1 - np.asarray(Image.open(io.BytesIO(png))).astype(int))
            np.testing.assert_array_equal(image[..., 0], wanted)


def test_unpacked_folders_are_the_archives(archives, tmp_path):
    unpack(tmp_path / "both", run_files())
    unpack(tmp_path / "both", small1_files())
    (tmp_path / "both" / "run01" / "test" / ".DS_Store").write_bytes(b"")
    unpack(tmp_path / "inner" / "all_runs", run_files())
    shutil.copy(archives / "images_background_small1.zip", tmp_path / "inner")
    wanted = load(archives).fingerprints()
    assert load(tmp_path / "both").fingerprints() == wanted
    assert load(tmp_path / "inner").fingerprints() == wanted


def test_what_is_missing_is_downloaded_once(archives, tmp_path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    (tmp_path / "served" / "one-shot-classification").mkdir(parents=True)
    shutil.copy(archives / "all_runs.zip", tmp_path / "served" / "one-shot-classification")
    shutil.copy(archives / "images_background_small1.zip", tmp_path / "served")
    (tmp_path / "data").mkdir()
    handler = functools.partial(Quiet, directory=tmp_path / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        loaded = load("", data_dir=str(tmp_path / "data"), base_url=address)
        server.shutdown()
    assert loaded.fingerprints() == load(archives).fingerprints()
    again = load("", data_dir=str(tmp_path / "data"), base_url=DEAD)
    assert again.fingerprints() == loaded.fingerprints()


def test_a_download_with_another_checksum_is_refused_and_leaves_nothing(archives, tmp_path, monkeypatch):
    monkeypatch.setattr(lake_files, "BASE_URL", DEAD)

    def download(url: str, path: Path, sha256: str | None) -> None:
        assert url.endswith("one-shot-classification/all_runs.zip")
        assert sha256 == "437c1eeab0af8484112e1b4cc0f3d541ec727f7c47b9b202da738af9dfd6c325"
        raise OSError("the file has another SHA-256")

    monkeypatch.setattr(lake_files, "download_zip", download)
    with pytest.raises(UserError, match=r"all_runs\.zip .* another SHA-256\): put it into a folder"):
        lake_files.fetch("all_runs", data_dir=str(tmp_path), base_url=DEAD)


def test_without_network_one_sentence_names_the_file_and_the_way_out(tmp_path):
    with pytest.raises(UserError, match=r"images_background_small1\.zip .*--config\.data\.path=DIR") as told:
        load("", data_dir=str(tmp_path), base_url=DEAD)
    assert "\n" not in str(told.value)
    assert not list(tmp_path.rglob("*.zip*"))


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"There is no folder .*nowhere"):
        load(tmp_path / "nowhere")


def without(name: str) -> Callable[[Files], None]:
    return lambda files: files.pop(name) and None


def relabelled(files: Files) -> None:
    name = "run05/class_labels.txt"
    files[name] = files[name].replace(b"class03", b"class04")


def garbled(files: Files) -> None:
    files["run05/class_labels.txt"] = b"item01 class01\n" * 20


def empty_labels(files: Files) -> None:
    files["run05/class_labels.txt"] = b"\n"


def truncated(files: Files) -> None:
    files["run05/test/item03.png"] = files["run05/test/item03.png"][:50]


def other_size(files: Files) -> None:
    file = io.BytesIO()
    Image.new("1", (28, 28)).save(file, "PNG")
    files["run05/test/item03.png"] = file.getvalue()


def a_run_less(files: Files) -> None:
    for name in [name for name in files if name.startswith("run20/")]:
        del files[name]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (without("run05/training/class07.png"), r"run05 in .* lacks training/class07\.png"),
        (without("run05/class_labels.txt"), r"run05 in .* lacks class_labels\.txt"),
        (relabelled, "class_labels.txt of run05 in .* does not pair 20 items and classes"),
        (garbled, "class_labels.txt of run05 in .* does not pair"),
        (empty_labels, "class_labels.txt of run05 in .* does not pair"),
        (truncated, r"run05/test/item03\.png in .* cannot be read"),
        (other_size, r"run05/test/item03\.png in .* has the size"),
        (a_run_less, "holds 19 runs, not run01 to run20"),
    ],
)
def test_damaged_runs_are_refused(archives, tmp_path, damage, sentence):
    files = run_files()
    damage(files)
    pack(tmp_path / "all_runs.zip", files)
    shutil.copy(archives / "images_background_small1.zip", tmp_path)
    with pytest.raises(UserError, match=sentence):
        load(tmp_path)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (background_files(SMALL | {"Angelic": 2}, "a"), "'Angelic', which is not a background alphabet"),
        (background_files({"Latin": 2, "Balinese": 2}, "a"), "is not the published background set 'small1'"),
        ({"readme.txt": b"?"}, "holds no ALPHABET/characterNN"),
    ],
)
def test_other_characters_than_background_ones_are_refused(archives, tmp_path, files, sentence):
    pack(tmp_path / "images_background_small1.zip", files)
    shutil.copy(archives / "all_runs.zip", tmp_path)
    with pytest.raises(UserError, match=sentence):
        load(tmp_path)


def test_a_damaged_archive_is_named(archives, tmp_path):
    content = (archives / "all_runs.zip").read_bytes()
    (tmp_path / "all_runs.zip").write_bytes(content[: len(content) // 2])
    shutil.copy(archives / "images_background_small1.zip", tmp_path)
    with pytest.raises(UserError, match=r"all_runs\.zip cannot be read \("):
        load(tmp_path)


def test_part_of_the_background_is_not_taken_for_all_of_it(archives, tmp_path):
    pack(tmp_path / "images_background.zip", background_files(dict.fromkeys(omniglot_lake.ALPHABETS, 2), "a"))
    shutil.copy(archives / "all_runs.zip", tmp_path)
    with pytest.raises(UserError, match="holds 60 characters of 30 alphabets, which is not"):
        omniglot_lake.load_splits(path=str(tmp_path))


def test_symmetries_keep_the_groups_apart(archives):
    splits = omniglot_lake.load_splits(background="small1", path=str(archives), symmetries=8)
    assert splits.train.num_classes == 8 * 7
    names = splits.train.class_names
    plain = splits.train.images[splits.train.labels == names.index("Latin/character02")]
    mirrored = splits.train.images[splits.train.labels == names.index("Latin/mirrored/character02")]
    turned = splits.train.images[splits.train.labels == names.index("Latin/mirrored/character02/rot090")]
    np.testing.assert_array_equal(mirrored, plain[:, :, ::-1])
    np.testing.assert_array_equal(turned, np.rot90(mirrored, axes=(1, 2)))


@pytest.fixture(scope="module")
def shared(tfds_data_dir) -> Path:
    folder = Path(tfds_data_dir).parent / "omniglot"
    if not (folder / "all_runs.zip").is_file():
        pytest.skip(f"needs Lake's runs in {folder}")
    return folder


def test_the_published_background_holds_no_character_of_the_test(shared, tfds_data_dir):
    splits = omniglot_lake.load_splits(path=str(shared), data_dir=str(tfds_data_dir), symmetries=1)
    learned = [*splits.train.class_names, *splits.validation.class_names]
    assert len(learned) == 964
    assert {name.split("/")[0] for name in learned} == set(omniglot_lake.ALPHABETS)
    seen = {image.tobytes() for part in (splits.train, splits.validation) for image in part.images}
    assert not seen & {image.tobytes() for image in splits.test.images}


@pytest.mark.parametrize(("background", "characters"), [("small1", 136), ("small2", 156)])
def test_published_minimal_sets_are_parts_of_the_background(shared, tfds_data_dir, background, characters):
    small, whole = (
        omniglot_lake.load_splits(
            path=str(shared), data_dir=str(tfds_data_dir), symmetries=1, background=name
        )
        for name in (background, "all")
    )
    names = [*small.train.class_names, *small.validation.class_names]
    assert len(names) == characters and {name.split("/")[0] for name in names} <= set(omniglot_lake.ALPHABETS)
    there = {image.tobytes() for part in (whole.train, whole.validation) for image in part.images}
    assert {image.tobytes() for image in small.train.images} <= there
