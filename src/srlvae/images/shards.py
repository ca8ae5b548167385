"""Shards: archives of many pictures, as webdataset (.tar) and img2dataset (.parquet) write them, on a disk or in a store."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec.core import url_to_fs

from srlvae.errors import InputError, UnreadableError
from srlvae.extras import need
from srlvae.images.walk import is_image_name, visible

# What reads a shard, by its suffix.
READERS = {".tar": "webdataset", ".tgz": "webdataset", ".tar.gz": "webdataset", ".parquet": "parquet", ".arrow": "arrow"}
# Names of columns with the bytes of pictures, and of columns that name them, as of img2dataset.
PICTURES = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo", "pixels", "bytes")
KEYS = ("__key__", "key", "file_name", "filename", "path")
# How a file of Arrow begins; a stream does not.
ARROW_FILE = b"ARROW1"
# The rows of some columns of a table, a piece at a time.
Batches = Callable[[list[str]], Iterator[Any]]
# Rows of a table in memory at a time.
ROWS = 64


@dataclass(frozen=True)
class Sample:
    """A picture in a shard: its name there, and the bytes of its file. `data` is None where the cell is empty."""

    name: str
    data: bytes | None


def reader_of(file: str) -> str | None:
    """What reads a shard, by its name: `webdataset`, `parquet` or `arrow`. None for any other file."""
    return next((reader for suffix, reader in READERS.items() if file.lower().endswith(suffix)), None)


def find_shards(source: str) -> list[str]:
    """The shards that `source` stands for: one itself, those directly in a folder, or those of a pattern with `*`; sorted.

    A source with a protocol, such as `s3://bucket/*.tar`, is looked up there. Tables beside archives of the same name are left
    out: img2dataset writes what is known of the pictures into them, and no pictures.

    Raises InputError if the store cannot be reached, or if nothing matches a pattern.
    """
    files, folder = _store(source)
    try:
        found = files.ls(folder, detail=False) if files.isdir(folder) else files.glob(folder) if "*" in folder else [folder]
        shards = sorted(file for file in found if reader_of(file) and files.isfile(file))
    except Exception as error:  # every store raises its own kinds
        raise InputError(f"cannot list {source}: {error}") from error
    if "*" in folder and not found:
        raise InputError(f"no file matches {source}; check the folder, and put the pattern in quotes")
    archives = {file.removesuffix(".tar") for file in shards}
    kept = [file for file in shards if not (file.endswith(".parquet") and file.removesuffix(".parquet") in archives)]
    return [files.unstrip_protocol(file) for file in kept] if "://" in source else kept


def check_one_kind(folder: Path, shards: Sequence[str]) -> None:
    """Raise InputError for a folder of pictures that has archives, too: nobody knows which of the two are meant.

    Tables beside pictures are what img2dataset knows of these.
    """
    if archives := [shard for shard in shards if shard.endswith(".tar")]:
        raise InputError(
            f"{folder} has pictures and {len(archives)} archives such as {archives[0]}; give {folder / '*.tar'} in quotes for "
            "the archives, or a folder of pictures alone"
        )


def version_of(shard: str) -> str:
    """A text that changes when a shard is replaced. Raises UnreadableError if it cannot be reached."""
    files, path = _store(shard)
    try:
        return str(files.ukey(path))
    except Exception as error:  # every store raises its own kinds
        raise UnreadableError(shard, f"a shard that cannot be opened ({error})") from error


def read_samples(shard: str, column: str | None = None) -> Iterator[Sample]:
    """The pictures of a shard, one after another.

    Those of an archive are the files with names of images. Those of a table are in `column`, or else in the first column that
    can have them.

    Raises UnreadableError if the shard is broken, even at its end, or has no such column.
    """
    files, path = _store(shard)
    try:
        with files.open(path, "rb") as opened:
            if reader_of(shard) == "webdataset":
                yield from _in_archive(opened)
            elif reader_of(shard) == "parquet":
                yield from _in_table(*_parquet(opened), column)
            elif reader_of(shard) == "arrow":
                yield from _in_table(*_arrow(opened), column)
            else:
                raise ValueError(f"it is none of {', '.join(READERS)}")
    except InputError:
        raise
    except Exception as error:  # tarfile, pyarrow and every store raise their own kinds
        raise UnreadableError(shard, f"a shard that cannot be read ({error})") from error


def _store(source: str) -> tuple[Any, str]:
    try:
        return url_to_fs(source)
    except ImportError as error:
        raise InputError(f"{source} needs a package that is not installed: {error}") from error
    except Exception as error:  # every store raises its own kinds
        raise InputError(f"cannot open {source}: {error}") from error


def _in_archive(opened: Any) -> Iterator[Sample]:
    with tarfile.open(fileobj=opened, mode="r|*") as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            shown = is_image_name(path) and list(path.parts) == visible(path.parts)
            file = archive.extractfile(member) if shown and member.isfile() else None
            if file is None:
                continue
            data = file.read()
            if len(data) < member.size:
                raise EOFError(f"it ends within {member.name}")
            yield Sample(member.name, data)


def _parquet(opened: Any) -> tuple[Any, Batches]:
    (parquet,) = need("datasets", "pyarrow.parquet")
    table = parquet.ParquetFile(opened)
    return table.schema_arrow, lambda columns: table.iter_batches(ROWS, columns=columns)


def _arrow(opened: Any) -> tuple[Any, Batches]:
    """Arrow as a stream, which is what `datasets` writes, or as a file."""
    (ipc,) = need("datasets", "pyarrow.ipc")
    whole = opened.read(len(ARROW_FILE)) == ARROW_FILE
    opened.seek(0)
    reader = (ipc.open_file if whole else ipc.open_stream)(opened)

    def read(columns: list[str]) -> Iterator[Any]:
        batches = map(reader.get_batch, range(reader.num_record_batches)) if whole else reader
        for batch in batches:
            yield from (batch.select(columns).slice(start, ROWS) for start in range(0, batch.num_rows, ROWS))

    return reader.schema, read


def _in_table(schema: Any, read: Batches, column: str | None) -> Iterator[Sample]:
    """The pictures of a table, of which `read` gives the rows of some columns."""
    pictures, key = _columns(schema, column)
    number = 0
    for batch in read([pictures, *([key] if key else [])]):
        for row in batch.to_pylist():
            cell = row[pictures]
            name = row[key] if key and row[key] is not None else f"row {number}"
            data = cell.get("bytes") if isinstance(cell, Mapping) else cell
            # A text would be taken for the path of a file.
            yield Sample(str(name), data if isinstance(data, bytes) else None)
            number += 1


def _columns(schema: Any, column: str | None) -> tuple[str, str | None]:
    """The names of the columns with the pictures and with their names."""
    able = [field.name for field in schema if "binary" in str(field.type)]
    if column is not None and column not in able:
        raise ValueError(f"it has no column {column} with the bytes of pictures, only {', '.join(able) or 'others'}")
    pictures = [column] if column else [name for name in able if name.lower() in PICTURES]
    if not pictures:
        raise ValueError(f"it has no column of pictures, only {', '.join(schema.names)}; name one with --image-column")
    return pictures[0], next((name for name in KEYS if name in schema.names and name != pictures[0]), None)
