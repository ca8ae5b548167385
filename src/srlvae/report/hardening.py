"""The table and the curves of the hardening benchmark, and how much less one run costs than another for the same robustness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from srlvae.bench.rows import Row
from srlvae.report.numbers import format_estimate
from srlvae.report.plots import Point, point
from srlvae.report.rows import Table, distinct_values, find_row, find_rows, measured_value, rows_of

# The columns of the table: label, attack, access, measure, and whether larger numbers are better.
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


def _measures(result: Mapping[str, Any]) -> list[tuple[str, str, str, str, bool]]:
    """Those of MEASURES whose attacks the protocol has."""
    attacks = set(distinct_values(rows_of(result), "attack"))
    return [measure for measure in MEASURES if measure[1] in attacks]


def _rows(result: Mapping[str, Any], attack: str, access: str, run: str) -> list[Row]:
    """A run's rows under an attack, in the order of its steps."""
    found = find_rows(rows_of(result), defence="hardened", attack=attack, access=access, run=run)
    return sorted(found, key=lambda row: row.condition["step"])


def _runs(result: Mapping[str, Any]) -> list[str]:
    return distinct_values(rows_of(result), "run")


def curves(result: Mapping[str, Any]) -> dict[str, dict[str, list[Point]]]:
    """For each measure and each run, points over the processor seconds that the run had taken."""
    return {
        label: {
            run: [point(row, measure, float(row.condition["seconds"])) for row in _rows(result, attack, access, run)]
            for run in _runs(result)
        }
        for label, attack, access, measure, _ in _measures(result)
    }


def hardening_table(result: Mapping[str, Any]) -> Table:
    """The last encoder of each run, below the original one."""
    measures = _measures(result)
    before = [(find_row(rows_of(result), defence="none", attack=attack), measure) for _, attack, _, measure, _ in measures]
    lines = [["original", "", "", *(_format_measure(row, measure) for row, measure in before if row)]]
    for run in _runs(result):
        ends = [(_rows(result, attack, access, run)[-1], measure) for _, attack, access, measure, _ in measures]
        last = ends[0][0].condition
        cells = [_format_measure(row, measure) for row, measure in ends]
        lines.append([run, str(last["step"]), f"{last['seconds']:.0f}", *cells])
    return ["run", "steps", "processor seconds", *(label for label, *_ in measures)], lines


def _format_measure(row: Row, measure: str) -> str:
    return format_estimate(row.measures[measure], ".2f" if abs(measured_value(row, measure)) > 10 else ".3f", interval=False)


def cost_shares(result: Mapping[str, Any], run: str, other: str) -> dict[str, float | None]:
    """For each robustness measure, how early `run` is as good as `other` is at its end.

    The number is the processor time of `run` until then as a share of that of all of `other`. It is None if `run` never gets
    there.
    """
    found: dict[str, float | None] = {}
    for label, attack, access, measure, more in _measures(result):
        if attack != "none":
            end = _rows(result, attack, access, other)[-1]
            goal, cost = measured_value(end, measure), float(end.condition["seconds"])
            reached = [
                float(row.condition["seconds"])
                for row in _rows(result, attack, access, run)
                if (measured_value(row, measure) >= goal if more else measured_value(row, measure) <= goal)
            ]
            found[label] = min(reached) / cost if reached else None
    return found


def cost_shares_table(result: Mapping[str, Any]) -> Table | None:
    """How early the first run is as good as each other run is at its end; see `cost_shares`. None if there is a single run."""
    first, *others = _runs(result)
    if not others:
        return None
    found = {other: cost_shares(result, first, other) for other in others}
    lines = [[other, *("never" if s is None else f"{s:.2f}" for s in own.values())] for other, own in found.items()]
    return [
        f"share of the run's cost after which {first} is as good",
        *(label for label, attack, *_ in _measures(result) if attack != "none"),
    ], lines
