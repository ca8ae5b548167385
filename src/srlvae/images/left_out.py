"""What is left out of a run: told at once, counted, and named in a table with the reason."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.files import LEFT_OUT, NAMES, write_atomically
from srlvae.opened import lines_of, open_table
from srlvae.trust.cells import plain_cell, read_cell

ALL, PART = "all", "a part"
COLUMNS = ("file", "left_out", "reason")


@dataclass(frozen=True)
class Omission:
    """A file or folder that was left out, and why; `whole=False` where only a part of it was, such as later frames."""

    file: str
    reason: str
    whole: bool = True


class LeftOut:
    """Collects what a run leaves out, each once, and tells the listener of it at once."""

    def __init__(self, listener: Listener | None = None):
        self.listener = listener or Listener()
        # In the order in which they came.
        self.found: dict[Omission, None] = {}

    def add(self, file: Path | str, reason: str, whole: bool = True) -> None:
        """Leave out `file`, or with `whole=False` a part of it. Raises what the listener raises."""
        omission = Omission(str(file), reason, whole)
        if omission not in self.found:
            self.found[omission] = None
            self.listener.left_out(omission.file, reason, whole)

    @property
    def files(self) -> list[Omission]:
        """The files and folders that were left out as a whole."""
        return [omission for omission in self.found if omission.whole]

    def check_left(self, count: int) -> None:
        """Raise InputError if of all files none is left, which names the first that was left out."""
        if count == 0 and self.files:
            first = self.files[0]
            raise InputError(f"none of the {len(self.files)} images can be used; the first is {first.file}: {first.reason}")

    def recall(self, out: Path, paths: Sequence[Path]) -> None:
        """Add what an earlier run's table in `out` says of parts of `paths`, which are not read again."""
        if not (out / LEFT_OUT).exists():
            return
        names = {str(path) for path in paths}
        try:
            with open_table(out / LEFT_OUT, **NAMES) as file:
                rows = list(csv.DictReader(lines_of(file)))
        except csv.Error as error:
            raise InputError(f"{out / LEFT_OUT} is not a table that a run wrote ({error}); remove it") from error
        for row in rows:
            name, part, reason = (row.get(column) for column in COLUMNS)
            if name and reason and part == PART and (name := read_cell(name)) in names:
                self.add(name, read_cell(reason), whole=False)

    def write(self, out: Path) -> None:
        """Write the table to the folder `out`, with names as bytes; if nothing was left out, there is none."""

        def write(file: Path) -> None:
            with file.open("w", newline="", **NAMES) as opened:
                writer = csv.writer(opened)
                writer.writerow(COLUMNS)
                writer.writerows((plain_cell(o.file), ALL if o.whole else PART, plain_cell(o.reason)) for o in self.found)

        if self.found:
            write_atomically(out / LEFT_OUT, write)
        else:
            (out / LEFT_OUT).unlink(missing_ok=True)
