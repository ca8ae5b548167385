"""Photographs in the rows of a table: a Hugging Face dataset, with random access or as a stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from PIL import Image

from srlvae.errors import InputError
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


class StreamPhotographs:
    """A streamed Hugging Face dataset, for ascending indices.

    Row n is reached by reading on. After the last row the stream begins again. `first` is the number of its first row in the
    whole dataset. `length` is how many rows it has, once that is known.
    """

    length: int | None = None

    def __init__(self, dataset, column: str, decode: Decode = open_cell, first: int = 0):
        self.dataset, self.column, self.decode, self.first = dataset, column, decode, first
        self._rewind()

    def _rewind(self) -> None:
        self.position, self.rows = 0, iter(())
        # The last rows, as far as a sample that replaces an unreadable one may look ahead.
        self.recent: deque[Any] = deque(maxlen=MAX_UNREADABLE)

    def __getstate__(self) -> dict:
        return {"dataset": self.dataset, "column": self.column, "decode": self.decode, "first": self.first}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state)

    def without_first(self, count: int) -> StreamPhotographs:
        """The stream from row `count` on, also whenever it begins again."""
        return StreamPhotographs(self.dataset.skip(count), self.column, self.decode, self.first + count)

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, index: int) -> Image.Image:
        if index < self.position - len(self.recent):
            self._rewind()
        while self.position <= index:
            row = next(self.rows, None)
            if row is None:
                self.length = self.length or self.position or None
                self.rows = iter(self.dataset)
                row = next(self.rows, None)
                if row is None:
                    raise InputError("the streamed dataset has no rows")
            self.recent.append(row)
            self.position += 1
        row = self.recent[index - self.position]
        return read_rgb(lambda: self.decode(row[self.column]), self.name(index))

    def name(self, index: int) -> str:
        """What a photograph is called; after the last row the numbers go on."""
        return f"row {self.first + index}"
