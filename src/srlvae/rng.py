"""One random generator for each image, made from (seed, index): image i of a run is the same in any batch, order or process."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

Generators = Sequence[torch.Generator]


def generator(seed: int, index: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator of image `index` in the run with this `seed`. Both numbers must not be negative."""
    (state,) = np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state) >> 1)


def generators(seed: int, indices: Iterable[int], device: torch.device | str = "cpu") -> list[torch.Generator]:
    """The generators of several images of a run, one for each index."""
    return [generator(seed, int(index), device) for index in indices]


def named_generator(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator of the file called `name`, so that what is made of a file does not depend on the files beside it."""
    return generator(seed, zlib.crc32(name.encode()), device)


def uniform_like(x: Tensor, generators: Generators) -> Tensor:
    """A uniform draw from [-1,1] in the shape of `x`. Row i comes from generator i and is made on that generator's device."""
    rows = [torch.rand(row.shape, generator=g, device=g.device) for row, g in zip(x, generators, strict=True)]
    return (torch.stack(rows) * 2 - 1).to(x)


def normal_like(x: Tensor, generators: Generators) -> Tensor:
    """A standard normal draw in the shape of `x`. Row i comes from generator i and is made on that generator's device."""
    rows = [torch.randn(row.shape, generator=g, device=g.device) for row, g in zip(x, generators, strict=True)]
    return torch.stack(rows).to(x)
