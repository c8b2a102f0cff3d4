import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import platformdirs
import pytest

from fsljax.data.io.cache import cache_folder, cached_arrays, cached_file
from fsljax.storage import array_folders

ROOT = Path(__file__).parents[3]
PATHS = {"PYTHONPATH": str(ROOT)}
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
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


@pytest.mark.parametrize("given", ["~/.cache", "cache", ""])
def test_a_path_that_is_not_absolute_is_ignored(given, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert cache_folder().is_absolute() and cache_folder() != tmp_path / given / "fsljax"


def test_a_full_disk_costs_a_warning_and_not_the_run(home, monkeypatch, caplog):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(array_folders._Checked, "write", fail)
    assert_same(cached_arrays("data", "1" * 64, Maker()))
    assert len(caplog.records) == 1 and "No space left" in caplog.text
    assert not list((home / "fsljax").iterdir())


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


def truncated(file):
    file.write_bytes(file.read_bytes()[:-4])


def grown(file):
    file.write_bytes(file.read_bytes() + b"x")


def scribbled(file):
    file.write_bytes(b"this is no array" * 20)


def emptied(file):
    file.write_bytes(b"")


def removed(file):
    file.unlink()


def flipped(file):
    content = bytearray(file.read_bytes())
    content[-2] ^= 64
    file.write_bytes(content)


def header_flipped(file):
    content = bytearray(file.read_bytes())
    content[min(30, len(content) - 1)] ^= 1
    file.write_bytes(content)


def folder_instead(file):
    file.unlink()
    file.mkdir()


def folder_without_permission_instead(file):
    file.unlink()
    file.mkdir(mode=0)


def link_instead(file):
    file.rename(file.parents[2] / "elsewhere")
    file.symlink_to(file.parents[2] / "elsewhere")


def pipe_instead(file):
    file.unlink()
    os.mkfifo(file)


def writable_by_all(file):
    file.chmod(0o666)


def entry_writable_by_all(file):
    file.parent.chmod(0o777)


def one_file_more(file):
    (file.parent / "more.npy").write_bytes(file.read_bytes())


def entry_emptied(file):
    for one in file.parent.iterdir():
        one.unlink()


def entry_a_file(file):
    entry_emptied(file)
    file.parent.rmdir()
    file.parent.write_text("no folder")


def entry_a_link(file):
    file.parent.rename(file.parents[2] / "elsewhere")
    file.parent.symlink_to(file.parents[2] / "elsewhere")


def entry_a_link_to_nothing(file):
    file.parent.rename(file.parents[2] / "elsewhere")
    file.parent.symlink_to(file.parents[2] / "nothing")


OF_FILES = [truncated, grown, scribbled, emptied, removed, flipped, header_flipped, folder_instead]
OF_FILES += [folder_without_permission_instead, link_instead, pipe_instead, writable_by_all]
OF_ENTRIES = [entry_writable_by_all, one_file_more, entry_emptied, entry_a_file, entry_a_link]
OF_ENTRIES += [entry_a_link_to_nothing]


@pytest.mark.parametrize(
    "name, damage",
    [(name, damage) for name in ("images.npy", "labels.npy", "contents.json") for damage in OF_FILES]
    + [("images.npy", damage) for damage in OF_ENTRIES],
)
def test_a_damaged_entry_is_made_anew_with_one_warning(home, caplog, name, damage):
    make = Maker()
    cached_arrays("data", "1" * 64, make)
    damage(home / "fsljax" / f"data-{'1' * 16}" / name)
    caplog.clear()
    assert_same(cached_arrays("data", "1" * 64, make))
    assert make.calls == 2
    (warning,) = caplog.records
    assert f"data-{'1' * 16}" in warning.getMessage() and "regenerated" in warning.getMessage()
    assert_same(cached_arrays("data", "1" * 64, make))
    assert make.calls == 2
    assert [path.name for path in (home / "fsljax").iterdir()] == [f"data-{'1' * 16}"]


@pytest.mark.parametrize(
    "contents",
    [
        "[]",
        '{"made_of": "MADE_OF", "files": {"images": 3, "labels": 3}}',
        '{"made_of": "MADE_OF", "files": {"images": {}, "labels": {}}}',
        '{"made_of": "MADE_OF", "files": ["images", "labels"]}',
        '{"files": ' * 100_000,
    ],
)
def test_contents_that_mean_nothing_are_damage(home, contents):
    make = Maker()
    cached_arrays("data", "1" * 64, make)
    (file,) = home.rglob("contents.json")
    file.write_text(contents.replace("MADE_OF", "1" * 64))
    assert_same(cached_arrays("data", "1" * 64, make))
    assert make.calls == 2


def test_an_entry_of_an_earlier_version_is_made_anew(home, caplog):
    entry = home / "fsljax" / f"data-{'1' * 16}"
    entry.mkdir(parents=True)
    (entry / "keys.txt").write_text("images")
    np.save(entry / "images.npy", CONTENT["images"])
    assert_same(cached_arrays("data", "1" * 64, Maker()))
    assert "earlier versions" in caplog.text


def test_an_entry_of_something_else_with_a_like_fingerprint_is_not_used():
    other = Maker({"images": np.zeros(1)})
    assert_same(cached_arrays("data", "1" * 64, Maker()))
    assert_same(cached_arrays("data", "1" * 63 + "2", other), other.content)


def test_a_folder_that_cannot_be_written_does_no_harm(home):
    home.write_text("a file where the folder should be")
    make = Maker()
    for _ in range(2):
        assert_same(cached_arrays("data", "1" * 64, make))
    assert make.calls == 2
    assert home.read_text() == "a file where the folder should be"


@pytest.mark.skipif(IS_ROOT or not hasattr(os, "geteuid"), reason="root may write anywhere")
def test_a_folder_without_permission_does_no_harm(home):
    home.mkdir(mode=0o500)
    assert_same(cached_arrays("data", "1" * 64, Maker()))


def test_folders_are_the_users_alone(home):
    cached_arrays("data", "1" * 64, Maker())
    modes = {path.name: path.stat().st_mode & 0o777 for path in home.rglob("*")}
    assert {modes["fsljax"], modes[f"data-{'1' * 16}"]} == {0o700}
    assert {modes[name] for name in ("images.npy", "labels.npy", "contents.json")} == {0o600}


def test_a_folder_that_others_could_read_is_closed(home):
    (home / "fsljax").mkdir(parents=True)
    (home / "fsljax").chmod(0o755)
    cached_arrays("data", "1" * 64, Maker())
    assert (home / "fsljax").stat().st_mode & 0o777 == 0o700


def planted(home):
    """A good entry of other arrays."""
    cached_arrays("data", "1" * 64, Maker({"images": np.full((2, 3, 4), 66, np.uint8)}))
    return home / "fsljax"


def given_away(folder):
    os.chown(folder, 12345, -1, follow_symlinks=False)


def link_of_another(folder):
    folder.rename(folder.parent / "elsewhere")
    folder.symlink_to(folder.parent / "elsewhere")
    given_away(folder)


def link_to_what_is_anothers(folder):
    folder.rename(folder.parent / "elsewhere")
    given_away(folder.parent / "elsewhere")
    folder.symlink_to(folder.parent / "elsewhere")


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: folder.chmod(0o777),
        lambda folder: folder.chmod(0o770),
        *(
            pytest.param(change, marks=pytest.mark.skipif(not IS_ROOT, reason="only root gives files away"))
            for change in (given_away, link_of_another, link_to_what_is_anothers)
        ),
    ],
)
def test_what_others_could_have_put_there_is_not_used(home, caplog, change):
    change(planted(home))
    make = Maker()
    for _ in range(2):
        assert_same(cached_arrays("data", "1" * 64, make))
    assert make.calls == 2
    (warning,) = caplog.records
    assert "Caching is disabled: " in warning.getMessage()
    assert str(home) in warning.getMessage()


@pytest.mark.skipif(not IS_ROOT, reason="only root gives files away")
@pytest.mark.parametrize("name", ["", "images.npy", "contents.json"])
def test_an_entry_of_another_user_is_made_anew(home, name):
    given_away(planted(home) / f"data-{'1' * 16}" / name)
    make = Maker()
    for _ in range(2):
        assert_same(cached_arrays("data", "1" * 64, make))
    assert make.calls == 1


def test_a_link_of_ones_own_to_a_larger_disk_serves(home, tmp_path):
    (tmp_path / "disk").mkdir(mode=0o700)
    home.mkdir()
    (home / "fsljax").symlink_to(tmp_path / "disk")
    make = Maker()
    for _ in range(2):
        assert_same(cached_arrays("data", "1" * 64, make))
    assert make.calls == 1


def run_as_nobody_known(**environment):
    """What a program prints and says as a user that the system does not know."""
    kept = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        cwd="/",
        env=kept | PATHS | environment,
    )


# As another user it might not be able to import anything.
PROGRAM = """
import os
import numpy as np
from fsljax.data.io.cache import cached_arrays
os.setgroups([])
os.setgid(54321)
os.setuid(54321)
for _ in range(3):
    print(cached_arrays("data", "1" * 64, lambda: {"a": np.arange(3)})["a"].sum())
"""


@pytest.mark.skipif(not IS_ROOT, reason="only root becomes another user")
def test_a_user_without_a_home_goes_without_a_cache():
    run = run_as_nobody_known()
    assert (run.returncode, run.stdout) == (0, "3\n3\n3\n"), run.stderr
    assert run.stderr.count("Caching is disabled") == 1 and "set XDG_CACHE_HOME" in run.stderr


@pytest.mark.skipif(not IS_ROOT, reason="only root becomes another user")
def test_a_cache_that_may_not_be_entered_is_not_used(home):
    cached_arrays("data", "1" * 64, Maker())
    home.chmod(0o700)
    run = run_as_nobody_known(XDG_CACHE_HOME=str(home))
    assert (run.returncode, run.stdout) == (0, "3\n3\n3\n"), run.stderr
    assert run.stderr.count("Caching is disabled") == 1 and str(home) in run.stderr


def test_a_file_is_cached_beside_the_arrays(home):
    path = cached_file("episodes.json")
    assert path == home / "fsljax" / "episodes.json"
    path.write_text("ours")
    path.chmod(0o664)  # as many systems make files
    assert cached_file("episodes.json").read_text() == "ours"


@pytest.mark.parametrize("kind", ["link", "folder", "writable"])
def test_a_file_that_others_could_have_put_there_is_not_used(home, caplog, kind):
    path = cached_file("episodes.json")
    if kind == "link":
        (home / "elsewhere").write_text("theirs")
        path.symlink_to(home / "elsewhere")
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text("theirs")
        path.chmod(0o666)
    assert not os.path.lexists(cached_file("episodes.json"))
    assert len(caplog.records) == 1
    assert not list((home / "fsljax").iterdir())


def test_without_a_cache_a_file_lasts_as_long_as_the_program(home):
    home.write_text("no folder")
    path = cached_file("episodes.json")
    path.write_text("passing")
    assert cached_file("episodes.json").read_text() == "passing"


SLOW = """
import sys, time
import numpy as np
from fsljax.storage import array_folders
from fsljax.data.io.cache import cached_arrays
write = array_folders.write_json
def slow(*arguments):
    print("written", flush=True)
    time.sleep(600)
array_folders.write_json = slow
cached_arrays("data", "2" * 64, lambda: {"images": np.zeros((50, 100, 100), np.uint8)})
"""


def test_what_killed_runs_left_is_removed_and_what_others_write_stays(home):
    def start():
        run = subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE, env=os.environ | PATHS)
        assert run.stdout.readline() == b"written\n"
        return run

    killed, running = start(), start()
    try:
        assert len(list((home / "fsljax").iterdir())) == 2
        killed.kill()
        killed.wait()
        cached_arrays("data", "1" * 64, Maker())
        assert sorted(path.name[:5] for path in (home / "fsljax").iterdir()) == [".data", "data-"]
    finally:
        running.kill()
        running.wait()
    cached_arrays("data", "1" * 64, Maker())
    assert [path.name for path in (home / "fsljax").iterdir()] == [f"data-{'1' * 16}"]


@pytest.mark.parametrize("name", [".data-abcd1234", ".data-0123abcd-abcd1234", ".episodes.json.77.tmp"])
def test_what_was_left_without_a_lock_is_removed_after_a_day(home, name):
    cached_arrays("data", "1" * 64, Maker())
    left = home / "fsljax" / name
    left.mkdir()
    cached_arrays("data", "1" * 64, Maker())
    assert left.exists()
    (left / "images.npy").write_bytes(b"still written")
    os.utime(left, (1e9, 1e9))
    cached_arrays("data", "1" * 64, Maker())
    assert left.exists()
    os.utime(left / "images.npy", (1e9, 1e9))
    cached_arrays("data", "1" * 64, Maker())
    assert not left.exists()


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


@pytest.mark.parametrize("damaged", [False, True])
def test_processes_that_make_the_same_entry_at_once_all_get_it(home, tmp_path, damaged):
    for turn in range(20 * damaged):
        entry = home / "fsljax" / f"data-{turn:016d}"
        cached_arrays("data", f"{turn:016d}", Maker())
        (entry / "labels.npy").write_bytes(b"damage")
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


def test_arrays_that_are_not_to_be_kept_are_made_each_time(home):
    make = Maker()
    for _ in range(2):
        assert_same(cached_arrays("data", "1" * 64, make, keep=lambda arrays: "labels" not in arrays))
    assert make.calls == 2
    assert not list((home / "fsljax").iterdir())
