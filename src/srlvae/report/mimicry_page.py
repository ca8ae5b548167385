"""The contents of a mimicry benchmark's page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from srlvae.bench.mimicry import sheet_name
from srlvae.bench.points import SHEETS
from srlvae.bench.rows import Row
from srlvae.report.mimicry import mimicry_table
from srlvae.report.render import inline_sheet
from srlvae.report.rows import attack_label, defence_label, doubts_of, find_rows, rows_of

# The page shows at most this many contact sheets, of one seed.
MAX_SHEETS = 60


def mimicry_parts(folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Everything that the page shows of a run, by the names that the template uses."""
    rows, seeds = rows_of(result), result["protocol"]["seeds"]
    # The mimic's choice among all methods is no fine-tuning, and has no sheet.
    tuned = [row for row in rows if "seconds" in row.measures]
    shown = find_rows(tuned, seed=min(seeds))[:MAX_SHEETS]
    return {
        "n": rows[0].n,
        "seeds": len(seeds),
        "numbers": mimicry_table(result),
        "missing": result["points"] - len(tuned),
        "doubts": doubts_of(result),
        "sheets": [(_title(row), inline_sheet(folder / SHEETS / _sheet(row), folder)) for row in shown],
        "settings": json.dumps({key: value for key, value in result.items() if key != "rows"}, indent=2),
    }


def _sheet(row: Row) -> str:
    return sheet_name(row.condition, row.access, row.defence)


def _protection(row: Row) -> str:
    if row.access == "none":
        return f"{row.condition['style']}, not protected"
    return f"{row.condition['style']}, {attack_label(row)} {row.condition['eps']}, {row.access}"


def _title(row: Row) -> str:
    return f"{_protection(row)}; {defence_label(row.defence)}"
