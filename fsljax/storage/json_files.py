"""JSON files: a sentence for every fault of what people wrote, a digest in what the project wrote."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fsljax.errors import UserError
from fsljax.storage.replacing import replacing

DIGEST = "digest"
_DIGITS = 16
_DEEPEST = 40


def read_json(path: Path, *, nan: bool = False) -> Any:
    """The content of a JSON file in UTF-8, a byte order mark or none before it.

    Args:
      path: of the file.
      nan: whether NaN and infinite numbers are taken; otherwise they are no valid JSON.

    Raises:
      FileNotFoundError: if there is no such file.
      UserError: if it cannot be read, or is not valid JSON.
    """
    try:
        return parse_json(path.read_bytes(), nan=nan)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {str(error).rstrip('.')}.") from error


def parse_json(content: bytes | str, *, nan: bool = False) -> Any:
    """The value that a JSON text holds.

    Args:
      content: the text.
      nan: as for `read_json`.

    Raises:
      ValueError: if it is not valid, nests too deeply, or holds NaN or an infinite number; in a few words.
    """
    text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
    try:
        if nan:
            return json.loads(text)
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Writes a JSON file with the digest of its content, so that a reader sees the old content or the new."""
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(sealed(content), indent=2) + "\n", encoding="utf-8")


def read_checked(path: Path, *, nan: bool = False) -> dict[str, Any]:
    """What `write_json` wrote, without its digest; a file that has none (older, or written by hand) is taken.

    Args:
      path: of the file.
      nan: as for `read_json`.

    Raises:
      FileNotFoundError: if there is no such file.
      UserError: if it cannot be read, or differs from what was written.
    """
    content = read_json(path, nan=nan)
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it holds no fields.")
    if not _is_flat(content):
        raise UserError(f"{path} is damaged: it nests too deeply.")
    try:
        return unsealed(content)
    except ValueError as error:
        raise UserError(
            f"{path} {error}: restore it; or, if the change is intended, delete its field {DIGEST!r}."
        ) from error


def sealed(content: Mapping[str, object]) -> dict[str, object]:
    """The content with the digest of it, in the place of any that it has."""
    rest = _without(content, DIGEST)
    return {**rest, DIGEST: digest_of(rest)}


def unsealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content without its digest.

    Raises:
      ValueError: if it has a digest, and that of another content.
    """
    rest = _without(content, DIGEST)
    if DIGEST in content and content[DIGEST] != digest_of(rest):
        raise ValueError("was changed after it was written (its digest is that of other content)")
    renamed = [name for name, value in content.items() if _is_digest(value)] if DIGEST not in content else []
    for name in renamed:
        if content[name] == digest_of(_without(content, name)):
            raise ValueError(f"was changed after it was written (its digest is called {name!r})")
    return rest


def digest_of(content: Mapping[str, object]) -> str:
    """Of the values, not of how they are set out: the same after the file was read and written again."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:_DIGITS]


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and len(value) == _DIGITS


def _without(content: Mapping[str, Any], left_out: str) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name != left_out}


def _is_flat(value: object) -> bool:
    """Whether a value nests no deeper than what the project writes, and Python would follow."""
    level: list[object] = [value]
    for _ in range(_DEEPEST):
        inner: list[object] = []
        for outer in level:
            if isinstance(outer, dict):
                inner.extend(outer.values())
            elif isinstance(outer, list):
                inner.extend(outer)
        if not inner:
            return True
        level = inner
    return False


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number there")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large a number")
    return value
