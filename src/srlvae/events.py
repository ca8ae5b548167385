"""What long work tells of itself while it runs: one channel for every command, whoever listens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Listener:
    """Told of the progress of long work. Nothing happens here: a bar in a terminal, a log or a test is a subclass.

    `wants_pictures` says whether it makes sense to draw any for `pictured`.
    """

    wants_pictures = False

    def says(self, text: str) -> None:
        """Something about the work as a whole, in one line."""

    def at(self, bar: str, number: int, total: int | None = None, note: str = "") -> None:
        """`number` of `total` pieces are done of what `bar` names, such as images or steps; total None: as said before."""

    def measured(self, step: int, values: Mapping[str, float]) -> None:
        """What is measured after a step of a training, by name."""

    def pictured(self, step: int, name: str, picture: Any) -> None:
        """A picture `3 h w` in [0,1] of how far a training has come after a step."""

    def left_out(self, file: str, reason: str, whole: bool = True) -> None:
        """A file or folder is left out, or with `whole=False` a part of it. To end the work at that, raise InputError."""

    def should_stop(self) -> bool:
        """Whether to stop at the next step and keep what is there."""
        return False

    def check(self) -> None:
        """Raise KeyboardInterrupt if the work is to stop, where nothing has to be saved before."""
        if self.should_stop():
            raise KeyboardInterrupt
