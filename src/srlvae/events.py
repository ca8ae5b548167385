"""What long work tells of itself while it runs: one channel for every command, whoever listens."""

from __future__ import annotations


class Listener:
    """Told of the progress of long work. Nothing happens here: a bar in a terminal, a log or a test is a subclass."""

    def says(self, text: str) -> None:
        """Something about the work as a whole, in one line or several."""

    def at(self, bar: str, number: int, total: int | None = None, note: str = "") -> None:
        """`number` of `total` pieces are done of what `bar` names, such as images or steps; total None: as said before."""

    def left_out(self, file: str, reason: str, whole: bool = True) -> None:
        """A file or folder is left out, or with `whole=False` a part of it. To end the work at that, raise InputError."""

    def should_stop(self) -> bool:
        """Whether to stop at the next step and keep what is there."""
        return False
