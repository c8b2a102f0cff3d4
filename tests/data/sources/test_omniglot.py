import functools
import http.server
import io
import signal
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from fsljax.data import hierarchy
from fsljax.data.io import tfds_source
from fsljax.data.sources import omniglot
from fsljax.errors import UserError

# Alphabets and their numbers of characters: names that decide the split are the real ones, and the
# numbers add up to the real ones: 964 in the background part, 659 in the evaluation part.
BACKGROUND = {
    "Armenian": 41,
    "Bengali": 46,
    "Early_Aramaic": 22,
    "Hebrew": 22,
    "Mkhedruli_(Georgian)": 41,
    **{f"Z_background{i:02}": 33 for i in range(23)},
    "Z_background23": 32,
    "Z_background24": 1,
}
EVALUATION = {
    "Angelic": 20,
    "Atemayar_Qelisayer": 26,
    "Atlantean": 26,
    "Aurek-Besh": 26,
    "Avesta": 26,
    "Ge_ez": 26,
    "Glagolitic": 45,
    "Gurmukhi": 45,
    **{f"Z_evaluation{i:02}": 35 for i in range(11)},
    "Z_evaluation11": 34,
}
DRAWINGS = 2


def all_parts(splits):
    return splits.train, splits.validation, splits.test


def drawing(character, drawer):
    """A drawing of its own for each character: its number in binary, as bars of ink in the upper left."""
    ink = np.zeros((105, 105), bool)
    for bit in range(11):
        ink[4 * bit : 4 * bit + 3, 0 : 40 if character >> bit & 1 else 4] = True
    ink[60, drawer] = True
    file = io.BytesIO()
    Image.fromarray(~ink).convert("1").save(file, "PNG")
    return file.getvalue()


def write_archives(folder, background=BACKGROUND, evaluation=EVALUATION):
    """The four archives in the published layout, with characters numbered from 1 through both parts."""
    members, number = {}, 0
    for part, alphabets in (("images_background", background), ("images_evaluation", evaluation)):
        members[part] = []
        for alphabet, count in alphabets.items():
            for character in range(1, count + 1):
                number += 1
                for drawer in range(1, DRAWINGS + 1):
                    name = f"{alphabet}/character{character:02}/{number:04}_{drawer:02}.png"
                    members[part].append((name, drawing(number, drawer)))
    members["images_background_small1"] = members["images_background"][:40]
    members["images_background_small2"] = members["images_background"][40:60]
    for part, files in members.items():
        with zipfile.ZipFile(folder / f"{part}.zip", "w") as archive:
            archive.mkdir(part)
            for name, content in files:
                archive.writestr(f"{part}/{name}", content)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A folder, and the address under which its sub-folders can be downloaded."""
    root = tmp_path_factory.mktemp("served")
    handler = functools.partial(Quiet, directory=root)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield root, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def whole(served):
    """The address of all four archives."""
    root, address = served
    (root / "whole").mkdir()
    write_archives(root / "whole")
    return f"{address}/whole/"


@pytest.fixture(scope="module")
def downloaded(whole, tmp_path_factory):
    """A data folder, and what was loaded after downloading into it."""
    data_dir = str(tmp_path_factory.mktemp("downloaded"))
    return data_dir, omniglot.load_splits(data_dir=data_dir, rotations=False, base_url=whole)


def test_downloaded_data_are_split_as_published(downloaded):
    _, splits = downloaded
    assert [part.num_classes for part in all_parts(splits)] == [1028, 172, 423]
    assert splits.test.class_names[:2] == ("Gurmukhi/character42", "Gurmukhi/character43")
    assert "Gurmukhi/character41" in splits.train.class_names
    for part in all_parts(splits):
        assert part.images.shape == (DRAWINGS * part.num_classes, 28, 28, 1)
        assert set(part.class_counts()) == {DRAWINGS}


def test_downloaded_drawings_are_those_of_their_class(downloaded):
    _, splits = downloaded
    number = 0
    for alphabets in (BACKGROUND, EVALUATION):
        for alphabet, count in alphabets.items():
            for character in range(1, count + 1):
                number += 1
                if number % 100:
                    continue
                name = f"{alphabet}/character{character:02}"
                part = next(part for part in all_parts(splits) if name in part.class_names)
                images = part.images[part.labels == part.class_names.index(name)]
                pictures = [drawing(number, drawer) for drawer in range(1, DRAWINGS + 1)]
                expected = [share_of_ink(~np.asarray(Image.open(io.BytesIO(png)))) for png in pictures]
                assert {image.tobytes() for image in images} == {image.tobytes() for image in expected}


def share_of_ink(ink, size=28):
    """Cells of a grid counted out in pixels so small that no cell border cuts one."""
    side = len(ink)
    fine = np.repeat(np.repeat(ink, size, axis=0), size, axis=1)
    counts = fine.reshape(size, side, size, side).sum(axis=(1, 3))
    return np.rint(counts * 255 / side**2).astype(np.uint8)


def test_what_was_prepared_is_read_by_plain_tfds(downloaded):
    data_dir, _ = downloaded
    program = (
        "import sys\n"
        "import tensorflow_datasets as tfds\n"
        f"parts = tfds.data_source('omniglot', data_dir={data_dir!r})\n"
        "print({name: len(part) for name, part in sorted(parts.items())})\n"
        "example = parts['test'][7]\n"
        "print(example['image'].shape, sorted(example), 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    counts, example = done.stdout.splitlines()
    assert counts == str({"small1": 40, "small2": 20, "test": 659 * DRAWINGS, "train": 964 * DRAWINGS})
    assert example == "(105, 105, 3) ['alphabet', 'alphabet_char_id', 'image', 'label'] False"


def test_prepared_data_are_not_downloaded_again(downloaded):
    data_dir, splits = downloaded
    again = omniglot.load_splits(data_dir=data_dir, rotations=False, base_url="http://127.0.0.1:9/")
    assert again.test.fingerprint() == splits.test.fingerprint()


def test_preparing_registers_no_builder(downloaded):
    from tensorflow_datasets.core import registered

    assert all("fsljax" not in builder.__module__ for builder in registered._DATASET_REGISTRY.values())


def test_an_interrupted_preparation_looks_like_none(whole, tmp_path):
    """Killed at the worst moment: all files are written, but not yet in their place."""
    place = tmp_path / "omniglot" / omniglot.VERSION
    program = (
        "import os, signal, sys\n"
        "from fsljax.data.sources import omniglot\n"
        "def kill(event, arguments):\n"
        f"    if event == 'os.rename' and str(arguments[1]) == {str(place)!r}:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(kill)\n"
        f"omniglot.prepare(data_dir={str(tmp_path)!r}, base_url={whole!r})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list(tmp_path.glob("omniglot/.incomplete-*/omniglot/3.0.0/*train.array_record*"))
    assert tfds_source.find("omniglot", data_dir=str(tmp_path)) is None
    assert omniglot.prepare(data_dir=str(tmp_path), base_url=whole) == place
    assert tfds_source.find("omniglot", data_dir=str(tmp_path)) == place


def test_two_preparations_at_once_both_succeed(whole, tmp_path):
    """Each waits with its finished files until the other has finished too: one of them comes second."""
    place = tmp_path / "omniglot" / omniglot.VERSION
    program = (
        "import pathlib, sys, time\n"
        "from fsljax.data.sources import omniglot\n"
        f"home = pathlib.Path({str(tmp_path)!r})\n"
        "def wait(event, arguments):\n"
        f"    if event == 'os.rename' and str(arguments[1]) == {str(place)!r}:\n"
        "        (home / sys.argv[1]).touch()\n"
        "        deadline = time.monotonic() + 60\n"
        "        while len(list(home.glob('ready-*'))) < 2 and time.monotonic() < deadline:\n"
        "            time.sleep(0.01)\n"
        "sys.addaudithook(wait)\n"
        f"print(omniglot.prepare(data_dir=str(home), base_url={whole!r}))"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", program, f"ready-{number}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for process in both:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert output.splitlines()[-1] == str(place)
    assert {path.name for path in tmp_path.glob("ready-*")} == {"ready-0", "ready-1"}
    assert [path.name for path in (tmp_path / "omniglot").iterdir()] == [omniglot.VERSION]
    assert omniglot.load_splits(data_dir=str(tmp_path), rotations=False).test.num_classes == 423


def test_archives_of_something_else_are_refused(served, tmp_path):
    root, address = served
    (root / "other").mkdir()
    write_archives(root / "other", background={"Armenian": 3}, evaluation={"Gurmukhi": 2})
    with pytest.raises(UserError, match="hold 5 characters of 2 alphabets, not Omniglot's 1,623 of 50"):
        omniglot.load_splits(data_dir=str(tmp_path), base_url=f"{address}/other")
    assert not list((tmp_path / "omniglot").iterdir())


def test_a_missing_archive_leaves_nothing(served, whole, tmp_path):
    root, address = served
    (root / "partial").mkdir()
    background = (root / "whole/images_background.zip").read_bytes()
    (root / "partial/images_background.zip").write_bytes(background)
    with pytest.raises(UserError, match=r"images_evaluation\.zip:\n.*404"):
        omniglot.load_splits(data_dir=str(tmp_path), base_url=f"{address}/partial")
    assert not list(tmp_path.iterdir())


def test_without_network_one_screen_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(UserError) as raised:
        omniglot.load_splits(base_url="http://127.0.0.1:9/")
    message = str(raised.value)
    assert len(message.splitlines()) <= 20
    for part in (
        "omniglot 3.0.0",
        f"{tmp_path}/omniglot/3.0.0: no such data set there",
        "downloading http://127.0.0.1:9/images_background.zip",
        "refused",
        "TFDS_DATA_DIR=FOLDER",
        "--config=configs/quickstart.py",
    ):
        assert part in message
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(whole, tmp_path):
    (tmp_path / "omniglot").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"Omniglot cannot be written to .*omniglot/3\.0\.0"):
        omniglot.load_splits(data_dir=str(tmp_path), base_url=whole)


@pytest.mark.parametrize("size", [28, 20, 35, 105, 120])
def test_resized_by_area(size):
    ink = np.random.default_rng(size).random((3, 105, 105)) < 0.3
    images = omniglot.resize_by_area(ink, size)
    assert images.shape == (3, size, size, 1)
    assert images.dtype == np.uint8
    for image, drawn in zip(images[..., 0], ink, strict=True):
        np.testing.assert_array_equal(image, share_of_ink(drawn, size))


@pytest.mark.parametrize("size", [21, 35, 105])
def test_resized_as_pillow_does_where_cells_are_whole_pixels(size):
    ink = np.random.default_rng(size).random((105, 105)) < 0.3
    theirs = Image.fromarray(np.uint8(255 * ink)).resize((size, size), Image.Resampling.BOX)
    ours = omniglot.resize_by_area(ink[None], size)[0, ..., 0]
    # Pillow rounds after each of its two passes.
    np.testing.assert_allclose(ours.astype(int), np.asarray(theirs).astype(int), atol=1)


def test_resizing_and_turning_commute():
    ink = np.random.default_rng(0).random((5, 105, 105)) < 0.2
    np.testing.assert_array_equal(
        omniglot.resize_by_area(np.rot90(ink, axes=(1, 2)), 28),
        np.rot90(omniglot.resize_by_area(ink, 28), axes=(1, 2)),
    )


def test_ink_is_255_and_paper_0():
    ink = np.zeros((1, 105, 105), bool)
    ink[0, :53] = True
    image = omniglot.resize_by_area(ink, 28)[0, ..., 0]
    assert (image[:14] == 255).all()
    assert (image[15:] == 0).all()


def test_the_published_set_alone_is_split(downloaded):
    _, splits = downloaded
    with pytest.raises(UserError, match=r"1,623 characters of Omniglot.* This set has 423 characters\."):
        omniglot.split(splits.test)


def prepare_few(data_dir, drawings=20):
    """Five characters of three alphabets with TFDS's own features, each drawing with ink elsewhere."""
    few = [("Greek", 0), ("Greek", 1), ("Hebrew", 0), ("Hebrew", 3), ("ULOG", 2)]
    features = tfds.builder("omniglot", data_dir=data_dir).info.features
    # Read from the archives, as those of the labels.
    features["alphabet"].names = ["Greek", "Hebrew", "ULOG", *map(str, range(47))]

    class Omniglot(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(omniglot.VERSION)
        name = "omniglot"

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(few[:3]), "test": self._generate_examples(few[3:])}

        def _generate_examples(self, characters):
            for alphabet, number in characters:
                for drawer in range(drawings):
                    ink = np.zeros((105, 105), bool)
                    ink[15 * number : 15 * number + 10, 5 * drawer : 5 * drawer + 5] = True
                    file = io.BytesIO()
                    Image.fromarray(~ink).convert("RGB").save(file, "PNG")
                    yield (
                        f"{alphabet}{number}/{drawer}",
                        {
                            "image": io.BytesIO(file.getvalue()),
                            "alphabet": alphabet,
                            "alphabet_char_id": number,
                            "label": 0,
                        },
                    )

    Omniglot(data_dir=data_dir, file_format="array_record").download_and_prepare()
    return [f"{alphabet}/character{number + 1:02}" for alphabet, number in few]


def test_shared_characters_are_divided_by_drawings_in_stored_order(tmp_path):
    names = prepare_few(tmp_path)
    splits = omniglot.load_splits(data_dir=str(tmp_path), image_size=21, shared_classes=True)
    stored = {name: [] for name in names}
    for part in ("train", "test"):
        folder = tfds_source.find("omniglot", omniglot.VERSION, str(tmp_path))
        alphabets = tfds_source.dataset_info(folder).features["alphabet"].names
        for example in tfds_source.data_source(folder, part):
            name = f"{alphabets[example['alphabet']]}/character{example['alphabet_char_id'] + 1:02}"
            ink = np.asarray(Image.open(io.BytesIO(example["image"])).convert("L")) == 0
            stored[name].append(share_of_ink(ink, 21))
    for part, first, last in zip(all_parts(splits), (0, 12, 15), (12, 15, 20), strict=True):
        assert part.class_names == tuple(names)
        for label, name in enumerate(names):
            np.testing.assert_array_equal(part.images[part.labels == label, ..., 0], stored[name][first:last])


def test_too_few_drawings_of_shared_characters_are_refused(tmp_path):
    prepare_few(tmp_path, drawings=6)
    with pytest.raises(UserError, match="has 6 drawings, but 7 are needed"):
        omniglot.load_splits(data_dir=str(tmp_path), shared_classes=True)


@pytest.fixture(scope="module")
def real(tfds_data_dir):
    # Missing data are a failure, not a reason to download them.
    return omniglot.load_splits(data_dir=str(tfds_data_dir), base_url="http://127.0.0.1:9/")


def test_real_split_has_the_published_classes(real):
    assert [part.num_classes for part in all_parts(real)] == [4112, 688, 1692]
    for part in all_parts(real):
        assert part.images.shape == (20 * part.num_classes, 28, 28, 1)
        assert part.images.dtype == np.uint8
        assert part.labels.dtype == np.int32
        assert set(part.class_counts()) == {20}
    names = [name for part in all_parts(real) for name in part.class_names]
    assert len(set(names)) == 4112 + 688 + 1692


def test_real_border_between_training_and_test(real):
    assert real.test.class_names[0] == "Gurmukhi/character42"
    assert real.test.class_names[-1] == "ULOG/character26/rot270"
    assert real.train.class_names[0] == "Alphabet_of_the_Magi/character01"
    assert real.train.class_names[-1] == "Gurmukhi/character41/rot270"


def test_real_validation_alphabets(real):
    alphabets = {name.split("/")[0] for name in real.validation.class_names}
    assert alphabets == {"Armenian", "Bengali", "Early_Aramaic", "Hebrew", "Mkhedruli_(Georgian)"}
    assert not alphabets & {name.split("/")[0] for name in real.train.class_names + real.test.class_names}


def test_real_characters_turned_are_classes_of_their_own(real, tfds_data_dir):
    upright = omniglot.load_splits(data_dir=str(tfds_data_dir), rotations=False)
    assert [part.num_classes for part in all_parts(upright)] == [1028, 172, 423]
    assert real.test.class_names[:4] == (
        "Gurmukhi/character42",
        "Gurmukhi/character42/rot090",
        "Gurmukhi/character42/rot180",
        "Gurmukhi/character42/rot270",
    )
    for label in (0, 200, 422):
        drawings = upright.test.images[upright.test.labels == label]
        for turns in range(4):
            turned = real.test.images[real.test.labels == 4 * label + turns]
            np.testing.assert_array_equal(turned, np.rot90(drawings, turns, axes=(1, 2)))


def test_real_characters_are_shared(tfds_data_dir):
    splits = omniglot.load_splits(data_dir=str(tfds_data_dir), shared_classes=True)
    for part, drawings in zip(all_parts(splits), (12, 3, 5), strict=True):
        np.testing.assert_array_equal(part.class_counts(), [drawings] * 1623)
        assert part.class_names == splits.train.class_names
    united = hierarchy.unite(splits, "alphabets", 0)
    assert united.test.num_classes == 50
    assert united.test.class_names[:2] == ("Alphabet_of_the_Magi", "Anglo-Saxon_Futhorc")
    assert len(united.test.fine_class_names) == 1623


def test_real_strokes_are_light_on_dark(real):
    assert 0.03 < (real.train.images[:2000] > 127).mean() < 0.2
