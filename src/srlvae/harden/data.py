"""What is trained on: any folder of photographs or Hugging Face dataset, as an endless numbered sequence of crops.

Sample n of a run is a function of (seed, n) alone. So a resumed run, another batch size in memory or another number of
processes sees the same images.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from srlvae.errors import InputError
from srlvae.extras import need
from srlvae.images import find_images, open_rgb, rgb_of, to_tensor

# So many unusable images in a row are no accident.
MAX_UNREADABLE = 100


@runtime_checkable
class Photographs(Protocol):
    """Pictures by number. `__getitem__` raises InputError for one that cannot be read."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Image.Image: ...


class FolderPhotographs:
    """The image files below a folder, read when asked for."""

    def __init__(self, folder: Path, at_least: int):
        self.folder, self.paths, self.at_least = folder, find_images(folder), at_least

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Image.Image:
        return open_rgb(self.paths[index], self.at_least)

    def listing(self) -> list[bytes]:
        """Name and size of every file, relative to the folder: a copy elsewhere has the same."""
        sizes = ((path, os.stat(path).st_size) for path in self.paths)
        return sorted(os.fsencode(os.path.relpath(path, self.folder)) + f"\0{size}\n".encode() for path, size in sizes)


Decode = Callable[[Any], Image.Image | None]


def _as_it_is(cell: Any) -> Any:
    return cell


class HubPhotographs:
    """The image column of a Hugging Face dataset with random access."""

    def __init__(self, dataset, column: str, decode: Decode = _as_it_is):
        self.dataset, self.column, self.decode = dataset, column, decode

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Image.Image:
        return rgb_of(lambda: self.decode(self.dataset[index][self.column]), f"row {index}")


class StreamPhotographs:
    """A streamed Hugging Face dataset: row n by reading on to it, beginning again at the end. For ascending numbers."""

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
        """The stream from row `count` on, also when it begins again."""
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
        return rgb_of(lambda: self.decode(row[self.column]), f"row {index}")


def open_photographs(source: str, at_least: int, split: str = "train", streaming: bool = False) -> Photographs:
    """The photographs in a folder, or of a Hugging Face dataset: a folder made by `save_to_disk`, or a hub id.

    at_least: JPEGs may be decoded at a reduced size with sides no smaller than this many pixels.
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
    # Decoded row by row in `rgb_of`: in a stream's own iterator a broken image would end the iteration.
    dataset = dataset.cast_column(columns[0], datasets.Image(decode=False))
    kind = StreamPhotographs if streaming else HubPhotographs
    return kind(dataset, columns[0], datasets.Image().decode_example)


def training_crop(image: Image.Image, size: int, rng: np.random.Generator) -> Float[Tensor, "3 size size"]:
    """A random square of `size` pixels, flipped half of the time.

    Photographs larger than twice the crop are first reduced to it, so that crops show things and not texture alone.
    Raises InputError for a picture under half the crop: enlarging it that far would teach blur.
    """
    short = min(image.size)
    if short < size / 2:
        raise InputError(f"{image.width} x {image.height} pixels: too small for crops of {size}")
    scale = min(max(short, size), 2 * size) / short
    if scale != 1:
        shape = [max(size, round(side * scale)) for side in image.size]
        image = image.resize((shape[0], shape[1]), Image.Resampling.LANCZOS)
    left, top = (int(rng.integers(side - size + 1)) for side in image.size)
    image = image.crop((left, top, left + size, top + size))
    return to_tensor(ImageOps.mirror(image) if rng.random() < 0.5 else image)


@dataclass
class Batch:
    """Crops `b 3 size size`, their sample numbers, and what had to be skipped on the way: (number, reason)."""

    x: Float[Tensor, "b 3 size size"]
    numbers: list[int]
    skipped: list[tuple[int, str]]


class Crops(Dataset):
    """Sample n: every epoch a new order of the photographs `chosen`, every sample its own crop."""

    def __init__(self, photographs: Photographs, chosen: Sequence[int] | range, size: int, seed: int):
        self.photographs, self.chosen, self.size, self.seed = photographs, chosen, size, seed
        self.epoch, self.order = -1, np.arange(0)

    def __getitem__(self, n: int) -> tuple[Tensor, int, list[tuple[int, str]]]:
        skipped: list[tuple[int, str]] = []
        rng = np.random.default_rng((self.seed, 1, n))
        for attempt in range(MAX_UNREADABLE):
            index = self._index(n + attempt)
            try:
                return training_crop(self.photographs[index], self.size, rng), n, skipped
            except InputError as error:
                skipped.append((index, str(error)))
        raise InputError(f"{MAX_UNREADABLE} images in a row could not be used; the last: {skipped[-1][1]}")

    def _index(self, n: int) -> int:
        epoch, place = divmod(n, len(self.chosen))
        if isinstance(self.chosen, range):  # a stream is in an order of its own
            return self.chosen[place]
        if epoch != self.epoch:
            self.epoch = epoch
            self.order = np.random.default_rng((self.seed, 2, epoch)).permutation(len(self.chosen))
        return self.chosen[self.order[place]]


def set_apart(photographs: Photographs, count: int, size: int, seed: int) -> tuple[Tensor, Photographs, Sequence[int] | range]:
    """The centres of `count` readable photographs, `count 3 size size`, and what is left: photographs, and their numbers."""
    if isinstance(photographs, StreamPhotographs):
        order: Sequence[int] | range = range(len(photographs))
    else:
        order = np.random.default_rng((seed, 3)).permutation(len(photographs)).tolist()
    found: list[Tensor] = []
    used, last_error = 0, "at least two are needed, as some are set apart"
    # At most a tenth of the photographs, at least one: few photographs are for training, too.
    wanted = max(1, min(count, len(order) // 10))
    while len(found) < wanted and used < len(order) and used - len(found) < MAX_UNREADABLE:
        try:
            image = photographs[order[used]]
            if min(image.size) < size / 2:
                raise InputError(f"{image.width} x {image.height} pixels: too small for crops of {size}")
            found.append(to_tensor(ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)))
        except InputError as error:
            last_error = str(error)
        used += 1
    if not found or used >= len(order):
        raise InputError(f"too few readable images: {len(found)} of {used} ({last_error})")
    if isinstance(photographs, StreamPhotographs):
        return torch.stack(found), photographs.without_first(used), order
    return torch.stack(found), photographs, order[used:]


def batches(crops: Crops, numbers: Sequence[list[int]], workers: int) -> Iterator[Batch]:
    """The samples of each list of numbers in turn, read by `workers` processes (0: in this one)."""
    # Inside workers, `datasets` deals out the files of a stream: row n would depend on their number.
    workers = 0 if isinstance(crops.photographs, StreamPhotographs) else workers
    return iter(DataLoader(crops, batch_sampler=numbers, collate_fn=_collate, num_workers=workers))


def _collate(samples: list[tuple[Tensor, int, list[tuple[int, str]]]]) -> Batch:
    x, numbers, skipped = zip(*samples, strict=True)
    return Batch(torch.stack(x), list(numbers), [entry for entries in skipped for entry in entries])
