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


def read_json(path: Path, *, finite: bool = True) -> Any:
    """The content of a JSON file in UTF-8, a byte order mark or none before it.

    Args:
      path: of the file.
      finite: refuse NaN and infinite numbers, wherever they are; else the caller checks those that it uses.

    Raises:
      FileNotFoundError: if there is no such file.
      UserError: if it cannot be read, or is not valid JSON.
    """
    try:
        return parse_json(path.read_bytes(), finite=finite)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {str(error).rstrip('.')}.") from error


def parse_json(content: bytes | str, *, finite: bool = True) -> Any:
    """The value that a JSON text holds.

    Raises:
      ValueError: if it is not valid, nests too deeply, or (where `finite`) holds NaN or an infinite number;
        in a few words.
    """
    text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
    checks: dict[str, Any] = {"parse_constant": _refuse_constant, "parse_float": _finite} if finite else {}
    try:
        return json.loads(text, **checks)
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Writes a JSON file with the digest of its content, so that a reader sees the old content or the new."""
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(sealed(content), indent=2) + "\n", encoding="utf-8")


def read_checked(path: Path) -> dict[str, Any]:
    """What `write_json` wrote, without its digest; a file that has none (older, or written by hand) is taken.

    Raises:
      FileNotFoundError: if there is no such file.
      UserError: if it cannot be read, or differs from what was written.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it holds no fields.")
    try:
        return unsealed(content)
    except ValueError as error:
        raise UserError(
            f"{path} {error}: restore it; or, if the change is meant, delete its field {DIGEST!r}."
        ) from error


def sealed(content: Mapping[str, object]) -> dict[str, object]:
    """The content with the digest of it."""
    return {**content, DIGEST: digest_of(content)}


def unsealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content without its digest.

    Raises:
      ValueError: if it has a digest, and that of another content.
    """
    rest = {name: value for name, value in content.items() if name != DIGEST}
    if DIGEST in content and content[DIGEST] != digest_of(rest):
        raise ValueError("was changed after it was written (its digest is of another content)")
    return rest


def digest_of(content: Mapping[str, object]) -> str:
    """Of the values, not of how they are set out: the same after the file was read and written again."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number there")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large a number")
    return value
