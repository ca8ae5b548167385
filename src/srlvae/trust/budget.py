"""A model is built no larger than its weights are: a configuration may ask for any number of layers and any width."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from srlvae.errors import InputError

# Numbers that a model has beside its weights, such as tables of positions, and tensors that one is made of at most.
BESIDE, TENSORS = 2**26, 10_000
ENDINGS = (".safetensors", ".sft", ".bin", ".ckpt", ".pt", ".pth")
_MAKERS = ("empty", "empty_strided", "zeros", "ones", "full", "rand", "randn", "arange", "linspace", "eye")


class Budget(TorchDispatchMode):
    """Within it, no more tensors are made than belong to weights of `size` bytes, each weight taking one byte at least.

    Raises InputError, which names `where`, before the memory is taken.
    """

    def __init__(self, size: int, where: str | Path):
        super().__init__()
        # Made twice, as some loaders build a model with and without memory; pipelines with parts beside their weights.
        self.left, self.count, self.size, self.where = 2 * size + BESIDE, 0, size, where

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in _MAKERS and args:
            self.left -= _numbers(func.overloadpacket.__name__, args)
            self.count += 1
            if self.left < 0 or self.count > TENSORS:
                raise InputError(
                    f"{self.where}: its configuration asks for more than its weights hold ({self.size:,} bytes), so the two do "
                    "not belong together"
                )
        return func(*args, **(kwargs or {}))


def _numbers(maker: str, args: tuple[Any, ...]) -> int | float:
    """How many numbers a tensor has that is made with these arguments."""
    if isinstance(args[0], list | tuple):
        return math.prod(args[0])
    if maker == "arange":
        start, end, step = (0, *args, 1) if len(args) == 1 else (*args, 1)[:3]
        return abs((end - start) / step)
    return args[2] if maker == "linspace" else math.prod((args[0], *args)[-2:])


def weights_size(place: Path) -> int:
    """The bytes of a file of weights, or of all such files below a folder."""
    files = place.rglob("*") if place.is_dir() else [place]
    return sum(file.stat().st_size for file in files if file.suffix in ENDINGS and file.is_file())
