"""The tables of the editing benchmark, for its page, the terminal, README and docs alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srlvae.bench.editing import RESULT
from srlvae.bench.rows import VAE_OF, Row
from srlvae.errors import InputError
from srlvae.files import read_record
from srlvae.report.rows import (
    MAIN_BUDGETS,
    NO_ATTACK,
    Table,
    attack_label,
    budgets,
    cost_cells,
    defence_label,
    distinct_values,
    factor,
    find_pair,
    find_row,
    find_rows,
    format_estimate,
    format_pair,
    group_rows,
    made_on,
    main_budget,
    rows_of,
    share_left,
)

# The network whose Fréchet distance is FID.
INCEPTION = "inception"
# The attack on which defences are compared by one number.
HEADLINE_ATTACK = "photoguard-encoder"
# The measures that the Markdown tables and the plots show.
HEADLINE_MEASURES = ("frechet", "clip_i")
# The attacks in the table of defences, and the titles of their columns.
DEFENCE_TABLE_ATTACKS = {"none": "clean", HEADLINE_ATTACK: "PhotoGuard", "mist-textural": "Mist, textural"}


@dataclass(frozen=True)
class Measure:
    """How a measure of the rows is shown.

    - key: its name in the rows.
    - label: its name for readers, with the network that measured it.
    - spec: the format of its numbers, such as `.1f`.
    - better: an arrow, ↓ or ↑, in the direction that is better.
    """

    key: str
    label: str
    spec: str
    better: str


@dataclass(frozen=True)
class Run:
    """A run of the editing benchmark: its name, its folder, and the result that the folder holds."""

    name: str
    folder: Path
    result: dict[str, Any]


def load_run(folder: Path) -> Run:
    """Load a run from its folder.

    Raises InputError if the folder has no rows.
    """
    path = folder / RESULT
    if not path.is_file():
        raise InputError(f"{folder} has no {RESULT}; run: srlvae bench editing … --out {folder}")
    result = read_record(path)
    if not result.get("rows"):
        raise InputError(f"{path} has no rows yet; run the same srlvae bench editing again, and it continues where it stopped")
    return Run(folder.name, folder, result)


def measures_of(result: dict[str, Any]) -> dict[str, Measure]:
    """The measures that a result has, by key and in the order of the page. Labels name the networks of the protocol."""
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
    """One measure under every attack and every defence.

    There is a line for each attack, budget and access to the hardened VAE, and a column for each defence. Cells have 95 %
    intervals if `intervals`.
    """
    rows, lines = rows_of(result), []
    defences = distinct_values(rows, "defence")
    sets = group_rows(rows, lambda row: (row.condition["attack"], row.condition["eps"], made_on(row)))
    for (attack, eps, on), found in sets.items():
        own = {row.defence: format_estimate(row.measures[measure.key], measure.spec, intervals) for row in found}
        where = {"": "", "original": "transfer", "hardened": "white-box"}[on]
        lines.append(["clean" if attack == "none" else attack_label(found[0]), "" if attack == "none" else eps, where])
        lines[-1] += [own.get(defence, "") for defence in defences]
    return ["attack", "ε", "access", *map(defence_label, defences)], lines


def summary_table(result: dict[str, Any], intervals: bool = True) -> Table:
    """The main table: for each attack the Fréchet distances of edits from clean edits, written original → hardened.

    The columns are the main budget (with 95 % intervals if `intervals`), the other budgets, and, at the main budget, the factor
    between the two VAEs, the distance of the hardened VAE white-box, and CLIP-I.
    """
    rows = rows_of(result)
    first = main_budget(rows)
    rest = [eps for eps in budgets(rows) if eps != first]
    lines = [_clean_line(rows, len(rest), intervals)]
    for attack in distinct_values(rows, "attack"):
        if attack == "none":
            continue
        own = {eps: find_pair(rows, attack=attack, eps=eps) for eps in (first, *rest)}
        white_box = find_row(rows, attack=attack, eps=first, defence="hardened", access="white-box")
        both = own[first]
        cells = [format_pair(both, "frechet", ".0f", intervals)]
        cells += [format_pair(own[eps], "frechet", ".0f") for eps in rest]
        cells.append(f"{factor(*both):.1f}" if both and attack not in NO_ATTACK else "")
        cells.append(format_estimate(white_box.measures["frechet"], ".0f", intervals) if white_box else "")
        lines.append([attack_label(find_rows(rows, attack=attack)[0]), *cells, format_pair(both, "clip_i", ".3f")])
    header = ["attack", first, *rest, f"factor, {first}", f"white-box, {first}", f"CLIP-I, {first}"]
    return header, lines


def _clean_line(rows: list[Row], rest: int, intervals: bool) -> list[str]:
    """The line of clean photographs. The original VAE's clean edits are the reference, with distance 0 and CLIP-I 1."""
    clean = find_row(rows, attack="none", defence="hardened")
    if not clean:
        return ["none, any ε", "0", *[""] * rest, "", "", "1"]
    distance, likeness = (
        format_estimate(clean.measures["frechet"], ".0f", intervals),
        format_estimate(clean.measures["clip_i"], ".3f", interval=False),
    )
    return ["none, any ε", f"0 → {distance}", *[""] * rest, "", "", f"1 → {likeness}"]


def defence_table(result: dict[str, Any]) -> Table:
    """For each defence, the Fréchet distances of edits at the main budget, and what the defence costs for each image."""
    rows, lines = rows_of(result), []
    eps = {attack: "0" if attack == "none" else main_budget(rows) for attack in DEFENCE_TABLE_ATTACKS}
    attacks = [attack for attack in DEFENCE_TABLE_ATTACKS if find_rows(rows, attack=attack, eps=eps[attack])]
    for defence in distinct_values(rows, "defence"):
        own = [row for row in find_rows(rows, defence=defence) if made_on(row) != "hardened"]
        found = [find_row(own, attack=attack, eps=eps[attack]) for attack in attacks]
        cells = [format_estimate(row.measures["frechet"], ".0f", interval=False) if row else "" for row in found]
        lines.append([defence, *cells, *cost_cells(result["costs"], defence)])
    return [
        "defence",
        *(DEFENCE_TABLE_ATTACKS[attack] for attack in attacks),
        "seconds per image",
        "memory",
        "network passes per image",
    ], lines


def share_removed(result: dict[str, Any], defence: str) -> float | None:
    """The share of the headline attack's Fréchet distance, in transfer, that a defence removes.

    It is None if there are no rows to compare.
    """
    rows = find_rows(rows_of(result), attack=HEADLINE_ATTACK)
    found = {row.condition["eps"]: row for row in find_rows(rows, defence=defence) if made_on(row) == "original"}
    shared = [eps for eps in MAIN_BUDGETS if eps in found] or list(found)
    before = find_row(rows, defence="none", eps=shared[0]) if shared else None
    return 1 - share_left(before, found[shared[0]]) if before else None


def fidelity_table(result: dict[str, Any]) -> Table:
    """How close both VAEs' reconstructions of clean photographs are to these."""
    measures, rows = measures_of(result), rows_of(result, "reconstruction")
    found = [find_row(rows, defence=defence) for defence in VAE_OF]
    lines = [
        [measures[key].label, *(format_estimate(row.measures[key], ".3f") for row in found if row)]
        for key in ("psnr", "ssim", "distance")
    ]
    return ["clean reconstruction", *VAE_OF.values()], lines


def side_by_side(runs: list[Run]) -> Table:
    """Several runs in one table, which has a column for each run and a line for each attack in transfer.

    Cells have the Fréchet distance and CLIP-I, each written original → hardened.
    """
    rows = [rows_of(run.result) for run in runs]
    sets = [(row.condition["attack"], row.condition["eps"]) for own in rows for row in find_rows(own, access="transfer")]
    lines = []
    for attack, eps in dict.fromkeys(sets):
        found = [find_pair(own, attack=attack, eps=eps) for own in rows]
        label = next(attack_label(pair[0]) for pair in found if pair) if any(found) else attack
        lines.append([label, eps, *map(_distance_and_likeness, found)])
    judges = [f"{run.result['protocol']['sets']}, {run.result['protocol']['clip']}" for run in runs]
    return ["attack", "ε", *(f"{run.name} ({judge})" for run, judge in zip(runs, judges, strict=True))], lines


def _distance_and_likeness(found: tuple[Row, Row] | None) -> str:
    return f"{format_pair(found, 'frechet', '.1f')}; {format_pair(found, 'clip_i', '.3f')}" if found else ""
