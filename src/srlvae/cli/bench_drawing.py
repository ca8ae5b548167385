"""What a benchmark looks like in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from srlvae.bench.listener import BenchListener


class RowLines(BenchListener):
    """Tells of each finished row in a line."""

    def __init__(self, console: Console):
        self.console = console

    def row_finished(self, row: str, number: int, total: int) -> None:
        self.console.print(f"  {number:3d} of {total}  {row}")


class RowBar(BenchListener):
    """A bar over rows with a count of images made and, for fine-tunings of so many `steps`, a bar over these."""

    def __init__(self, console: Console, steps: int | None = None):
        self.console, self.made, self.row = console, 0, ""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        notes = TextColumn("{task.fields[notes]}")
        self.progress = Progress(*columns, TimeRemainingColumn(), notes, console=console)
        self.rows = self.progress.add_task("rows", total=None, notes="")
        self.steps = self.progress.add_task("steps", total=steps, notes="", visible=steps is not None)

    def __enter__(self) -> RowBar:
        self.progress.start()
        return self

    def __exit__(self, *_) -> None:
        self.progress.stop()

    def row_finished(self, row: str, number: int, total: int) -> None:
        self.row = row
        self.progress.update(self.rows, completed=number, total=total, notes=self._notes())
        if not self.console.is_terminal:  # no bar in a log file
            self.console.print(f"row {number} of {total}: {row}")

    def images_made(self, count: int) -> None:
        self.made += count
        self.progress.update(self.rows, notes=self._notes())

    def stepped(self, step: int, loss: float) -> None:
        self.progress.update(self.steps, completed=step, notes=f"loss {loss:.4f}")

    def _notes(self) -> str:
        made = f"{self.made} images made" if self.made else ""
        return "; ".join(text for text in (made, self.row) if text)
