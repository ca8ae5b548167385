"""Rows of the hardening benchmark → the table, the curves, and by how much less one run gets where another ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from srlvae.bench.rows import Row
from srlvae.report.plots import Point, point
from srlvae.report.rows import Table, find, one, rows_of, shown, value, values_of

# (label, attack, access, measure, whether more is better)
MEASURES = (
    ("clean shift", "none", "none", "shift", False),
    ("clean distance", "none", "none", "distance", False),
    ("pushed away, transfer", "latent", "transfer", "shift", False),
    ("pushed away, white-box", "latent", "white-box", "shift", False),
    ("pulled to zero, transfer", "photoguard-encoder", "transfer", "shift", False),
    ("pulled to zero, white-box", "photoguard-encoder", "white-box", "shift", False),
    ("reconstruction dB, transfer", "reconstruction", "transfer", "psnr", True),
    ("reconstruction dB, white-box", "reconstruction", "white-box", "psnr", True),
)


def _rows(result: Mapping[str, Any], attack: str, access: str, run: str) -> list[Row]:
    """A run's rows of a measure, the earliest step first."""
    found = find(rows_of(result), defence="hardened", attack=attack, access=access, run=run)
    return sorted(found, key=lambda row: row.condition["step"])


def _runs(result: Mapping[str, Any]) -> list[str]:
    return values_of(rows_of(result), "run")


def curves(result: Mapping[str, Any]) -> dict[str, dict[str, list[Point]]]:
    """Of each measure, each run's points over processor seconds."""
    return {
        label: {
            run: [point(row, measure, float(row.condition["seconds"])) for row in _rows(result, attack, access, run)]
            for run in _runs(result)
        }
        for label, attack, access, measure, _ in MEASURES
    }


def hardening_table(result: Mapping[str, Any]) -> Table:
    """A line a run at its end, beside the original."""
    before = [(one(rows_of(result), defence="none", attack=attack), measure) for _, attack, _, measure, _ in MEASURES]
    lines = [["original", "", "", *(_shown(row, measure) for row, measure in before if row)]]
    for run in _runs(result):
        ends = [(_rows(result, attack, access, run)[-1], measure) for _, attack, access, measure, _ in MEASURES]
        last = ends[0][0].condition
        lines.append([run, str(last["step"]), f"{last['seconds']:.0f}", *(_shown(row, measure) for row, measure in ends)])
    return ["run", "steps", "processor s", *(label for label, *_ in MEASURES)], lines


def _shown(row: Row, measure: str) -> str:
    return shown(row.measures[measure], ".2f" if abs(value(row, measure)) > 10 else ".3f", interval=False)


def shares(result: Mapping[str, Any], run: str, other: str) -> dict[str, float | None]:
    """Of each robustness measure, the share of `other`'s whole cost for which `run` is as good as `other` is at its end.

    None where it never is.
    """
    found: dict[str, float | None] = {}
    for label, attack, access, measure, more in MEASURES:
        if attack != "none":
            end = _rows(result, attack, access, other)[-1]
            goal, cost = value(end, measure), float(end.condition["seconds"])
            reached = [
                float(row.condition["seconds"])
                for row in _rows(result, attack, access, run)
                if (value(row, measure) >= goal if more else value(row, measure) <= goal)
            ]
            found[label] = min(reached) / cost if reached else None
    return found


def shares_table(result: Mapping[str, Any]) -> Table | None:
    """A line each other run: for which share of its cost the first is as good as it is at its end. None for a single run."""
    first, *others = _runs(result)
    if not others:
        return None
    found = {other: shares(result, first, other) for other in others}
    lines = [[other, *("never" if s is None else f"{s:.2f}" for s in own.values())] for other, own in found.items()]
    return [
        f"share of its cost at which {first} is as good",
        *(label for label, attack, *_ in MEASURES if attack != "none"),
    ], lines
