"""Photographs in the rows of a table: a Hugging Face dataset with random access."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PIL import Image

from srlvae.images import open_cell, read_rgb

# So many unusable images in a row are no accident.
MAX_UNREADABLE = 100
Decode = Callable[[Any], Image.Image | None]


class HubPhotographs:
    """The image column of a Hugging Face dataset with random access. `decode` turns a cell into a picture."""

    def __init__(self, dataset, column: str, decode: Decode = open_cell):
        self.dataset, self.column, self.decode = dataset, column, decode

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Image.Image:
        return read_rgb(lambda: self.decode(self.dataset[index][self.column]), self.name(index))

    def name(self, index: int) -> str:
        """What a photograph is called."""
        return f"row {index}"
