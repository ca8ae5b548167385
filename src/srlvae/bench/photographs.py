"""The photographs of a benchmark: a shuffle by a seed, centre squares, what cannot be read left out."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from srlvae.errors import InputError
from srlvae.images import find_images, open_rgb, read_square


def load_photographs(folder: Path, count: int, size: int, seed: int) -> tuple[Tensor, list[str]]:
    """The first `count` readable photographs of a shuffle by `seed`, as squares `n 3 size size`, and their names."""
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
