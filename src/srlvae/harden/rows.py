"""Photographs in the rows of a table: a Hugging Face dataset with random access."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from typing import Any

from PIL import Image

from srlvae.errors import InputError
from srlvae.images import open_cell, read_rgb
from srlvae.images.boundary import errors_of

# So many unusable images in a row are no accident.
MAX_UNREADABLE = 100
COPY = "a copy of a photograph that is set apart"
Decode = Callable[[Any], Image.Image | None]


class HubPhotographs:
    """The image column of a Hugging Face dataset with random access. `decode` turns a cell into a picture.

    Cells whose digests are in `apart` cannot be read.
    """

    apart: frozenset[str] = frozenset()

    def __init__(self, dataset, column: str, decode: Decode = open_cell):
        self.dataset, self.column, self.decode = dataset, column, decode

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Image.Image:
        with errors_of(self.name(index)):
            cell = self.dataset[index][self.column]
            copied = bool(self.apart) and digest_of(cell) in self.apart
        if copied:
            raise InputError(COPY)
        return read_rgb(lambda: self.decode(cell), self.name(index))

    def name(self, index: int) -> str:
        """What a photograph is called."""
        return f"row {index}"

    def digest(self, index: int) -> str:
        """The SHA-256 of a cell."""
        return digest_of(self.dataset[index][self.column])

    def without(self, apart: frozenset[str]) -> HubPhotographs:
        """The same photographs, of which those with the digests `apart` cannot be read, wherever they are."""
        others = copy.copy(self)
        others.apart = apart
        return others


def digest_of(cell: Any) -> str:
    """The SHA-256 of what a cell holds: the bytes of a file, or else its path or the levels of a picture."""
    if isinstance(cell, dict):
        cell = cell["path"] if cell.get("bytes") is None else cell["bytes"]
    if isinstance(cell, Image.Image):
        cell = cell.tobytes()
    return hashlib.sha256(cell if isinstance(cell, bytes) else str(cell).encode(errors="surrogateescape")).hexdigest()
