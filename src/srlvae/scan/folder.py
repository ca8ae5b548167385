"""Looking at the files of a folder: what is seen goes into a table line by line, and verdicts follow from it.

Several processes share the files out, and each writes a table of its own.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.files import NAMES
from srlvae.images import LeftOut, find_images, read_picture, to_tensor
from srlvae.models.vae import VAE
from srlvae.runs import claim
from srlvae.scan.look import LOOK, Look, cells, read_look
from srlvae.training.processes import processes

# Evidence as it comes, a file a process; the table of all at the end.
TABLE, RECORD = "evidence-{}.csv", "scan.json"
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


def scan(original: VAE, hardened: VAE, folder: Path, out: Path, listener: Listener | None = None) -> list[FileEvidence]:
    """Examine every image below `folder` and write the evidence to `out`/evidence-0.csv, line by line. Returns all evidence.

    One image is in memory at a time. Files that are listed already and have not changed since are skipped, so an interrupted
    scan goes on. Processes that run together share the files out. A file that cannot be read gets a line with the error, is
    told to the listener and listed in `out`, and is tried again the next time. The listener also hears of each file, and
    its wish to stop raises KeyboardInterrupt.

    Raises InputError if `out` holds the evidence of other encoders or of another folder, or if the two VAEs are the same or
    have latents of different sizes.
    """
    state, listener = processes(), listener or Listener()
    left_out = LeftOut(listener)
    files = [(path, *_identity(path, folder)) for path in find_images(folder, left_out)]
    vaes = _fingerprints(original, hardened)
    claim(out, RECORD, {**vaes, "folder": str(folder.resolve()), "evidence": list(COLUMNS)})
    known = {(seen.file, seen.version) for seen in read_evidence(out) if seen.evidence}
    left_out.recall(out, [path for path, *identity in files if tuple(identity) in known])
    try:
        with _open_table(out / TABLE.format(state.process_index)) as table:
            share = files[state.process_index :: state.num_processes]
            for number, (path, name, version) in enumerate(share, 1):
                if (name, version) not in known:
                    csv.writer(table).writerow((name, version, *_evidence_or_error(original, hardened, path, left_out)))
                    table.flush()
                listener.at(str(folder), number, len(share))
                if listener.should_stop():
                    raise KeyboardInterrupt
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


def _fingerprints(original: VAE, hardened: VAE) -> dict[str, str]:
    """The fingerprints of the two VAEs. Raises InputError if they are the same or have latents of different sizes."""
    if (original.channels, original.factor) != (hardened.channels, hardened.factor):
        raise InputError("the two VAEs have latents of different sizes; give a VAE and what srlvae harden made of it")
    found = {"original": original.fingerprint(), "hardened": hardened.fingerprint()}
    if found["original"] == found["hardened"]:
        raise InputError("the two VAEs are one and the same; give a VAE and what srlvae harden made of it")
    return found


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


def _evidence_or_error(original: VAE, hardened: VAE, path: Path, left_out: LeftOut) -> tuple[str, ...]:
    try:
        x = to_tensor(read_picture(path, left_out=left_out).on_white())
        return (*cells(original, hardened, x), "")
    except InputError as error:
        left_out.add(path, str(error).removeprefix(f"{path}: "))
        return (*[""] * len(LOOK), str(error))


def read_evidence(out: Path) -> Iterator[FileEvidence]:
    """Read the evidence that `scan` has written to `out` so far."""
    for table in sorted(out.glob(TABLE.format("*"))):
        with table.open(newline="", **NAMES) as file:
            for row in csv.DictReader(file):
                # Else half a line, of a process that was cut off.
                if row["error"] is not None:
                    yield FileEvidence(row["file"], row["version"], None if row["error"] else read_look(row), row["error"])
