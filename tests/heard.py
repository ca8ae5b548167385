"""A listener that remembers what it is told, and stops or crashes a run where a test wants it."""

from __future__ import annotations

from srlvae.events import Listener


class Heard(Listener):
    """`bar` is the one that is counted. The run is asked to stop after number `stop_at` of it, and fails at `crash_at`."""

    def __init__(self, stop_at: int | None = None, crash_at: int | None = None, bar: str = "steps"):
        self.stop_at, self.crash_at, self.bar = stop_at, crash_at, bar
        self.bars: dict[str, list[tuple[int, int | None]]] = {}
        self.notes: list[str] = []
        self.texts: list[str] = []
        self.omissions: list[tuple[str, str, bool]] = []

    def says(self, text: str) -> None:
        # A terminal shows the end of a line as an escape, as names of files may have one.
        assert text.isprintable(), text
        self.texts.append(text)

    def at(self, bar: str, number: int, total: int | None = None, note: str = "") -> None:
        self.bars.setdefault(bar, []).append((number, total))
        if bar == self.bar:
            self.notes.append(note)
            if number == self.crash_at:
                raise RuntimeError("power cut")

    def left_out(self, file: str, reason: str, whole: bool = True) -> None:
        self.omissions.append((file, reason, whole))

    def should_stop(self) -> bool:
        return self.stop_at is not None and bool(self.numbers) and self.numbers[-1] >= self.stop_at

    @property
    def numbers(self) -> list[int]:
        """What was counted."""
        return [number for number, _ in self.bars.get(self.bar, [])]

    @property
    def images_made(self) -> int:
        """How many images were made, of all sets together: each set ends with its total."""
        return sum(number for number, total in self.bars.get("images", []) if number == total)
