"""Rows of the editing benchmark → its tables, for the page, the terminal, README and docs alike."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srlvae.bench.editing import RESULT
from srlvae.bench.rows import VAE_OF, Row
from srlvae.errors import InputError
from srlvae.report.rows import (
    MAIN_BUDGETS,
    NO_ATTACK,
    Table,
    arrow,
    budgets,
    by,
    cost_cells,
    factor,
    find,
    made_on,
    main_budget,
    named,
    one,
    pair,
    rows_of,
    share_left,
    shown,
    values_of,
)

# The network whose Fréchet distance is FID.
INCEPTION = "inception"
# The attack by which defences are compared in one number.
HEADLINE_ATTACK = "photoguard-encoder"
# The measures that the terminal, the Markdown table and plots have.
HEADLINE_MEASURES = ("frechet", "clip_i")
# What the table of defences shows of each.
DEFENDED = {"none": "clean", HEADLINE_ATTACK: "PhotoGuard", "mist-textural": "Mist, textural"}


@dataclass(frozen=True)
class Measure:
    """A measure of rows. spec: how its numbers are written; better: which way."""

    key: str
    label: str
    spec: str
    better: str


@dataclass(frozen=True)
class Run:
    """A folder of the editing benchmark."""

    name: str
    folder: Path
    result: dict[str, Any]


def load_run(folder: Path) -> Run:
    """Raises InputError where there are no rows."""
    path = folder / RESULT
    if not path.is_file():
        raise InputError(f"{folder} has no {RESULT}; run: srlvae bench editing … --out {folder}")
    result = json.loads(path.read_text(encoding="utf-8"))
    if not result.get("rows"):
        raise InputError(f"{path} has no rows yet; run the same srlvae bench editing again, it goes on where it was")
    return Run(folder.name, folder, result)


def measures_of(result: dict[str, Any]) -> dict[str, Measure]:
    """The measures of a result by key, labelled with the networks of its protocol."""
    pairs, sets, clip = (result["protocol"][key] for key in ("pairs", "sets", "clip"))
    found = (
        Measure("frechet", "FID" if sets == INCEPTION else f"Fréchet distance ({sets})", ".1f", "↓"),
        Measure("clip_i", f"CLIP-I ({clip})", ".3f", "↑"),
        Measure("kid", f"KID ({sets})", ".4f", "↓"),
        Measure("distance", f"distance ({pairs})", ".3f", "↓"),
        Measure("psnr", "PSNR dB", ".2f", "↑"),
        Measure("ssim", "SSIM", ".3f", "↑"),
        Measure("clip_t", f"CLIP-T ({clip})", ".3f", "↑"),
    )
    return {measure.key: measure for measure in found}


def editing_table(result: dict[str, Any], measure: Measure, intervals: bool = True) -> Table:
    """A line an attack, budget and the VAE it was made on; a column a defence, with its 95 % interval where wanted."""
    rows, lines = rows_of(result), []
    defences = values_of(rows, "defence")
    sets = by(lambda row: (row.condition["attack"], row.condition["eps"], made_on(row)), rows)
    for (attack, eps, on), found in sets.items():
        own = {row.defence: shown(row.measures[measure.key], measure.spec, intervals) for row in found}
        where = {"": "", "original": "transfer", "hardened": "white-box"}[on]
        lines.append(["clean" if attack == "none" else attack, "" if attack == "none" else eps, where])
        lines[-1] += [own.get(defence, "") for defence in defences]
    return ["attack", "ε", "on the hardened VAE", *map(named, defences)], lines


def summary_table(result: dict[str, Any], intervals: bool = True) -> Table:
    """A line an attack: Fréchet distances of edits, original → hardened, by ε; at the main one with intervals where wanted."""
    rows = rows_of(result)
    first = main_budget(rows)
    rest = [eps for eps in budgets(rows) if eps != first]
    lines = [_clean_line(rows, len(rest), intervals)]
    for attack in values_of(rows, "attack"):
        if attack == "none":
            continue
        own = {eps: pair(rows, attack=attack, eps=eps) for eps in (first, *rest)}
        white_box = one(rows, attack=attack, eps=first, defence="hardened", access="white-box")
        cells = [arrow(own[first], "frechet", ".0f", intervals), *(arrow(own[eps], "frechet", ".0f") for eps in rest)]
        both = own[first]
        cells.append(f"{factor(*both):.1f}" if both and attack not in NO_ATTACK else "")
        cells.append(shown(white_box.measures["frechet"], ".0f", intervals) if white_box else "")
        lines.append([attack, *cells, arrow(both, "clip_i", ".3f")])
    header = ["attack", first, *rest, f"factor, {first}", f"white-box, {first}", f"CLIP-I, {first}"]
    return header, lines


def _clean_line(rows: list[Row], rest: int, intervals: bool) -> list[str]:
    """Clean edits under the original VAE are what all are compared with: 0 and 1 apart from rounding."""
    clean = one(rows, attack="none", defence="hardened")
    if not clean:
        return ["none, any ε", "0", *[""] * rest, "", "", "1"]
    distance, likeness = (
        shown(clean.measures["frechet"], ".0f", intervals),
        shown(clean.measures["clip_i"], ".3f", interval=False),
    )
    return ["none, any ε", f"0 → {distance}", *[""] * rest, "", "", f"1 → {likeness}"]


def defence_table(result: dict[str, Any]) -> Table:
    """A line a defence: Fréchet distances of edits at the main budget, and what it takes an image."""
    rows, lines = rows_of(result), []
    eps = {attack: "0" if attack == "none" else main_budget(rows) for attack in DEFENDED}
    attacks = {attack: label for attack, label in DEFENDED.items() if find(rows, attack=attack, eps=eps[attack])}
    for defence in values_of(rows, "defence"):
        own = [row for row in find(rows, defence=defence) if made_on(row) != "hardened"]
        found = [one(own, attack=attack, eps=eps[attack]) for attack in attacks]
        cells = [shown(row.measures["frechet"], ".0f", interval=False) if row else "" for row in found]
        lines.append([defence, *cells, *cost_cells(result["costs"], defence)])
    return ["defence", *attacks.values(), "seconds", "memory", "network passes"], lines


def removed(result: dict[str, Any], defence: str) -> float | None:
    """The share of the Fréchet distance that a defence takes away from the headline attack in transfer."""
    rows = find(rows_of(result), attack=HEADLINE_ATTACK)
    found = {row.condition["eps"]: row for row in find(rows, defence=defence) if made_on(row) == "original"}
    shared = [eps for eps in MAIN_BUDGETS if eps in found] or list(found)
    before = one(rows, defence="none", eps=shared[0]) if shared else None
    return 1 - share_left(before, found[shared[0]]) if before else None


def fidelity_table(result: dict[str, Any]) -> Table:
    """Clean photographs through both VAEs."""
    measures, rows = measures_of(result), rows_of(result, "reconstruction")
    found = [one(rows, defence=defence) for defence in VAE_OF]
    lines = [
        [measures[key].label, *(shown(row.measures[key], ".3f") for row in found if row)]
        for key in ("psnr", "ssim", "distance")
    ]
    return ["clean reconstruction", *VAE_OF.values()], lines


def side_by_side(runs: list[Run]) -> Table:
    """A line an attack in transfer, a column a run: Fréchet distance and CLIP-I without and with the hardened VAE."""
    rows = [rows_of(run.result) for run in runs]
    sets = [(row.condition["attack"], row.condition["eps"]) for own in rows for row in find(own, access="transfer")]
    lines = []
    for attack, eps in dict.fromkeys(sets):
        found = [pair(own, attack=attack, eps=eps) for own in rows]
        cells = [f"{arrow(both, 'frechet', '.1f')}; {arrow(both, 'clip_i', '.3f')}" if both else "" for both in found]
        lines.append([attack, eps, *cells])
    judges = [f"{run.result['protocol']['sets']}, {run.result['protocol']['clip']}" for run in runs]
    return ["attack", "ε", *(f"{run.name} ({judge})" for run, judge in zip(runs, judges, strict=True))], lines
