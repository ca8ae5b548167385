"""A scan of many shards: its rate, the memory of every process over time, and the bytes that go in and come out.

    python recipes/scan_shards.py --images caltech101-128/test --to results/shards.json
    python recipes/scan_shards.py --images caltech101-128/test --to results/shards.json --pictures 100000

Random crops of the photographs are packed into shards, which the local engine scans, and two workers on Ray. Each scan is
killed when half of the shards have tables, and the same command resumes it. The tables of both engines are compared row by
row, where both are asked for. Workers of Ray are nice to others: on a busy machine they hardly advance. A process's memory is
flat if its last three quarters lie within ten per cent of their median.
"""

from __future__ import annotations

import contextlib
import io
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import pyarrow.parquet as parquet
import typer
from PIL import Image

from srlvae.files import write_json
from srlvae.images import find_images, open_rgb
from srlvae.provenance import environment
from srlvae.scan.shard_tables import SCORES, SEEN

# Seconds between looks at the processes, and points of the course of a process's memory.
EVERY, POINTS = 0.5, 60
ENGINES: dict[str, tuple[str, ...]] = {"local": (), "two workers on Ray": ("--engine", "ray", "--workers", "2")}


def crops(images: Path, side: int, seed: int) -> Iterator[Image.Image]:
    """Endless random crops, reduced by up to two."""
    rng, pictures = np.random.default_rng(seed), [open_rgb(path) for path in find_images(images)]
    while True:
        picture = pictures[rng.integers(len(pictures))]
        whole = int(min(*picture.size, side * rng.uniform(1, 2)))
        left, top = (int(rng.integers(length - whole + 1)) for length in picture.size)
        yield picture.crop((left, top, left + whole, top + whole)).resize((side, side), Image.Resampling.LANCZOS)


def pack(found: Iterator[Image.Image], folder: Path, shards: int, each: int) -> int:
    """Write JPEGs into shards, and return the bytes of them all."""
    folder.mkdir()
    for shard in range(shards):
        with tarfile.open(folder / f"{shard:05}.tar", "w") as archive:
            for number in range(each):
                file = io.BytesIO()
                next(found).save(file, "JPEG", quality=90)
                member = tarfile.TarInfo(f"{shard:05}{number:05}.jpg")
                member.size = file.tell()
                file.seek(0)
                archive.addfile(member, file)
    return sum(path.stat().st_size for path in folder.iterdir())


@dataclass
class Watched:
    """What was seen of a command from its second table to its last: tables, seconds of the wall and of processors, memory."""

    shards: int = 0
    seconds: float = 0.0
    processor_seconds: float = 0.0
    memory: dict[int, list[int]] = field(default_factory=dict)


def watched(words: list[str], looked: Path, until: int | None = None) -> Watched:
    """Run a command, and watch it and the tables in `looked`. until: how many tables are there when it is killed."""
    before = len(list(looked.glob("*.parquet")))
    started, found = subprocess.Popen(words, stdout=subprocess.DEVNULL), Watched()
    first: tuple[int, float, float] | None = None
    while started.poll() is None:
        time.sleep(EVERY)
        done = len(list(looked.glob("*.parquet")))
        if until and done >= until:
            kill(started)
            return found
        if done < before + 2:
            continue
        processes = list(tree(started.pid))
        for process, (size, _) in processes:
            found.memory.setdefault(process, []).append(size)
        now = (done, time.time(), sum(seconds for _, (_, seconds) in processes))
        first = first or now
        if done > first[0] + found.shards:
            found.shards = done - first[0]
            found.seconds, found.processor_seconds = now[1] - first[1], now[2] - first[2]
    if started.returncode:
        raise SystemExit(f"{' '.join(words)} ended with the exit code {started.returncode}")
    return found


def kill(started: subprocess.Popen) -> None:
    """Kill a command as a power cut would, and wait for its children, which Ray ends; end those that stay."""
    children = psutil.Process(started.pid).children(recursive=True)
    started.kill()
    started.wait()
    for process in psutil.wait_procs(children, timeout=60)[1]:
        process.kill()


def tree(pid: int) -> Iterator[tuple[int, tuple[int, float]]]:
    """The memory and the processor seconds so far of a process and of those of Ray that hold models, by their numbers."""
    with contextlib.suppress(psutil.Error):
        own = psutil.Process(pid)
        for process in (own, *own.children(recursive=True)):
            if process is own or "".join(process.cmdline()[:1]).startswith("ray::"):
                times, size = process.cpu_times(), process.memory_info().rss
                if size:  # one that has ended has none
                    yield process.pid, (size, times.user + times.system)


def memory_over_time(samples: list[int]) -> dict[str, Any]:
    """How far the last three quarters of a process's memory lie from their median, how large that is, and its course."""
    late = samples[len(samples) // 4 :]
    middle = statistics.median(late)
    course = [round(size / 1e6) for size in samples[:: max(1, len(samples) // POINTS)]]
    flat = {"megabytes": middle / 1e6, "low": min(late) / middle, "high": max(late) / middle}
    return {**flat, "samples": len(samples), "course": course}


def scan(engine: str, shards: Path, clean: Path, out: Path, each: int) -> dict[str, Any]:
    count = len(list(shards.iterdir()))
    words = [sys.executable, "-m", "srlvae", "scan", f"{shards}/*.tar", "--clean", str(clean), "--rate", "0.05"]
    words += ["--out", str(out), *ENGINES[engine]]
    parts = [watched(words, out / SEEN, until=count // 2), watched(words, out / SEEN)]
    total = {name: sum(getattr(part, name) for part in parts) for name in ("seconds", "processor_seconds")}
    processes = [memory_over_time(samples) for part in parts for samples in part.memory.values() if len(samples) >= 8]
    size = sum(path.stat().st_size for folder in (SEEN, SCORES) for path in (out / folder).iterdir())
    done = sum(part.shards for part in parts) * each
    about = {"engine": engine, "images": done, "killed_at": count // 2, "resumed": len(list((out / SEEN).iterdir())) == count}
    return {**about, **total, "bytes_of_tables": size, "processes": processes}


def table(out: Path) -> list[dict[str, Any]]:
    """The verdicts; of scores as many digits as a float32 has, in whichever order they were added up."""
    rows = parquet.read_table(out / SCORES).to_pylist()
    return sorted(({**row, "score": round(row["score"], 3)} for row in rows), key=lambda row: row["file"])


def main(
    images: Annotated[Path, typer.Option(help="A folder of photographs.")],
    to: Annotated[Path, typer.Option(help="The JSON that is written.")],
    pictures: Annotated[int, typer.Option(help="How many pictures are scanned.")] = 10_000,
    shards: Annotated[int, typer.Option(help="How many shards they are in.")] = 100,
    side: Annotated[int, typer.Option(help="Their side in pixels.")] = 32,
    engine: Annotated[list[str] | None, typer.Option(help=f"Some of {', '.join(ENGINES)}.")] = None,
) -> None:
    each = pictures // shards
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        size = pack(crops(images, side, 0), folder / "shards", shards, each)
        (folder / "clean").mkdir()
        for number, picture in zip(range(60), crops(images, side, 1), strict=False):
            picture.save(folder / "clean" / f"{number}.png")
        result: dict[str, Any] = {
            "images": shards * each,
            "shards": shards,
            "pixels": side,
            "bytes": size,
            "cores": os.cpu_count(),
        }
        result |= {"load": os.getloadavg()[0], "versions": environment(), "runs": []}
        for name in engine or ENGINES:
            result["runs"].append(scan(name, folder / "shards", folder / "clean", folder / name, each))
            write_json(to, result)
        if len(result["runs"]) > 1:
            one, other = (table(folder / name) for name in ENGINES)
            write_json(to, result | {"same_tables": one == other})


if __name__ == "__main__":
    typer.run(main)
