"""The tables of the scan's rows: how well attacked photographs are told from clean ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from srlvae.bench.rows import VAE_OF, Row
from srlvae.report.numbers import counted, format_estimate, format_share
from srlvae.report.rows import NO_ATTACK, Table, budgets, distinct_values, find_row, find_rows, rows_of

# The handling of images to which nothing happened between the attack and the scan.
AS_IT_COMES = "as it comes"
# What clean pictures of no other kind are.
PHOTOGRAPHS = "photographs"


def _attacks(rows: Iterable[Row]) -> list[str]:
    return [attack for attack in distinct_values(rows, "attack") if attack not in NO_ATTACK]


def kinds_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """A line for each kind of clean pictures, photographs first: the shares called suspicious and unlike, by VAE."""
    found = {name: find_rows(rows_of(result), attack="none", handling=AS_IT_COMES) for name, result in results.items()}
    kinds = dict.fromkeys(row.condition.get("kind", PHOTOGRAPHS) for rows in found.values() for row in rows)
    lines = []
    for kind in kinds:
        rows = [next((row for row in own if row.condition.get("kind", PHOTOGRAPHS) == kind), None) for own in found.values()]
        measures = [row.measures[name] if row else None for row in rows for name in ("found", "unlike")]
        lines.append([str(kind), *(format_share(counted(measure)) if measure else "" for measure in measures)])
    return ["clean pictures", *(text for name in found for text in (f"{name}: suspicious", "unlike"))], lines


def scan_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """The area under the ROC curve (AUROC) and the share detected, for each attack, by VAE and ε.

    `results` are the results by the name of the VAE.
    """
    found = {name: find_rows(rows_of(result), handling=AS_IT_COMES) for name, result in results.items()}
    everything = [row for rows in found.values() for row in rows]
    columns = [(name, eps) for name, rows in found.items() for eps in budgets(rows)]
    lines = []
    for attack in _attacks(everything):
        rows = [find_row(found[name], attack=attack, eps=eps) for name, eps in columns]
        lines.append([attack, *(text for row in rows for text in _auroc_and_found(row))])
    return ["attack", *(text for name, eps in columns for text in (f"{name}, {eps}: AUROC", "detected"))], lines


def _auroc_and_found(row: Row | None) -> tuple[str, str]:
    if not row:
        return "", ""
    return format_estimate(row.measures["auroc"], ".3f", interval=False), format_share(counted(row.measures["found"]))


def handled_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """The AUROC and the share detected at the largest ε, for each attack, by VAE and by what happened to the image on its way.

    `results` are the results by the name of the VAE.
    """
    found = {name: rows_of(result) for name, result in results.items()}
    everything = [row for rows in found.values() for row in rows]
    eps, handlings = budgets(everything)[-1], distinct_values(everything, "handling")
    columns = [(name, handling) for name in found for handling in handlings]
    lines = []
    for attack in _attacks(everything):
        rows = [find_row(found[name], attack=attack, eps=eps, handling=handling) for name, handling in columns]
        lines.append([f"{attack} {eps}", *("{} ({})".format(*_auroc_and_found(row)) if row else "" for row in rows)])
    return ["attack", *(f"{name}, {handling}" for name, handling in columns)], lines


def knowing_table(result: Mapping[str, Any]) -> Table:
    """A line for each attack, ε and λ: what the scan detects, and the share left of the shift of either encoder's latents."""
    rows = find_rows(rows_of(result), defence="scan")
    lines = []
    for row in (row for row in rows if "weight" in row.condition):
        kept = [find_row(rows_of(result), **row.condition, defence=defence) for defence in VAE_OF]
        cells = [format_share(one.measures["kept"]) if one else "" for one in kept]
        about = [f"{row.condition['attack']} {row.condition['eps']}", f"{row.condition['weight']:g}"]
        auroc = format_estimate(row.measures["auroc"], ".2f")
        lines.append([*about, auroc, *(format_share(counted(row.measures[name])) for name in ("found", "unlike")), *cells])
    return ["attack", "λ", "AUROC", "detected", "unlike", "shift of the original latents", "of the hardened ones"], lines
