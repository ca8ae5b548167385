"""What each defence of the editing benchmark leaves of attacks, whether or not these knew it, and what it costs."""

from __future__ import annotations

from typing import Any

from srlvae.bench.rows import VAE_OF, Row
from srlvae.report.editing import Measure, headline_measures
from srlvae.report.editing_variants import adaptive_cell
from srlvae.report.numbers import format_estimate
from srlvae.report.rows import (
    MAIN_BUDGETS,
    Table,
    cost_cells,
    distinct_values,
    find_row,
    find_rows,
    made_on,
    main_budget,
    main_rows,
    measured_value,
    rows_of,
    share_left,
)

# The attack on which defences are compared by one number.
HEADLINE_ATTACK = "photoguard-encoder"
# The attacks in the table of defences, and the titles of their columns.
DEFENCE_TABLE_ATTACKS = {"none": "clean", HEADLINE_ATTACK: "PhotoGuard", "mist-textural": "Mist, textural"}


def defence_table(result: dict[str, Any]) -> Table:
    """For each defence, KID and a Fréchet distance of edits at the main budget, and what the defence costs for each image."""
    rows, lines, (kid, frechet, _) = main_rows(rows_of(result)), [], headline_measures(result).values()
    eps = {attack: "0" if attack == "none" else main_budget(rows) for attack in DEFENCE_TABLE_ATTACKS}
    attacks = [attack for attack in DEFENCE_TABLE_ATTACKS if find_rows(rows, attack=attack, eps=eps[attack])]
    for defence in distinct_values(rows, "defence"):
        own = [row for row in find_rows(rows, defence=defence) if made_on(row) != "hardened"]
        found = [find_row(own, attack=attack, eps=eps[attack]) for attack in attacks]
        cells = ["; ".join(_values(row, kid, frechet)) if row else "– not run" for row in found]
        adaptive = "" if defence in VAE_OF else adaptive_cell(rows_of(result), defence, kid)
        lines.append([defence, *cells, adaptive, *cost_cells(result["costs"], defence)])
    titles = [f"{DEFENCE_TABLE_ATTACKS[attack]}: {kid.title}; {frechet.label}" for attack in attacks]
    return [
        "defence",
        *titles,
        f"attacked through it: {kid.title}",
        "seconds per image",
        "memory",
        "network passes per image",
    ], lines


def _values(row: Row, *measures: Measure) -> list[str]:
    """Measures of a row as text, without intervals."""
    return [format_estimate(row.measures[m.key], m.spec, interval=False) for m in measures]


def share_removed(result: dict[str, Any], defence: str) -> float | None:
    """The share of the headline attack's KID, in transfer, that a defence removes.

    It is None if there are no rows to compare, or no KID above 0 to remove.
    """
    rows = find_rows(rows_of(result), attack=HEADLINE_ATTACK)
    found = {row.condition["eps"]: row for row in find_rows(rows, defence=defence) if made_on(row) == "original"}
    shared = [eps for eps in MAIN_BUDGETS if eps in found] or list(found)
    before = find_row(rows, defence="none", eps=shared[0]) if shared else None
    if not before or measured_value(before, "kid") <= 0:
        return None
    return 1 - share_left(before, found[shared[0]], "kid")
