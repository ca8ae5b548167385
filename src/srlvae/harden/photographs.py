"""Where photographs come from: a folder of them, shards, or a Hugging Face dataset with random access or as a stream."""

from __future__ import annotations

import copy
import hashlib
import os
from pathlib import Path
from typing import Protocol, runtime_checkable

from PIL import Image
from torch import Tensor

from srlvae.errors import InputError, UnreadableError
from srlvae.harden.rows import COPY, MAX_UNREADABLE, HubPhotographs
from srlvae.harden.shards import open_rows
from srlvae.harden.stream import StreamPhotographs
from srlvae.images import LeftOut, digest_of_picture, find_images, image_size, read_content, read_picture
from srlvae.images.shards import check_one_kind, find_shards
from srlvae.opened import open_file
from srlvae.trust.ids import HUB, check_id, is_hub_id

__all__ = ["MAX_UNREADABLE", "FolderPhotographs", "HubPhotographs", "Photographs", "StreamPhotographs", "open_photographs"]
# Of folders of so many photographs all are read before a run, to name the broken ones; of larger ones the beginnings of files.
LOOKED_AT = 2000
# Bytes of a beginning by which such files are told from others of their names and sizes.
BEGINNING = 2**16


@runtime_checkable
class Photographs(Protocol):
    """Pictures by index. `__getitem__` raises InputError for a picture that cannot be read."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Image.Image: ...


class FolderPhotographs:
    """The image files below a folder, read when asked for. JPEGs may be reduced to sides of no less than `at_least` pixels.

    `left_out` has what could not be looked for in the folder. Pictures in `out`, where the run draws its own, do not count.
    Files whose digests are in `apart` cannot be read.

    Raises InputError if there are no images.
    """

    apart: frozenset[str] = frozenset()

    def __init__(self, folder: Path, at_least: int, out: Path | None = None):
        self.folder, self.at_least, self.left_out = folder, at_least, LeftOut()
        self.paths = find_images(folder, self.left_out)
        if out and folder.resolve() in out.resolve().parents:
            self.paths = [path for path in self.paths if out.resolve() not in path.resolve().parents]
        if not self.paths and not self.left_out.files:
            raise InputError(f"the only images below {folder} are those of the output folder {out}")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Image.Image:
        content = read_content(self.paths[index]) if self.apart else None
        if content and hashlib.sha256(content).hexdigest() in self.apart:
            raise InputError(COPY)
        return read_picture(self.paths[index], self.at_least, content=content).on_white()

    def name(self, index: int) -> str:
        """The path of a photograph."""
        return str(self.paths[index])

    def digest(self, index: int) -> str:
        """The SHA-256 of a file. Raises UnreadableError where it cannot be opened."""
        return digest_of_picture(self.paths[index])

    def without(self, apart: frozenset[str]) -> FolderPhotographs:
        """The same photographs, of which those with the digests `apart` cannot be read, wherever they are."""
        others = copy.copy(self)
        others.apart = apart
        return others

    def listing(self) -> list[bytes]:
        """The name and size of every file, relative to the folder, so that a copy of the folder has the same listing."""
        sizes = ((path, os.stat(path).st_size) for path in self.paths)
        return sorted(os.fsencode(os.path.relpath(path, self.folder)) + f"\0{size}\n".encode() for path, size in sizes)

    def contents(self) -> str:
        """A SHA-256 of what is in the files: in all of each or, in very large folders, in its beginning."""
        whole, found = len(self) <= LOOKED_AT, hashlib.sha256()
        for path in self.paths:
            try:
                found.update((digest_of_picture(path) if whole else _beginning(path)).encode())
            except (UnreadableError, OSError):
                found.update(b"not readable")
        return found.hexdigest()


def _beginning(path: Path) -> str:
    with open_file(path) as file:
        return hashlib.sha256(file.read(BEGINNING)).hexdigest()


def look_through(photographs: FolderPhotographs, size: int, left_out: LeftOut) -> None:
    """Add to `left_out` what of a folder cannot be used for crops of `size` pixels, whether a run needs it or not.

    Of very large folders only what the beginnings of files tell is found; a run names what else it comes upon.
    """
    for omission in photographs.left_out.found:
        left_out.add(omission.file, omission.reason, omission.whole)
    for path in photographs.paths:
        found = image_size(path)
        try:
            if found is None or len(photographs) <= LOOKED_AT:
                read_picture(path, photographs.at_least, left_out)
            check_large(found or (size, size), size)
        except UnreadableError as error:
            left_out.add(path, error.reason)
        except InputError as error:
            left_out.add(path, str(error))


def check_large(found: tuple[int, int], size: int) -> None:
    """Raise InputError for a picture under half the crop of `size`, as enlarging it that far would teach blur."""
    if min(found) < size / 2:
        raise InputError(f"{found[0]} x {found[1]} pixels: too small for crops of {size}")


def name_of(photographs: Photographs, index: int) -> str:
    """What a photograph is called: its path, or the number of its row."""
    if isinstance(photographs, FolderPhotographs | HubPhotographs | StreamPhotographs):
        return photographs.name(index)
    return f"photograph {index}"


def photographs_digest(photographs: Photographs, held_out: Tensor) -> str:
    """A SHA-256 that tells sets of photographs apart.

    It covers the photographs set apart, the number of photographs and, for a folder, the names and sizes of the files.
    """
    digest = hashlib.sha256(held_out.contiguous().numpy().tobytes())
    digest.update(str(len(photographs)).encode())
    if isinstance(photographs, FolderPhotographs):
        for line in photographs.listing():
            digest.update(line)
    return digest.hexdigest()


def open_photographs(
    source: str,
    at_least: int,
    split: str = "train",
    streaming: bool = False,
    column: str | None = None,
    out: Path | None = None,
) -> Photographs:
    """Open the photographs in a folder, in shards, or of a Hugging Face dataset.

    Shards are .tar files as of webdataset, .parquet files with the bytes of images as of img2dataset, or .arrow files: one, a
    folder of them, or a pattern with `*`. A dataset is a folder made by `save_to_disk` or a hub id. `column` is the column with
    the images, which is otherwise guessed. JPEGs in a folder may be decoded at a reduced size, with sides of no less than
    `at_least` pixels. Pictures in the folder `out` do not count.

    Raises InputError if there is no such folder or dataset, if it has no images, or if it has pictures and archives. A hub id
    is written hf://owner/name, as a folder that is written wrong must not be fetched from whoever has that name on the hub.
    """
    folder = Path(source)
    saved = (folder / "dataset_info.json").is_file() or (folder / "dataset_dict.json").is_file()
    shards = [] if saved or is_hub_id(source) else find_shards(source)
    if folder.exists() and not saved and not streaming and not (shards and _images_none(folder)):
        check_one_kind(folder, shards)
        if column:
            raise InputError(f"--image-column names a column of shards, but {folder} has single images; leave it out")
        return FolderPhotographs(folder, at_least, out)
    if not folder.exists() and not shards:
        if not source.startswith(HUB):
            raise InputError(f"no such folder: {source}; a dataset on the Hugging Face hub is written {HUB}owner/name")
        source = check_id(source, "dataset")
    return open_rows(source, shards, split, streaming, column)


def _images_none(folder: Path) -> bool:
    """Whether a path is that of a shard, or of a folder without images."""
    try:
        return folder.is_file() or not find_images(folder)
    except InputError:
        return True
