"""Errors that are told in a sentence, without a stack trace."""


class UserError(Exception):
    """A request that cannot be met; the message says what, where, and what to do."""

    exit_status = 2


class NotSavedError(UserError):
    """A training whose state could not be written."""

    exit_status = 1


class DivergedError(UserError):
    """A training whose loss or parameters are no longer finite numbers."""

    exit_status = 1
