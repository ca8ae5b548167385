"""The overview of docs/results/index.md: what hardening does to edits, to poisoning and to scans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from srlvae.bench.rows import VAE_OF, Row
from srlvae.report.numbers import THOUSANDTHS, counted, format_estimate, format_share
from srlvae.report.poisoning import largest_count, pooled_share, swept_rows
from srlvae.report.rows import MAIN_BUDGET, Table, cost_cells, find_pair, find_row, rows_of
from srlvae.report.scan_tables import AS_IT_COMES

Result = Mapping[str, Any]
# The lines on edits: label, attack, ε, measure, and the format of its numbers.
EDIT_LINES = (
    (
        "edits under Mist's fused attack ({name}), 1000 × KID from clean edits ↓",
        "mist-fused",
        MAIN_BUDGET,
        "kid",
        THOUSANDTHS,
    ),
    (
        "edits under PhotoGuard ({name}), 1000 × KID from clean edits ↓",
        "photoguard-encoder",
        MAIN_BUDGET,
        "kid",
        THOUSANDTHS,
    ),
    ("edits under PhotoGuard ({name}), CLIP-I ↑", "photoguard-encoder", MAIN_BUDGET, "clip_i", ".2f"),
    ("edits of clean photographs ({name}), 1000 × KID from the original VAE's edits ↓", "none", "0", "kid", THOUSANDTHS),
)
# The budget of Nightshade in the line on scans.
SCANNED_BUDGET = "8/255"


def overview_table(editing: Mapping[str, Result], poisoning: Mapping[str, Result], scans: Mapping[str, Result]) -> Table:
    """A line for each claim, with the original VAE beside the hardened one. Edits that were not measured have none.

    Each argument has the results of one benchmark, by the name of the model that they were measured on.
    """
    lines = []
    for name, result in editing.items():
        for words, attack, eps, measure, spec in EDIT_LINES:
            if found := find_pair(rows_of(result), attack=attack, eps=eps):
                lines.append([words.format(name=name), *_pair_cells(found, measure, spec)])
    for name, result in poisoning.items():
        found = [swept_rows(result, defence, largest_count(result)) for defence in VAE_OF]
        shares = [format_share(pooled_share(rows, "target")) for rows in found]
        lines.append([f"Nightshade's success after fine-tuning ({name}) ↓", *shares])
    scanned = {name: row for name, result in scans.items() if (row := _scanned(result))}
    detected = [f"{format_share(counted(row.measures['found']))} ({name})" for name, row in scanned.items()]
    lines.append([f"Nightshade of {SCANNED_BUDGET} detected by the scan at a 1 % false-alarm rate ↑", "", ", ".join(detected)])
    for name, result in editing.items():
        lines.append([f"extra seconds per image ({name})", "", cost_cells(result["costs"], "hardened")[0]])
    return ["", "original", "hardened"], lines


def _pair_cells(found: tuple[Row, Row], measure: str, spec: str) -> list[str]:
    return [format_estimate(row.measures[measure], spec, interval=False) for row in found]


def _scanned(result: Result) -> Row | None:
    return find_row(rows_of(result), attack="nightshade", eps=SCANNED_BUDGET, handling=AS_IT_COMES)
