"""The one exception for input that a user can correct."""


class InputError(ValueError):
    """Bad input. The message says what was wrong, quotes the value, and says what to do.

    The command line exits with code 2 on it.
    """
