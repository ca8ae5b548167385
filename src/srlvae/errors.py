"""The exceptions for input that a user can correct."""


class InputError(ValueError):
    """Bad input. The message says what was wrong, quotes the value, and says what to do.

    The command line exits with code 2 on it.
    """


class UnreadableError(InputError):
    """An image that cannot be read, called `name`, and the reason."""

    def __init__(self, name: str, reason: str):
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"
