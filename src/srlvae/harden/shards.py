"""Opening datasets: shards on this disk, folders made by `save_to_disk`, and those of the hub. Needs the extra `datasets`."""

from __future__ import annotations

import functools
import glob
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from srlvae.errors import InputError
from srlvae.extras import need
from srlvae.harden.rows import HubPhotographs
from srlvae.harden.stream import StreamPhotographs
from srlvae.images import open_cell
from srlvae.images.shards import PICTURES, reader_of
from srlvae.links import is_below
from srlvae.trust.ids import HUB
from srlvae.words import shortened


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
    from huggingface_hub import constants

    # Where the library puts what it downloads and unpacks, and what was given.
    roots = [*{os.path.dirname(os.path.abspath(shard)) for shard in shards}, *([] if shards else [source])]
    roots += [str(datasets.config.HF_CACHE_HOME), str(datasets.config.HF_DATASETS_CACHE), constants.HF_HUB_CACHE]
    decode = functools.partial(_open, roots=tuple(roots), hub=constants.ENDPOINT)
    return StreamPhotographs(dataset, name, decode, names=shards) if streaming else HubPhotographs(dataset, name, decode)


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


def _check_place(path: str, roots: tuple[str, ...], hub: str) -> None:
    # Of a picture in an archive the archive's own place comes last.
    place = path.rpartition("::")[2].removeprefix("file://")
    allowed = place.startswith((HUB, f"{hub}/")) if "://" in place else any(is_below(place, root) for root in roots)
    if not allowed:
        raise InputError(f"its picture lies elsewhere, at {shortened(path)}")


def _holds_bytes(feature: Any) -> bool:
    if isinstance(feature, dict):
        return "bytes" in feature
    return getattr(feature, "dtype", None) in ("binary", "large_binary")


def _open(cell: Any, roots: tuple[str, ...], hub: str) -> Image.Image | None:
    """Open the picture in a cell, whose file may lie in an archive or on the hub.

    Raises InputError for one that lies neither there nor below `roots`: a table would choose what of this machine is read.
    """
    path = cell if isinstance(cell, str | Path) else None
    path = cell.get("path") if isinstance(cell, dict) and cell.get("bytes") is None else path
    if path is not None:
        _check_place(str(path), roots, hub)
    if isinstance(path, str) and "://" in path:
        from datasets.utils.file_utils import xopen

        with xopen(path, "rb") as file:
            return open_cell(file.read())
    return open_cell(cell)
