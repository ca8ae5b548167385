"""README's first table on what the product does downstream: edits, poison and scans in a line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from srlvae.bench.rows import VAE_OF, Row
from srlvae.report.poisoning import most, pooled, swept
from srlvae.report.rows import MAIN_BUDGET, Table, cost_cells, one, pair, percent, rows_of, shown
from srlvae.report.scan_tables import AS_IT_COMES

Result = Mapping[str, Any]
# (in words, attack, ε, measure, how it is written)
EDITS = (
    (
        "edits under Mist's fused attack ({name}), Fréchet distance from clean edits ↓",
        "mist-fused",
        MAIN_BUDGET,
        "frechet",
        ".0f",
    ),
    ("edits under PhotoGuard ({name}), the same ↓", "photoguard-encoder", MAIN_BUDGET, "frechet", ".0f"),
    ("edits under PhotoGuard ({name}), CLIP-I ↑", "photoguard-encoder", MAIN_BUDGET, "clip_i", ".2f"),
    ("edits of clean photographs ({name}), Fréchet distance ↓", "none", "0", "frechet", ".0f"),
)
# Nightshade's budget in the line on scans.
SCANNED = "8/255"


def overview_table(editing: Mapping[str, Result], poisoning: Mapping[str, Result], scans: Mapping[str, Result]) -> Table:
    """A line a claim, the original VAE beside the hardened one. Results by the name of what they were measured on."""
    lines = []
    for name, result in editing.items():
        for words, attack, eps, measure, spec in EDITS:
            lines.append([words.format(name=name), *_both(pair(rows_of(result), attack=attack, eps=eps), measure, spec)])
    for name, result in poisoning.items():
        shares = [percent(pooled(swept(result, defence, most(result)), "target")) for defence in VAE_OF]
        lines.append([f"Nightshade's success after fine-tuning ({name}) ↓", *shares])
    found = [f"{percent(row.measures['found'])} ({name})" for name, result in scans.items() if (row := _scanned(result))]
    lines.append([f"Nightshade of {SCANNED} found by the scan, at a 1 % false-alarm rate ↑", "", ", ".join(found)])
    lines += [
        [f"extra seconds an image ({name})", "", cost_cells(one["costs"], "hardened")[0]] for name, one in editing.items()
    ]
    return ["", "original", "hardened"], lines


def _both(found: tuple[Row, Row] | None, measure: str, spec: str) -> list[str]:
    return [shown(row.measures[measure], spec, interval=False) for row in found] if found else ["", ""]


def _scanned(result: Result) -> Row | None:
    return one(rows_of(result), attack="nightshade", eps=SCANNED, handling=AS_IT_COMES)
