"""The one exception for input a user can put right."""


class InputError(ValueError):
    """Bad input: the message says what was wrong, the value, and what to do. The command line exits with 2 on it."""
