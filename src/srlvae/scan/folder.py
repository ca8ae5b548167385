"""Looking at the files of a folder: what is seen goes into a table line by line, and verdicts follow from it.

Several processes share the files out, and each writes a table of its own.
"""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.files import NAMES, digest, open_to_append
from srlvae.images import LeftOut, find_images
from srlvae.locks import holds
from srlvae.opened import lines_of, open_table
from srlvae.runs import claim
from srlvae.scan.engines import Engine, look_here
from srlvae.scan.files import File, FileSeen, groups_of, look_at_files
from srlvae.scan.look import LOOK, Encoders, Look, cells, read_look
from srlvae.scan.places import RECORD, whole_name
from srlvae.training.processes import gathered, meet, processes
from srlvae.trust.cells import plain_cell, read_cell

# Evidence as it comes, a file a process; the table of all at the end.
TABLE = "evidence-{}.csv"
COLUMNS = ("file", "version", *LOOK, "error")


@dataclass(frozen=True)
class FileEvidence:
    """The evidence in one file.

    `version` is the digest of what is in the file, or blank if it could not be opened. `evidence` is what was seen in it, or
    None if the file could not be read; `error` then says why.
    """

    file: str
    version: str
    evidence: Look | None
    error: str = ""


@holds("out")
def scan(
    encoders: Encoders, folder: Path, out: Path, listener: Listener | None = None, engine: Engine = look_here
) -> list[FileEvidence]:
    """Examine every image below `folder` and write the evidence to `out`/evidence-0.csv, line by line. Returns all evidence.

    Files that are listed already, with the digest that they have, are skipped; so an interrupted scan goes on. Processes that
    run together share the files out. A file that cannot be read gets a line with the error, is told to the listener and listed
    in `out`, and is tried again the next time. The listener also hears of each file, and its wish to stop raises
    KeyboardInterrupt.

    engine: what looks at groups of files, by default this process.

    Raises InputError if `out` holds the evidence of other encoders or of another folder, or if evidence of a file has got lost.
    """
    state, listener = processes(), listener or Listener()
    left_out = LeftOut(listener)
    files = {path: _name(path, folder) for path in find_images(folder, left_out)}
    claim(out, RECORD, {**encoders.identity, "folder": whole_name(folder), "evidence": list(COLUMNS)})
    known = _known(out)
    share, versions = list(files)[state.process_index :: state.num_processes], dict[Path, str]()
    left_out.recall(out, [path for path in files.keys() - set(share) if files[path] in known])
    try:
        groups = groups_of(folder, [File(path, known.get(files[path], frozenset())) for path in share])
        with _open_table(out / TABLE.format(state.process_index)) as table:
            for done, one in enumerate(engine(encoders, groups, look_at_files, listener), 1):
                versions[one.path] = one.version
                csv.writer(table).writerows(_rows(one, files[one.path], left_out))
                table.flush()
                listener.at(str(folder), done, len(share))
                listener.check()
        meet("looking at the images")
        hear_of_all(left_out)
        seen = _seen(files, versions, list(read_evidence(out)))
        if lost := files.keys() - {path for path, _ in seen}:
            raise InputError(
                f"there is no evidence of {min(lost)}, one of {len(lost)} such files: something else has changed the tables in "
                f"{out}; start the same command again, and it looks at these"
            )
        for path, one in seen:
            if one.error:
                left_out.add(path, one.error.removeprefix(f"{path}: "))
        left_out.check_left(sum(not one.error for _, one in seen))
    finally:
        left_out.recall(out, [path for path, version in versions.items() if version in known.get(files[path], ())])
        if state.is_main_process:
            left_out.write(out)
    return [one for _, one in seen]


def hear_of_all(left_out: LeftOut) -> None:
    """Add what other processes left out, in the main one, which writes the table."""
    everything = [omission for own in gathered(list(left_out.found)) for omission in own]
    if processes().is_main_process:
        for omission in everything:
            left_out.add(omission.file, omission.reason, omission.whole)


def _known(out: Path) -> dict[str, frozenset[str]]:
    """The digests that evidence is there of, by the names of the files."""
    known: dict[str, frozenset[str]] = {}
    for one in read_evidence(out):
        if one.evidence:
            known[one.file] = known.get(one.file, frozenset()) | {one.version}
    return known


def _rows(seen: FileSeen, name: str, left_out: LeftOut) -> list[tuple[str, ...]]:
    """The line of a file, or none where evidence of it is known. What is not used of it is left out."""
    for part in seen.lost:
        left_out.add(seen.path, part, whole=False)
    if seen.error:
        left_out.add(seen.path, seen.error)
        return [(plain_cell(name), seen.version, *[""] * len(LOOK), plain_cell(f"{seen.path}: {seen.error}"))]
    return [(plain_cell(name), seen.version, *cells(seen.look), "")] if seen.look else []


def _name(path: Path, folder: Path) -> str:
    """The name of a file below a folder."""
    return path.relative_to(folder).as_posix() if path != folder else path.name


def _seen(files: dict[Path, str], versions: dict[Path, str], found: list[FileEvidence]) -> list[tuple[Path, FileEvidence]]:
    """What was seen in each file, by its digest; of those that another process looked at, only where there are several."""
    # Evidence before an error: another look may have had more luck.
    by_version = {(one.file, one.version): one for one in sorted(found, key=lambda one: one.evidence is not None)}
    by_name: dict[str, list[FileEvidence]] = {}
    for one in by_version.values():
        by_name.setdefault(one.file, []).append(one)
    seen = []
    for path, name in files.items():
        own = by_name.get(name, [])
        if path in versions or len(own) > 1:
            version = versions[path] if path in versions else digest(path)
            own = [one for one in own if one.version == version]
        seen += [(path, one) for one in own]
    return seen


def _open_table(path: Path) -> TextIO:
    """Open a table to add lines to it, with a header if it is new."""
    table = open_to_append(path)
    if table.tell() == 0:
        csv.writer(table).writerow(COLUMNS)
    return table


def read_evidence(out: Path) -> Iterator[FileEvidence]:
    """Read the evidence that `scan` has written to `out` so far. Lines that it did not write are passed over, and made anew."""
    for table in sorted(out.glob(TABLE.format("*"))):
        with open_table(table, **NAMES) as file:
            # A power cut may leave zeros, which csv does not take.
            lines = csv.DictReader(line.replace("\0", "") for line in lines_of(file))
            with contextlib.suppress(csv.Error):  # the rest is no table
                yield from filter(None, map(_read_row, lines))


def _read_row(row: dict[str, str]) -> FileEvidence | None:
    """A line, or None if it is half of one, of a process that was cut off, or has other cells than a scan writes."""
    try:
        file, error = read_cell(row["file"]), read_cell(row["error"])
        return FileEvidence(file, row["version"], None if error else read_look(row), error)
    except (KeyError, TypeError, ValueError):
        return None
