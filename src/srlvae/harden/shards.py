"""Opening datasets: shards on this disk, folders made by `save_to_disk`, and those of the hub. Needs the extra `datasets`."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from srlvae.errors import InputError
from srlvae.extras import need
from srlvae.harden.rows import HubPhotographs, StreamPhotographs
from srlvae.images import open_cell
from srlvae.images.shards import PICTURES, reader_of


def open_rows(
    source: str, shards: list[str], split: str, streaming: bool, column: str | None
) -> HubPhotographs | StreamPhotographs:
    """Open the photographs in shards, or else those of the dataset `source`, a folder made by `save_to_disk` or a hub id.

    `column` has the images; if None, it is the first one that can have. Raises InputError if there is none, or if the dataset
    cannot be read.
    """
    (datasets,) = need("datasets", "datasets")
    try:
        dataset = _load(datasets, source, shards, split, streaming)
        features = dataset.features or (dataset._resolve_features().features if streaming else None) or {}
    except Exception as error:  # every builder raises its own kinds
        raise InputError(f"cannot load the dataset {source}: {error}") from error
    name = _image_column(datasets, source, features, column)
    if isinstance(features[name], datasets.Image):
        # Decoded row by row, by our list of formats: in a stream's own iterator a broken image would end the iteration.
        dataset = dataset.cast_column(name, datasets.Image(decode=False))
    return (StreamPhotographs if streaming else HubPhotographs)(dataset, name, _open)


def _load(datasets: Any, source: str, shards: list[str], split: str, streaming: bool) -> Any:
    if shards:
        readers = {reader_of(shard) for shard in shards}
        if len(readers) > 1:
            raise ValueError(f"it has shards of {len(readers)} kinds; give one of them")
        # What looks like a pattern in a name is none.
        files = {split: [glob.escape(shard) for shard in shards]}
        return datasets.load_dataset(readers.pop(), data_files=files, split=split, streaming=streaming)
    if not _saved(Path(source)):
        return datasets.load_dataset(source, split=split, streaming=streaming)
    dataset = datasets.load_from_disk(source)
    dataset = dataset[split] if isinstance(dataset, datasets.DatasetDict) else dataset
    return dataset.to_iterable_dataset() if streaming else dataset


def _saved(folder: Path) -> bool:
    return (folder / "dataset_info.json").is_file() or (folder / "dataset_dict.json").is_file()


def _image_column(datasets: Any, source: str, features: Mapping[str, Any], column: str | None) -> str:
    """The name of the column with the images. Raises InputError that lists the columns."""
    listed = ", ".join(features) or "unnamed ones"
    if column is not None:
        if column not in features:
            raise InputError(f"the dataset {source} has no column {column}, only {listed}")
        return column
    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    images += [name for name, feature in features.items() if name.lower() in PICTURES and _holds_bytes(feature)]
    if not images:
        raise InputError(f"the dataset {source} has no image column, only {listed}; name one with --image-column")
    return images[0]


def _holds_bytes(feature: Any) -> bool:
    if isinstance(feature, dict):
        return "bytes" in feature
    return getattr(feature, "dtype", None) in ("binary", "large_binary")


def _open(cell: Any) -> Image.Image | None:
    """Open the picture in a cell, whose file may lie in an archive or on the hub."""
    path = cell.get("path") if isinstance(cell, dict) and cell.get("bytes") is None else None
    if isinstance(path, str) and "://" in path:
        from datasets.utils.file_utils import xopen

        with xopen(path, "rb") as file:
            return open_cell(file.read())
    return open_cell(cell)
