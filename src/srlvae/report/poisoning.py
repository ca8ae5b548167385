"""Rows of the poisoning benchmark → curves over the number of poisons, and a page's parts."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from srlvae.bench.poisoning import SHEETS
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
        "pooled": pooled_table(result),
        "missing": result["points"] - len(rows),
        "sheets": [(_title(row), inline_sheet(folder / SHEETS / row["sheet"])) for row in shown],
        "settings": json.dumps({key: value for key, value in result.items() if key != "rows"}, indent=2),
    }


def _title(row: dict) -> str:
    poison = f"{row['count']} poisons, {row['kind']}" + (f", ε {row['eps']}/255" if row["eps"] else "")
    return f"{row['concept']} → {row['target']}: {poison if row['count'] else 'no poison'}; defence: {row['defence']}"


def curves(result: dict, eps: int) -> dict[str, dict[str, list[tuple]]]:
    """Of each pair, for each defence and kind: (N, share called the target, interval over fine-tunings)."""
    found: dict[str, dict[str, list[tuple]]] = {}
    for pair in result["protocol"]["pairs"]:
        own = [row for row in result["rows"] if (row["concept"], row["target"]) == (pair["concept"], pair["target"])]
        lines: dict[str, list[tuple]] = {}
        for defence, kind in dict.fromkeys((row["defence"], row["kind"]) for row in own if row["kind"]):
            wanted = [r for r in own if r["defence"] == defence and r["kind"] in (kind, "") and r["eps"] in (eps, 0)]
            name = "no defence" if defence == "none" else defence
            label = name if kind == "transfer" else f"{name}, {kind}"
            by_count = {n: [r for r in wanted if r["count"] == n] for n in sorted({r["count"] for r in wanted})}
            if any(by_count):  # poison of that ε
                lines[label] = [(n, *pooled(rows, "target")) for n, rows in by_count.items()]
        found[f"{pair['concept']} → {pair['target']}"] = lines
    return found


def pooled(rows: list[dict], measure: str) -> tuple[float, tuple[float, float]]:
    """The share over the images of all rows, with its 95 % interval over the fine-tunings that they are of, or, where there is
    one alone, over its images."""
    values, groups = [], []
    numbers: dict[tuple, int] = {}
    for row in rows:
        count = row["judged"][f"{measure}_n"]
        yes = round(row["judged"][measure] * count)
        # Without poison all pairs share a fine-tuning.
        tuned = (row["seed"], *((row["concept"], row["target"]) if row["count"] else ()))
        values += [1.0] * yes + [0.0] * (count - yes)
        groups += [numbers.setdefault(tuned, len(numbers))] * count
    found, by = torch.tensor(values), torch.tensor(groups) if len(numbers) > 1 else None
    return found.mean().item(), bootstrap_interval(found, torch.Generator().manual_seed(0), groups=by)


def share(rows: list[dict], measure: str) -> str:
    """`pooled`, in words."""
    value, (low, high) = pooled(rows, measure)
    return f"{value:.0%} [{low:.0%}, {high:.0%}]"


def pooled_table(result: dict) -> Table:
    """Over all pairs and seeds, without poison and with the most of it: what images of the concept are called, how often other
    concepts are called what they are, and the CLIP-T of those."""
    most, lines = max(result["protocol"]["counts"]), []
    sets: dict[tuple, list[dict]] = {}
    for row in result["rows"]:
        if row["count"] in (0, most):
            sets.setdefault((row["defence"], row["kind"], row["eps"], row["count"]), []).append(row)
    for (defence, kind, eps, count), own in sets.items():
        cells = [share(own, measure) for measure in ("target", "concept", "others")]
        likeness = sum(row["judged"]["clip_t"] for row in own) / len(own)
        name = "no defence" if defence == "none" else defence
        lines.append([name, kind, f"{eps}/255" if eps else "", str(count), *cells, f"{likeness:.3f}"])
    return ["defence", "poison", "ε", "poisons", "target", "concept", "other concepts", "CLIP-T of those"], lines
