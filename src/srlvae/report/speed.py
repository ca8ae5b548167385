"""The tables of speed: ways of doing the same beside each other, and what a billion images cost at a measured rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from srlvae.bench.rows import Row
from srlvae.report.rows import Table, rows_of

BILLION, CORES, DAY = 1e9, 64, 86400
AT_ONCE = (16, 1)


def speed_table(result: Mapping[str, Any]) -> Table:
    """A line for each way of each work: seconds and images a second, and how many times as fast as the last-named way."""
    lines, before = [], ""
    for row in rows_of(result):
        work, seconds = str(row.condition["work"]), row.measures["seconds"].value or 0.0
        faster = row.measures.get("faster")
        told = f"{faster.value:.2f} [{faster.low:.2f}, {faster.high:.2f}]" if faster else ""
        rate = f"{1 / seconds:.3g}" if row.n > 1 and seconds else ""
        told = told or _alone(row, result)
        lines.append(["" if work == before else work, str(row.condition["way"]), f"{seconds:.3g}", rate, told])
        before = work
    return ["", "", "seconds", "images a second", "times as fast [95 %]"], lines


def _alone(row: Row, result: Mapping[str, Any]) -> str:
    """1 for what others are compared with, blank where there is nothing to compare."""
    work = row.condition["work"]
    return "1" if any("faster" in other.measures for other in rows_of(result) if other.condition["work"] == work) else ""


def growth_table(result: Mapping[str, Any]) -> Table:
    """A line for each work of `recipes/growth.py`: seconds at each size, and the power of the size between the largest two."""
    seconds: dict[str, dict[str, float]] = {}
    for row in rows_of(result):
        found = row.measures["seconds"].value or 0.0
        seconds.setdefault(str(row.condition["work"]), {})[str(row.condition["way"])] = found
    lines = []
    for work, by_size in seconds.items():
        ordered = sorted((int(size), found) for size, found in by_size.items())
        (size, before), (larger, after) = ordered[-2:]
        told = ", ".join(f"{size}: {found:.2g}" for size, found in ordered)
        lines.append([work, told, f"{math.log(after / before) / math.log(larger / size):.2f}"])
    return ["", "seconds", "grows as the power"], lines


def gpu_table(result: Mapping[str, Any]) -> Table:
    """A line for each work, network and size that `recipes/gpu.py` measured, with 16 images and with one at once.

    Gigabytes are those that PyTorch held beyond the weights; in brackets what `harden` or the attack had said before.
    """
    lines: dict[tuple[str, str], list[str]] = {}
    for row in result["rows"]:
        how = ", gradient checkpointing" if row.get("gradient_checkpointing") else ""
        work = f"{row['work']}, {row['model']}{how}{', compiled' if row.get('compiled') else ''}"
        cells = lines.setdefault((work, str(row["pixels"])), [""] * 2 * len(AT_ONCE))
        if row["at_once"] in AT_ONCE:
            place = 2 * AT_ONCE.index(row["at_once"])
            cells[place : place + 2] = _on_gpu(row)
    header = [name for n in AT_ONCE for name in (f"GB, {n} at once (estimated)", "images a second")]
    return ["", "pixels", *header], [[*key, *cells] for key, cells in lines.items()]


def _on_gpu(row: Mapping[str, Any]) -> list[str]:
    """Gigabytes, with what was estimated, and images a second; or why there are none."""
    if "failed" in row:
        return [row["failed"], ""]
    said = f" ({row['estimated_bytes'] / 1e9:.3g})" if row.get("estimated_bytes") else ""
    return [f"{row['peak_bytes'] / 1e9:.3g}{said}", f"{row['images_per_second']:.3g}"]


def billion_table(scanned: Mapping[str, Any], timed: Mapping[str, Any]) -> Table:
    """What a billion images cost, at the rates of a scan of shards and of the benchmark of speed: a line for each image size.

    Hours are those of one core. Machines have CORES cores, which share images out evenly, and end in a day. Bytes are known of
    the scan of shards alone.
    """
    local = next(run for run in scanned["runs"] if run["engine"] == "local")
    lines = {scanned["pixels"]: _cost(local["processor_seconds"] / local["images"], scanned, local["bytes_of_tables"])}
    for row in rows_of(timed):
        work = str(row.condition["work"])
        if work.startswith("scan, ") and row.condition["way"] == "as it is":
            lines[int(work.split()[1])] = _cost(row.measures["seconds"].value or 0.0)
    header = ["pixels", "images a second, one core", "core hours", f"machines of {CORES} cores for a day", "TB read"]
    return [*header, "TB of tables", "MB a second and machine"], [[str(side), *cells] for side, cells in sorted(lines.items())]


def _cost(seconds: float, scanned: Mapping[str, Any] | None = None, tables: int = 0) -> list[str]:
    """The cells of a billion images of so many seconds each, of one core; bytes as in a scan of shards."""
    cells = [f"{1 / seconds:.3g}", f"{seconds * BILLION / 3600:,.0f}", f"{math.ceil(seconds * BILLION / CORES / DAY):,}"]
    if scanned is None:
        return [*cells, "", "", ""]
    read, written = scanned["bytes"] / scanned["images"], tables / scanned["images"]
    return [*cells, f"{read * BILLION / 1e12:.2g}", f"{written * BILLION / 1e12:.2g}", f"{CORES / seconds * read / 1e6:.2g}"]
