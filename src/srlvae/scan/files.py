"""Looking at files in groups: what is put together depends on the group alone, so every engine sees the same."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.images import read_content, read_picture
from srlvae.scan.look import Encoders, Look
from srlvae.scan.reading import Skipped, Unreadable, read_ahead

# Files of a group: a few batches, so that a small folder makes work for several workers.
GROUP = 64
# Bytes that looking at a picture takes for each of its pixels, most of them for what kind of picture it is.
LOOKING = 170


@dataclass(frozen=True)
class File:
    """A file that is to be looked at, and the digests of it that evidence is known of."""

    path: Path
    known: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Group:
    """Some files of a folder, which are looked at together."""

    folder: Path
    files: tuple[File, ...]


@dataclass(frozen=True)
class FileSeen:
    """What was seen in a file.

    version: the digest of what is in it, blank if it could not be opened. look: None where evidence of that digest is known,
    or where the file cannot be read; `error` then says why. lost: what of the file was not used.
    """

    path: Path
    version: str
    look: Look | None
    error: str = ""
    lost: tuple[str, ...] = ()


def groups_of(folder: Path, files: Sequence[File]) -> list[Group]:
    """The files of a folder, dealt out in groups."""
    return [Group(folder, tuple(files[start : start + GROUP])) for start in range(0, len(files), GROUP)]


def look_at_files(encoders: Encoders, group: Group, listener: Listener) -> Iterator[FileSeen]:
    """Look at every file of a group whose digest is not known.

    Raises InputError where the folder is not on this machine.
    """
    if not group.folder.exists():
        raise InputError(
            f"{group.folder} is not on {platform.node()}, where a worker is; put the folder on a file system that all machines "
            "share, scan it without --engine ray, or pack the images into .tar files in a store"
        )
    versions: dict[Path, str] = {}
    lost: dict[Path, tuple[str, ...]] = {}

    def read(file: File) -> Image.Image | None:
        content = read_content(file.path)
        versions[file.path] = hashlib.sha256(content).hexdigest()
        if versions[file.path] in file.known:
            return None
        picture = read_picture(file.path, content=content, room=LOOKING)
        lost[file.path] = picture.lost
        return encoders.check_size(str(file.path), picture.on_white())

    def seen(number: int, look: Look | None, error: str = "") -> FileSeen:
        path = group.files[number].path
        return FileSeen(path, versions.get(path, ""), look, error, lost.get(path, ()))

    for found in read_ahead(group.files, read):
        if isinstance(found, Unreadable):
            yield seen(found.number, None, found.reason)
        elif isinstance(found, Skipped):
            yield seen(found.number, None)
        else:
            yield from (
                seen(number, look) for number, look in zip(found.numbers, encoders.look(found.x, listener), strict=True)
            )
