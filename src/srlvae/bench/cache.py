"""Images on disk by what they were made from, so that a run which was cut off or is extended makes only what is missing."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from jaxtyping import Float
from torch import Tensor

from srlvae.files import write_json
from srlvae.images import Images, read_image, write_image


def key_of(**made_from: Any) -> str:
    """A name for what is made from all that: the SHA-256 of its JSON."""
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def key_of_image(x: Float[Tensor, "3 h w"]) -> str:
    """A name for an image of whole grey levels."""
    levels = (x * 255).round().to(torch.uint8).cpu()
    return hashlib.sha256(f"{tuple(levels.shape)}".encode() + levels.numpy().tobytes()).hexdigest()


@dataclass(frozen=True)
class Store:
    """A folder of PNGs under their keys. told: of each batch that was made, how many images. shared: processes that run
    together share out what is missing, each waiting for the others' files; not where they ask for other images each."""

    folder: Path
    batch_size: int
    told: Callable[[int], None] = lambda count: None
    shared: bool = True

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.png"

    def images(self, keys: Sequence[str], make: Callable[[list[int]], tuple[Images, list[Any]]]) -> Images:
        """The images of `keys`. `make` is asked for those that are missing, by number and in batches, and gives them with a
        note on each."""
        state = PartialState()
        own = range(state.process_index, len(keys), state.num_processes) if self.shared else range(len(keys))
        share = [i for i in own if not self.path(keys[i]).exists()]
        for start in range(0, len(share), self.batch_size):
            part = share[start : start + self.batch_size]
            made, notes = make(part)
            for i, image, note in zip(part, made, notes, strict=True):
                if note:
                    write_json(self.path(keys[i]).with_suffix(".json"), note)
                write_image(self.path(keys[i]), image)
            self.told(len(part))
        return torch.stack([read_image(wait_for(self.path(key))) for key in keys])

    def notes(self, keys: Sequence[str]) -> list[Any]:
        """The notes on the images of `keys`; None where there is none."""
        files = [self.path(key).with_suffix(".json") for key in keys]
        return [json.loads(file.read_text(encoding="utf-8")) if file.exists() else None for file in files]


def wait_for(file: Path) -> Path:
    """Return `file` once another process has written it."""
    while not file.exists():
        time.sleep(0.1)
    return file
