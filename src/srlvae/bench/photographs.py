"""The photographs of a benchmark: a random choice by a seed, cut to centre squares."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from srlvae.bench.kept import key_of_image
from srlvae.errors import InputError, UnreadableError
from srlvae.images import Images, LeftOut, find_images, fit, read_picture
from srlvae.links import leads_out


def load_photographs(
    folder: Path, count: int, size: int, seed: int, left_out: LeftOut | None = None
) -> tuple[Tensor, list[str]]:
    """Load up to `count` photographs in an order shuffled by `seed`, as squares `n 3 size size` in [0,1], with their names.

    Files that cannot be read, and images with a side under `size`/2 pixels, are added to `left_out`, as far as they come up.

    Raises InputError if fewer than two are left.
    """
    found: list[Tensor] = []
    names: list[str] = []
    left_out = left_out or LeftOut()
    for path, square in _squares(folder, size, seed, left_out):
        found.append(square)
        names.append(path.relative_to(folder).as_posix() if path != folder else path.name)
        if len(found) == count:
            break
    _check_enough(folder, size, len(found), left_out)
    if len(found) < count:
        left_out.listener.says(f"{folder} has {len(found)} photographs that can be used; the protocol takes up to {count}")
    return torch.stack(found), names


def shortage(found: int, wanted: int) -> list[str]:
    """What speaks against a benchmark on fewer photographs than its protocol has."""
    return [f"numbers of {found} photographs, where the protocol has {wanted}"] if found < wanted else []


def copies(keys: Sequence[str]) -> list[str]:
    """What speaks against intervals over photographs of which some are the same; keys are those of their pixels."""
    again = len(keys) - len(set(keys))
    return [f"{again} of {len(keys)} photographs are copies of others; intervals take them for independent"] if again else []


def digest_of_keys(keys: Sequence[str]) -> str:
    """Eight digits that tell sets of photographs apart, from the keys of their pixels."""
    return hashlib.sha256("".join(keys).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Photographs:
    """Photographs as centre squares of `size` pixels, read when they are asked for; `keys` are those of their pixels."""

    paths: tuple[Path, ...]
    keys: tuple[str, ...]
    size: int

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, part: slice | Sequence[int]) -> Images:
        """Those in a slice or with the given numbers. Raises InputError for one that has changed since it was found."""
        numbers = range(len(self))[part] if isinstance(part, slice) else part
        return torch.stack([self._read(i) for i in numbers]) if numbers else torch.zeros(0, 3, self.size, self.size)

    def after(self, first: int) -> Photographs:
        """All but the first ones."""
        return Photographs(self.paths[first:], self.keys[first:], self.size)

    def batches(self, count: int) -> Iterator[Images]:
        """All of them, `count` at a time."""
        return (self[start : start + count] for start in range(0, len(self), count))

    def _read(self, i: int) -> Tensor:
        square = fit(read_picture(self.paths[i]).on_white(), self.size, self.size)
        if key_of_image(square) != self.keys[i]:
            raise InputError(f"{self.paths[i]} has changed since the benchmark began; start it again")
        return square


def find_photographs(folder: Path, size: int, seed: int, left_out: LeftOut | None = None) -> Photographs:
    """Find all photographs below a folder, in the order and with the errors of `load_photographs`; none stays in memory."""
    left_out = left_out or LeftOut()
    found = [(path, key_of_image(square)) for path, square in _squares(folder, size, seed, left_out)]
    _check_enough(folder, size, len(found), left_out)
    paths, keys = zip(*found, strict=True)
    return Photographs(paths, keys, size)


def find_class_folders(folder: Path, needed: Mapping[str, int], size: int, left_out: LeftOut) -> dict[str, Photographs]:
    """All photographs in folders of classes below `folder`. needed: how many each of them must have, by its name.

    Raises InputError for a folder that is not there or does not lie in `folder`, and for one with fewer photographs.
    """
    if outside := [name for name in needed if leads_out(folder / name, folder)]:
        raise InputError(
            f"the protocol has the folder {outside[0]}, which does not lie in {folder} (--follow-links lets it in)"
        )
    if folder.is_dir() and (missing := [name for name in needed if not (folder / name).exists()]):
        raise InputError(
            f"{folder} has no folder {missing[0]}; the protocol takes a folder of photographs for each of: {', '.join(needed)}"
        )
    found = {name: find_photographs(folder / name, size, 0, left_out) for name in needed}
    for name, photographs in found.items():
        if len(photographs) < needed[name]:
            raise InputError(f"{folder / name} has {len(photographs)} readable photographs, {needed[name]} are needed")
    return found


def _squares(folder: Path, size: int, seed: int, left_out: LeftOut) -> Iterator[tuple[Path, Tensor]]:
    """The photographs that can be used, in an order shuffled by `seed`, one after another."""
    paths = find_images(folder, left_out)
    order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(seed)).tolist()
    for path in (paths[i] for i in order):
        try:
            image = read_picture(path, left_out=left_out).on_white()
        except UnreadableError as error:
            left_out.add(path, error.reason)
            continue
        if min(image.size) < size // 2:
            left_out.add(path, f"smaller than {size // 2} pixels")
            continue
        yield path, fit(image, size, size)


def _check_enough(folder: Path, size: int, count: int, left_out: LeftOut) -> None:
    left_out.check_left(count)
    if count < 2:
        raise InputError(f"{folder}: needs at least 2 readable images of {size // 2} pixels or more, found {count}")
