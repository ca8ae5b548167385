"""Numbers and values as sentences have them."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 file`, `1,200 files`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}{'es' if noun.endswith('s') else 's'}"


def shortened(value: object, length: int = 80) -> str:
    """A value for an error, however long it is."""
    text = repr(value)
    return text if len(text) <= length else f"{text[: length - 1]}…"
