import os
import subprocess
import sys
import textwrap

import numpy as np
import platformdirs
import pytest

from fsljax.data.io.cache import cache_folder, cached_arrays

CONTENT = {"images": np.arange(24, dtype=np.uint8).reshape(2, 3, 4), "labels": np.array([3, 5], np.int32)}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Maker:
    def __init__(self, content=CONTENT):
        self.content = content
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return self.content


def assert_same(arrays, content=CONTENT):
    assert arrays.keys() == content.keys()
    for key in content:
        assert arrays[key].dtype == content[key].dtype
        np.testing.assert_array_equal(arrays[key], content[key])


def test_folder(home, monkeypatch):
    assert cache_folder() == home / "fsljax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert str(cache_folder()) == platformdirs.user_cache_dir("fsljax")


def test_made_once_and_read_afterwards():
    make = Maker()
    assert_same(cached_arrays("data", "1" * 64, make))
    again = cached_arrays("data", "1" * 64, make)
    assert make.calls == 1
    assert_same(again)
    assert all(isinstance(array, np.memmap) and not array.flags.writeable for array in again.values())


def test_other_name_or_fingerprint_is_another_entry():
    other = Maker({"images": np.zeros(1)})
    assert_same(cached_arrays("data", "1" * 64, Maker()))
    assert_same(cached_arrays("data", "2" * 64, other), other.content)
    assert_same(cached_arrays("more", "1" * 64, other), other.content)
    assert other.calls == 2


def test_empty_arrays_and_text_survive():
    content = {
        "none": np.zeros((0, 4), np.int64),
        "no_text": np.array([], np.str_),
        "text": np.array(["ü", "lang"], np.str_),
    }
    make = Maker(content)
    for _ in range(2):
        assert_same(cached_arrays("data", "1" * 64, make), content)
    assert make.calls == 1


def test_nothing_is_kept_of_what_fails(home):
    def fail():
        raise RuntimeError("no such data")

    with pytest.raises(RuntimeError, match="no such data"):
        cached_arrays("data", "1" * 64, fail)
    assert not home.exists() or not [path for path in home.rglob("*") if path.is_file()]
    assert_same(cached_arrays("data", "1" * 64, Maker()))


def truncate(file):
    file.write_bytes(file.read_bytes()[:-1])


def scribble(file):
    file.write_bytes(b"this is no array" * 20)


def empty(file):
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, scribble])
def test_a_damaged_entry_is_made_anew(home, damage):
    make = Maker()
    cached_arrays("data", "1" * 64, make)
    (file,) = home.rglob("images.npy")
    damage(file)
    assert_same(cached_arrays("data", "1" * 64, make))
    assert_same(cached_arrays("data", "1" * 64, make))
    assert make.calls == 2


def test_a_folder_that_cannot_be_written_does_no_harm(home):
    home.write_text("a file where the folder should be")
    make = Maker()
    for _ in range(2):
        assert_same(cached_arrays("data", "1" * 64, make))
    assert make.calls == 2
    assert home.read_text() == "a file where the folder should be"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_does_no_harm(home):
    home.mkdir(mode=0o500)
    assert_same(cached_arrays("data", "1" * 64, Maker()))


def test_nothing_unfinished_is_left_behind(home):
    cached_arrays("data", "1" * 64, Maker())
    assert [path.name for path in (home / "fsljax").iterdir()] == [f"data-{'1' * 16}"]


def test_an_entry_that_another_process_finished_first_stays(home):
    def make():
        cached_arrays("data", "1" * 64, Maker())  # what the other process does meanwhile
        return CONTENT

    assert_same(cached_arrays("data", "1" * 64, make))
    assert [path.name for path in (home / "fsljax").iterdir()] == [f"data-{'1' * 16}"]
    unused = Maker()
    assert_same(cached_arrays("data", "1" * 64, unused))
    assert unused.calls == 0


def test_processes_that_make_the_same_entry_at_once_all_get_it(home, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import sys, time
            import numpy as np
            from fsljax.data.io.cache import cached_arrays

            print("ready", flush=True)
            sys.stdin.readline()
            for turn in range(20):
                make = lambda: {"a": np.full((256, 256), turn), "b": np.full(7, turn)}
                arrays = cached_arrays("data", f"{turn:016d}", make)
                assert set(arrays) == {"a", "b"}, set(arrays)
                assert arrays["a"].shape == (256, 256) and (arrays["a"] == turn).all()
                assert (arrays["b"] == turn).all()
            """
        )
    )
    runs = [
        subprocess.Popen(
            [sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for run in runs:
        assert run.stdout.readline() == b"ready\n"
    for run in runs:
        run.stdin.write(b"go\n")
        run.stdin.flush()
    for run in runs:
        _, errors = run.communicate(timeout=60)
        assert run.returncode == 0, errors.decode()
    assert len(list((home / "fsljax").iterdir())) == 20


@pytest.mark.parametrize("keys", ["", "images"])
def test_an_entry_whose_keys_are_lost_is_made_anew(home, keys):
    make = Maker()
    cached_arrays("data", "1" * 64, make)
    (file,) = home.rglob("keys.txt")
    file.write_text(keys)
    for _ in range(2):
        assert_same(cached_arrays("data", "1" * 64, make))
    assert make.calls == 2


def test_an_entry_that_holds_nothing_is_made_anew(home):
    make = Maker()
    cached_arrays("data", "1" * 64, make)
    (entry,) = (home / "fsljax").iterdir()
    for file in entry.iterdir():
        file.unlink()
    (entry / "keys.txt").touch()
    assert_same(cached_arrays("data", "1" * 64, make))
    assert make.calls == 2


def test_arrays_that_are_not_to_be_kept_are_made_each_time(home):
    make = Maker()
    for _ in range(2):
        assert_same(cached_arrays("data", "1" * 64, make, keep=lambda arrays: "labels" not in arrays))
    assert make.calls == 2
    assert not home.exists()


@pytest.mark.parametrize("damage", [empty, lambda file: file.unlink()], ids=["emptied", "removed"])
def test_an_entry_with_a_file_emptied_or_removed_is_made_anew(home, damage):
    make = Maker()
    cached_arrays("data", "1" * 64, make)
    (file,) = home.rglob("images.npy")
    damage(file)
    assert_same(cached_arrays("data", "1" * 64, make))
    assert make.calls == 2
