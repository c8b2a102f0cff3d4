"""Archives from the network: nothing of one that could do harm is kept."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import stat
import struct
import threading
import warnings
import zipfile

import numpy as np
import pytest

from fsljax.data.io.zip_archives import check_zip, download_zip


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def copyfile(self, source, outputfile):
        content = source.read()
        outputfile.write(content[: len(content) // 2] if "interrupted" in self.path else content)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A folder, and the address under which its files can be downloaded."""
    root = tmp_path_factory.mktemp("served")
    handler = functools.partial(Quiet, directory=root)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield root, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def write_zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name in members:
            archive.writestr(name, "content of " + name)
    return path.read_bytes()


def test_download(served, tmp_path):
    root, address = served
    content = write_zip(root / "good.zip", ["folder/a.txt", "folder/b..txt"])
    path = tmp_path / "good.zip"
    download_zip(f"{address}/good.zip", path, hashlib.sha256(content).hexdigest())
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_downloads_that_fail_leave_nothing(served, tmp_path):
    root, address = served
    write_zip(root / "good.zip", ["a"])
    write_zip(root / "interrupted.zip", ["a" * 1000])
    write_zip(root / "upwards.zip", ["a/../../b"])
    write_zip(root / "absolute.zip", ["/b"])
    write_zip(root / "windows.zip", ["..\\..\\b"])
    write_zip(root / "drive.zip", ["C:b"])
    damaged = bytearray(write_zip(root / "damaged.zip", ["a"]))
    damaged[damaged.index(b"content")] ^= 1
    (root / "damaged.zip").write_bytes(damaged)
    (root / "page.zip").write_text("<html>Please log in</html>")
    for name, message in {
        "missing.zip": "404",
        "interrupted.zip": "IncompleteRead|bytes",
        "upwards.zip": "has a member outside its folder: a/../../b",
        "absolute.zip": "has a member outside its folder: /b",
        "windows.zip": "has a member outside its folder",
        "drive.zip": "has a member outside its folder",
        "damaged.zip": "damaged at a",
        "page.zip": "not a complete zip archive",
    }.items():
        with pytest.raises(OSError, match=message):
            download_zip(f"{address}/{name}", tmp_path / name)
    with pytest.raises(OSError, match="SHA-256"):
        download_zip(f"{address}/good.zip", tmp_path / "good.zip", "0" * 64)
    assert not list(tmp_path.iterdir())


def test_more_than_is_wanted_is_not_downloaded(served, tmp_path):
    root, address = served
    size = len(write_zip(root / "long.zip", ["a" * 1000]))
    with pytest.raises(OSError, match=f"larger than {size - 1:,} bytes"):
        download_zip(f"{address}/long.zip", tmp_path / "a.zip", most_bytes=size - 1)
    assert not list(tmp_path.iterdir())
    download_zip(f"{address}/long.zip", tmp_path / "a.zip", most_bytes=size)


class Bombs(Quiet):
    """Sends 2 GB of zeros in 2 MB, as a compressed answer."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        block = gzip.compress(bytes(2**27))
        for _ in range(16):
            self.wfile.write(block)


def test_an_answer_that_grows_when_unpacked_is_not_kept(tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bombs) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(OSError, match="larger than 1,048,576 bytes"):
            address = f"http://127.0.0.1:{server.server_port}/a.zip"
            download_zip(address, tmp_path / "a.zip", most_bytes=2**20)
        server.shutdown()
    assert not list(tmp_path.iterdir())


def linked(path):
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("images/link")
        link.create_system = 3
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")


def twice(path):
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("a", "one")
        archive.writestr("a", "two")


def bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a", "w") as file:
        for _ in range(100):
            file.write(bytes(2**20))


def with_declared_size(path, size):
    """An archive of 1,000 bytes that says that they are so many."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(1000))
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<L", 1000), struct.pack("<L", size)))


def encrypted(path):
    write_zip(path, ["a"])
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "write, message",
    [
        (linked, "a link, or not a file: images/link"),
        (twice, "repeated name: 'a'"),
        (bomb, "would unpack to 104,857,600"),
        (functools.partial(with_declared_size, size=999), "damaged at a"),
        (functools.partial(with_declared_size, size=1001), "1,000 bytes instead of 1,001"),
        (functools.partial(with_declared_size, size=4_000_000_000), "would unpack to 4,000,000,000"),
        (encrypted, "damaged at a .*password"),
    ],
)
def test_archives_that_could_do_harm_are_refused(tmp_path, write, message):
    write(tmp_path / "a.zip")
    with pytest.raises(OSError, match=message):
        check_zip(tmp_path / "a.zip")


def test_a_changed_byte_is_found_or_changes_nothing(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images/a.png", np.random.default_rng(0).bytes(200))
        archive.writestr("images/b.png", bytes(500))
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        written = {name: archive.read(name) for name in archive.namelist()}
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        try:
            check_zip(path)
        except OSError:
            continue
        with zipfile.ZipFile(path) as archive:
            read = [archive.read(name) for name in archive.namelist()]
        assert read == list(written.values())  # only names carry no checksum
