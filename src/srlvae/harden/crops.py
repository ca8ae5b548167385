"""The training data: an endless numbered sequence of crops.

Sample n of a run is a function of (seed, n) alone. So a resumed run, a run with another micro-batch, or one with another number
of processes sees the same images. Of a stream each process reads shards of its own: there n is a function of their number, too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.harden.photographs import (
    MAX_UNREADABLE,
    Photographs,
    StreamPhotographs,
    check_large,
    name_of,
)
from srlvae.images import LeftOut, set_max_pixels, to_tensor

# Through what processes hand over tensors on Linux.
SHARED = "/dev/shm"
# Seconds after which a process that reads photographs ends, if it was asked to and the main one has not ended it.
ORPHAN_SECONDS = 120


def training_crop(image: Image.Image, size: int, rng: np.random.Generator) -> Float[Tensor, "3 size size"]:
    """A random square of `size` pixels in [0,1], flipped half of the time.

    A photograph larger than twice the crop is first reduced to that, so that crops show things and not texture alone.

    Raises InputError for a picture under half the crop, as enlarging it that far would teach blur.
    """
    check_large(image.size, size)
    short = min(image.size)
    scale = min(max(short, size), 2 * size) / short
    if scale != 1:
        shape = [max(size, round(side * scale)) for side in image.size]
        image = image.resize((shape[0], shape[1]), Image.Resampling.LANCZOS)
    left, top = (int(rng.integers(side - size + 1)) for side in image.size)
    image = image.crop((left, top, left + size, top + size))
    return to_tensor(ImageOps.mirror(image) if rng.random() < 0.5 else image)


@dataclass
class Batch:
    """A batch of crops.

    `x` has the crops `b 3 size size` in [0,1], and `numbers` their sample numbers. `skipped` lists what could not be used, as
    pairs of a photograph's name and the reason.
    """

    x: Float[Tensor, "b 3 size size"]
    numbers: list[int]
    skipped: list[tuple[str, str]]

    def pin_memory(self) -> Batch:
        """The batch in memory from which a GPU copies on its own; the loader asks for it."""
        return Batch(self.x.pin_memory(), self.numbers, self.skipped)


class Crops(Dataset):
    """The sequence of samples. Every epoch has a new order of the photographs `chosen`, and every sample a crop of its own."""

    def __init__(self, photographs: Photographs, chosen: Sequence[int] | range, size: int, seed: int):
        self.photographs, self.chosen, self.size, self.seed = photographs, chosen, size, seed
        self.epoch, self.order = -1, np.arange(0)

    def __getitem__(self, n: int) -> tuple[Tensor, int, list[tuple[str, str]]]:
        skipped: list[tuple[str, str]] = []
        rng = np.random.default_rng((self.seed, 1, n))
        # Of few photographs each is among twice as many in a row, which are in two orders.
        tries = MAX_UNREADABLE if isinstance(self.photographs, StreamPhotographs) else min(MAX_UNREADABLE, 2 * len(self.chosen))
        for attempt in range(tries):
            index = self._index(n, attempt)
            try:
                return training_crop(self.photographs[index], self.size, rng), n, skipped
            except InputError as error:
                skipped.append(skipped_as(self.photographs, index, error))
        raise InputError(f"{tries} tries in a row found no image that can be used; the last: {': '.join(skipped[-1])}")

    def _index(self, n: int, attempt: int) -> int:
        if isinstance(self.photographs, StreamPhotographs):  # which is in an order of its own
            return self.photographs.deal.position(n) + attempt
        epoch, place = divmod(n + attempt, len(self.chosen))
        if epoch != self.epoch:
            self.epoch = epoch
            self.order = np.random.default_rng((self.seed, 2, epoch)).permutation(len(self.chosen))
        return self.chosen[self.order[place]]


def skipped_as(photographs: Photographs, index: int, error: InputError) -> tuple[str, str]:
    """The name of a photograph that could not be used, and why."""
    name = name_of(photographs, index)
    return name, str(error).removeprefix(f"{name}: ")


def name_skipped(skipped: Iterable[tuple[str, str]], left_out: LeftOut) -> None:
    """Add photographs that could not be used to `left_out`, from their names and the reasons."""
    for name, reason in skipped:
        left_out.add(name, reason)


def batches(crops: Crops, numbers: Sequence[list[int]], workers: int, left_out: LeftOut | None = None) -> Iterator[Batch]:
    """The samples of each list of numbers in turn, read by `workers` processes (0 reads in this one), as `readers` has them.

    Photographs that could not be used for a batch are added to `left_out` when it comes.
    """
    left_out = left_out or LeftOut()
    begin = partial(_begin, Image.MAX_IMAGE_PIXELS)
    options: dict[str, Any] = {"collate_fn": _collate, "num_workers": workers, "worker_init_fn": begin}
    options |= {"pin_memory": torch.cuda.is_available()}
    for batch in DataLoader(crops, batch_sampler=numbers, **options):
        name_skipped(batch.skipped, left_out)
        yield batch


def readers(crops: Crops, batch: int, workers: int, listener: Listener) -> int:
    """How many of the `workers` that are asked for can read such batches; if fewer, the listener hears why."""
    # What a stream finds out about its shards is needed in this process, as it is kept in checkpoints.
    if workers and isinstance(crops.photographs, StreamPhotographs):
        listener.says(f"a stream is read by the process that trains, not by {workers} others")
        return 0
    if (room := shared_room(crops.size, batch)) < workers:
        listener.says(
            f"the shared memory of this machine has room for {room} processes that read photographs, not {workers}; a "
            "container is given more by --shm-size"
        )
    return min(room, workers)


def shared_room(size: int, batch: int) -> int:
    """How many processes can hand over batches of crops through shared memory; a loader waits for ever where there is none."""
    if not os.path.isdir(SHARED):
        return sys.maxsize
    # Each is two batches ahead, and one is on its way.
    return shutil.disk_usage(SHARED).free // (3 * 4 * 3 * size * size * max(batch, 1))


def _begin(max_pixels: int | None, worker: int) -> None:
    """Let a process that reads images read those that this one reads, and leave it to this one when to end.

    A launcher sends its signals to all processes, and a worker that dies takes the step with it that is to be kept.
    """
    set_max_pixels(max_pixels)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(ORPHAN_SECONDS))


@contextlib.contextmanager
def faults_of_workers() -> Iterator[None]:
    """Make a sentence of what goes wrong in a process that reads photographs, which may be told in the middle of a step."""
    try:
        yield
    except InputError as error:  # PyTorch puts the worker's traceback before it
        raise InputError(str(error).rpartition("InputError: ")[2].strip()) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(
            "a process that reads photographs was ended, perhaps for want of memory; give fewer --workers, and the same "
            "command resumes from the last checkpoint"
        ) from error


def _collate(samples: list[tuple[Tensor, int, list[tuple[str, str]]]]) -> Batch:
    x, numbers, skipped = zip(*samples, strict=True)
    return Batch(torch.stack(x), list(numbers), [entry for entries in skipped for entry in entries])
