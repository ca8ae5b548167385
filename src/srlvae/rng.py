"""One random generator for each image, made from (seed, index): image i of a run is the same in any batch, order or process.

Generators draw on the CPU, whatever the device that computes, so that a run has the same noise everywhere.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from srlvae.devices import onto

Generators = Sequence[torch.Generator]


def generator(seed: int, index: int) -> torch.Generator:
    """The generator of image `index` in the run with this `seed`. Both numbers must not be negative."""
    (state,) = np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state) >> 1)


def generators(seed: int, indices: Iterable[int]) -> list[torch.Generator]:
    """The generators of several images of a run, one for each index."""
    return [generator(seed, int(index)) for index in indices]


def named_generator(seed: int, name: str) -> torch.Generator:
    """The generator of the file called `name`, so that what is made of a file does not depend on the files beside it.

    A name that is not text comes with the escapes with which the system hands such names over.
    """
    return generator(seed, zlib.crc32(name.encode("utf-8", "surrogateescape")))


def uniform_like(x: Tensor, generators: Generators) -> Tensor:
    """A uniform draw from [-1,1] in the shape of `x`. Row i comes from generator i and is made on that generator's device."""
    rows = [torch.rand(row.shape, generator=g, device=g.device) for row, g in zip(x, generators, strict=True)]
    return onto((torch.stack(rows) * 2 - 1).to(x.dtype), x.device)


def normal_like(x: Tensor, generators: Generators) -> Tensor:
    """A standard normal draw in the shape of `x`. Row i comes from generator i and is made on that generator's device."""
    rows = [torch.randn(row.shape, generator=g, device=g.device) for row, g in zip(x, generators, strict=True)]
    return onto(torch.stack(rows).to(x.dtype), x.device)
