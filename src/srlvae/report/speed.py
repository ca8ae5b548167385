"""The tables of speed: ways of doing the same beside each other, and what a billion images cost at a measured rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from srlvae.bench.rows import Row
from srlvae.report.rows import Table, rows_of


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
