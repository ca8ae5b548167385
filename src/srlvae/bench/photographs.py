"""The photographs of a benchmark: a random choice by a seed, cut to centre squares."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from srlvae.errors import InputError
from srlvae.images import find_images, open_rgb, read_square


def load_photographs(folder: Path, count: int, size: int, seed: int) -> tuple[Tensor, list[str]]:
    """Load up to `count` photographs in an order shuffled by `seed`, as squares `n 3 size size` in [0,1], with their names.

    Files that cannot be read, and images with a side under `size`/2 pixels, are left out.

    Raises InputError if fewer than two are left.
    """
    paths = find_images(folder)
    order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(seed)).tolist()
    found: list[Tensor] = []
    names: list[str] = []
    for path in (paths[i] for i in order):
        try:
            if min(open_rgb(path).size) >= size // 2:
                found.append(read_square(path, size))
                names.append(path.relative_to(folder).as_posix() if path != folder else path.name)
        except InputError:
            continue
        if len(found) == count:
            break
    if len(found) < 2:
        raise InputError(f"{folder}: needs at least 2 readable images of {size // 2} pixels or more, found {len(found)}")
    return torch.stack(found), names
