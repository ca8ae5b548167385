"""What long work looks like in a terminal."""

from __future__ import annotations

import math
import signal
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from srlvae.events import Listener

# Seconds between lines of one bar in a log file.
LOG_SECONDS = 10.0


class Stop:
    """A wish to stop at the next step, by Ctrl-C or SIGTERM; by a second one at once."""

    def __init__(self, console: Console):
        self.console, self.wanted = console, False

    def __enter__(self) -> Stop:
        self.before = {number: signal.signal(number, self._request) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _request(self, number, frame) -> None:
        if self.wanted:
            raise KeyboardInterrupt
        self.wanted = True
        self.console.print("stopping after this step; again to stop at once")


class Bars(Listener):
    """A bar for everything that long work counts. Ctrl-C or SIGTERM stop it at the next step; in a log file there are lines."""

    def __init__(self, console: Console):
        self.console, self.stop = console, Stop(console)
        name, note = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[note]}", markup=False)
        columns = (name, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), note)
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self.tasks: dict[str, TaskID] = {}
        self.logged: dict[str, float] = {}

    def __enter__(self) -> Bars:
        self.stop.__enter__()
        self.progress.start()
        return self

    def __exit__(self, *_) -> None:
        self.progress.stop()
        self.stop.__exit__()

    def says(self, text: str) -> None:
        """Print above the bars."""
        self.console.print(text, markup=False)

    def at(self, bar: str, number: int, total: int | None = None, note: str = "") -> None:
        """Move a bar, and make it when it is first heard of."""
        if bar not in self.tasks:
            # What an earlier run did says nothing of the speed of this one.
            self.tasks[bar] = self.progress.add_task(bar, total=total, completed=number, note=note)
        self.progress.update(self.tasks[bar], completed=number, total=total, note=note)
        if not self.console.is_terminal:
            self._log(bar, number, total, note)

    def _log(self, bar: str, number: int, total: int | None, note: str) -> None:
        """A line at the end of a bar, and in between one in ten seconds."""
        now = time.monotonic()
        if number == total or now - self.logged.get(bar, -math.inf) >= LOG_SECONDS:
            self.logged[bar] = now
            self.console.print(f"{bar} {number}{f' of {total}' if total else ''}{f': {note}' if note else ''}", markup=False)

    def should_stop(self) -> bool:
        """Whether Ctrl-C or SIGTERM has come."""
        return self.stop.wanted
