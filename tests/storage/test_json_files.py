"""JSON files: every fault has a sentence, and what was written carries a digest."""

from __future__ import annotations

import json
import math

import pytest

from fsljax.errors import UserError
from fsljax.storage.json_files import read_checked, read_json, write_json

CONTENT = {"name": "a", "train": {"steps": 20, "rate": 1e-3}, "shots": [1, 5]}


def test_what_is_written_is_read_again(tmp_path):
    write_json(tmp_path / "a.json", CONTENT)
    assert read_checked(tmp_path / "a.json") == CONTENT


def test_what_was_read_with_its_digest_can_be_written_again(tmp_path):
    write_json(tmp_path / "a.json", CONTENT)
    stored = json.loads((tmp_path / "a.json").read_text())
    write_json(tmp_path / "b.json", stored | {"name": "b"})
    assert read_checked(tmp_path / "b.json") == CONTENT | {"name": "b"}


def test_layout_and_a_byte_order_mark_change_nothing(tmp_path):
    write_json(tmp_path / "a.json", CONTENT)
    content = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(content, sort_keys=True).encode())
    assert read_checked(tmp_path / "a.json") == CONTENT


@pytest.mark.parametrize("old, new", [("20", "21"), ("steps", "stepz"), ("0.001", "0.003"), ("[", "[3, ")])
def test_a_changed_value_is_told(tmp_path, old, new):
    path = tmp_path / "a.json"
    write_json(path, CONTENT)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=r"was changed after it was written .* delete its field 'digest'"):
        read_checked(path)


def test_every_flipped_byte_is_told_or_changes_nothing(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, CONTENT)
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 8
        path.write_bytes(bytes(damaged))
        try:
            read = read_checked(path)
        except UserError:
            continue
        assert read == CONTENT, place


@pytest.mark.parametrize(
    "text, reason",
    [
        ("[" * 100_000, "nests too deeply"),
        ("{'a': 1}", "property name"),
        ('{"a": NaN}', "NaN is not a number"),
        ('{"a": 1e999}', "1e999 is too large"),
        ('{"a": ' + "9" * 5000 + "}", "digits"),
        ("", "Expecting value"),
        (b"\xff\xfe{\x00}\x00", "utf-8"),
    ],
)
def test_what_is_not_json_is_told_with_its_path(tmp_path, text, reason):
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=f"a.json is not valid JSON: .*{reason}"):
        read_json(path)


def test_nan_is_read_where_it_is_asked_for(tmp_path):
    write_json(tmp_path / "a.json", {"a": float("nan")})
    with pytest.raises(UserError, match="NaN is not a number"):
        read_checked(tmp_path / "a.json")
    assert math.isnan(read_checked(tmp_path / "a.json", nan=True)["a"])


def test_what_the_project_writes_nests_little(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": {"b": {"c": [[1]]}}})
    assert read_checked(path)
    path.write_text('{"a": ' + "[" * 300 + "]" * 300 + "}")
    with pytest.raises(UserError, match="nests too deeply"):
        read_checked(path)


def test_a_folder_is_told_and_a_missing_file_is_missing(tmp_path):
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_json(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json")


def test_numbers_that_are_none_may_be_left_to_the_caller(tmp_path):
    (tmp_path / "a.json").write_text("[NaN, 1e999]")
    with pytest.raises(UserError, match="not valid JSON"):
        read_json(tmp_path / "a.json")
    assert str(read_json(tmp_path / "a.json", nan=True)) == "[nan, inf]"
