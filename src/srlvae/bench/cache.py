"""Images and numbers on disk by what they were made from, so that a run which was cut off or is extended makes only what is
missing."""

from __future__ import annotations

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
from srlvae.provenance import code
from srlvae.training.processes import processes

# The rooms whose code makes what a stage of a benchmark keeps: after a change in one of them it is made anew.
GROUND = ("images", "rng", "models")
MEASURED = ("metrics", "bench/distances", "bench/estimates", "bench/rows")
TUNED = ("attacks", "purify", "training", "finetune", "scan", "bench/attacked", "bench/purifiers")
POISONED = ("bench/poisons", "bench/poison_defences", "bench/poison_tuning")
STAGES = {
    "uniform-noise": ("images", "rng", "bench/attacked"),
    "attacked": (*GROUND, "attacks", "training", "bench/attacked"),
    "purified": (*GROUND, "purify", "bench/purifiers"),
    "edited": (*GROUND, "bench/editor"),
    "timed": (*GROUND, "purify", "bench/costs"),
    "compared": (*GROUND, *MEASURED),
    "reconstructed": (*GROUND, *MEASURED, "bench/reconstructed"),
    "poisoned": (*GROUND, *MEASURED, *TUNED, *POISONED),
}


def key_of(stage: str, **made_from: Any) -> str:
    """A name for what a stage in STAGES makes from all that: the SHA-256 of its JSON and of the code of the stage."""
    made_by = {"stage": stage, "code": code(*STAGES[stage]), **made_from}
    return hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()


def key_of_image(x: Float[Tensor, "3 h w"]) -> str:
    """A name for an image of whole grey levels."""
    levels = (x * 255).round().to(torch.uint8).cpu()
    return hashlib.sha256(f"{tuple(levels.shape)}".encode() + levels.numpy().tobytes()).hexdigest()


@dataclass(frozen=True)
class Cache:
    """A folder of PNGs, of notes on them and of records, all under their keys.

    batch_size: images made at a time. listener: is told of each batch. shared: processes that run together share out the
    images that are missing, each waiting for the others' files; False where each process asks for images of its own.
    """

    folder: Path
    batch_size: int
    listener: Listener = field(default_factory=Listener)
    shared: bool = True

    def path(self, key: str, suffix: str = ".png") -> Path:
        """The file of a key, which need not be there."""
        return self.folder / key[:2] / f"{key}{suffix}"

    def images(self, keys: Sequence[str], make: Callable[[list[int]], tuple[Images, list[Any]]]) -> Images:
        """The images of `keys`. `make` is asked for those that are missing, by number and in batches, and gives them with a
        note on each."""
        state = processes()
        if self.shared and state.num_processes > 1:
            beat(self.folder, state.process_index)
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
        """The notes on the images of `keys`; None where there is none."""
        files = [self.path(key, ".json") for key in keys]
        return [read_json(file) if file.exists() else None for file in files]

    def record(self, key: str, make: Callable[[], Any]) -> Any:
        """What `make` once gave under `key`, plain data; it is called where there is nothing yet."""
        file = self.path(key, ".json")
        if not file.exists():
            write_json(file, make())
        return read_json(file)

    def has_record(self, key: str) -> bool:
        """Whether there is a record under `key`."""
        return self.path(key, ".json").exists()

    def record_of(self, key: str, process: int) -> Any:
        """The record that another process makes, once it is there. Raises InputError where that process has stopped."""
        return read_json(wait_for(self.path(key, ".json"), self.folder, process))


def read_json(file: Path) -> Any:
    """What the JSON file says."""
    return json.loads(file.read_text(encoding="utf-8"))


# Signs of life from before are those of an earlier run.
STARTED = time.time()
# Seconds between signs of life; after how many without one a process is taken for dead, and how long it may take to begin.
BEAT, DEAD, BEGIN = 5.0, 45.0, 600.0


@functools.cache
def beat(folder: Path, process: int) -> None:
    """From now on show, by the time of a file in `folder`, that this process is alive."""
    sign = folder / f".alive-{process}"
    folder.mkdir(parents=True, exist_ok=True)

    def go_on() -> None:
        while True:
            sign.touch()
            time.sleep(BEAT)

    sign.touch()
    threading.Thread(target=go_on, daemon=True).start()


def wait_for(file: Path, folder: Path, process: int) -> Path:
    """Return `file` once `process` has written it. Raises InputError where that process shows no sign of life in `folder`."""
    began, sign = time.time(), folder / f".alive-{process}"
    while not file.exists():
        seen = sign.stat().st_mtime if sign.exists() else 0.0
        silent = time.time() - max(seen, began)
        if silent > (DEAD if seen >= STARTED else BEGIN):
            raise InputError(
                f"process {process} has stopped before it made {file.name}; start the same command again, and it goes on"
            )
        time.sleep(0.1)
    return file
