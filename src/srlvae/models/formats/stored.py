"""Files of weights, read by name: safetensors, or PyTorch's own with `weights_only=True`. Nothing is unpickled."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from srlvae.errors import InputError

# How deep a checkpoint puts its tensors below `state_dict`, at most.
NESTED = 4
# Names under which training scripts save the weights beside the optimiser and the like.
WRAPPERS = ("model_state_dict", "model", "vae", "autoencoder", "module")


@dataclass(frozen=True)
class Stored:
    """A file of weights that is open for reading.

    names: those of all tensors. metadata: that of safetensors. take: gives the tensors whose names begin with a prefix, under
    names without it; from safetensors no others are read.
    """

    path: Path
    names: frozenset[str]
    metadata: dict[str, str]
    take: Callable[[str], dict[str, Tensor]]


def open_stored(path: Path) -> Stored:
    """Open a file of weights. Raises InputError for one that is damaged, or that holds more than tensors."""
    return _open_safetensors(path) if path.suffix in (".safetensors", ".sft") else _open_torch(path)


def _open_safetensors(path: Path) -> Stored:
    try:
        with safe_open(path, "pt") as file:
            names, metadata = frozenset(file.keys()), file.metadata() or {}
    except (SafetensorError, OSError, MemoryError) as error:
        raise InputError(
            f"cannot read weights from {path}: {error}; it may be damaged or a download that was cut off"
        ) from error

    def take(prefix: str) -> dict[str, Tensor]:
        with safe_open(path, "pt") as file:
            return {name[len(prefix) :]: file.get_tensor(name) for name in names if name.startswith(prefix)}

    return Stored(path, names, metadata, take)


def _is_plain(name: Any, value: Any) -> bool:
    """Whether this is a tensor that has its numbers in memory, under a name."""
    return isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta


def _refused(error: Exception) -> str:
    """What was wrong: the kind of object that PyTorch refused, if it was that."""
    if found := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return f"it holds an object of {found[1]}, and not weights alone"
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _unwrapped(found: Any) -> Any:
    """The weights in a checkpoint: below `state_dict`, or below one of WRAPPERS where there are none beside it."""
    if not isinstance(found, dict):
        return found
    beside = any(_is_plain(name, value) for name, value in found.items())
    inside = (found[name] for name in ("state_dict", *(() if beside else WRAPPERS)) if isinstance(found.get(name), dict))
    return next(inside, found)


def _open_torch(path: Path) -> Stored:
    try:
        # Only files of today's format can be mapped, so that of a whole checkpoint no more is read than is taken.
        found: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # pickle, zipfile and torch each raise their own kinds
        raise InputError(
            f"cannot read weights from {path}: {_refused(error)}. Only tensors are read from such files, because other "
            "objects could run code; use the .safetensors of the same model, or convert the file if you trust it"
        ) from error
    for _ in range(NESTED):
        found = _unwrapped(found)
    tensors = {name: value for name, value in found.items() if _is_plain(name, value)} if isinstance(found, dict) else {}
    if not tensors:
        has = ", ".join(map(str, list(found)[:5])) if isinstance(found, dict) else type(found).__name__
        raise InputError(f"{path} has no weights by name: it holds {has or 'nothing'}")
    return Stored(
        path,
        frozenset(tensors),
        {},
        lambda prefix: {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)},
    )
