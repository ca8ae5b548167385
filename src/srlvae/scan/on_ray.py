"""The engine for many machines: Ray Data shares pieces of a scan out among workers. Needs the extra `ray`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from srlvae.devices import default_device
from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.extras import need
from srlvae.images import set_max_pixels
from srlvae.malloc import keep_freed_memory
from srlvae.scan.engines import Engine, LookAt
from srlvae.scan.look import Encoders


@dataclass(frozen=True)
class Piece:
    """A piece of a scan. Ray pickles what it does not know, and would make columns of lists and texts."""

    value: Any


@dataclass(frozen=True)
class Seen:
    """What a worker saw in a piece, or the error for which no piece can be looked at."""

    found: list[Any]
    error: str = ""


class Worker:
    """A process that holds the two encoders and looks at one piece after another."""

    def __init__(self, encoders: Any, look_at: LookAt, max_pixels: int | None):
        (ray,) = need("ray", "ray")
        keep_freed_memory()
        set_max_pixels(max_pixels)
        self.encoders: Encoders = ray.get(encoders[0]).on(default_device())
        self.look_at = look_at

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Look at the piece of a row of the dataset."""
        try:
            return {"seen": Seen(list(self.look_at(self.encoders, row["item"].value, Listener())))}
        except InputError as error:
            return {"seen": Seen([], str(error))}


def ray_engine(workers: int | None = None) -> Engine:
    """The engine that looks at pieces with `workers` workers: by default one for each GPU, or without any for each CPU core.

    It joins the cluster that this machine belongs to or that RAY_ADDRESS names, and starts one on this machine where there is
    none. A worker that dies is replaced, and its piece looked at again.

    Raises InputError if no cluster is there or starts, if it has fewer places than workers, or as looking at a piece does.
    """
    ray, data = need("ray", "ray", "ray.data")
    if not ray.is_initialized():
        _start(ray)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    data.DataContext.get_current().enable_progress_bars = False
    there = ray.cluster_resources()
    kind = "GPU" if there.get("GPU") else "CPU"
    places = int(there.get(kind, 1))
    if workers and workers > places:
        raise InputError(f"{workers} workers, and the cluster has {places} {kind}s; ask for at most so many")

    def engine(encoders: Encoders, pieces: Sequence[Any], look_at: LookAt, listener: Listener) -> Iterator[Any]:
        if not pieces:
            return
        number = min(workers or places, len(pieces))
        listener.says(f"{number} workers on Ray, each with one of {places} {kind}s")
        rows = data.from_items([Piece(piece) for piece in pieces], override_num_blocks=len(pieces)).map(
            Worker,
            # In a list, as Ray would hand over the object itself, once a call.
            fn_constructor_args=([ray.put(encoders.on("cpu"))], look_at, Image.MAX_IMAGE_PIXELS),
            concurrency=number,
            **({"num_gpus": 1} if kind == "GPU" else {"num_cpus": 1}),
        )
        for row in rows.iter_rows():
            if row["seen"].error:
                raise InputError(row["seen"].error)
            yield from row["seen"].found

    return engine


def _start(ray: Any) -> None:
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # of a kind of its own, or of none
        raise InputError(
            f"Ray does not start ({error}); see that RAY_ADDRESS names a cluster that runs, or that this machine is less busy, "
            "or scan without --engine ray"
        ) from error
