"""Files that are replaced whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsljax.storage.replacing import replacing


def test_what_was_written_takes_the_place_of_the_file(tmp_path: Path):
    path = tmp_path / "file"
    path.write_text("old")
    with replacing(path) as unfinished:
        unfinished.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_after_an_error_the_file_is_as_it_was(tmp_path: Path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(OSError, match="full"), replacing(path) as unfinished:
        unfinished.write_text("half")
        raise OSError("full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
