"""Scanning the files of a folder: evidence goes into a table line by line, and scores and verdicts follow from it.

Several processes share the files out, and each writes a table of its own.
"""

from __future__ import annotations

import csv
import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.files import write_atomically, write_json
from srlvae.images import find_images, read_image
from srlvae.models.vae import VAE
from srlvae.runs import claim
from srlvae.scan.calibration import Normal
from srlvae.scan.evidence import EVIDENCE, evidence_of_image
from srlvae.training.processes import processes

# Evidence as it comes, a file a process; the table of all at the end.
TABLE, RECORD = "evidence-{}.csv", "scan.json"
VERDICTS, SUMMARY = "scan.csv", "verdict.json"
COLUMNS = ("file", "version", *EVIDENCE, "error")
# Names of files need not be text.
NAMES: Any = {"encoding": "utf-8", "errors": "surrogateescape"}


@dataclass(frozen=True)
class FileEvidence:
    """The evidence in one file.

    `version` changes with the file's size and time. `evidence` is as in `evidence`, or None if the file could not be read;
    `error` then says why.
    """

    file: str
    version: str
    evidence: tuple[float, ...] | None
    error: str = ""


@dataclass(frozen=True)
class Score:
    """The score of one file, or None if the file could not be read; `error` then says why."""

    file: str
    value: float | None
    error: str = ""

    def above(self, threshold: float) -> bool:
        """Whether the score exceeds `threshold`. A file that could not be read does not."""
        return self.value is not None and self.value > threshold


def scan(original: VAE, hardened: VAE, folder: Path, out: Path, listener: Listener | None = None) -> list[FileEvidence]:
    """Examine every image below `folder` and write the evidence to `out`/evidence-0.csv, line by line. Returns all evidence.

    One image is in memory at a time. Files that are listed already and have not changed since are skipped, so an interrupted
    scan goes on. Processes that run together share the files out. A file that cannot be read gets a line with the error, and is
    tried again the next time. The listener hears of each file.

    Raises InputError if `out` holds the evidence of other encoders or of another folder, or if the two VAEs are the same or
    have latents of different sizes.
    """
    state, listener = processes(), listener or Listener()
    files = [(path, *_identity(path, folder)) for path in find_images(folder)]
    vaes = _fingerprints(original, hardened)
    claim(out, RECORD, {**vaes, "folder": str(folder.resolve()), "evidence": list(COLUMNS)})
    known = {(seen.file, seen.version) for seen in read_evidence(out) if seen.evidence}
    with _open_table(out / TABLE.format(state.process_index)) as table:
        share = files[state.process_index :: state.num_processes]
        for number, (path, name, version) in enumerate(share, 1):
            if (name, version) not in known:
                csv.writer(table).writerow((name, version, *_evidence_or_error(original, hardened, path)))
                table.flush()
            listener.at(str(folder), number, len(share))
    state.wait_for_everyone()
    # Of the files that are there, evidence before an error: another look may have had more luck.
    looks = sorted(read_evidence(out), key=lambda seen: seen.evidence is not None)
    found = {(seen.file, seen.version): seen for seen in looks}
    return [found[name, version] for _, name, version in files if (name, version) in found]


def _fingerprints(original: VAE, hardened: VAE) -> dict[str, str]:
    """The fingerprints of the two VAEs. Raises InputError if they are the same or have latents of different sizes."""
    if (original.channels, original.factor) != (hardened.channels, hardened.factor):
        raise InputError("the two VAEs have latents of different sizes; give a VAE and what srlvae harden made of it")
    found = {"original": original.fingerprint(), "hardened": hardened.fingerprint()}
    if found["original"] == found["hardened"]:
        raise InputError("the two VAEs are one and the same; give a VAE and what srlvae harden made of it")
    return found


def clean_evidence(out: Path, clean: Path) -> Path:
    """The folder for the evidence of a folder of clean images, so that another folder of them costs no more than itself."""
    return out / f"clean-{hashlib.sha256(os.fsencode(clean.resolve())).hexdigest()[:8]}"


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


def _evidence_or_error(original: VAE, hardened: VAE, path: Path) -> tuple[str, ...]:
    try:
        found = evidence_of_image(original, hardened, read_image(path)).tolist()
        return (*(f"{value:.6g}" for value in found), "")
    except InputError as error:
        return (*[""] * len(EVIDENCE), str(error))


def read_evidence(out: Path) -> Iterator[FileEvidence]:
    """Read the evidence that `scan` has written to `out` so far."""
    for table in sorted(out.glob(TABLE.format("*"))):
        with table.open(newline="", **NAMES) as file:
            for row in csv.DictReader(file):
                # Else half a line, of a process that was cut off.
                if row["error"] is not None:
                    found = None if row["error"] else tuple(float(row[name]) for name in EVIDENCE)
                    yield FileEvidence(row["file"], row["version"], found, row["error"])


def readable(seen: list[FileEvidence]) -> Float[Tensor, "n 3"]:
    """The evidence of the files that could be read."""
    return torch.tensor([one.evidence for one in seen if one.evidence is not None]).reshape(-1, len(EVIDENCE))


def score(seen: list[FileEvidence], normal: Normal) -> list[Score]:
    """Score every file. The highest scores come first, after the files that could not be read."""
    values = iter(normal.scores(readable(seen)).tolist())
    scores = [Score(one.file, next(values) if one.evidence else None, one.error) for one in seen]
    return sorted(scores, key=lambda score: math.inf if score.value is None else -score.value)


def write_verdicts(out: Path, scores: list[Score], threshold: float, clean: Path, rate: float) -> Path:
    """Write a table of all files with scores and verdicts, and beside it what the verdicts rest on. Returns the table's path.

    The most suspicious files come first. A file is suspicious if its score is above `threshold`, which clean images exceed at
    `rate`.
    """

    def write(file: Path) -> None:
        with file.open("w", newline="", **NAMES) as opened:
            writer = csv.writer(opened)
            writer.writerow(("file", "score", "suspicious", "error"))
            for one in scores:
                cells = ("", "") if one.value is None else (f"{one.value:.6g}", "yes" if one.above(threshold) else "no")
                writer.writerow((one.file, *cells, one.error))

    write_atomically(out / VERDICTS, write)
    unreadable = sum(one.value is None for one in scores)
    about = {"threshold": threshold, "rate": rate, "clean": str(clean.resolve()), "images": len(scores) - unreadable}
    about |= {"suspicious": sum(one.above(threshold) for one in scores), "unreadable": unreadable}
    write_json(out / SUMMARY, about)
    return out / VERDICTS
