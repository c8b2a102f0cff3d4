"""Errors that are reported in one sentence, without a traceback."""

from __future__ import annotations

import re
from collections.abc import Collection

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # names of files may hold line breaks


class UserError(Exception):
    """An error for the user to fix; the message says what is wrong, where, and what to do."""

    exit_status = 2


class NotSavedError(UserError):
    """The state of a training run could not be saved."""

    exit_status = 1


class DivergedError(UserError):
    """The loss or parameters of a training run are no longer finite."""

    exit_status = 1


def first_few(names: Collection[str], most: int = 3) -> str:
    """The first few names, for an error message: "a, b, c and 5 more"."""
    few = ", ".join(_CONTROL.sub(lambda found: repr(found[0])[1:-1], name) for name in list(names)[:most])
    return few if len(names) <= most else f"{few} and {len(names) - most:,} more"
