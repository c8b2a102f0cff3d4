"""The one exception that the command line turns into a sentence and exit status 2."""


class UserError(Exception):
    """Something the user can put right: the message says what, where and what to do."""
