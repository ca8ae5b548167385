"""A folder that keeps images and numbers under the hash of everything they were made from.

A run that was cut off, or that is extended, therefore makes only what is missing.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srlvae.bench.kept import key_of_image, read_kept, read_kept_record, write_kept, write_kept_record
from srlvae.bench.keys import STAGES, key_of
from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.files import write_text
from srlvae.images import Images, read_picture
from srlvae.training.processes import processes

__all__ = ["CACHE", "STAGES", "Cache", "announce", "key_of", "key_of_image", "start_heartbeat", "wait_for"]
# The folder of the cache in the output of a benchmark.
CACHE = "cache"


@dataclass(frozen=True)
class Cache:
    """A folder of PNG files with notes on them, and of records, which are JSON files. Every file is named by its key.

    - batch_size: how many images are made at a time.
    - listener: hears of every batch that is made, and its wish to stop raises KeyboardInterrupt once that batch is kept.
    - shared: whether processes that run together ask for the same images, so that each makes a share and waits for the others.
    """

    folder: Path
    batch_size: int
    listener: Listener = field(default_factory=Listener)
    shared: bool = True
    said: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def path(self, key: str, suffix: str = ".png") -> Path:
        """The file of a key, whether it exists or not."""
        return self.folder / key[:2] / f"{key}{suffix}"

    def images(
        self,
        keys: Sequence[str],
        make: Callable[[list[int]], tuple[Images, list[Any]]],
        allowed: Callable[[int, Tensor], bool] = lambda i, image: True,
    ) -> Images:
        """The images `n 3 h w` of `keys`, in [0,1]. Those that are missing or broken are made first, in batches.

        `make` takes the positions in `keys` of a batch of such images. It returns the images and a note on each of them, which
        is plain data or None. An image that, read back from its file, is not `allowed` at its position is made again.
        """
        state, found = processes(), dict[int, Tensor]()
        if self.shared:
            announce(self.folder)

        def look(i: int) -> bool:
            image = self._read(keys[i], lambda x: allowed(i, x))
            return image is not None and found.setdefault(i, image) is image

        first = dict(zip(reversed(keys), reversed(range(len(keys))), strict=True))  # of poisons that are repeated, too
        distinct = sorted(first.values())
        own = distinct[state.process_index :: state.num_processes] if self.shared else distinct
        share = [i for i in own if not look(i)]
        for start in range(0, len(share), self.batch_size):
            part = share[start : start + self.batch_size]
            for i, image, note in zip(part, *make(part), strict=True):
                write_kept(self.path(keys[i]), keys[i], image, note)
                if not look(i):
                    raise AssertionError(f"{self.path(keys[i])}: this must not be kept; it may be an image beyond its budget")
            self.listener.at("images", start + len(part), len(share))
            self.listener.check()
        if self.shared and state.num_processes > 1:
            turn = finish_share(self.folder, state.process_index)
            for number, i in enumerate(distinct):
                if i not in found:
                    wait_for(self.path(keys[i]), self.folder, number % state.num_processes, functools.partial(look, i), turn)
        return torch.stack([found[first[key]] for key in keys])

    def _read(self, key: str, allowed: Callable[[Tensor], bool]) -> Tensor | None:
        """The image of a key, or None if there is none. A broken one is told to the listener."""
        file = self.path(key)
        try:
            image = read_kept(file, key)[0] if file.exists() else None
        except InputError as error:
            return self._broken(error)
        if image is not None and not allowed(image):
            return self._broken(f"{file}: it is not within its budget")
        return image

    def _broken(self, reason: object) -> None:
        if str(reason) not in self.said:  # once, however often it is looked for
            self.said.add(str(reason))
            self.listener.says(f"making it again, because what was kept is broken: {reason}")

    def notes(self, keys: Sequence[str]) -> list[Any]:
        """The note on each image of `keys`, or None for an image without one, such as a photograph."""
        return [read_kept(self.path(key), key)[1] if self.path(key).exists() else None for key in keys]

    def record(self, key: str, make: Callable[[], Any], picture: Path | None = None) -> Any:
        """The record of a key, which is plain data. If there is none yet, `make` is called and its result is kept.

        `picture` is a file that `make` writes, too: without it, or if it is broken, everything is made again.
        """
        if not self.has_record(key, picture):
            write_kept_record(self.path(key, ".json"), key, make())
            self.listener.check()
        return read_kept_record(self.path(key, ".json"), key)

    def has_record(self, key: str, picture: Path | None = None) -> bool:
        """Whether there is a record of the key that is whole, and a `picture` that can be read if there is to be one."""
        file = self.path(key, ".json")
        if not file.exists():
            return False
        try:
            read_kept_record(file, key)
            if picture:
                read_picture(picture)
        except InputError as error:
            self._broken(error)
            return False
        return True

    def record_of(self, key: str, process: int) -> Any:
        """The record of a key that another process makes. Waits until it is there.

        Raises InputError if that process has stopped.
        """
        file = self.path(key, ".json")
        return read_kept_record(wait_for(file, self.folder, process), key)


# A sign of life from before this time is that of an earlier run.
STARTED = time.time()
# Seconds between signs of life, seconds of silence after which a process has stopped, and seconds that it may take to start.
BEAT_SECONDS, DEAD_SECONDS, BEGIN_SECONDS = 5.0, 45.0, 55.0


def announce(folder: Path) -> None:
    """Show the other processes that this one is alive, from now on; to be called before anything that takes long."""
    state = processes()
    if state.num_processes > 1:
        start_heartbeat(folder, state.process_index)


@functools.cache
def start_heartbeat(folder: Path, process: int) -> None:
    """Start to touch a file in `folder` every few seconds, by which other processes see that this one is alive."""
    sign = folder / f".alive-{process}"
    folder.mkdir(parents=True, exist_ok=True)

    def go_on() -> None:
        # Until the folder is gone, of which the rest of the run will hear by itself.
        with contextlib.suppress(OSError):
            while True:
                sign.touch()
                time.sleep(BEAT_SECONDS)

    sign.touch()
    threading.Thread(target=go_on, daemon=True).start()


# How many sets of images a process has made its share of, by the folder of the cache and the process's number.
_shares: Counter[tuple[Path, int]] = Counter()


def finish_share(folder: Path, process: int) -> int:
    """Tell the other processes that this one has made its share of one more set of images. Returns how many these are."""
    _shares[folder, process] += 1
    write_text(folder / f".made-{process}", str(_shares[folder, process]))
    return _shares[folder, process]


def _shares_made(folder: Path, process: int) -> int:
    """How many shares another process has made in this run, as far as it has told."""
    try:
        told = folder / f".made-{process}"
        return int(told.read_text()) if told.stat().st_mtime >= STARTED else 0
    except (OSError, ValueError):
        return 0


def wait_for(file: Path, folder: Path, process: int, ready: Callable[[], bool] | None = None, turn: int | None = None) -> Path:
    """Wait until `process` has written `file`, and return it.

    `ready` says whether it is there, in place of its mere existence. `turn` is the number of the share in which it is made.

    Raises InputError if that process has shown no sign of life in `folder` for too long (see `start_heartbeat`), or if it has
    made that share without the file.
    """
    began, sign = time.time(), folder / f".alive-{process}"
    ready = ready or file.exists
    while True:
        # Looked at first: what a process has told of comes after what it has made.
        made = _shares_made(folder, process)
        if ready():
            return file
        if turn is not None and made >= turn:
            raise InputError(
                f"process {process} has ended without making {file.name}: it works on other photographs, models or "
                "settings than this one; start all processes with the same command, on the same files and versions"
            )
        seen = sign.stat().st_mtime if sign.exists() else 0.0
        silent = time.time() - max(seen, began)
        if silent > (DEAD_SECONDS if seen >= STARTED else BEGIN_SECONDS):
            raise InputError(
                f"process {process} has stopped before it made {file.name}; start the same command again to resume the run"
            )
        time.sleep(0.1)
