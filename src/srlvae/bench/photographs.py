"""The photographs of a benchmark: a random choice by a seed, cut to centre squares."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from srlvae.errors import InputError, UnreadableError
from srlvae.images import LeftOut, find_images, fit, read_picture


def load_photographs(
    folder: Path, count: int, size: int, seed: int, left_out: LeftOut | None = None
) -> tuple[Tensor, list[str]]:
    """Load up to `count` photographs in an order shuffled by `seed`, as squares `n 3 size size` in [0,1], with their names.

    Files that cannot be read, and images with a side under `size`/2 pixels, are added to `left_out`, as far as they come up.

    Raises InputError if fewer than two are left.
    """
    left_out = left_out or LeftOut()
    paths = find_images(folder, left_out)
    order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(seed)).tolist()
    found: list[Tensor] = []
    names: list[str] = []
    for path in (paths[i] for i in order):
        try:
            image = read_picture(path, left_out=left_out).on_white()
        except UnreadableError as error:
            left_out.add(path, error.reason)
            continue
        if min(image.size) < size // 2:
            left_out.add(path, f"smaller than {size // 2} pixels")
            continue
        found.append(fit(image, size, size))
        names.append(path.relative_to(folder).as_posix() if path != folder else path.name)
        if len(found) == count:
            break
    left_out.check_left(len(found))
    if len(found) < 2:
        raise InputError(f"{folder}: needs at least 2 readable images of {size // 2} pixels or more, found {len(found)}")
    return torch.stack(found), names
