"""Benchmarks that fine-tune: each point is measured once, kept with a contact sheet, and shared out between processes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from srlvae.bench.cache import Cache
from srlvae.bench.rows import Row, as_data
from srlvae.events import Listener
from srlvae.files import write_atomically, write_json
from srlvae.images import Images, tile, write_image
from srlvae.training.processes import processes

Point = TypeVar("Point", contravariant=True)
# The folder of contact sheets in the output, and how many images a line of one has.
SHEETS, ACROSS = "sheets", 8


@runtime_checkable
class Sweep(Protocol[Point]):
    """What a benchmark says of its points: their keys in the cache, how one is measured, and the rows of those measured."""

    cache: Cache

    def key(self, point: Point, /) -> str:
        """The key of a point's record in the cache."""
        ...

    def measure(self, point: Point, listener: Listener, /) -> None:
        """Measure a point, unless that was done before."""
        ...

    def rows(self, points: Sequence[Any], /) -> list[Row]:
        """The rows of points that are measured."""
        ...


def run_points(sweep: Sweep, planned: Sequence[Any], result: dict[str, Any], file: Path, listener: Listener) -> dict[str, Any]:
    """Measure the points, write the rows so far to `file` after each of them, and return the result with all rows.

    If several processes run together, each measures its share, and all but the main one return {}.
    """
    state = processes()

    def write(points: Sequence[Any]) -> None:
        result["rows"] = as_data(sweep.rows(points))
        write_json(file, result)

    for number, point in enumerate(planned, 1):
        if number % state.num_processes == state.process_index:
            sweep.measure(point, listener)
            if state.is_main_process:
                write([done for done in planned if sweep.cache.has_record(sweep.key(done))])
        listener.at("rows", number, len(planned), str(point))
    if not state.is_main_process:
        return {}
    for number, point in enumerate(planned, 1):
        # Waits for those of the other processes.
        sweep.cache.record_of(sweep.key(point), number % state.num_processes)
    write(planned)
    return result


def measure_once(cache: Cache, key: str, make: Callable[[], tuple[dict[str, Any], Images]], sheet: Path) -> None:
    """Keep what `make` measures as a record, unless that was done before, and write the images that it shows to `sheet`.

    To what it measures, plain data by name, the `seconds` that it took are added.
    """
    kept = cache.path(key, ".webp")

    def record() -> dict[str, Any]:
        started = time.perf_counter()
        measured, shown = make()
        write_image(kept, tile([list(shown[i : i + ACROSS]) for i in range(0, len(shown), ACROSS)]))
        return {**measured, "seconds": time.perf_counter() - started}

    cache.record(key, record, picture=kept)
    write_atomically(sheet, lambda file: shutil.copyfile(kept, file))
