"""Episodes come back from a file as they were written, and nothing else comes from it."""

from __future__ import annotations

from pathlib import Path

import chex
import jax
import numpy as np
import pytest

from fsljax.classification.episode_file import read_episodes, write_episodes
from fsljax.classification.episodes import sample
from fsljax.data.dataset import ImageDataset
from fsljax.data.samplers.episodes import Episodes
from fsljax.errors import UserError
from fsljax.evaluation.episodic import Setting

from .labelled_images import SETTING, dataset


@pytest.fixture(scope="module")
def data() -> ImageDataset:
    return dataset()


@pytest.fixture(scope="module")
def episodes(data: ImageDataset) -> Episodes:
    return sample(jax.random.key(0), data, SETTING, 50)


def test_episodes_come_back_as_they_were_written_in_their_order(data: ImageDataset, tmp_path: Path):
    settings = [Setting(5, 1, 2), Setting(3, 2, 1), Setting(2, 1, 1)]
    written = {each: sample(jax.random.key(1), data, each, 4) for each in settings}
    path = tmp_path / "new folder/episodes.npz"
    write_episodes(path, data, written)
    read = read_episodes(path, data)
    assert list(read) == settings
    chex.assert_trees_all_equal(list(read.values()), list(written.values()))
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(list(read.values())))


def test_the_name_of_the_file_is_not_changed(data: ImageDataset, episodes: Episodes, tmp_path: Path):
    write_episodes(tmp_path / "episodes", data, {SETTING: episodes})
    assert [path.name for path in tmp_path.iterdir()] == ["episodes"]
    assert list(read_episodes(tmp_path / "episodes", data)) == [SETTING]


def test_an_array_that_older_versions_of_numpy_add_is_passed_over(
    data: ImageDataset, episodes: Episodes, tmp_path: Path
):
    """To them `allow_pickle` is one more array to save."""
    path = tmp_path / "episodes.npz"
    write_episodes(path, data, {SETTING: episodes})
    with np.load(path) as arrays:
        contents = dict(arrays)
    np.savez(path, **(contents | {"pickle": np.array(False)}))
    assert list(read_episodes(path, data)) == [SETTING]


def test_episodes_that_cannot_be_written_are_told(data: ImageDataset, episodes: Episodes, tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path, tmp_path / "file/episodes.npz"):
        with pytest.raises(UserError, match=f"cannot be written to {path}: [A-Za-z]"):
            write_episodes(path, data, {SETTING: episodes})


def test_a_missing_file_of_episodes_is_told(data: ImageDataset, tmp_path: Path):
    with pytest.raises(UserError, match=r"no episode file at .*none.npz \(config.eval.read_episodes\)"):
        read_episodes(tmp_path / "none.npz", data)


def test_episodes_of_another_data_set_are_refused(data: ImageDataset, episodes: Episodes, tmp_path: Path):
    path = tmp_path / "episodes.npz"
    write_episodes(path, data, {SETTING: episodes})
    with pytest.raises(UserError, match="drawn from another data set"):
        read_episodes(path, dataset(seed=1))


def _save_npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.arange(3))


def _save_npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, classes=np.arange(3))


def _save_pickled(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, fingerprint=np.array([None], dtype=object))


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("episodes"),
        lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100)),
        lambda path: path.mkdir(),
        _save_npy,
        _save_npz,
        _save_pickled,
    ],
    ids=["empty", "text", "broken zip", "folder", "npy", "other npz", "pickle"],
)
def test_what_is_no_file_of_episodes_is_told(data: ImageDataset, tmp_path: Path, make):
    path = tmp_path / "episodes.npz"
    make(path)
    with pytest.raises(UserError, match=f"{path} is not an episode file"):
        read_episodes(path, data)


def test_a_truncated_or_changed_file_of_episodes_is_noticed_or_harmless(
    data: ImageDataset, episodes: Episodes, tmp_path: Path
):
    path = tmp_path / "episodes.npz"
    write_episodes(path, data, {SETTING: episodes})
    whole = path.read_bytes()
    damaged = [whole[:size] for size in range(0, len(whole), 97)]
    contents = range(0, whole.index(b"PK\x01\x02"), 7)  # the archive's directory has no checksum
    damaged += [whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :] for at in contents]
    noticed = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            chex.assert_trees_all_equal(read_episodes(path, data)[SETTING], episodes)
        except UserError:
            noticed += 1
    assert noticed > len(damaged) / 2


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays | {"4_3_2/images": arrays["4_3_2/images"] + 1000},
        lambda arrays: arrays | {"4_3_2/images": arrays["4_3_2/images"][:, :, 1:]},
        lambda arrays: arrays | {"4_3_2/images": arrays["4_3_2/images"].astype(float)},
        lambda arrays: {"fingerprint": arrays["fingerprint"]},
        lambda arrays: arrays | {"four_2_3/images": arrays["4_3_2/images"]},
        lambda arrays: {name: array for name, array in arrays.items() if not name.endswith("classes")},
        lambda arrays: {name: array for name, array in arrays.items() if not name.endswith("images")},
        lambda arrays: arrays | {"4_3_2/classes": arrays["4_3_2/classes"] + 1000},
        lambda arrays: arrays | {"4_3_2/classes": arrays["4_3_2/classes"][:, ::-1]},
        lambda arrays: arrays | {"4_3_2/classes": arrays["4_3_2/classes"] * 0},
        lambda arrays: arrays | {"4_3_2/classes": arrays["4_3_2/classes"][:, 1:]},
        lambda arrays: arrays | {"4_3_2/images": arrays["4_3_2/images"][:, :, [0, 0, 2, 3, 4]]},
        lambda arrays: arrays | {"4_3_2/images": arrays["4_3_2/images"][:, [0, 0, 2, 3]]},
    ],
    ids=[
        "out of range",
        "another shape",
        "no whole numbers",
        "none",
        "no setting",
        "no classes",
        "no images",
        "unknown classes",
        "classes of other images",
        "a class often",
        "too few classes",
        "an image twice",
        "images of another class",
    ],
)
def test_episodes_that_do_not_fit_are_refused(data: ImageDataset, episodes: Episodes, tmp_path: Path, change):
    path = tmp_path / "episodes.npz"
    write_episodes(path, data, {SETTING: episodes})
    arrays = dict(np.load(path))
    assert "4_3_2/images" in arrays
    np.savez(path, **change(arrays))
    with pytest.raises(UserError, match="holds no episodes, or damaged ones"):
        read_episodes(path, data)


def test_a_file_of_episodes_is_replaced_whole_or_not_at_all(
    data: ImageDataset, episodes: Episodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "episodes.npz"
    write_episodes(path, data, {SETTING: episodes})
    before = path.read_bytes()

    def fill_the_disk(file, **_: object) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", fill_the_disk)
    with pytest.raises(UserError, match="No space left on device"):
        write_episodes(path, data, {SETTING: episodes})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
