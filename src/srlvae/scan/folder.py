"""Looking at the files of a folder: what is seen goes into a table line by line, and verdicts follow from it.

Several processes share the files out, and each writes a table of its own.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from srlvae.events import Listener
from srlvae.files import NAMES
from srlvae.images import LeftOut, find_images, read_picture
from srlvae.runs import claim
from srlvae.scan.look import LOOK, Encoders, Look, cells, read_look
from srlvae.scan.places import RECORD, whole_name
from srlvae.scan.reading import Unreadable, read_ahead
from srlvae.training.processes import processes

# Evidence as it comes, a file a process; the table of all at the end.
TABLE = "evidence-{}.csv"
COLUMNS = ("file", "version", *LOOK, "error")


@dataclass(frozen=True)
class FileEvidence:
    """The evidence in one file.

    `version` changes with the file's size and time. `evidence` is what was seen in it, or None if the file could not be read;
    `error` then says why.
    """

    file: str
    version: str
    evidence: Look | None
    error: str = ""


def scan(encoders: Encoders, folder: Path, out: Path, listener: Listener | None = None) -> list[FileEvidence]:
    """Examine every image below `folder` and write the evidence to `out`/evidence-0.csv, line by line. Returns all evidence.

    Files that are listed already and have not changed since are skipped, so an interrupted
    scan goes on. Processes that run together share the files out. A file that cannot be read gets a line with the error, is
    told to the listener and listed in `out`, and is tried again the next time. The listener also hears of each file.

    Raises InputError if `out` holds the evidence of other encoders or of another folder.
    """
    state, listener = processes(), listener or Listener()
    left_out = LeftOut(listener)
    files = [(path, *_identity(path, folder)) for path in find_images(folder, left_out)]
    claim(out, RECORD, {**encoders.identity, "folder": whole_name(folder), "evidence": list(COLUMNS)})
    known = {(seen.file, seen.version) for seen in read_evidence(out) if seen.evidence}
    left_out.recall(out, [path for path, *identity in files if tuple(identity) in known])
    try:
        with _open_table(out / TABLE.format(state.process_index)) as table:
            share = files[state.process_index :: state.num_processes]
            todo = [file for file in share if file[1:] not in known]
            done = len(share) - len(todo)
            for numbers, rows in _looks(encoders, [path for path, *_ in todo], left_out):
                csv.writer(table).writerows((*todo[number][1:], *row) for number, row in zip(numbers, rows, strict=True))
                table.flush()
                done += len(numbers)
                listener.at(str(folder), done, len(share))
        state.wait_for_everyone()
        # Of the files that are there, evidence before an error: another look may have had more luck.
        looks = sorted(read_evidence(out), key=lambda seen: seen.evidence is not None)
        found = {(seen.file, seen.version): seen for seen in looks}
        seen = [(path, found[name, version]) for path, name, version in files if (name, version) in found]
        for path, one in seen:
            if one.error:
                left_out.add(path, one.error.removeprefix(f"{path}: "))
    finally:
        if state.is_main_process:
            left_out.write(out)
    return [one for _, one in seen]


def _identity(path: Path, folder: Path) -> tuple[str, str]:
    """The name of a file below a folder, and a text that changes when the file is replaced."""
    about = path.stat()
    return path.relative_to(folder).as_posix() if path != folder else path.name, f"{about.st_size}-{about.st_mtime_ns}"


def _open_table(path: Path) -> TextIO:
    """Open a table to add lines to it, without the half line that a run which was cut off left at its end."""
    if path.exists():
        with path.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
    table = path.open("a", newline="", **NAMES)
    if table.tell() == 0:
        csv.writer(table).writerow(COLUMNS)
    return table


def _looks(encoders: Encoders, paths: list[Path], left_out: LeftOut) -> Iterator[tuple[list[int], list[tuple[str, ...]]]]:
    """Look at files. Gives out numbers of files as they are done, and the rest of their lines."""
    for read in read_ahead(paths, lambda path: read_picture(path, left_out=left_out).on_white()):
        if isinstance(read, Unreadable):
            left_out.add(paths[read.number], read.reason)
            yield [read.number], [(*[""] * len(LOOK), f"{paths[read.number]}: {read.reason}")]
        else:
            yield read.numbers, [(*cells(look), "") for look in encoders.look(read.x)]


def read_evidence(out: Path) -> Iterator[FileEvidence]:
    """Read the evidence that `scan` has written to `out` so far."""
    for table in sorted(out.glob(TABLE.format("*"))):
        with table.open(newline="", **NAMES) as file:
            for row in csv.DictReader(file):
                # Else half a line, of a process that was cut off.
                if row["error"] is not None:
                    yield FileEvidence(row["file"], row["version"], None if row["error"] else read_look(row), row["error"])
