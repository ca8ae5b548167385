"""Where the tables of a folder lie: one `--out` serves several folders and one calibration."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from srlvae.files import read_record
from srlvae.scan.folder import RECORD


def clean_evidence(out: Path, clean: Path) -> Path:
    """The folder for the evidence of a folder of clean images, so that another folder of them costs no more than itself."""
    return out / f"clean-{_digest(clean)}"


def place_of(out: Path, images: Path) -> Path:
    """The folder for the tables and the page of `images`: `out` for the first folder scanned there, one below it for others."""
    record = out / RECORD
    if not record.exists() or read_record(record).get("folder") == str(images.resolve()):
        return out
    return out / f"{images.resolve().name}-{_digest(images)}"


def _digest(folder: Path) -> str:
    return hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:8]
