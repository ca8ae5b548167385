"""What long work looks like in a terminal."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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

from srlvae.bench.poisoned import Point
from srlvae.bench.protocol import Cell
from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.files import shown
from srlvae.images.left_out import Omission

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


def cell_counter(console: Console) -> Callable[[Cell, int, int], None]:
    """Tells of each finished cell of a benchmark in a line."""

    def done(cell: Cell, number: int, total: int) -> None:
        console.print(f"  {number:3d} of {total}  {_said(cell)}")

    return done


def _said(cell: Cell) -> str:
    return "clean" if cell.attack == "none" else f"{cell.attack} {cell.eps}/255 {cell.made_on and 'on the ' + cell.made_on}"


class Bars(Listener):
    """A bar for everything that long work counts. Ctrl-C or SIGTERM stop it at the next step; in a log file there are lines.

    `omissions` are the files, or parts of them, that the work has left out, with the reasons. With `strict` the first file ends
    the work.
    """

    def __init__(self, console: Console, strict: bool = False):
        self.console, self.strict, self.stop = console, strict, Stop(console)
        # Names of files are text here: [red] is no colour.
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        note = TextColumn("{task.fields[note]}", markup=False)
        self.progress = Progress(*columns, TimeRemainingColumn(), note, console=console)
        self.omissions: list[Omission] = []
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
        self.console.print(shown(text), markup=False)

    def left_out(self, file: str, reason: str, whole: bool = True) -> None:
        """Remember what is left out. Raises InputError for a whole file or folder if the work is to end at the first."""
        if self.strict and whole:
            raise InputError(f"{file}: {reason}; without --strict it is left out")
        self.omissions.append(Omission(file, reason, whole))

    def at(self, bar: str, number: int, total: int | None = None, note: str = "") -> None:
        """Move a bar, and make it when it is first heard of."""
        if bar not in self.tasks:
            # What an earlier run did says nothing of the speed of this one.
            self.tasks[bar] = self.progress.add_task(shown(bar), total=total, completed=number, note=note)
        self.progress.update(self.tasks[bar], completed=number, total=total, note=note)
        if not self.console.is_terminal:
            self._log(bar, number, total, note)

    def _log(self, bar: str, number: int, total: int | None, note: str) -> None:
        """A line at the end of a bar, and in between one in ten seconds."""
        now = time.monotonic()
        if number == total or now - self.logged.get(bar, -math.inf) >= LOG_SECONDS:
            self.logged[bar] = now
            said = f"{shown(bar)} {number}{f' of {total}' if total else ''}{f': {note}' if note else ''}"
            self.console.print(said, markup=False)

    def should_stop(self) -> bool:
        """Whether Ctrl-C or SIGTERM has come."""
        return self.stop.wanted


@contextmanager
def editing_bar(console: Console) -> Iterator[tuple[Callable[[Cell, str, int, int], None], Callable[[int], None]]]:
    """A bar over rows with a count of images made; gives the functions that are told of each."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("rows"), *columns, TextColumn("{task.fields[notes]}"), console=console) as progress:
        task, made = progress.add_task("", total=None, notes=""), [0]

        def done(cell: Cell, defence: str, number: int, total: int) -> None:
            notes = f"{made[0]} images made; {_said(cell)}, {defence}"
            progress.update(task, completed=number, total=total, notes=notes)
            if not console.is_terminal:  # no bar in a log file
                console.print(f"row {number} of {total}: {_said(cell)}, {defence}")

        def told(count: int) -> None:
            made[0] += count
            progress.update(task, notes=f"{made[0]} images made")

        yield done, told


@contextmanager
def poisoning_bar(
    console: Console, steps: int
) -> Iterator[tuple[Callable[[Point, int, int], None], Callable[[int, float], None]]]:
    """A bar over fine-tunings and one over the steps of each; gives the functions that are told of each."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[notes]}"), console=console) as progress:
        sweep = progress.add_task("points", total=None, notes="")
        tuning = progress.add_task("steps", total=steps, notes="")

        def done(point: Point, number: int, total: int) -> None:
            notes = f"{point.concept} → {point.target}, {point.count} {point.kind}, {point.defence}"
            progress.update(sweep, completed=number, total=total, notes=notes)
            if not console.is_terminal:
                console.print(f"point {number} of {total}: {notes}, seed {point.seed}")

        yield done, lambda step, loss: progress.update(tuning, completed=step, notes=f"loss {loss:.4f}")
