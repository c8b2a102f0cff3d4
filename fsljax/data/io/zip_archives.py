"""Zip archives from the network, of which nothing is used before all of it was found harmless."""

from __future__ import annotations

import hashlib
import re
import stat
import struct
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath

import requests

_MOST_BYTES = 2**31  # of a download
_MOST_TIMES_LARGER = 200
_SMALL = 2**26
_MOST_MEMBERS = 1_000_000
_BYTES_A_READ = 1 << 16
_LONGEST_END = 2**16 + 22


def download_zip(url: str, path: Path, sha256: str | None = None, *, most_bytes: int = _MOST_BYTES) -> None:
    """Downloads a zip archive to `path`, which exists only once the archive is whole and harmless.

    Raises:
      OSError: no answer, an interrupted transfer, more bytes than `most_bytes`, another checksum, or as
        `check_zip`.
    """
    unfinished = path.with_name(path.name + ".part")
    digest, size = hashlib.sha256(), 0
    # What is compressed for the transfer could be far larger than what is sent.
    uncompressed = {"Accept-Encoding": "identity"}
    try:
        with (
            requests.get(url, stream=True, timeout=(10, 60), headers=uncompressed) as answer,
            unfinished.open("wb") as file,
        ):
            answer.raise_for_status()
            for block in answer.iter_content(_BYTES_A_READ):
                size += len(block)
                if size > most_bytes:
                    raise OSError(f"the file is larger than {most_bytes:,} bytes")
                file.write(block)
                digest.update(block)
        if sha256 and digest.hexdigest() != sha256:
            raise OSError(f"the file has SHA-256 {digest.hexdigest()}, not {sha256}")
        check_zip(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def check_zip(path: Path) -> None:
    """Reads an archive from beginning to end.

    Raises:
      OSError: if it is damaged or cut short, would unpack to far more than it is or to another size than it
        says, is encrypted, or has a member that is a link, occurs twice, or would lie outside its folder.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_number(members, path)
            _check_names(members)
            _check_sizes(members, path.stat().st_size)
            for member in members:
                _read_through(archive, member)
    except OSError:
        raise
    except Exception as error:  # zipfile and the decompressors each raise their own
        raise OSError(
            f"the file is not a complete zip archive ({str(error) or type(error).__name__})"
        ) from error


def _check_number(members: list[zipfile.ZipInfo], path: Path) -> None:
    """Against the record at the end: zipfile stops where the listing seems to end."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _LONGEST_END, 0))
        content = file.read()
    (listed,) = struct.unpack_from("<H", content, content.rindex(b"PK\x05\x06") + 10)
    if listed != min(len(members), 0xFFFF):
        raise OSError(f"the archive is damaged: it lists {len(members):,} of its {listed:,} members")


def _check_names(members: list[zipfile.ZipInfo]) -> None:
    seen = set()
    for member in members:
        name = member.filename
        for parts in (PurePosixPath(name), PureWindowsPath(name)):
            if parts.anchor or ".." in parts.parts:
                raise OSError(f"the archive has a member outside its folder: {name}")
        if re.search(r"[\x00-\x1f]", name) or name in seen:
            raise OSError(f"the archive has a member with an invalid or repeated name: {name!r}")
        seen.add(name)
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise OSError(f"the archive has a member that is a link, or not a file: {name}")


def _check_sizes(members: list[zipfile.ZipInfo], packed: int) -> None:
    unpacked = sum(member.file_size for member in members)
    if len(members) > _MOST_MEMBERS or unpacked > max(_SMALL, _MOST_TIMES_LARGER * packed):
        raise OSError(
            f"the archive is {packed:,} bytes and would unpack to {unpacked:,} in {len(members):,} files"
        )


def _read_through(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Reads a member, no further than to its declared size, at which its checksum must be right."""
    size = 0
    try:
        with archive.open(member) as file:
            while block := file.read(_BYTES_A_READ):
                size += len(block)
    except Exception as error:
        raise OSError(f"the archive is damaged at {member.filename} ({error})") from error
    if size != member.file_size:
        raise OSError(
            f"the archive is damaged at {member.filename}: {size:,} bytes instead of {member.file_size:,}"
        )
