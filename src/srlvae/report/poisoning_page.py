"""The contents of a poisoning benchmark's page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from srlvae.bench.points import SHEETS
from srlvae.bench.poisoning import sheet_name
from srlvae.bench.rows import Row
from srlvae.report.plots import plot_poisoning
from srlvae.report.poisoning import counts_table, curves, defences_table, poisoning_table
from srlvae.report.render import inline_sheet
from srlvae.report.rows import defence_label, doubts_of, find_rows, rows_of

# The page shows at most this many contact sheets, of one seed.
MAX_SHEETS = 40


def poisoning_parts(folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Everything that the page shows of a run, by the names that the template uses."""
    rows, seeds = rows_of(result), result["protocol"]["seeds"]
    # The sheets with the most poisons come first, since many readers look at a single picture.
    shown = sorted(find_rows(rows, seed=min(seeds)), key=lambda row: -int(row.condition["poisons"]))[:MAX_SHEETS]
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
        "doubts": doubts_of(result),
        "sheets": [(_title(row), inline_sheet(folder / SHEETS / _sheet(row), folder)) for row in shown],
        "settings": json.dumps({key: value for key, value in result.items() if key != "rows"}, indent=2),
    }


def _sheet(row: Row) -> str:
    return sheet_name(row.condition, row.access, row.defence)


def _title(row: Row) -> str:
    about = row.condition
    poison = f"{about['poisons']} poisons, {about['attack']}" + (f", ε {about['eps']}" if about["eps"] != "0" else "")
    access = f", {row.access}" if row.access != "none" else ""
    poison = poison + access if about["poisons"] else "no poison"
    return f"{about['concept']} → {about['target']}: {poison}; {defence_label(row.defence)}"
