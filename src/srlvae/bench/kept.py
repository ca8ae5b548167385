"""Pictures and records as files that are checked when they are read: neither a disk nor a hand changes one unnoticed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.errors import InputError
from srlvae.files import read_record, write_json
from srlvae.images import Carried, read_picture, to_tensor, write_image

# The keyword of the text in a PNG that has its digest and its note.
MARK = "srlvae"


def key_of_image(x: Float[Tensor, "3 h w"]) -> str:
    """The key of an image in [0,1]: the SHA-256 of its size and of its pixels, rounded to 8 bits."""
    levels = (x * 255).round().to(torch.uint8).cpu()
    return hashlib.sha256(f"{tuple(levels.shape)}".encode() + levels.numpy().tobytes()).hexdigest()


def write_kept(path: Path, key: str, x: Float[Tensor, "3 h w"], note: Any = None) -> None:
    """Write an image in [0,1] as a PNG, with a note on it and a digest of its key, its levels and the note."""
    said = {"sha256": _digest(key, key_of_image(x), note), "note": note}
    write_image(path, x, Carried(texts={MARK: json.dumps(said)}))


def read_kept(path: Path, key: str) -> tuple[Float[Tensor, "3 h w"], Any]:
    """The image and the note that `write_kept` wrote. Raises InputError that says why if the file is another or broken."""
    picture = read_picture(path)
    x = to_tensor(picture.rgb)
    return x, _checked(path, picture.carried.texts.get(MARK, ""), key, key_of_image(x))


def write_kept_record(path: Path, key: str, value: Any) -> None:
    """Write plain data as JSON, with a digest of its key and itself."""
    write_json(path, {"sha256": _digest(key, "", value), "note": value})


def read_kept_record(path: Path, key: str) -> Any:
    """The data that `write_kept_record` wrote. Raises InputError that says why if the file is another or broken."""
    return _checked(path, json.dumps(read_record(path)), key, "")


def _checked(path: Path, text: str, key: str, levels: str) -> Any:
    try:
        said = json.loads(text)
        if said["sha256"] == _digest(key, levels, said["note"]):
            return said["note"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} does not say what it was made from") from error
    raise InputError(f"{path} has changed since it was written")


def _digest(key: str, levels: str, note: Any) -> str:
    return hashlib.sha256(json.dumps([key, levels, note], sort_keys=True).encode()).hexdigest()
