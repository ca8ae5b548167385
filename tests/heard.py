"""A listener that remembers what it is told, and stops or crashes a run where a test wants it."""

from __future__ import annotations

from srlvae.events import Listener


class Heard(Listener):
    """stop_at: the step after which the run is asked to stop. crash_at: the step at which it fails."""

    def __init__(self, stop_at: int | None = None, crash_at: int | None = None):
        self.stop_at, self.crash_at = stop_at, crash_at
        self.bars: dict[str, list[tuple[int, int | None]]] = {}
        self.notes: list[str] = []
        self.texts: list[str] = []

    def says(self, text: str) -> None:
        self.texts.append(text)

    def at(self, bar: str, number: int, total: int | None = None, note: str = "") -> None:
        self.bars.setdefault(bar, []).append((number, total))
        self.notes.append(note)
        if number == self.crash_at:
            raise RuntimeError("power cut")

    def should_stop(self) -> bool:
        return self.stop_at is not None and bool(self.numbers) and self.numbers[-1] >= self.stop_at

    @property
    def numbers(self) -> list[int]:
        """The numbers of the bar `steps`, or of the only other one."""
        bars = self.bars.get("steps") or next(iter(self.bars.values()), [])
        return [number for number, _ in bars]
