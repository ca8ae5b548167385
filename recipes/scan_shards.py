"""A scan of many shards: its rate, the memory of every process over time, and the bytes that go in and come out.

    python recipes/scan_shards.py --images caltech101-128/test --to results/shards.json
    python recipes/scan_shards.py --images caltech101-128/test --to results/shards.json --pictures 100000

Random crops of the photographs are packed into shards, which the local engine scans, and two workers on Ray. Their tables are
compared row by row, where both are asked for. Workers of Ray are nice to others: on a busy machine they hardly advance. A
process's memory is flat if its last three quarters lie within ten per cent of their median.
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

EVERY = 0.5
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


def watched(words: list[str], looked: Path) -> tuple[dict[str, float], dict[int, list[int]], int]:
    """Run a command, and watch it from the second to the last table in `looked`.

    Returns the seconds meanwhile, of the wall and of the processors; the memory of its processes, by number; and the shards.
    """
    started = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    memory: dict[int, list[int]] = {}
    first = last = (0, 0.0, 0.0)
    while started.poll() is None:
        time.sleep(EVERY)
        done = len(list(looked.glob("*.parquet")))
        if done < 2:
            continue
        processes = list(tree(started.pid))
        for process, (size, _) in processes:
            memory.setdefault(process, []).append(size)
        now = (done, time.time(), sum(seconds for _, (_, seconds) in processes))
        first = first if first[0] else now
        last = now if done > last[0] else last
    if started.returncode:
        raise SystemExit(f"{' '.join(words)} ended with the exit code {started.returncode}")
    return {"seconds": last[1] - first[1], "processor_seconds": last[2] - first[2]}, memory, last[0] - first[0]


def tree(pid: int) -> Iterator[tuple[int, tuple[int, float]]]:
    """The memory and the processor seconds so far of a process and of those of Ray that hold models, by their numbers."""
    with contextlib.suppress(psutil.Error):
        own = psutil.Process(pid)
        for process in (own, *own.children(recursive=True)):
            if process is own or process.cmdline()[0].startswith("ray::"):
                times, size = process.cpu_times(), process.memory_info().rss
                if size:  # one that has ended has none
                    yield process.pid, (size, times.user + times.system)


def flatness(samples: list[int]) -> dict[str, float]:
    """How far the last three quarters of a process's memory lie from their median, and how large that is."""
    late = samples[len(samples) // 4 :]
    middle = statistics.median(late)
    return {"megabytes": middle / 1e6, "low": min(late) / middle, "high": max(late) / middle, "samples": len(samples)}


def scan(engine: str, shards: Path, clean: Path, out: Path, each: int) -> dict[str, Any]:
    words = [sys.executable, "-m", "srlvae", "scan", f"{shards}/*.tar", "--clean", str(clean), "--rate", "0.05"]
    seconds, memory, done = watched([*words, "--out", str(out), *ENGINES[engine]], out / SEEN)
    processes = [flatness(samples) for samples in memory.values() if len(samples) >= 8]
    size = sum(path.stat().st_size for folder in (SEEN, SCORES) for path in (out / folder).iterdir())
    return {"engine": engine, "images": done * each, **seconds, "bytes_of_tables": size, "processes": processes}


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
