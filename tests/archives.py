"""Shards as other programs write them: .tar files of webdataset, .parquet files of img2dataset."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from srlvae.images import to_pil

BROKEN = b"no image"


def as_png(x) -> bytes:
    written = io.BytesIO()
    to_pil(x).save(written, "PNG")
    return written.getvalue()


def write_tar(path: Path, files: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path
