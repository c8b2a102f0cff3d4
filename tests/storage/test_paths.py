"""Paths that cannot be accessed are told in a sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fsljax.errors import UserError
from fsljax.storage.paths import given_path, is_there


def test_a_path_is_given_as_text_or_path_and_need_not_be_there(tmp_path):
    assert given_path(str(tmp_path / "a")) == given_path(tmp_path / "a") == tmp_path / "a"
    assert given_path("~/a") == Path.home() / "a"
    (tmp_path / "file").touch()
    assert given_path(tmp_path / "file" / "a") == tmp_path / "file" / "a"
    assert is_there(tmp_path / "file") and not is_there(tmp_path / "file" / "a")


@pytest.mark.parametrize(
    "path, reason",
    [
        ("a\0b", "null"),
        ("x" * 300, "File name too long"),
        ("x/" * 3000, "File name too long"),
        ("", "give the path"),
        (None, "give the path"),
        (3, "give the path"),
        (b"a", "give the path"),
        ([], "give the path"),
    ],
)
def test_what_can_name_no_file_is_told(path, reason):
    with pytest.raises(UserError, match=rf"^--workdir .*{reason}.*\.$") as raised:
        given_path(path, "--workdir")
    assert len(str(raised.value)) < 400


def test_the_home_of_nobody_is_told():
    with pytest.raises(UserError, match=r"^The home folder in ~nosuchuser/a is unknown: correct --w"):
        given_path("~nosuchuser/a", "--workdir")
    with pytest.raises(UserError, match=r"in ~nosuchuser is unknown: correct the path\.$"):
        given_path(Path("~nosuchuser"))


def test_a_folder_that_turns_in_circles_is_told(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "a")
    with pytest.raises(UserError, match="cannot be accessed"):
        given_path(tmp_path / "a" / "b")


def test_a_folder_that_may_not_be_entered_is_told(tmp_path):
    (tmp_path / "private").mkdir(mode=0o700)
    within = tmp_path / "private" / "a"
    for folder in (tmp_path, *list(tmp_path.parents)[:-2]):
        folder.chmod(0o755)
    if os.geteuid():
        pytest.skip("only root can become another user")
    os.setegid(65534)
    os.seteuid(65534)
    try:
        with pytest.raises(UserError, match="Permission denied"):
            given_path(within)
    finally:
        os.seteuid(0)
        os.setegid(0)
