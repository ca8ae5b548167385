"""Where photographs come from: a folder of them, or a Hugging Face dataset with random access or as a stream."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from PIL import Image

from srlvae.errors import InputError
from srlvae.extras import need
from srlvae.images import find_images, open_rgb, read_rgb

# So many unusable images in a row are no accident.
MAX_UNREADABLE = 100


@runtime_checkable
class Photographs(Protocol):
    """Pictures by index. `__getitem__` raises InputError for a picture that cannot be read."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Image.Image: ...


class FolderPhotographs:
    """The image files below a folder, read when asked for. JPEGs may be reduced to sides of no less than `at_least` pixels."""

    def __init__(self, folder: Path, at_least: int):
        self.folder, self.paths, self.at_least = folder, find_images(folder), at_least

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Image.Image:
        return open_rgb(self.paths[index], self.at_least)

    def listing(self) -> list[bytes]:
        """The name and size of every file, relative to the folder, so that a copy of the folder has the same listing."""
        sizes = ((path, os.stat(path).st_size) for path in self.paths)
        return sorted(os.fsencode(os.path.relpath(path, self.folder)) + f"\0{size}\n".encode() for path, size in sizes)


Decode = Callable[[Any], Image.Image | None]


def _as_it_is(cell: Any) -> Any:
    return cell


class HubPhotographs:
    """The image column of a Hugging Face dataset with random access. `decode` turns a cell into a picture."""

    def __init__(self, dataset, column: str, decode: Decode = _as_it_is):
        self.dataset, self.column, self.decode = dataset, column, decode

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Image.Image:
        return read_rgb(lambda: self.decode(self.dataset[index][self.column]), f"row {index}")


class StreamPhotographs:
    """A streamed Hugging Face dataset, for ascending indices.

    Row n is reached by reading on. After the last row the stream begins again.
    """

    def __init__(self, dataset, column: str, decode: Decode = _as_it_is):
        self.dataset, self.column, self.decode = dataset, column, decode
        self._rewind()

    def _rewind(self) -> None:
        self.position, self.rows = 0, iter(())
        # The last rows, as far as a sample that replaces an unreadable one may look ahead.
        self.recent: deque[Any] = deque(maxlen=MAX_UNREADABLE)

    def __getstate__(self) -> dict:
        return {"dataset": self.dataset, "column": self.column, "decode": self.decode}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state)

    def without_first(self, count: int) -> StreamPhotographs:
        """The stream from row `count` on, also whenever it begins again."""
        return StreamPhotographs(self.dataset.skip(count), self.column, self.decode)

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, index: int) -> Image.Image:
        if index < self.position - len(self.recent):
            self._rewind()
        while self.position <= index:
            row = next(self.rows, None)
            if row is None:
                self.rows = iter(self.dataset)
                row = next(self.rows, None)
                if row is None:
                    raise InputError("the streamed dataset has no rows")
            self.recent.append(row)
            self.position += 1
        row = self.recent[index - self.position]
        return read_rgb(lambda: self.decode(row[self.column]), f"row {index}")


def open_photographs(source: str, at_least: int, split: str = "train", streaming: bool = False) -> Photographs:
    """Open the photographs in a folder or of a Hugging Face dataset, which is a folder made by `save_to_disk` or a hub id.

    JPEGs may be decoded at a reduced size, with sides of no less than `at_least` pixels.

    Raises InputError if there is no such folder or dataset, or if it has no images.
    """
    folder = Path(source)
    saved = (folder / "dataset_info.json").is_file() or (folder / "dataset_dict.json").is_file()
    if folder.exists() and not saved and not streaming:
        return FolderPhotographs(folder, at_least)
    if not folder.exists() and (source.count("/") != 1 or source.startswith((".", "/"))):
        raise InputError(f"no such folder: {source}")
    (datasets,) = need("datasets", "datasets")
    try:
        if saved:
            dataset = datasets.load_from_disk(source)
            dataset = dataset[split] if isinstance(dataset, datasets.DatasetDict) else dataset
        else:
            dataset = datasets.load_dataset(source, split=split, streaming=streaming)
    except Exception as error:  # every builder raises its own kinds
        raise InputError(f"cannot load the dataset {source}: {error}") from error
    features = dataset.features or {}
    columns = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    if not columns:
        raise InputError(f"the dataset {source} has no image column, only {', '.join(features) or 'unnamed ones'}")
    # Decoded row by row in `read_rgb`: in a stream's own iterator a broken image would end the iteration.
    dataset = dataset.cast_column(columns[0], datasets.Image(decode=False))
    kind = StreamPhotographs if streaming else HubPhotographs
    return kind(dataset, columns[0], datasets.Image().decode_example)
