"""The exceptions for input that a user can correct."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class InputError(ValueError):
    """Bad input. The message says what was wrong, quotes the value, and says what to do.

    The command line exits with code 2 on it.
    """


def unknown(said: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a `name` that is not `known`: what is `said` of it, the known ones that resemble it, and all of them."""
    known = list(known)
    alike = [other for other in known if name and (name in other or other in name)] or get_close_matches(
        name, known, cutoff=0.7
    )
    meant = f", perhaps {' or '.join(alike)}" if alike else ""
    return InputError(f"{said} {name!r}{meant}; choose one of {', '.join(known)}")


class UnreadableError(InputError):
    """An image that cannot be read, called `name`, and the reason."""

    def __init__(self, name: str, reason: str):
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class BlackedOutError(InputError):
    """Of a batch of `images`, a pipeline's own safety checker has blacked out those with the `numbers`."""

    reason = "the pipeline's safety checker takes it for unsafe, and has blacked it out"

    def __init__(self, images: Any, numbers: list[int]):
        super().__init__(images, numbers)
        self.images, self.numbers = images, numbers

    def __str__(self) -> str:
        return f"{len(self.numbers)} of {len(self.images)} images are black: {self.reason}"
