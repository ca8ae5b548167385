"""A folder that keeps images and numbers under the hash of everything they were made from.

A run that was cut off, or that is extended, therefore makes only what is missing.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.files import write_json
from srlvae.images import Images, read_image, write_image
from srlvae.provenance import code_digest
from srlvae.training.processes import processes

# The folder of the cache in the output of a benchmark.
CACHE = "cache"
# The code that makes what each stage of a benchmark keeps. After a change of that code it is made anew.
IMAGE_CODE = ("images", "rng", "models")
MEASURE_CODE = ("metrics", "bench/distances", "bench/estimates", "bench/rows")
TUNING_CODE = ("attacks", "purify", "training", "finetune", "scan", "bench/attacked", "bench/purifiers")
POISON_CODE = ("bench/poisons", "bench/poison_defences", "bench/poison_tuning")
STAGES = {
    "uniform-noise": ("images", "rng", "attacks/noise", "bench/attacked"),
    "attacked": (*IMAGE_CODE, "attacks", "training", "bench/attacked"),
    "purified": (*IMAGE_CODE, "purify", "bench/purifiers"),
    "edited": (*IMAGE_CODE, "bench/editor"),
    "timed": (*IMAGE_CODE, "purify", "bench/costs"),
    "compared": (*IMAGE_CODE, *MEASURE_CODE),
    "reconstructed": (*IMAGE_CODE, *MEASURE_CODE, "bench/reconstructed"),
    "poisoned": (*IMAGE_CODE, *MEASURE_CODE, *TUNING_CODE, *POISON_CODE),
}


def key_of(stage: str, **made_from: Any) -> str:
    """The key of what a stage makes: the SHA-256 of `made_from`, written as JSON, and of the stage's own code.

    `stage` is a name in STAGES, which lists the code that each stage depends on. A change of that code changes the key.
    """
    made_by = {"stage": stage, "code": code_digest(*STAGES[stage]), **made_from}
    return hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()


def key_of_image(x: Float[Tensor, "3 h w"]) -> str:
    """The key of an image in [0,1]: the SHA-256 of its size and of its pixels, rounded to 8 bits."""
    levels = (x * 255).round().to(torch.uint8).cpu()
    return hashlib.sha256(f"{tuple(levels.shape)}".encode() + levels.numpy().tobytes()).hexdigest()


@dataclass(frozen=True)
class Cache:
    """A folder of PNG files, of notes on them, and of records, which are JSON files. Every file is named by its key.

    - batch_size: how many images are made at a time.
    - listener: hears of every batch that is made.
    - shared: whether processes that run together ask for the same images. If so, each makes a share of what is missing and
      waits for the others' files. If not, each process makes all the images that it asks for.
    """

    folder: Path
    batch_size: int
    listener: Listener = field(default_factory=Listener)
    shared: bool = True

    def path(self, key: str, suffix: str = ".png") -> Path:
        """The file of a key, whether it exists or not."""
        return self.folder / key[:2] / f"{key}{suffix}"

    def images(self, keys: Sequence[str], make: Callable[[list[int]], tuple[Images, list[Any]]]) -> Images:
        """The images `n 3 h w` of `keys`, in [0,1]. Those that are missing are made first, in batches.

        `make` takes the positions in `keys` of a batch of missing images. It returns these images and a note on each of them,
        which is plain data or None.
        """
        state = processes()
        if self.shared:
            announce(self.folder)
        own = range(state.process_index, len(keys), state.num_processes) if self.shared else range(len(keys))
        share = [i for i in own if not self.path(keys[i]).exists()]
        for start in range(0, len(share), self.batch_size):
            part = share[start : start + self.batch_size]
            self._write(keys, part, make)
            self.listener.at("images", start + len(part), len(share))
        if not self.shared or state.num_processes == 1:
            return torch.stack([read_image(self.path(key)) for key in keys])
        made_by = [(self.path(key), i % state.num_processes) for i, key in enumerate(keys)]
        return torch.stack([read_image(wait_for(path, self.folder, maker)) for path, maker in made_by])

    def _write(self, keys: Sequence[str], part: list[int], make: Callable[[list[int]], tuple[Images, list[Any]]]) -> None:
        for i, image, note in zip(part, *make(part), strict=True):
            if note:
                write_json(self.path(keys[i], ".json"), note)
            write_image(self.path(keys[i]), image)

    def notes(self, keys: Sequence[str]) -> list[Any]:
        """The note on each image of `keys`, or None for an image without one."""
        files = [self.path(key, ".json") for key in keys]
        return [read_json(file) if file.exists() else None for file in files]

    def record(self, key: str, make: Callable[[], Any]) -> Any:
        """The record of a key, which is plain data. If there is none yet, `make` is called and its result is kept."""
        file = self.path(key, ".json")
        if not file.exists():
            write_json(file, make())
        return read_json(file)

    def has_record(self, key: str) -> bool:
        """Whether there is a record of the key."""
        return self.path(key, ".json").exists()

    def record_of(self, key: str, process: int) -> Any:
        """The record of a key that another process makes. Waits until it is there.

        Raises InputError if that process has stopped.
        """
        return read_json(wait_for(self.path(key, ".json"), self.folder, process))


def read_json(file: Path) -> Any:
    """The contents of a JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))


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


def wait_for(file: Path, folder: Path, process: int) -> Path:
    """Wait until `process` has written `file`, and return it.

    Raises InputError if that process has shown no sign of life in `folder` for too long; see `start_heartbeat`.
    """
    began, sign = time.time(), folder / f".alive-{process}"
    while not file.exists():
        seen = sign.stat().st_mtime if sign.exists() else 0.0
        silent = time.time() - max(seen, began)
        if silent > (DEAD_SECONDS if seen >= STARTED else BEGIN_SECONDS):
            raise InputError(
                f"process {process} has stopped before it made {file.name}; start the same command again, and it continues"
            )
        time.sleep(0.1)
    return file
