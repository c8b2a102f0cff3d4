"""Errors that are told in a sentence, without a stack trace."""

from __future__ import annotations

from collections.abc import Collection


class UserError(Exception):
    """A request that cannot be met; the message says what, where, and what to do."""

    exit_status = 2


class NotSavedError(UserError):
    """A training whose state could not be written."""

    exit_status = 1


class DivergedError(UserError):
    """A training whose loss or parameters are no longer finite numbers."""

    exit_status = 1


def first_few(names: Collection[str], most: int = 3) -> str:
    """The first names, for a sentence: "a, b, c and 5 more"."""
    few = ", ".join(list(names)[:most])
    return few if len(names) <= most else f"{few} and {len(names) - most:,} more"
