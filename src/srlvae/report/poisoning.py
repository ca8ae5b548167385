"""Rows of the poisoning benchmark → curves over the number of poisons, and a page's parts."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from srlvae.bench.poisoning import SHEETS, sheet_name
from srlvae.metrics.bootstrap import bootstrap_interval
from srlvae.report.plots import plot_poisoning
from srlvae.report.render import inline_sheet
from srlvae.report.tables import Table, poisoning_table

# Sheets on the page, the first seed's.
SHOWN = 40


def poisoning_parts(folder: Path, result: dict) -> dict:
    header, lines = poisoning_table(result)
    rows, first = result["rows"], result["protocol"]["seeds"][0]
    # What most poisons did first: those who look at one picture look at that.
    shown = sorted((row for row in rows if row["seed"] == first), key=lambda row: -row["count"])[:SHOWN]
    return {
        "n": rows[0]["judged"]["target_n"],
        "seeds": len(result["protocol"]["seeds"]),
        "header": header,
        "lines": lines,
        "plots": [plot_poisoning(curves(result, eps), f"ε {eps}/255") for eps in result["protocol"]["eps"]],
        "harm": harm_table(result),
        "sheets": [(_title(row), inline_sheet(folder / SHEETS / sheet_name(row))) for row in shown],
        "settings": json.dumps({key: value for key, value in result.items() if key != "rows"}, indent=2),
    }


def _title(row: dict) -> str:
    poison = f"{row['count']} poisons, {row['kind']}" + (f", ε {row['eps']}/255" if row["eps"] else "")
    return f"{row['concept']} → {row['target']}: {poison if row['count'] else 'no poison'}; defence: {row['defence']}"


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
            by_count = {n: [r for r in wanted if r["count"] == n] for n in sorted({r["count"] for r in wanted})}
            lines[label] = [(n, *pooled(rows, "target")) for n, rows in by_count.items()]
        found[f"{pair['concept']} → {pair['target']}"] = lines
    return found


def pooled(rows: list[dict], measure: str) -> tuple[float, tuple[float, float]]:
    """The share over the images of all rows, with its 95 % interval."""
    judged = [row["judged"] for row in rows]
    yes = sum(round(j[measure] * j[f"{measure}_n"]) for j in judged)
    total = sum(j[f"{measure}_n"] for j in judged)
    values = torch.cat([torch.ones(yes), torch.zeros(total - yes)])
    return values.mean().item(), bootstrap_interval(values, torch.Generator().manual_seed(0))


def harm_table(result: dict) -> Table:
    """Without poison and with the most of it: how often concept and other concepts are called what they are, and CLIP-T."""
    rows, most, lines = result["rows"], max(result["protocol"]["counts"]), []
    for defence, count in dict.fromkeys((row["defence"], row["count"]) for row in rows if row["count"] in (0, most)):
        own = [r for r in rows if (r["defence"], r["count"]) == (defence, count) and r["kind"] in ("", "transfer")]
        shares = [pooled(own, measure) for measure in ("concept", "others")]
        likeness = sum(row["judged"]["clip_t"] for row in own) / len(own)
        cells = [f"{share:.0%} [{low:.0%}, {high:.0%}]" for share, (low, high) in shares]
        lines.append([defence, str(count), *cells, f"{likeness:.3f}"])
    return ["defence", "poisons", "the concept is itself", "other concepts are", "CLIP-T of those"], lines
