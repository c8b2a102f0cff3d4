"""Arguments of a command; what is wrong with them is told in one sentence."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Of a command `fsljax NAME`; options may stand among the files.

    Args:
      name: of the command.
      meaning: what it does.
    """

    def __init__(self, name: str, meaning: str) -> None:
        super().__init__(f"fsljax {name}", description=meaning, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        print(f"fsljax: {self.prog}: {message}. See {self.prog} --help.", file=sys.stderr)
        sys.exit(2)

    def add_formats(self) -> None:
        """Adds `--json` and `--csv`."""
        formats = self.add_mutually_exclusive_group()
        formats.add_argument("--json", action="store_true", help="write one JSON document")
        formats.add_argument("--csv", action="store_true", help="write a table of comma-separated values")


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number from 0 to 1")
    return number


def positive(text: str) -> int:
    """A whole number, 1 or more."""
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, 1 or more")
    return int(text)
