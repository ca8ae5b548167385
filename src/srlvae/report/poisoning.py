"""Rows of the poisoning benchmark → curves over the number of poisons, and a page's parts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from srlvae.bench.poisoning import SHEETS
from srlvae.metrics.bootstrap import bootstrap_interval
from srlvae.report.plots import plot_poisoning
from srlvae.report.render import inline
from srlvae.report.tables import Table, poisoning_table

# Sheets on the page, the first seed's.
SHOWN = 40


def poisoning_parts(folder: Path, result: dict) -> dict:
    header, lines = poisoning_table(result)
    rows, first = result["rows"], result["protocol"]["seeds"][0]
    sheets = [path for path in sorted((folder / SHEETS).glob("*.png")) if path.stem.endswith(f"-{first}")][:SHOWN]
    return {
        "n": rows[0]["judged"]["target_n"],
        "seeds": len(result["protocol"]["seeds"]),
        "header": header,
        "lines": lines,
        "plots": [plot_poisoning(curves(result, eps), f"ε {eps}/255") for eps in result["protocol"]["eps"]],
        "harm": harm_table(result),
        "sheets": [(path.stem, inline(path.read_bytes())) for path in sheets],
        "settings": json.dumps({key: value for key, value in result.items() if key != "rows"}, indent=2),
    }


def curves(result: dict, eps: int) -> dict[str, dict[str, list[tuple]]]:
    """Of each pair, for each defence and kind: (N, share called the target, interval over images of all seeds)."""
    found: dict[str, dict[str, list[tuple]]] = {}
    for pair in result["protocol"]["pairs"]:
        own = [row for row in result["rows"] if (row["concept"], row["target"]) == (pair["concept"], pair["target"])]
        lines: dict[str, list[tuple]] = {}
        for defence, kind in dict.fromkeys((row["defence"], row["kind"]) for row in own if row["kind"]):
            wanted = [r for r in own if r["defence"] == defence and r["kind"] in (kind, "") and r["eps"] in (eps, 0)]
            name = "no defence" if defence == "none" else defence
            label = name if kind == "transfer" else f"{name}, {kind}"
            lines[label] = [(n, *pooled(wanted, "target", lambda r, n=n: r["count"] == n)) for n in _counts(wanted)]
        found[f"{pair['concept']} → {pair['target']}"] = lines
    return found


def _counts(rows: list[dict]) -> list[int]:
    return sorted({row["count"] for row in rows})


def pooled(rows: list[dict], measure: str, wanted: Callable[[dict], bool]) -> tuple[float, tuple[float, float]]:
    """The share over the images of all rows that are wanted, with its 95 % interval."""
    hits = [row["judged"] for row in rows if wanted(row)]
    yes = sum(round(judged[measure] * judged[f"{measure}_n"]) for judged in hits)
    total = sum(judged[f"{measure}_n"] for judged in hits)
    values = torch.cat([torch.ones(yes), torch.zeros(total - yes)])
    return values.mean().item(), bootstrap_interval(values, torch.Generator().manual_seed(0))


def harm_table(result: dict) -> Table:
    """Without poison and with the most of it: how often concept and other concepts are called what they are."""
    rows, most, lines = result["rows"], max(result["protocol"]["counts"]), []
    for defence in dict.fromkeys(row["defence"] for row in rows):
        own = [row for row in rows if row["defence"] == defence and row["kind"] in ("", "transfer")]
        cells = []
        for count in (0, most):
            for measure in ("concept", "others"):
                share, (low, high) = pooled(own, measure, lambda r, count=count: r["count"] == count)
                cells.append(f"{share:.0%} [{low:.0%}, {high:.0%}]")
        lines.append([defence, *cells])
    titles = [f"{what}, {when}" for when in ("no poison", f"{most} poisons") for what in ("concept", "others")]
    return ["defence", *titles], lines
