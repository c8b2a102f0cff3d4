"""`.npz` files: damage, bombs and pickles are refused in a sentence."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from fsljax.errors import UserError
from fsljax.storage.array_files import read_arrays


def test_what_savez_writes_is_read(tmp_path):
    arrays = {"a": np.arange(6).reshape(2, 3), "b": np.array("text"), "c": np.zeros(0)}
    for name, write in (("stored", np.savez), ("packed", np.savez_compressed)):
        write(tmp_path / f"{name}.npz", **arrays)
        read = read_arrays(tmp_path / f"{name}.npz")
        assert read.keys() == arrays.keys()
        assert all(
            (read[name] == arrays[name]).all() and read[name].shape == arrays[name].shape for name in arrays
        )


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_a_flipped_byte_is_told_or_changes_nothing(tmp_path, write):
    path = tmp_path / "a.npz"
    values = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    write(path, values=values)
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x11
        path.write_bytes(bytes(damaged))
        try:
            read = read_arrays(path)
        except UserError:
            continue
        assert "values" not in read or np.array_equal(read["values"], values), place


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w") as member,
    ):
        np.lib.format.write_array_header_1_0(
            member, {"descr": "|u1", "fortran_order": False, "shape": (2**27,)}
        )
        for _ in range(2**7):
            member.write(bytes(2**20))
    with pytest.raises(UserError, match="would unpack to 134,217,"):
        read_arrays(tmp_path / "a.npz")


def test_an_array_that_declares_more_than_there_is_is_refused(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**12,)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(8))
    with pytest.raises(UserError, match=r"a\.npy declares 4,000,000,000,000 bytes and holds 8"):
        read_arrays(tmp_path / "a.npz")


def test_pickles_and_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([{}], object))
    with pytest.raises(UserError, match="allow_pickle"):
        read_arrays(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(b"text")
    with pytest.raises(UserError, match=r"not a \.npz file"):
        read_arrays(tmp_path / "b.npz")
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "none.npz")
