"""The contents of an editing benchmark's page: tables, plots, contact sheets and doubts."""

from __future__ import annotations

import json
from typing import Any

from srlvae.bench.editing import SHEETS
from srlvae.bench.leaderboard import ENOUGH
from srlvae.bench.rows import Row
from srlvae.report.defences import defence_table, share_removed
from srlvae.report.editing import (
    INCEPTION,
    Run,
    editing_table,
    fidelity_table,
    headline_measures,
    measures_of,
    summary_table,
)
from srlvae.report.editing_variants import square_doubts, step_curves, steps_table, variants_table, white_box_table, worst_table
from srlvae.report.numbers import format_estimate
from srlvae.report.plots import STYLES, Point, plot_costs, plot_editing, point
from srlvae.report.render import inline_sheet
from srlvae.report.rows import NO_ATTACK, budgets, distinct_values, doubts_of, find_row, find_rows, main_rows, rows_of
from srlvae.report.verdicts import verdicts


def doubts(run: Run) -> list[str]:
    """Sentences on what limits the numbers of a run, and on attacks that should not be believed."""
    result, rows = run.result, rows_of(run.result)
    n, sets = rows[0].n, result["protocol"]["sets"]
    found = [] if "seconds" in result else ["The run is not finished. The same command resumes it."]
    if other := find_row(rows_of(result, "floor"), compared="other noise"):
        moved = ", ".join(
            f"{m.title} {format_estimate(other.measures[m.key], m.spec, interval=False)}"
            for m in headline_measures(result).values()
        )
        found.append(
            "Edits and their reference share photographs, prompts and noise, so edits that do not change have a distance of 0. "
            f"The floor is what another draw of noise changes in the clean edits: {moved}."
        )
    if n < ENOUGH["frechet"]:
        found.append(f"Fréchet distances of {n} images in all dimensions are biased upwards; compare those in few, or KID.")
    if sets != INCEPTION:
        found.append(f"No number here is FID: the network is {sets}.")
    return found + doubts_of(result) + square_doubts(result)


def plots(result: dict[str, Any]) -> list[str]:
    """The plots of a result, as SVG.

    The first shows measures over ε, for every attack with more than one budget. The last shows what each defence gains over its
    cost.
    """
    rows, measures = main_rows(rows_of(result)), headline_measures(result)
    attacks = [name for name in distinct_values(rows, "attack") if name not in NO_ATTACK]
    swept = [name for name in attacks if len(budgets(find_rows(rows, attack=name))) > 1]
    lines = {name: [[_points(rows, name, key, *style) for style in STYLES] for key in measures] for name in swept}
    labels = [f"{measure.label} {measure.better}" for measure in measures.values()]
    costs = [("hardened", 0.0)]
    costs += [(name, cost["seconds"]) for name, cost in result["costs"].get("purifiers", {}).items()]
    gains = [(name, seconds, gain) for name, seconds in costs if (gain := share_removed(result, name)) is not None]
    found = [plot_editing(lines, labels)] if lines else []
    over_steps = [step_curves(result, key) for key in ("distance", "kid")]
    curves = {attack: [by_measure[attack] for by_measure in over_steps] for attack in over_steps[0]}
    titles = [measures_of(result)[key].label for key in ("distance", "kid")]
    found += [plot_editing(curves, titles, "steps")] if curves else []
    return [*found, plot_costs(gains, "share of the KID removed")]


def _points(rows: list[Row], attack: str, measure: str, defence: str, access: str) -> list[Point]:
    return [point(row, measure) for row in find_rows(rows, attack=attack, defence=defence, access=access)]


def page_parts(run: Run) -> dict[str, Any]:
    """Everything that the page shows of a run, by the names that the template uses."""
    result = run.result
    return {
        "name": run.name,
        "protocol": result["protocol"],
        "n": rows_of(result)[0].n,
        "verdicts": verdicts(result),
        "summary": summary_table(result),
        "tables": [(f"{m.title} {m.better}", *editing_table(result, m)) for m in measures_of(result).values()],
        "costs": defence_table(result),
        "variants": variants_table(result),
        "white_box": white_box_table(result),
        "worst": worst_table(result),
        "steps": steps_table(result),
        "fidelity": fidelity_table(result),
        "plots": plots(result),
        "sheets": [(path.stem, inline_sheet(path, run.folder)) for path in sorted((run.folder / SHEETS).glob("*.webp"))],
        "doubts": doubts(run),
        "settings": json.dumps({k: v for k, v in result.items() if k not in ("rows", "images")}, indent=2),
    }
