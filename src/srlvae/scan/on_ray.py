"""The engine for many machines: Ray Data shares shards out among workers. Needs the extra `ray`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from PIL import Image

from srlvae.devices import default_device
from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.extras import need
from srlvae.images import set_max_pixels
from srlvae.scan.look import Encoders
from srlvae.scan.shards import Engine, ShardSeen, look_at_shard


class Worker:
    """A process that holds the two encoders and looks at one shard after another."""

    def __init__(self, encoders: Any, column: str | None, max_pixels: int | None):
        (ray,) = need("ray", "ray")
        set_max_pixels(max_pixels)
        self.encoders: Encoders = ray.get(encoders[0]).on(default_device())
        self.column = column

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Look at the shard of a row of the dataset."""
        return {"seen": look_at_shard(self.encoders, row["item"], self.column)}


def ray_engine(workers: int | None = None) -> Engine:
    """The engine that looks at shards with `workers` workers: by default one for each GPU, or without any for each CPU core.

    It joins the cluster that this machine belongs to or that RAY_ADDRESS names, and starts one on this machine where there is
    none. A worker that dies is replaced, and its shard looked at again.

    Raises InputError if the cluster has fewer places than workers.
    """
    ray, data = need("ray", "ray", "ray.data")
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    data.DataContext.get_current().enable_progress_bars = False
    there = ray.cluster_resources()
    kind = "GPU" if there.get("GPU") else "CPU"
    places = int(there.get(kind, 1))
    if workers and workers > places:
        raise InputError(f"{workers} workers, and the cluster has {places} {kind}s; ask for at most so many")

    def engine(encoders: Encoders, shards: list[str], column: str | None, listener: Listener) -> Iterator[ShardSeen]:
        if not shards:
            return
        number = min(workers or places, len(shards))
        listener.says(f"{number} workers on Ray, each with one of {places} {kind}s")
        rows = data.from_items(shards, override_num_blocks=len(shards)).map(
            Worker,
            # In a list, as Ray would hand over the object itself, once a call.
            fn_constructor_args=([ray.put(encoders.on("cpu"))], column, Image.MAX_IMAGE_PIXELS),
            concurrency=number,
            **({"num_gpus": 1} if kind == "GPU" else {"num_cpus": 1}),
        )
        for row in rows.iter_rows():
            yield row["seen"]

    return engine
