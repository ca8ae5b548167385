"""What the page of a poisoning benchmark shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from srlvae.bench.poisoning import SHEETS, sheet_name
from srlvae.bench.rows import Row
from srlvae.report.plots import plot_poisoning
from srlvae.report.poisoning import counts_table, curves, defences_table, poisoning_table
from srlvae.report.render import inline_sheet
from srlvae.report.rows import find, named, rows_of

# Sheets on the page, of one seed.
SHOWN = 40


def poisoning_parts(folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Everything that the page shows of a sweep."""
    rows, seeds = rows_of(result), result["protocol"]["seeds"]
    # What most poisons did first: those who look at one picture look at that.
    shown = sorted(find(rows, seed=min(seeds)), key=lambda row: -int(row.condition["poisons"]))[:SHOWN]
    header, lines = poisoning_table(result)
    return {
        "n": rows[0].n,
        "seeds": len(seeds),
        "header": header,
        "lines": lines,
        "plots": [plot_poisoning(curves(result, eps), f"ε {eps}") for eps in result["protocol"]["eps"]],
        "counts": counts_table(result),
        "defences": defences_table(result, likeness=True),
        "missing": result["points"] - len(rows),
        "sheets": [(_title(row), inline_sheet(folder / SHEETS / _sheet(row))) for row in shown],
        "settings": json.dumps({key: value for key, value in result.items() if key != "rows"}, indent=2),
    }


def _sheet(row: Row) -> str:
    return sheet_name(row.condition, row.access, row.defence)


def _title(row: Row) -> str:
    about = row.condition
    poison = f"{about['poisons']} poisons, {about['attack']}" + (f", ε {about['eps']}" if about["eps"] != "0" else "")
    access = f", {row.access}" if row.access != "none" else ""
    poison = poison + access if about["poisons"] else "no poison"
    return f"{about['concept']} → {about['target']}: {poison}; {named(row.defence)}"
