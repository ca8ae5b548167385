"""Which files below a folder are pictures. Whatever cannot be looked at is named, and never ends the walk."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from srlvae.errors import InputError
from srlvae.images.formats import SHARDS, SUFFIXES
from srlvae.images.left_out import LeftOut
from srlvae.images.write import is_sheet
from srlvae.links import WHY, leads_out

# Folders of thumbnails of a Synology disk station, and of what macOS adds to archives.
HIDDEN = ("@eaDir", "__MACOSX")


class NothingError(InputError):
    """A folder holds no images."""


def find_images(folder: Path, left_out: LeftOut | None = None) -> list[Path]:
    """List every image file below `folder`, at any depth, sorted. A path to one file gives a list of one.

    Links to files and folders are followed, each folder once, but for those that lead out of `folder`: these are added to
    `left_out` unless `set_follow_links` lets them in. So are folders without permission, links to nothing and whatever else has
    the name of an image and is no file. Contact sheets that were written here are no images.

    Raises InputError if the folder does not exist or is a shard, and NothingError if it holds no images.
    """
    folder = Path(folder)
    if folder.is_file():
        return [_no_shard(folder)]
    if not folder.is_dir():
        kind = "no such folder" if not os.path.lexists(folder) else "neither a file nor a folder"
        pattern = "; give the folder itself, not a pattern" if set(str(folder)) & set("*?[") else ""
        raise InputError(f"{kind}: {folder}{pattern}")
    left_out = left_out or LeftOut()
    found = sorted(path for path in _files(folder, left_out) if is_image_name(path) and not is_sheet(path))
    for path in _named_as_images(folder):
        if not any(path in image.parents for image in found):
            left_out.add(path, "a folder with the name of an image, and no image in it")
    if not found and not left_out.files:
        raise NothingError(_nothing(folder))
    return found


def is_image_name(path: PurePath) -> bool:
    """Whether the name of a file is that of an image."""
    return path.suffix.lower() in SUFFIXES


def count_others(folder: Path) -> Counter[str]:
    """Count the files below `folder` that `find_images` leaves out because their suffix is not that of an image, by suffix."""
    if not Path(folder).is_dir():
        return Counter()
    names = (path for path in _files(Path(folder), LeftOut()) if not is_image_name(path))
    return Counter(path.suffix.lower() or "no suffix" for path in names)


def _no_shard(path: Path) -> Path:
    if path.name.lower().endswith(SHARDS):
        raise InputError(f"{path} is an archive, not an image; unpack it into a folder (srlvae harden and scan read shards)")
    return path


def _nothing(folder: Path) -> str:
    shards = sum(path.name.lower().endswith(SHARDS) for path in _files(folder, LeftOut()))
    also = "; archives have to be unpacked first (srlvae harden and scan read shards)" if shards else ""
    return f"no images below {folder}; looked for {', '.join(sorted(SUFFIXES))}{also}"


def _files(folder: Path, left_out: LeftOut) -> Iterator[Path]:
    """Every file below a folder except hidden ones, and those in hidden folders."""
    for above, _, names in _walk(folder, left_out):
        for path in (Path(above, name) for name in visible(names)):
            if os.path.islink(path) and os.path.exists(path) and leads_out(path, folder):
                if is_image_name(path):
                    left_out.add(path, WHY)
            elif os.path.isfile(path):
                yield path
            elif is_image_name(path):
                left_out.add(path, _why_no_file(path))


def _why_no_file(path: Path) -> str:
    try:
        path.stat()
    except OSError as error:
        return f"a link that leads nowhere ({error.strerror})" if path.is_symlink() else f"{error.strerror}"
    return "a device or a pipe, not a file"


def _named_as_images(folder: Path) -> list[Path]:
    """The folders below `folder` that have names of images."""
    walk = _walk(folder, LeftOut())
    found = (Path(above, name) for above, names, _ in walk for name in names if is_image_name(Path(name)))
    return sorted(path for path in found if not (path.is_symlink() and leads_out(path, folder)))


def _walk(folder: Path, left_out: LeftOut) -> Iterator[tuple[str, list[str], list[str]]]:
    """As os.walk, in order, through linked folders too, each folder once."""
    entered: set[str] = set()

    def refused(error: OSError) -> None:
        left_out.add(error.filename or folder, f"a folder that cannot be opened ({error.strerror})")

    for above, folders, names in os.walk(folder, followlinks=True, onerror=refused):
        real = os.path.realpath(above)
        if real in entered or leads_out(above, folder):
            if real not in entered:
                left_out.add(above, WHY)
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(visible(folders))
        yield above, folders, sorted(names)


def visible(names: Iterable[str]) -> list[str]:
    """The names of files or folders that are not hidden: bins, thumbnails and checkpoints lie in hidden folders."""
    return [name for name in names if name[0] != "." and name not in HIDDEN]
