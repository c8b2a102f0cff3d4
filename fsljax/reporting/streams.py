"""Standard output and error of a program: any character can be written, and whoever reads may leave."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from typing import Any, TextIO, cast

_STAND_INS = {
    "…": "...", "−": "-", "–": "-", "─": "-", "×": "x", "·": ".", "±": "+-", "→": "->", "²": "^2", "’": "'",
    "≥": ">=", "≠": "!=", "σ": "sigma", "μ": "mu", "✓": "yes", "✗": "no",
}  # fmt: skip
_ERRORS = "fsljax.stand_in"


class Output:
    """A text stream that is written to until that fails, and from then on swallows what it is given.

    Attributes:
      failure: why it could not be written; None while it can, and where only its reader has left.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failure: str | None = None

    def write(self, text: str) -> int:
        """Writes a text; the count of its characters."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Hands what was written to the operating system."""
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def keep_from_libraries(self) -> None:
        """Leaves this stream to Python alone: what libraries write past it goes nowhere from now on."""
        self.flush()
        descriptor = self._stream.fileno()
        copy = os.fdopen(os.dup(descriptor), "w", encoding=self._stream.encoding, errors=_ERRORS, buffering=1)
        _to_nowhere(descriptor)
        self._stream = copy

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _give_up(self, error: OSError) -> None:
        if error.errno not in (errno.EPIPE, errno.EINVAL):  # the latter where Windows means the former
            self.failure = self.failure or error.strerror or str(error)
        # What still lies in buffers goes there too, and what libraries write past Python.
        _to_nowhere(self._stream.fileno())


def _to_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def use() -> Output:
    """Makes standard output and error of this process such streams; returns standard output.

    A character that the encoding does not have is written as others that mean the same, or as its escape.
    Each line goes out when it is complete.
    """
    codecs.register_error(_ERRORS, _stand_in)
    sys.stderr = cast(TextIO, _output(sys.stderr))
    output = _output(sys.stdout)
    sys.stdout = cast(TextIO, output)
    return output


def _output(stream: TextIO | None) -> Output:
    if stream is None:  # a program without a console, or one whose stream was closed
        stream = io.TextIOWrapper(io.FileIO(os.devnull, "w"), encoding="utf-8")
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=_ERRORS, line_buffering=True)
    return Output(stream)


def _stand_in(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    replaced = "".join(
        _STAND_INS.get(character) or character.encode("ascii", "backslashreplace").decode("ascii")
        for character in text
    )
    return replaced, error.end
