"""Where the tables of a folder lie: one `--out` serves several folders and one calibration."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PurePosixPath

from srlvae.files import read_record

# What a scan is of, in its folder.
RECORD = "scan.json"


def clean_evidence(out: Path, clean: Path) -> Path:
    """The folder for the evidence of a folder of clean images, so that another folder of them costs no more than itself."""
    return out / f"clean-{_digest(clean)}"


def place_of(out: Path, images: str | Path) -> Path:
    """The folder for the tables and the page of `images`: `out` for what is scanned there first, one below it for others."""
    record = out / RECORD
    if not record.exists() or read_record(record).get("folder") == whole_name(images):
        return out
    return out / f"{PurePosixPath(whole_name(images)).name}-{_digest(images)}"


def whole_name(source: str | Path) -> str:
    """The absolute path of a source, or its address in a store."""
    return str(source) if "://" in str(source) else str(Path(source).resolve())


def _digest(source: str | Path) -> str:
    return hashlib.sha256(os.fsencode(whole_name(source))).hexdigest()[:8]
