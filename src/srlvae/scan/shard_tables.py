"""Tables of shards as Parquet, a file a shard: what was seen in its pictures, and the verdicts. Needs the extra `datasets`."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Any

from srlvae.errors import InputError
from srlvae.extras import need
from srlvae.files import write_atomically
from srlvae.images.shards import version_of
from srlvae.scan.evidence import EVIDENCE
from srlvae.scan.folder import FileEvidence
from srlvae.scan.likeness import TRAITS
from srlvae.scan.look import Look
from srlvae.scan.verdicts import Score

# Folders of the tables, in the output folder.
SEEN, SCORES = "evidence", "scan.parquet"


def table_name(shard: str) -> str:
    """The name of a shard's tables: its own, and what tells it from shards of the same name elsewhere."""
    return f"{PurePosixPath(shard).stem[:80]}-{hashlib.sha256(shard.encode(errors='surrogateescape')).hexdigest()[:8]}.parquet"


def write_seen(out: Path, shard: str, version: str, seen: list[FileEvidence]) -> None:
    """Write what was seen in a shard, as one file, so that it is there as a whole or not at all."""
    arrow, parquet = need("datasets", "pyarrow", "pyarrow.parquet")
    looks = [one.evidence for one in seen]
    columns: dict[str, Any] = {"file": _texts(arrow, [one.file for one in seen])}
    for number, name in enumerate(EVIDENCE):
        columns[name] = arrow.array([look and look.evidence[number] for look in looks], arrow.float32())
    for number, name in enumerate(TRAITS):
        columns[name] = arrow.array([look and look.likeness[number] for look in looks], arrow.float32())
    columns["thumbnail"] = arrow.array([look and look.thumbnail for look in looks], arrow.binary())
    columns["error"] = _texts(arrow, [one.error for one in seen])
    table = arrow.table(columns, metadata={"shard": shard.encode(errors="surrogateescape"), "version": version})
    write_atomically(out / SEEN / table_name(shard), lambda path: parquet.write_table(table, path))


def is_seen(out: Path, shard: str) -> bool:
    """Whether the table of what was seen in a shard is there, and the shard has not changed since."""
    (parquet,) = need("datasets", "pyarrow.parquet")
    path = out / SEEN / table_name(shard)
    if not path.exists():
        return False
    try:
        return _read(parquet.read_schema, path).metadata.get(b"version") == version_of(shard).encode()
    except InputError:  # looking at it will say so
        return False


def read_seen(out: Path, shard: str) -> list[FileEvidence]:
    """What was seen in a shard. Raises InputError if its table is broken."""
    (parquet,) = need("datasets", "pyarrow.parquet")
    rows = _read(parquet.read_table, out / SEEN / table_name(shard)).to_pylist()
    return [FileEvidence(row["file"], "", None if row["error"] else _look(row), row["error"]) for row in rows]


def _look(row: dict[str, Any]) -> Look:
    evidence, traits = (tuple(row[name] for name in names) for names in (EVIDENCE, TRAITS))
    return Look(evidence, traits, row["thumbnail"])


def write_scores(out: Path, shard: str, scores: list[Score], threshold: float) -> None:
    """Write the verdicts on the pictures of a shard: file, shard, score, verdict (yes, no or unlike), reason and error."""
    arrow, parquet = need("datasets", "pyarrow", "pyarrow.parquet")
    columns = {
        "file": _texts(arrow, [one.file for one in scores]),
        "shard": _texts(arrow, [shard] * len(scores)),
        "score": arrow.array([one.value for one in scores], arrow.float32()),
        "suspicious": _texts(arrow, ["" if one.value is None else one.verdict(threshold) for one in scores]),
        "reason": _texts(arrow, [one.unlike for one in scores]),
        "error": _texts(arrow, [one.error for one in scores]),
    }
    write_atomically(out / SCORES / table_name(shard), lambda path: parquet.write_table(arrow.table(columns), path))


def remove_other_scores(out: Path, shards: list[str]) -> None:
    """Remove the verdicts on all shards but these, since whoever reads the folder takes it for one table."""
    kept = {table_name(shard) for shard in shards}
    for path in (out / SCORES).glob("*.parquet"):
        if path.name not in kept:
            path.unlink()


def _texts(arrow: Any, texts: list[str]) -> Any:
    return arrow.array([as_text(text) for text in texts], arrow.string())


def as_text(name: str) -> str:
    """A name as it is in a table: what is no text is written with escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _read(read: Any, path: Path) -> Any:
    try:
        return read(path)
    except Exception as error:  # pyarrow raises its own kinds
        raise InputError(f"{path} is broken ({error}); remove it, and the shard is looked at again") from error
